import assert from 'node:assert/strict';
import { test } from 'node:test';
import { heightLeft } from '../src/viewport';

test('a keyboard that covers the page leaves what is above it', () => {
  const view = { height: 420, offsetTop: 0, scale: 1 };
  assert.equal(heightLeft(view, 750), 420);
  // The browser has moved the page up.
  assert.equal(heightLeft({ ...view, offsetTop: 60 }, 750), 480);
  for (const [other, height] of [[{ ...view, height: 700 }, 750], [{ ...view, scale: 2 }, 750], [view, 420]] as const) {
    assert.equal(heightLeft(other, height), undefined);
  }
});
