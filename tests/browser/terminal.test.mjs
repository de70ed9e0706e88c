// What people do at a terminal, in a real Chromium: tests/gateway/chromium.rs starts it, with a real ttyd, tmux, bash and vim behind the gateway.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch } from './chromium.mjs';
import { eventually, User } from './session.mjs';
import { Wire } from './wire.mjs';

const { URL: url, WORKSPACE: home } = process.env;
let wire, browser, user, page;

before(async () => {
  const { hostname, port, host } = new URL(url);
  wire = await Wire.to(hostname, Number(port));
  browser = await launch(`--host-resolver-rules=MAP ${host} ${hostname}:${wire.port}`);
  user = await User.open(browser, url, { permissions: ['clipboard-read', 'clipboard-write'] });
  page = user.page;
  await user.signIn('dev1');
  await user.waitForTerminal();
  await user.see(/\$/);
});

after(async () => {
  await browser?.close();
  wire?.close();
});

let tests = 0;

beforeEach(async () => {
  await user.focus();
  await user.type(`clear; echo test-$((${tests++}+1))-`);
  // Only a shell that asks again marks pastes: while a program runs, even `clear`, pasted lines are lines to the terminal.
  await user.see(new RegExp(`^test-${tests}-\\n\\$$`, 'm'));
});

const clipboard = () => page.evaluate(() => navigator.clipboard.readText());

/** What tmux knows of the terminal, asked from outside: nothing of that is on the screen. */
const tmux = (format) => execFileSync('tmux', ['-S', join(home, 'tmux'), 'display-message', '-p', format], { encoding: 'utf8' }).trim();
const columns = () => Number(tmux('#{window_width}'));

/** Where the characters of a text on the screen are, in pixels, by their index. */
async function place(text) {
  const lines = (await user.screen()).split('\n');
  const row = lines.findLastIndex((line) => line.startsWith(text));
  assert.ok(row >= 0, `${text} is not on the screen`);
  const box = await page.locator('.xterm-screen').boundingBox();
  const [wide, high] = [box.width / columns(), box.height / lines.length];
  return (index) => [box.x + wide * (index + 0.5), box.y + high * (row + 0.5)];
}

test('a search finds what was shown, and it can be copied', async () => {
  await user.type("printf 'needle-%s\\n' one two three");
  await user.see(/^needle-three$/m);
  await page.keyboard.press('Control+Shift+F');
  await page.locator('#search-text').fill('needle-two');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+Shift+C');
  await eventually(async () => (await clipboard()) === 'needle-two', 'what was found is not copied');
});

test('a link opens in a tab that knows nothing of this one, and one with another text asks first', async () => {
  const click = async (text) => {
    const at = await place(text);
    await page.mouse.move(...at(1));
    await page.mouse.move(...at(3), { steps: 3 });
    await page.waitForTimeout(300);
    const opened = user.context.waitForEvent('page');
    // tmux has the mouse; with Shift it is the browser's.
    await page.keyboard.down('Shift');
    await page.mouse.click(...at(3));
    await page.keyboard.up('Shift');
    return opened;
  };
  await user.type(`echo ${url}/health`);
  await user.see(/^http.*health$/m);
  const opened = await click(`${url}/health`);
  await opened.waitForURL(`${url}/health`);
  assert.equal(await opened.evaluate(() => window.opener), null);
  await opened.close();
  // Past tmux, which knows of such links since 3.4.
  await writeFile(tmux('#{client_tty}'), `\x1b7\x1b[5;1H\x1b]8;;${url}/readyz\x1b\\innocent\x1b]8;;\x1b\\\x1b8`);
  await user.see(/^innocent/m);
  let asked = '';
  page.once('dialog', (dialog) => {
    asked = dialog.message();
    void dialog.accept();
  });
  const other = await click('innocent');
  await other.waitForURL(`${url}/readyz`);
  assert.match(asked, new RegExp(`Open this link[^]*${url}/readyz`));
  await other.close();
});

