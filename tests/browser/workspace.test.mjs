// What the pages make of how the workspace is, in a real Chromium: tests/gateway/chromium.rs starts it, with the real gateway, an API server on
// which the tests write the status as the operator does, and a real ttyd and tmux behind it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch } from './chromium.mjs';
import { eventually, User } from './session.mjs';

const { URL: url, WORKSPACE: home, KUBECTL: kubectl, KUBECONFIG: kubeconfig, NAMESPACE: namespace, NAME: name } = process.env;
let browser, user, page;

/** Writes fields of the status. */
function tell(status) {
  const patch = ['patch', 'workspace', name, '--subresource=status', '--type=merge', '-p', JSON.stringify({ status })];
  execFileSync(kubectl, ['--kubeconfig', kubeconfig, '-n', namespace, ...patch]);
}
const told = () => JSON.parse(execFileSync(kubectl, ['--kubeconfig', kubeconfig, '-n', namespace, 'get', 'workspace', name, '-o', 'json'], { encoding: 'utf8' }));

/** The condition `Ready`, and the others as they are. */
const ready = (status, reason) => told().status.conditions.map((condition) => (condition.type === 'Ready' ? { ...condition, status, reason } : condition));
const running = (more = {}) => tell({ phase: 'Running', message: '', remediationHint: '', stopReason: null, conditions: ready('True', 'Running'), ...more });
const starting = (more = {}) => tell({ phase: 'Creating', message: 'Making the pod', conditions: ready('False', 'Progressing'), ...more });

/** Every program in the workspace ends, and its terminals. */
const end = () => execFileSync('tmux', ['-S', join(home, 'tmux'), 'kill-server']);

const notice = () => page.locator('#notice-text').textContent();

before(async () => {
  browser = await launch();
  user = await User.open(browser, url, { permissions: ['clipboard-read', 'clipboard-write'] });
  page = user.page;
  running({ containerID: 'containerd://first' });
  await user.signIn('dev1');
  await user.waitForTerminal();
  await user.see(/\$/);
});

after(() => browser?.close());

beforeEach(async () => {
  await user.state('open');
  await user.arrived();
  await user.focus();
});

test('keys that were typed for programs that have ended are asked about before others get them', async () => {
  for (const [container, answer] of [['second', 'Don’t'], ['third', 'Send it']]) {
    starting();
    end();
    await user.state('waiting');
    await page.getByText('Making the pod').waitFor();
    await user.type(`echo ${container} >> ran`);
    await page.getByText('What you type waits to be sent').waitFor();
    running({ containerID: `containerd://${container}` });
    await user.state('open');
    await page.getByText(`Your workspace was started anew. This was typed before that, for programs that have ended: echo ${container} >> ran⏎`).waitFor();
    // What is typed for the new ones waits behind it.
    await user.focus();
    await user.type(`echo after-${container} >> ran`);
    await eventually(async () => !(await user.screen()).includes('echo'), 'the screen of the new ones has what waits');
    await page.getByRole('button', { name: answer, exact: true }).click();
    await user.see(new RegExp(`echo after-${container} >> ran`));
    await user.arrived();
  }
  const ran = () => readFile(join(home, 'ran'), 'utf8').catch(() => '');
  await eventually(async () => (await ran()).includes('after-third'), 'the last line was not run');
  assert.equal(await ran(), 'after-second\nthird\nafter-third\n');
  await rm(join(home, 'ran'));
});

test('and are sent without a question where their programs go on', async () => {
  starting();
  execFileSync('tmux', ['-S', join(home, 'tmux'), 'detach-client', '-s', 'workspace']);
  await user.state('waiting');
  await user.type('clear; echo same-$((1+1))-');
  running();
  await user.see(/^same-2-$/m);
});

test('keys that can’t be sent any more are told of, and the browser asks before a page with such keys is left', async () => {
  starting();
  end();
  await user.state('waiting');
  await user.type('echo never-sent');
  // A reload would lose them.
  let asked = '';
  page.once('dialog', (dialog) => {
    asked = dialog.type();
    void dialog.dismiss();
  });
  await page.evaluate(() => void setTimeout(() => location.reload()));
  await eventually(() => asked === 'beforeunload', 'the browser does not ask');
  await user.context.clearCookies({ domain: new URL(url).hostname });
  // The stream of events ends with the gateway's word that nobody is signed in.
  running();
  await user.state('ended');
  assert.equal(await notice(), 'Your session has ended. What you typed last (16 characters) was not sent: echo never-sent⏎');
  assert.ok(await page.locator('#kept').isHidden());
  await user.focus();
  await page.keyboard.type('x');
  assert.match(await notice(), /^There is no terminal any more: this was not taken\. Your session has ended\. .*never-sent/);
  await page.getByRole('button', { name: 'Copy what was not sent' }).click();
  await eventually(async () => (await page.evaluate(() => navigator.clipboard.readText())) === 'echo never-sent\r', 'it is not in the clipboard');
  await page.getByRole('button', { name: 'Sign in again' }).click();
  await user.fillIn('dev1');
  await user.waitForTerminal();
  assert.ok(!page.url().includes('never'));
  const stored = await page.evaluate(() => JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)]));
  assert.doesNotMatch(stored, /never-sent/);
  assert.doesNotMatch(await user.screen(), /never-sent/);
});

