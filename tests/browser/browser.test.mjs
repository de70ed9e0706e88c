// What a person does with DevPlane, in a real Chromium on a real cluster:  run.sh starts it.
//
// URL: the gateway. SPKI: the public keys of the local certificates, which this browser alone takes. SCREENSHOT: where to put a picture.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { launch } from './chromium.mjs';
import { User } from './session.mjs';

const { URL: url, SCREENSHOT: screenshot } = process.env;
const kubectl = (...args) => execFileSync('kubectl', args, { encoding: 'utf8' });

let browser, dev1, dev2;

before(async () => {
  browser = await launch();
  dev1 = await User.open(browser, url);
  dev2 = await User.open(browser, url);
});

after(() => browser?.close());

test('dev1 signs in and sees the start progress', async () => {
  await dev1.signIn('dev1');
  await dev1.waitForTerminal();
  const steps = [...dev1.steps];
  assert.ok(steps.some((step) => step.endsWith(':active')) && steps.some((step) => step.endsWith(':done')), `steps seen: ${steps}`);
});

test('a command runs', async () => {
  await dev1.see(/\S/);
  await dev1.type('echo $((6*7))');
  await dev1.see(/^42$/m);
});

test('a reload finds the same tmux session', async () => {
  await dev1.type('echo shell-$$-');
  const [, shell] = await dev1.see(/^shell-(\d+)-$/m);
  await dev1.page.reload();
  await dev1.waitForTerminal();
  await dev1.type('clear; echo again-$$-');
  const [, again] = await dev1.see(/^again-(\d+)-$/m);
  assert.equal(again, shell);
});

test('opencode answers a prompt', async () => {
  await dev1.type('clear; opencode run "Say something" 2>&1 | tail -n 5');
  await dev1.see(/is the fixed answer/, 120_000);
});

test('a picture for the README', { skip: !screenshot }, async () => {
  await dev1.type('clear; git --version; kubectl version --client; opencode run "Say something"');
  await dev1.see(/git version/);
  await dev1.see(/is the fixed answer[^]*❯/, 120_000);
  await dev1.page.evaluate(() => document.getElementById('screen-reader').setAttribute('aria-pressed', 'false'));
  await dev1.page.screenshot({ path: screenshot });
});

test('the connection comes back by itself, with what was typed meanwhile', async () => {
  const name = JSON.parse((await dev1.fetch('/api/workspace')).body).name;
  kubectl('-n', 'workspaces', 'delete', 'pod', `${name}-workspace-pod`, '--wait=false');
  await dev1.state('waiting');
  await dev1.type('echo kept-$((40+2))-');
  await dev1.waitForTerminal();
  // It was typed for programs that have ended with their pod.
  await dev1.page.getByText('This was typed before that, for programs that have ended: echo kept').waitFor();
  assert.doesNotMatch(await dev1.screen(), /kept-/);
  await dev1.page.getByRole('button', { name: 'Send it', exact: true }).click();
  await dev1.see(/^kept-42-$/m);
  const shown = (await dev1.screen()).match(/^kept-42-$/gm);
  assert.equal(shown.length, 1, 'sent once');
});

test('what a program copies reaches the clipboard, and none reads it', async () => {
  await dev1.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
  await dev1.type(`printf '\\033Ptmux;\\033\\033]52;c;%s\\a\\033\\\\' "$(printf copied-by-osc52 | base64)"; printf '\\033]52;c;%s\\a' "$(printf copied-by-osc52 | base64)"`);
  await dev1.page.waitForFunction(async () => (await navigator.clipboard.readText()) === 'copied-by-osc52', null, { timeout: 20_000 });
});

test('dev2 has another workspace, and no URL leads to that of dev1', async () => {
  await dev2.signIn('dev2');
  await dev2.waitForTerminal();
  const mine = JSON.parse((await dev1.fetch('/api/workspace')).body);
  const other = JSON.parse((await dev2.fetch('/api/workspace')).body);
  assert.notEqual(other.name, mine.name);
  assert.ok(mine.ttydReady && other.ttydReady);
  for (const path of [`/${mine.name}`, `/ws/${mine.name}`, `/workspaces/${mine.name}`, `/?workspace=${mine.name}`, `/api/workspace?name=${mine.name}`,
    `/api/workspace/${mine.name}`, `/api/workspace/events/${mine.name}`]) {
    const { body } = await dev2.fetch(path);
    assert.ok(!body.includes(mine.name), `${path} tells of ${mine.name}`);
  }
  await dev2.type(`clear; curl -sS -m 5 http://${mine.serviceEndpoint}:7681/token; echo status-$?-`);
  const [, status] = await dev2.see(/^status-(\d+)-$/m);
  assert.notEqual(status, '0', 'one workspace must not reach another');
  await dev2.type('clear; echo alone-$((1+1))-');
  await dev2.see(/^alone-2-$/m);
  assert.doesNotMatch(await dev1.screen(), /alone-2-/);
});

test('signing out ends it', async () => {
  await dev2.page.getByRole('button', { name: 'Sign out' }).click();
  await dev2.page.getByRole('heading', { name: 'Signed out' }).waitFor();
  assert.equal((await dev2.fetch('/api/workspace')).status, 401);
});

test('no page broke its own policy or asked anyone else', () => {
  assert.deepEqual([...dev1.violations, ...dev2.violations], []);
  for (const host of [...dev1.hosts, ...dev2.hosts]) assert.match(host, /(^|\.)devplane\.localhost$/);
});
