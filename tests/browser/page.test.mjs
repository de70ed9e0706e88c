// What the pages do when the network, the cluster or the user's hands are not as one would wish:  run.sh starts it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, beforeEach, test } from 'node:test';
import { launch } from './chromium.mjs';
import { eventually, User } from './session.mjs';
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
  await dev1.arrived();
  await dev1.focus();
});

let cleared = 0;

/** An empty screen, and nothing under way. */
async function clear() {
  cleared += 1;
  await dev1.type(`clear; echo cleared-$((${cleared}+0))-`);
  await dev1.see(new RegExp(`^cleared-${cleared}-$`, 'm'));
  await dev1.arrived();
}

const text = (id) => dev1.page.locator(`#${id}`).textContent();

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
  const focused = await dev1.page.evaluate(() => ({
    inBar: document.getElementById('bar').contains(document.activeElement),
    outline: getComputedStyle(document.activeElement).outlineStyle,
  }));
  assert.deepEqual(focused, { inBar: true, outline: 'solid' });
  await dev1.page.keyboard.press('Escape');
  await dev1.type('clear; echo back-$((1+1))-');
  await dev1.see(/^back-2-$/m);
});

test('a lost network is shown in a moment, and what is typed then is sent once', async () => {
  await clear();
  await dev1.watchStates();
  const lost = Date.now();
  wire.freeze();
  await dev1.state('quiet', 10_000);
  const [{ name, at }] = await dev1.statesSeen();
  assert.ok(name === 'quiet' && at - lost <= 3_000, `${name} after ${at - lost} ms`);
  await dev1.type('echo frozen-$((1+1))-');
  await eventually(async () => /waits to be sent/.test(await text('kept')), 'nothing says that keys wait');
  wire.thaw();
  await dev1.state('open');
  await dev1.see(/^frozen-2-$/m);
  assert.equal(await count('frozen-2-'), 1);
});