test('text size and colours are kept', async () => {
  const before = columns();
  const press = async (name) => {
    for (let times = 0; times < 4; times++) await page.getByRole('button', { name }).click();
  };
  const background = () => page.evaluate(() => getComputedStyle(document.querySelector('.xterm-scrollable-element')).backgroundColor);
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  const choose = async (wanted) => {
    while ((await theme()) !== wanted) await page.getByRole('button', { name: 'Colours' }).click();
  };
  await press('Larger text');
  await eventually(() => columns() < before, 'the text is not larger');
  const [dark, first] = [await background(), await theme()];
  await choose('light');
  await eventually(async () => (await background()) !== dark, 'the colours are the same');
  await page.reload();
  await user.waitForTerminal();
  assert.equal(await theme(), 'light');
  await eventually(() => columns() < before, 'the text is small again');
  await choose(first);
  await press('Smaller text');
  await eventually(() => columns() === before, 'the text is not as it was');
});

test('what the mouse selects under tmux is copied', async () => {
  await user.type("printf 'select-%s\\n' this");
  await user.see(/^select-this$/m);
  const at = await place('select-this');
  await page.mouse.move(...at(0));
  await page.mouse.down();
  await page.mouse.move(...at(5), { steps: 4 });
  // Up to, and without, the cell in which it ends.
  await page.mouse.move(...at('select-this'.length), { steps: 4 });
  await page.mouse.up();
  await eventually(async () => (await clipboard()) === 'select-this', 'what was selected is not copied');
});

test('what vim yanks is copied', async () => {
  // As people have it in their vimrc: a yank is written to the terminal as OSC 52.
  await writeFile(join(home, 'vimrc'), `
    set nocompatible
    function! Osc52() abort
      let encoded = system('base64 -w 0', join(v:event.regcontents, "\\n"))
      call writefile(["\\x1b]52;c;" . encoded . "\\x07"], '/dev/tty', 'b')
    endfunction
    autocmd TextYankPost * call Osc52()
  `);
  await writeFile(join(home, 'text'), 'yanked in vim – ünïcödé 中文\nanother line\n');
  await user.type('vim -u vimrc text');
  await user.see(/^another line/m);
  await page.keyboard.type('yy');
  await eventually(async () => (await clipboard()) === 'yanked in vim – ünïcödé 中文', `the clipboard has ${await clipboard()}`);
  await user.type(':q!');
  await user.see(/^\$$/m);
});

test('a megabyte that is pasted into a shell as one paste arrives byte for byte', async () => {
  const line = `${'0123456789abcdef'.repeat(6)}xyz\n`;
  const content = line.repeat(10_486);
  assert.ok(content.length >= 1024 * 1024);
  // A program that asks for marked pastes, as shells do, and keeps what it was given.
  await writeFile(join(home, 'paste.py'), `
import os, sys, termios, tty
old = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b'\\x1b[?2004hready\\r\\n')
data = b''
while not data.endswith(b'\\x1b[201~'):
    data += os.read(0, 65536)
os.write(1, b'\\x1b[?2004l')
termios.tcsetattr(0, termios.TCSANOW, old)
begins = data.index(b'\\x1b[200~')
open('pasted', 'wb').write(data[begins + 6:-6])
print('pasted-' + str(data.count(b'\\x1b')))
`);
  await user.type('python3 paste.py');
  await user.see(/^ready/m);
  await page.evaluate((text) => navigator.clipboard.writeText(text), content);
  await user.focus();
  await page.keyboard.press('Control+Shift+V');
  await user.see(/^pasted-2$/m, 120_000);
  const pasted = (await readFile(join(home, 'pasted'), 'latin1')).replaceAll('\r', '\n');
  const hash = (text) => createHash('sha256').update(text).digest('hex');
  assert.equal(hash(pasted), hash(content));
  assert.equal(await page.evaluate(() => document.body.dataset.state), 'open');
});

