// Keys that a browser keeps for itself, in the window of an installed app: real ones, from an X server. tests/gateway/chromium.rs starts it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { User } from './session.mjs';

const { URL: url, CHROMIUM: executablePath } = process.env;
const xdotool = (...args) => execFileSync('xdotool', args, { encoding: 'utf8' }).trim();
let profile, context, user;

before(async () => {
  profile = await mkdtemp(join(tmpdir(), 'devplane-app-'));
  context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: false,
    viewport: null,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', `--app=${url}`],
  });
  user = await User.in(context, url, context.pages()[0]);
  await user.signIn('dev1');
  await user.waitForTerminal();
  await user.see(/\$/);
});

after(async () => {
  await context?.close();
  await rm(profile, { recursive: true, force: true });
});

test('Ctrl+W, Ctrl+T and Ctrl+N reach the shell of an app that has a window of its own', async () => {
  const { page } = user;
  assert.ok(await page.evaluate(() => matchMedia('(display-mode: standalone)').matches));
  const window = xdotool('search', '--onlyvisible', '--class', 'chromium').split('\n').at(-1);
  xdotool('windowfocus', '--sync', window);
  await user.focus();
  // Deletes a word, transposes two characters, and takes the newer line of the history.
  // The X server's keys and the test's come on different ways: each is waited for.
  await page.keyboard.type('echo kept deleted');
  await user.see(/^\$ echo kept deleted$/m);
  xdotool('key', 'ctrl+w');
  await user.see(/^\$ echo kept$/m);
  await page.keyboard.type('ab');
  await user.see(/^\$ echo kept ab$/m);
  xdotool('key', 'ctrl+t');
  await user.see(/^\$ echo kept ba$/m);
  xdotool('key', 'ctrl+n');
  await page.keyboard.press('Enter');
  await user.see(/^kept ba$/m);
  assert.equal(context.pages().length, 1);
});
