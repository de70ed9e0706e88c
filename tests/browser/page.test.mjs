// What the pages do when the network, the cluster or the user's hands are not as one would wish:  run.sh starts it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, beforeEach, test } from 'node:test';
import { launch } from './chromium.mjs';
import { User } from './session.mjs';
import { Wire } from './wire.mjs';

const { URL: url } = process.env;
const kubectl = (...args) => execFileSync('kubectl', args, { encoding: 'utf8' });
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const EVENTS = '**/api/workspace/events';

let wire, browser, dev1;
const users = [];

async function open(options) {
  const user = await User.open(browser, url, options);
  users.push(user);
  return user;
}

before(async () => {
  const { hostname, port } = new URL(url);
  wire = await Wire.to('127.0.0.1', Number(port));
  browser = await launch(`--host-resolver-rules=MAP ${hostname}:${port} 127.0.0.1:${wire.port}`);
  dev1 = await open();
  await dev1.signIn('dev1');
  await dev1.waitForTerminal();
  await dev1.see(/\S/);
});

after(async () => {
  await browser?.close();
  wire?.close();
});

// Whatever became of the last one.
beforeEach(async () => {
  if (dev1.page.isClosed() || !(await dev1.page.locator('#screen').count())) return;
  wire.mend();
  await dev1.page.unroute(EVENTS);
  const question = dev1.page.getByRole('button', { name: 'Don’t' });
  if (await question.isVisible()) await question.click();
  await dev1.page.bringToFront();
  await dev1.state('open', 60_000);
  await dev1.focus();
});

const text = (id) => dev1.page.locator(`#${id}`).textContent();

