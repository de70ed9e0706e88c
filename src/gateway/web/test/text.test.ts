import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delay } from '../src/backoff';
import { FONT_SIZES, read, write, type Store } from '../src/preferences';
import { elapsed, isWebLink, notSent, plainLine, remaining, title } from '../src/text';
import { withControl } from '../src/touch-keys';

test('a title is one line of plain text', () => {
  assert.equal(title('vim\u0007 \u202egnp.exe\n'), 'vim gnp.exe');
  assert.equal(title('a'.repeat(200)).length, 80);
});

test('only web pages are opened', () => {
  assert.ok(isWebLink('https://example.test/a') && isWebLink('http://localhost:3000'));
  for (const other of ['javascript:alert(1)', 'file:///etc/passwd', 'vscode://x', '//example.test', 'x']) assert.ok(!isWebLink(other), other);
});

test('waits grow to an end and differ', () => {
  assert.deepEqual([delay(0, () => 0), delay(0, () => 1), delay(1, () => 1), delay(99, () => 1)], [125, 250, 500, 15_000]);
});

test('preferences that make no sense are the usual ones', () => {
  const store = (values: Record<string, string>): Store => ({
    getItem: (key) => values[key] ?? null,
    setItem: (key, value) => void (values[key] = value),
  });
  assert.deepEqual(read(store({ 'devplane.fontSize': 'x', 'devplane.theme': 'pink' })), { fontSize: FONT_SIZES.usual, theme: 'system', screenReader: false, barHidden: false });
  assert.equal(read(store({ 'devplane.fontSize': '999' })).fontSize, FONT_SIZES.most);
  const values = {};
  write(store(values), { fontSize: 20, theme: 'light', screenReader: true, barHidden: true });
  assert.deepEqual(read(store(values)), { fontSize: 20, theme: 'light', screenReader: true, barHidden: true });
  assert.equal(read(undefined).theme, 'system');
});

test('keys can be read, whatever they are', () => {
  assert.equal(plainLine('ls\r\x1b[A\u202e\x03'), 'ls⏎␛[A··');
  assert.equal(plainLine('a'.repeat(100)), `…${'a'.repeat(60)} (100 characters)`);
});

test('what was not sent is told with its length', () => {
  assert.equal(notSent({ text: 'y', wasSent: false }), 'What you typed last (1 character) was not sent: y');
  assert.equal(notSent({ text: 'y'.repeat(70), wasSent: false }), `What you typed last (70 characters) was not sent: …${'y'.repeat(60)}`);
  assert.equal(notSent({ text: 'ls\r', wasSent: true }), 'What you typed last (3 characters) may not have arrived: ls⏎');
});

test('times as people say them', () => {
  const minute = 60_000;
  assert.deepEqual([-1, 59_999, minute, 119 * minute, 120 * minute, 50 * 60 * minute].map(remaining), [
    'less than a minute', 'less than a minute', '1 min', '119 min', '2 h', '2 days',
  ]);
  assert.deepEqual([0, 59_999, 61_000].map(elapsed), ['0 s', '59 s', '1 min 1 s']);
});

test('Ctrl makes control characters', () => {
  assert.deepEqual(['c', 'C', '[', '@', '1'].map(withControl), ['\x03', '\x03', '\x1b', '\0', '1']);
});