test('an update that waits and the time until an idle stop are shown as the status has them, and Keep working is written', async () => {
  const conditions = told().status.conditions;
  const outdated = { type: 'UpdatePending', status: 'True', reason: 'TemplateChanged', message: 'changed since the pod was made: image', lastTransitionTime: '2026-01-01T00:00:00Z' };
  assert.ok(await page.locator('#update').isHidden() && (await page.locator('#stops').isHidden()));
  running({ conditions: [...conditions, outdated], stopsAt: new Date(Date.now() + 5 * 60_000 - 1000).toISOString().replace(/\.\d+/, ''), lastAccessed: '2026-01-01T00:00:00Z' });
  const update = page.getByRole('button', { name: 'Update available: restart now' });
  await update.waitFor();
  assert.match(await update.getAttribute('title'), /changed since the pod was made: image/);
  await page.getByText('Stops in 4 min if unused').waitFor();
  await page.getByRole('button', { name: 'Keep working' }).click();
  await page.getByText('The workspace goes on.').waitFor();
  await eventually(() => Date.now() - Date.parse(told().status.lastAccessed) < 60_000, 'the use is not written');
  // The operator would now say so.
  running({ conditions, stopsAt: new Date(Date.now() + 3 * 3600_000).toISOString().replace(/\.\d+/, '') });
  await page.getByText('Stops in 2 h if unused').waitFor();
  await update.waitFor({ state: 'hidden' });
  running({ stopsAt: null });
  await page.locator('#stops').waitFor({ state: 'hidden' });
  // And a restart that is asked for.
  running({ conditions: [...conditions, outdated] });
  await update.click();
  await page.getByRole('button', { name: 'Restart', exact: true }).click();
  await page.getByText('The workspace is being restarted…').waitFor();
  const asked = told().metadata.annotations['workspace.devplane.io/restart-requested-at'];
  assert.ok(Date.now() - Date.parse(asked) < 60_000, asked);
  running({ conditions });
  await update.waitFor({ state: 'hidden' });
});

/** What has the keyboard: how it is called, and whether that can be seen. */
const focused = () =>
  page.evaluate(() => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    return {
      name: element.closest('.xterm') ? 'terminal' : element.id || element.textContent.trim(),
      isSeen: outlineStyle !== 'none' && parseFloat(outlineWidth) > 0 && box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
    };
  });

/** Presses Tab until the keyboard is where it was, or has left the page, and gives where it has been. */
async function walk(key = 'Tab') {
  const seen = [];
  for (let turn = 0; turn < 60; turn++) {
    const at = await focused();
    if (at.name === 'terminal' || seen.some(({ name }) => name === at.name)) break;
    seen.push(at);
    await page.keyboard.press(key);
  }
  return seen;
}

