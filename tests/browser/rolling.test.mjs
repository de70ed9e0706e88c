// An update of the gateway as who types at the page sees it: tests/gateway/chromium.rs starts this, ends the gateway that has the terminal when
// some lines were typed, and writes the file `exchanged` when the other one has it.
import assert from 'node:assert/strict';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './chromium.mjs';
import { eventually, User } from './session.mjs';

const { URL: url, WORKSPACE: home } = process.env;
let browser, user, page;

before(async () => {
  browser = await launch();
  user = await User.open(browser, url);
  page = user.page;
  await user.signIn('dev1');
  await user.waitForTerminal();
  await user.see(/screen of old/);
});

after(() => browser?.close());

const isExchanged = () => access(join(home, 'exchanged')).then(() => true, () => false);

test('no line that was acknowledged is lost, none is doubled, and none is missing that the page has not asked about', async () => {
  const question = page.getByRole('button', { name: 'Don’t', exact: true });
  const shown = [];
  for (let number = 0, more = 5; more > 0; number++) {
    const line = `line-${String(number).padStart(4, '0')}`;
    const acknowledged = new RegExp(`^kept ${line}$`, 'm');
    await user.type(line);
    let isAsked = false;
    const told = async () => (isAsked = await question.isVisible()) || acknowledged.test(await user.screen());
    await eventually(told, `${line} is neither acknowledged nor asked about`, 60_000);
    if (isAsked) {
      // Nothing is sent twice. What had arrived of a line is taken away.
      await question.click();
      await user.focus();
      await page.keyboard.press('Control+u');
    } else {
      shown.push(line);
    }
    if (await isExchanged()) more -= 1;
  }
  const kept = (await readFile(join(home, 'kept'), 'utf8')).trimEnd().split('\n');
  assert.equal(new Set(kept).size, kept.length, `doubled: ${kept}`);
  assert.deepEqual(kept.filter((line) => shown.includes(line)), shown);
  assert.equal(await page.evaluate(() => document.body.dataset.state), 'open');
});