test('a paste of many lines is one for a real shell: nothing of it runs before Enter', async () => {
  await page.evaluate((text) => navigator.clipboard.writeText(text), 'echo one-$((1+1))\necho two-$((1+1))\n');
  await user.focus();
  await page.keyboard.press('Control+Shift+V');
  await user.see(/echo two/);
  assert.doesNotMatch(await user.screen(), /^one-2$/m);
  await page.keyboard.press('Enter');
  await user.see(/^one-2\n(.*\n)*two-2$/m);
});

test('two tabs are one session, and the one that is used last has its size', async () => {
  const second = await user.context.newPage();
  await second.setViewportSize({ width: 800, height: 500 });
  await second.goto(url);
  await second.waitForFunction(() => document.body.dataset.state === 'open');
  const type = async (tab, text) => {
    await tab.bringToFront();
    await tab.locator('.xterm-helper-textarea').focus();
    await tab.keyboard.type(text);
    await tab.keyboard.press('Enter');
  };
  const shows = (tab, pattern) =>
    tab.waitForFunction((source) => new RegExp(source).test(document.querySelector('.xterm-accessibility-tree')?.textContent ?? ''), pattern);
  await type(second, 'clear; echo from-second-$((1+1))-');
  await shows(page, 'from-second-2-');
  await shows(second, 'from-second-2-');
  const small = columns();
  await type(page, 'clear; echo from-first-$((1+1))-');
  await shows(second, 'from-first-2-');
  await eventually(() => columns() > small, 'the size is still that of the other tab');
  // Nobody fights over it.
  const large = columns();
  for (let turn = 0; turn < 20; turn++) {
    assert.equal(columns(), large);
    await page.waitForTimeout(50);
  }
  await second.close();
});

test('a lost network is shown within three seconds, whenever it is lost, and what is typed then is sent once', async () => {
  await user.watchStates();
  for (let turn = 0; turn < 5; turn++) {
    // A beat is sent every 0.9 seconds: each time it is lost at another moment between two.
    await page.waitForTimeout(1_500 + turn * 190);
    await user.statesSeen();
    const lost = Date.now();
    wire.freeze();
    await user.state('quiet', 10_000);
    const [{ name, at }] = await user.statesSeen();
    await user.type(`echo lost-${turn}-$((1+1))-`);
    wire.thaw();
    assert.ok(name === 'quiet' && at - lost <= 3_000, `${name} after ${at - lost} ms`);
    await user.state('open');
    await user.see(new RegExp(`^lost-${turn}-2-$`, 'm'));
  }
  assert.equal((await user.screen()).match(/^lost-\d-2-$/gm).length, 5);
});

test('it comes back by itself from 502s that a proxy answers to the terminal’s own handshake', async () => {
  await user.arrived();
  wire.answerBadGateway();
  await user.state('waiting');
  await user.type('echo bad-gateway-$((1+1))-');
  await eventually(() => wire.refused >= 3, 'it is not tried again');
  assert.equal(await page.evaluate(() => document.body.dataset.state), 'waiting');
  wire.mend();
  await user.state('open');
  await user.see(/^bad-gateway-2-$/m);
  assert.equal((await user.screen()).match(/^bad-gateway-2-$/gm).length, 1);
});

test('a program that prints for ever neither freezes the page nor fills its memory', async () => {
  const session = await user.context.newCDPSession(page);
  const memory = async () => {
    await session.send('HeapProfiler.collectGarbage');
    return (await session.send('Runtime.getHeapUsage')).usedSize;
  };
  await user.type('yes "$(head -c 200 /dev/zero | tr "\\0" y)"');
  await user.see(/^y{100}/m);
  const first = await memory();
  const worst = await user.worstTimer(5_000);
  const grown = (await memory()) - first;
  await session.detach();
  await page.keyboard.press('Control+C');
  await user.state('open');
  assert.ok(worst < 1_000, `a timer was ${worst} ms late`);
  assert.ok(grown < 64 * 1024 * 1024, `memory grew by ${grown} bytes`);
  await user.type('clear; echo calm-$((1+1))-');
  await user.see(/^calm-2-$/m);
});