/** Waits until what is asked is true. */
async function eventually(asked, what, timeout = 30_000) {
  for (const deadline = Date.now() + timeout; ; ) {
    if (await asked()) return;
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** How often a line is on the screen. */
async function count(line) {
  return (await dev1.screen()).split('\n').filter((shown) => shown === line).length;
}

/** The page is told this of the workspace, once, instead of what is true. */
async function told(page, view) {
  const steps = ['volume', 'schedule', 'image', 'start', 'ready'].map((id) => ({ id, title: id, state: 'pending', detail: '' }));
  const whole = { phase: 'Running', message: '', stopReason: '', remediationHint: '', ttydReady: true, updatePending: '', steps, ...view };
  await page.route(EVENTS, (route) => route.fulfill({ contentType: 'text/event-stream', body: `event: workspace\ndata: ${JSON.stringify(whole)}\n\n` }));
}

async function accessible(page, what) {
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(axe);
    const violations = await page.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 200)} (${failureSummary})`).join(', ')}`);
    });
    assert.deepEqual(violations, [], `${what}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: 'dark' });
}

test('the bar shows how far the gateway is, and can be hidden and shown by keyboard', async () => {
  await eventually(async () => /^\d+ ms$/.test(await text('latency')), 'no latency is shown');
  await dev1.page.getByRole('button', { name: 'Hide' }).click();
  await eventually(async () => !(await dev1.page.locator('#bar').isVisible()), 'the bar is still there');
  assert.ok(await dev1.page.locator('#bar-show').isVisible());
  await dev1.focus();
  await dev1.page.keyboard.press('Control+Shift+E');
  await dev1.page.locator('#bar').waitFor();
  assert.ok(await dev1.page.evaluate(() => document.getElementById('bar').contains(document.activeElement)));
  await dev1.page.keyboard.press('Escape');
  await dev1.type('clear; echo back-$((1+1))-');
  await dev1.see(/^back-2-$/m);
});

test('a lost network is shown in a moment, and what is typed then is sent once', async () => {
  await dev1.type('clear');
  await dev1.page.waitForTimeout(1500);
  wire.freeze();
  await dev1.state('quiet', 10_000);
  await dev1.type('echo frozen-$((1+1))-');
  await eventually(async () => /keys wait to be sent/.test(await text('kept')), 'nothing says that keys wait');
  wire.thaw();
  await dev1.state('open');
  await dev1.see(/^frozen-2-$/m);
  assert.equal(await count('frozen-2-'), 1);
});

test('it comes back from connections that are reset and refused', async () => {
  await dev1.type('clear');
  await dev1.page.waitForTimeout(1500);
  wire.cut();
  await dev1.state('waiting');
  await dev1.type('echo cut-$((1+1))-');
  await dev1.page.waitForTimeout(3000);
  assert.equal(await dev1.page.evaluate(() => document.body.dataset.state), 'waiting');
  wire.mend();
  await dev1.state('open');
  await dev1.see(/^cut-2-$/m);
  assert.equal(await count('cut-2-'), 1);
});

test('it comes back from errors of what stands before the gateway', async () => {
  await dev1.page.route(EVENTS, (route) => route.fulfill({ status: 502, body: 'bad gateway' }));
  wire.cut();
  await dev1.state('waiting');
  wire.mend();
  await dev1.page.waitForTimeout(3000);
  assert.equal(await dev1.page.evaluate(() => document.body.dataset.state), 'waiting');
  await dev1.page.unroute(EVENTS);
  await dev1.page.getByRole('button', { name: 'Connect now' }).click();
  await dev1.state('open');
});

test('keys that may have been lost on their way are asked about', async () => {
  await dev1.focus();
  await dev1.type('clear');
  await dev1.page.waitForTimeout(1500);
  wire.freeze();
  await dev1.type('echo doubtful-$((1+1))-');
  await dev1.state('quiet', 10_000);
  wire.renew();
  // The old connection stays dead, and a new one is made.
  await dev1.page.getByRole('button', { name: 'Send it again' }).waitFor({ timeout: 40_000 });
  assert.match(await text('notice-text'), /echo doubtful/);
  assert.equal(await count('doubtful-2-'), 0);
  await accessible(dev1.page, 'a question');
  await dev1.page.getByRole('button', { name: 'Send it again' }).click();
  await dev1.see(/^doubtful-2-$/m);
  assert.equal(await count('doubtful-2-'), 1);
});

test('two tabs share one session', async () => {
  const second = await dev1.context.newPage();
  await second.goto(url);
  await second.waitForFunction(() => document.body.dataset.state === 'open');
  await dev1.page.bringToFront();
  await dev1.focus();
  await dev1.type('clear; echo shared-$((1+1))-');
  await dev1.see(/^shared-2-$/m);
  await second.waitForFunction(() => /shared-2-/.test(document.querySelector('.xterm-accessibility-tree')?.textContent ?? ''));
  await second.close();
});

test('a megabyte is pasted whole', async () => {
  await dev1.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
  const line = `${'0123456789abcdef'.repeat(6)}xyz\n`;
  const pasted = line.repeat(10_486);
  assert.ok(pasted.length >= 1024 * 1024);
  await dev1.type('clear; stty -echo; cat > pasted.txt; stty echo; sha256sum pasted.txt');
  await dev1.page.waitForTimeout(1000);
  await dev1.page.evaluate((content) => navigator.clipboard.writeText(content), pasted);
  await dev1.focus();
  await dev1.page.keyboard.press('Control+Shift+V');
  const name = JSON.parse((await dev1.fetch('/api/workspace')).body).name;
  const size = () => Number(kubectl('-n', 'workspaces', 'exec', `${name}-workspace-pod`, '--', 'sh', '-c', 'stat -c %s pasted.txt || echo 0'));
  await eventually(async () => size() >= pasted.length - 4096, 'the paste does not arrive', 120_000);
  await dev1.page.keyboard.press('Control+D');
  const [, hash] = await dev1.see(/^([0-9a-f]{64}) /m);
  assert.equal(hash, createHash('sha256').update(pasted).digest('hex'));
});

test('a program that prints for ever neither freezes the page nor fills its memory', async () => {
  const memory = async () => {
    const session = await dev1.context.newCDPSession(dev1.page);
    await session.send('HeapProfiler.collectGarbage');
    const { usedSize } = await session.send('Runtime.getHeapUsage');
    await session.detach();
    return usedSize;
  };
  await dev1.type('clear; yes "$(head -c 200 /dev/zero | tr "\\0" y)"');
  await dev1.see(/^y{100}/m);
  const first = await memory();
  // How late a timer of the page is at the worst, over some seconds of it.
  const worst = await dev1.page.evaluate(async () => {
    let worst = 0;
    for (let turn = 0; turn < 80; turn++) {
      const began = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 100));
      worst = Math.max(worst, performance.now() - began - 100);
    }
    return worst;
  });
  const grown = (await memory()) - first;
  assert.equal(await dev1.page.evaluate(() => document.body.dataset.state), 'open');
  assert.ok(worst < 10_000, `a timer was ${worst} ms late`);
  assert.ok(grown < 64 * 1024 * 1024, `memory grew by ${grown} bytes`);
  await dev1.page.keyboard.press('Control+C');
  await dev1.type('clear; echo calm-$((1+1))-');
  await dev1.see(/^calm-2-$/m);
});

test('an update, and the time until an idle stop, are offered and taken', async () => {
  await dev1.page.reload();
  await dev1.waitForTerminal();
  await told(dev1.page, { updatePending: 'image', stopsAt: new Date(Date.now() + 5 * 60_000).toISOString() });
  await dev1.page.reload();
  await dev1.waitForTerminal();
  await dev1.page.getByText('Stops in 4 min if unused').waitFor();
  assert.ok(await dev1.page.locator('#stops').evaluate((element) => element.classList.contains('soon')));
  const answered = dev1.page.waitForResponse('**/api/workspace/keep-working');
  await dev1.page.getByRole('button', { name: 'Keep working' }).click();
  assert.equal((await answered).status(), 202);
  await dev1.page.getByText('The workspace goes on.').waitFor();
  await dev1.page.getByRole('button', { name: 'Update available: restart now' }).click();
  await dev1.page.getByRole('heading', { name: 'Restart the workspace?' }).waitFor();
  await accessible(dev1.page, 'the question before a restart');
  await dev1.page.keyboard.press('Enter');
  await dev1.page.locator('#restart-dialog').waitFor({ state: 'hidden' });
  await dev1.page.unroute(EVENTS);
  assert.equal(await dev1.page.evaluate(() => document.body.dataset.state), 'open');
});

test('no page broke its own policy or asked anyone else', () => {
  for (const { violations, hosts } of users) {
    assert.deepEqual(violations, []);
    for (const host of hosts) assert.match(host, /(^|\.)devplane\.localhost$/);
  }
});