test('it comes back from connections that are reset and refused', async () => {
  await clear();
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
  await clear();
  wire.freeze();
  await dev1.type('echo doubtful-$((1+1))-');
  await dev1.state('quiet', 10_000);
  wire.renew();
  // The old connection stays dead, and a new one is made.
  await dev1.page.getByRole('button', { name: 'Send it again' }).waitFor({ timeout: 40_000 });
  assert.match(await text('notice-text'), /echo doubtful/);
  assert.equal(await count('doubtful-2-'), 0);
  await accessible(dev1.page, 'a question');
  // Something else to tell does not take the question away: nothing can be typed until it is answered.
  wire.freeze();
  await dev1.state('quiet', 10_000);
  wire.thaw();
  await dev1.state('open');
  assert.match(await text('notice-text'), /echo doubtful/);
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
  // The shell asks no more, so that the paste has no marks.
  await dev1.type('clear; stty -echo; echo re$((1))dy; cat > pasted.txt; stty echo; sha256sum pasted.txt');
  await dev1.see(/^re1dy$/m);
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
  const worst = await dev1.worstTimer(5_000);
  const grown = (await memory()) - first;
  await dev1.state('open');
  assert.ok(worst < 1_000, `a timer was ${worst} ms late`);
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

test('icons of programs are there without any network, and come when they are needed', async () => {
  const symbols = () => dev1.page.evaluate(() => [...document.fonts].find(({ family }) => /Symbols/.test(family))?.status);
  assert.equal(await dev1.page.evaluate(() => document.fonts.check('14px "DevPlane Mono"')), true);
  // By their numbers: xterm.js passes over what a test types of other alphabets.
  await dev1.type("clear; printf '\\ue0b0 \\uf07b \\u4e2d\\u6587\\u5bbd \\u2713\\n'");
  await dev1.see(/中文宽/);
  await eventually(async () => (await symbols()) === 'loaded', 'the font of the icons is not loaded');
});

test('a restart is asked for, confirmed and done', async () => {
  await dev1.focus();
  await dev1.type('clear; echo shell-$$-');
  const [, before] = await dev1.see(/^shell-(\d+)-$/m);
  const name = JSON.parse((await dev1.fetch('/api/workspace')).body).name;
  const pod = () => kubectl('-n', 'workspaces', 'get', 'pod', `${name}-workspace-pod`, '-o', 'jsonpath={.metadata.uid}');
  const old = pod();
  await dev1.page.getByRole('button', { name: 'Restart…' }).click();
  await dev1.page.getByRole('button', { name: 'Restart', exact: true }).click();
  await dev1.state('waiting');
  await dev1.waitForTerminal();
  assert.notEqual(pod(), old);
  assert.ok(before);
});

test('a closed clipboard is said to be closed', async () => {
  const page = await dev1.context.newPage();
  // As the gateway makes the page when its setting says so.
  await page.addInitScript(() => {
    new MutationObserver(() => document.body && (document.body.dataset.clipboard = 'none')).observe(document, { childList: true, subtree: true });
  });
  await page.goto(url);
  await page.waitForFunction(() => document.body.dataset.state === 'open');
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.press('Control+Shift+V');
  await page.getByText('Pasting into the workspace is switched off here.').waitFor();
  await page.close();
});

test('on a phone there are the keys that its keyboard lacks, large enough for a finger', async () => {
  const phone = await open({ viewport: { width: 390, height: 700 }, hasTouch: true, isMobile: true, storageState: await dev1.context.storageState() });
  await phone.page.goto(url);
  await phone.waitForTerminal();
  const sizes = await phone.page.evaluate(() => ({
    wide: document.documentElement.scrollWidth,
    smallest: Math.min(...[...document.querySelectorAll('.keys button, .bar button')].filter((button) => button.offsetParent).map((button) => button.offsetHeight)),
  }));
  assert.ok(sizes.wide <= 390 && sizes.smallest >= 44, JSON.stringify(sizes));
  await phone.see(/\S/);
  await phone.type('clear; echo re$((1))dy; cat');
  await phone.see(/^re1dy$/m);
  await phone.page.keyboard.type('touched');
  await phone.see(/^touched$/m);
  await phone.page.getByRole('button', { name: 'Ctrl' }).click();
  await phone.focus();
  await phone.page.keyboard.type('c');
  await phone.see(/\^C/);
  await accessible(phone.page, 'the terminal on a phone');
  await phone.page.close();
});

test('the installed app has a window of its own', async () => {
  const href = await dev1.page.locator('link[rel=manifest]').getAttribute('href');
  const manifest = JSON.parse((await dev1.fetch(href)).body);
  assert.deepEqual([manifest.display, manifest.start_url, manifest.scope], ['standalone', '/', '/']);
  const session = await dev1.context.newCDPSession(dev1.page);
  const { errors } = await session.send('Page.getAppManifest');
  assert.deepEqual(errors, []);
});

test('a start and its failure are told, as text, with a way on', async () => {
  const dev2 = await open();
  await dev2.page.route(EVENTS, () => undefined);
  await dev2.signIn('dev2');
  await dev2.page.waitForLoadState();
  if (await dev2.page.locator('.steps').count()) await accessible(dev2.page, 'the starting page');
  const name = JSON.parse((await dev2.fetch('/api/workspace')).body).name;
  await dev2.page.unroute(EVENTS);
  await dev2.waitForTerminal();
  // Stopped by an administrator, it is no page of a start; deleted, it begins anew.
  await dev2.page.goto('about:blank');
  kubectl('-n', 'workspaces', 'delete', 'pod', `${name}-workspace-pod`, '--wait=false');
  const hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
  const steps = [
    { id: 'volume', title: 'v', state: 'done', detail: '', at: new Date().toISOString() },
    { id: 'schedule', title: 's', state: 'failed', detail: hostile },
    { id: 'start', title: 's', state: 'pending', detail: '' },
    { id: 'ready', title: 'r', state: 'pending', detail: '' },
  ];
  await told(dev2.page, { phase: 'Failed', message: hostile, remediationHint: `Ask ${hostile}`, ttydReady: false, steps });
  await eventually(async () => {
    await dev2.page.goto(url);
    return (await dev2.page.locator('.steps').count()) > 0;
  }, 'no starting page', 60_000);
  await dev2.page.getByRole('heading', { name: 'Your workspace did not start' }).waitFor();
  assert.equal(await dev2.page.locator('#message').textContent(), hostile);
  assert.equal(await dev2.page.locator('main img[src=x], main script').count(), 0);
  assert.match(await dev2.page.title(), /^Not started/);
  assert.match(await dev2.page.locator('#step-volume .time').textContent(), /\d/);
  await accessible(dev2.page, 'a start that failed');
  const answered = dev2.page.waitForResponse('**/api/workspace/restart');
  await dev2.page.getByRole('button', { name: 'Try again' }).click();
  assert.equal((await answered).status(), 202);
  await dev2.page.unroute(EVENTS);
  await dev2.waitForTerminal();
});

test('every page can be used by everyone', async () => {
  await accessible(dev1.page, 'the terminal');
  await dev1.page.goto(`${url}/nothing-here`);
  assert.match(await dev1.page.locator('main').textContent(), /Request [\w-]+/);
  await accessible(dev1.page, 'an error');
  const stranger = await open();
  await stranger.page.goto(`${url}/callback?state=unknown&code=unknown`);
  assert.match(await stranger.page.locator('main').textContent(), /Sign-in not completed[^]*Request [\w-]+/);
  await accessible(stranger.page, 'a sign-in that was refused');
  await stranger.page.goto(`${url}/signed-out`);
  await accessible(stranger.page, 'a session that has ended');
  await dev1.page.goto(`${url}/logout`);
  await dev1.page.getByRole('heading', { name: 'Sign out?' }).waitFor();
  await accessible(dev1.page, 'the question before signing out');
  await dev1.page.getByRole('button', { name: 'Sign out' }).click();
  await dev1.page.getByRole('heading', { name: 'Signed out' }).waitFor();
});

test('no page broke its own policy or asked anyone else', () => {
  for (const { violations, hosts } of users) {
    assert.deepEqual(violations, []);
    for (const host of hosts) assert.match(host, /(^|\.)devplane\.localhost$/);
  }
});
