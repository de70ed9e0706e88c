import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delay } from '../src/backoff';
import { FONT_SIZES, read, write, type Store } from '../src/preferences';
import { isWebLink, title } from '../src/text';

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
  assert.deepEqual(read(store({ 'devplane.fontSize': 'x', 'devplane.theme': 'pink' })), { fontSize: FONT_SIZES.usual, theme: 'system', screenReader: false });
  assert.equal(read(store({ 'devplane.fontSize': '999' })).fontSize, FONT_SIZES.most);
  const values = {};
  write(store(values), { fontSize: 20, theme: 'light', screenReader: true });
  assert.deepEqual(read(store(values)), { fontSize: 20, theme: 'light', screenReader: true });
  assert.equal(read(undefined).theme, 'system');
});