test('every control is reached with Tab, is seen to have the keyboard, and lets go of it', async () => {
  const conditions = told().status.conditions;
  const outdated = { type: 'UpdatePending', status: 'True', reason: 'TemplateChanged', message: 'image', lastTransitionTime: '2026-01-01T00:00:00Z' };
  running({ conditions: [...conditions, outdated], stopsAt: new Date(Date.now() + 5 * 60_000).toISOString().replace(/\.\d+/, '') });
  await page.locator('#update').waitFor();
  await page.locator('#stops').waitFor();
  await page.keyboard.press('Control+Shift+F');
  await page.locator('#search-text').waitFor();
  await page.keyboard.press('Control+Shift+E');
  const controls = await page.locator('#bar button:visible, #bar input:visible').evaluateAll((all) => all.map((control) => control.id || control.textContent.trim()));
  assert.ok(controls.length >= 13, String(controls));
  // From the first one on: the search takes the keyboard as it opens.
  await page.evaluate(() => [...document.querySelectorAll('#bar button')].find((button) => button.checkVisibility()).focus({ focusVisible: true }));
  const walked = await walk();
  for (const control of controls) assert.ok(walked.some(({ name }) => name === control), `${control} is not reached: ${walked.map(({ name }) => name)}`);
  for (const { name, isSeen } of walked.filter(({ name }) => controls.includes(name))) assert.ok(isSeen, `${name} has the keyboard, and nothing shows it`);
  await page.locator('#search-close').click();
  running({ conditions, stopsAt: null });
  await page.locator('#update').waitFor({ state: 'hidden' });
  // The dialog keeps the keyboard for its two answers, and Escape ends it.
  await page.locator('#restart').press('Enter');
  await page.getByRole('heading', { name: 'Restart the workspace?' }).waitFor();
  const answers = new Set();
  for (let turn = 0; turn < 4; turn++) {
    const { name, isSeen } = await focused();
    if (name === 'Restart' || name === 'Go on working') {
      answers.add(name);
      assert.ok(isSeen, name);
    }
    await page.keyboard.press('Tab');
  }
  assert.deepEqual([...answers].sort(), ['Go on working', 'Restart']);
  await page.keyboard.press('Escape');
  await page.locator('#restart-dialog').waitFor({ state: 'hidden' });
  await page.waitForFunction(() => document.activeElement?.matches('.xterm-helper-textarea'));
  await page.keyboard.type('clear; echo free-$((1+1))-');
  await page.keyboard.press('Enter');
  await user.see(/^free-2-$/m);
});

test('a question is answered with the keyboard', async () => {
  starting();
  end();
  await user.state('waiting');
  await user.type('echo asked');
  running({ containerID: 'containerd://fourth' });
  await page.getByRole('button', { name: 'Send it', exact: true }).waitFor();
  await user.focus();
  await page.keyboard.press('Control+Shift+E');
  const answers = [await focused()];
  await page.keyboard.press('Tab');
  answers.push(await focused());
  assert.deepEqual(answers, [{ name: 'notice-action', isSeen: true }, { name: 'notice-other', isSeen: true }]);
  await page.keyboard.press('Enter');
  await page.locator('#notice').waitFor({ state: 'hidden' });
  // The keyboard is the terminal's again.
  await user.type('clear; echo answered-$((1+1))-');
  await user.see(/^answered-2-$/m);
  assert.doesNotMatch(await user.screen(), /asked/);
});

test('a start that failed says why, in whose words, and what to do; tried again, it ends in a terminal', async () => {
  await page.goto('about:blank');
  const [message, remediationHint] = ['The image of the workspace can’t be pulled.', 'Check the name of the image, and the pull secret.'];
  tell({ phase: 'Failed', message, remediationHint, conditions: ready('False', 'ErrImagePull') });
  await eventually(async () => {
    await page.goto(url);
    return page.getByRole('heading', { name: 'Your workspace did not start' }).isVisible();
  }, 'no page of a failed start');
  const shown = async () => [await page.locator('#message').textContent(), await page.locator('#reason').textContent(), await page.locator('#hint').textContent()];
  // From the server, and again from the stream of events.
  assert.deepEqual(await shown(), [message, 'ErrImagePull', remediationHint]);
  const other = 'Still not.';
  tell({ message: other, conditions: ready('False', 'ImagePullBackOff') });
  await page.locator('#message').getByText(other).waitFor();
  assert.deepEqual(await shown(), [other, 'ImagePullBackOff', remediationHint]);
  for (const id of ['message', 'reason', 'hint', 'retry']) assert.ok(await page.locator(`#${id}`).isVisible(), id);
  const before = told().metadata.annotations?.['workspace.devplane.io/restart-requested-at'];
  await page.getByRole('button', { name: 'Try again' }).click();
  const requested = () => told().metadata.annotations?.['workspace.devplane.io/restart-requested-at'];
  await eventually(() => requested() !== undefined && requested() !== before, 'the wish is not written');
  // As the operator goes on from there.
  starting({ remediationHint: '' });
  await page.getByRole('heading', { name: 'Your workspace is starting' }).waitFor();
  for (const id of ['reason', 'hint', 'retry']) assert.ok(await page.locator(`#${id}`).isHidden(), id);
  running({ containerID: 'containerd://fifth' });
  await user.waitForTerminal();
  await user.type('clear; echo started-$((1+1))-');
  await user.see(/^started-2-$/m);
});

test('no page broke its own policy or asked anyone else', () => {
  assert.deepEqual(user.violations, []);
  for (const host of user.hosts) assert.equal(host, '127.0.0.1');
});