test('a workspace that hangs is shown, and what is typed meanwhile has not arrived until it has', async () => {
  const ttyd = Number(execFileSync('ps', ['-o', 'ppid=', '-p', tmux('#{client_pid}')], { encoding: 'utf8' }));
  await user.arrived();
  process.kill(ttyd, 'SIGSTOP');
  try {
    // The gateway is there and takes it; the workspace's kernel does too.
    await user.type('echo hung-$((1+1))-');
    await user.state('quiet', 5_000);
    await page.getByText('Nothing is heard from your workspace').waitFor();
    await user.type('echo later-$((1+1))-');
    assert.match(await page.locator('#kept').textContent(), /waits to be sent/);
  } finally {
    process.kill(ttyd, 'SIGCONT');
  }
  await user.state('open');
  const [shown] = await user.see(/^hung-2-\n[^]*later-2-$/m);
  assert.equal(shown.match(/^hung-2-$/gm).length, 1);
});

test('a terminal that is refused says why, a workspace that failed what to do, and a recording that it is one', async () => {
  const other = await user.context.newPage();
  const refusals = [{ code: 1013, reason: 'terminals were opened too often; this takes a moment' }];
  await other.routeWebSocket(/\/ws\?client=page$/, (socket) => {
    const refusal = refusals.shift();
    if (refusal) return socket.close(refusal);
    // The gateway's own notice is the second then, and of no account.
    socket.send(Buffer.from('r{"bar":true,"title":true}'));
    socket.connectToServer();
  });
  const steps = ['volume', 'schedule', 'image', 'start', 'ready'].map((id) => ({ id, title: id, state: 'pending', detail: '' }));
  const failed = { phase: 'Failed', message: 'The image can’t be pulled.', stopReason: '', remediationHint: 'Check its name.', ttydReady: false, updatePending: '', steps };
  // A stream that goes on, which an answer to a request of a test can't be.
  await other.addInitScript((view) => {
    const real = window.fetch;
    const event = new TextEncoder().encode(`event: workspace\ndata: ${JSON.stringify(view)}\n\n`);
    const told = () => new Response(new ReadableStream({ start: (controller) => controller.enqueue(event) }));
    window.fetch = (path, options) => (path === '/api/workspace/events' ? Promise.resolve(told()) : real(path, options));
  }, failed);
  await other.goto(url);
  await other.getByText('Terminals were opened too often; this takes a moment. Connecting again…').waitFor();
  await other.getByText('The image can’t be pulled. Check its name.').waitFor();
  const asked = other.waitForRequest('**/api/workspace/restart');
  await other.getByRole('button', { name: 'Try again' }).click();
  assert.equal((await asked).method(), 'POST');
  // Connected when the user wants it, whatever is told of the workspace.
  assert.ok(await other.locator('#recorded').isHidden());
  await other.getByRole('button', { name: 'Connect now' }).click();
  await other.waitForFunction(() => document.body.dataset.state === 'open');
  assert.ok(await other.locator('#recorded').isVisible());
  assert.match(await other.title(), /^● Recorded · /);
  await other.close();
});

test('the terminal can be used by everyone, also where its session is recorded', async () => {
  await page.evaluate(() => document.querySelectorAll('.recorded').forEach((mark) => (mark.hidden = false)));
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(axe);
    const violations = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ['violations'] })).violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`));
    assert.deepEqual(violations, [], colorScheme);
  }
});

test('no page broke its own policy or asked anyone else', () => {
  assert.deepEqual(user.violations, []);
  for (const host of user.hosts) assert.equal(host, '127.0.0.1');
});
