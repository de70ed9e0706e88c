import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outbox } from '../src/outbox';
import { input, MAX_INPUT } from '../src/protocol';

const text = (message: Uint8Array | undefined) => new TextDecoder().decode(message?.subarray(1));

/** Takes all that waits. */
function drained(outbox: Outbox, mark: number): string {
  let all = '';
  while (outbox.waiting > 0) all += text(outbox.next(mark));
  return all;
}

test('what has arrived is forgotten, and what has not is in doubt', () => {
  const outbox = new Outbox();
  for (const typed of ['a', 'b', 'c', 'd']) outbox.add(input(typed));
  assert.equal(outbox.waiting, 4);
  for (const mark of [1, 2, 3]) outbox.next(mark);
  assert.deepEqual([outbox.waiting, outbox.underWay], [1, 3]);
  outbox.confirm(1);
  assert.equal(outbox.underWay, 2);
  outbox.broke();
  assert.deepEqual([outbox.isInDoubt, outbox.doubt, outbox.waiting, outbox.underWay], [true, 'bc', 1, 0]);
  // Nothing was sent over the next connection.
  outbox.broke();
  assert.equal(outbox.doubt, 'bc');
  outbox.decide(true);
  assert.deepEqual([outbox.isInDoubt, drained(outbox, 4)], [false, 'bcd']);
  outbox.confirm(4);
  outbox.broke();
  assert.ok(!outbox.isInDoubt);
});

test('a part of a paste is never sent alone', () => {
  const pasted = 'x'.repeat(3 * MAX_INPUT);
  const outbox = new Outbox();
  outbox.add(input(pasted));
  outbox.add(input('later'));
  outbox.next(1);
  outbox.next(2);
  outbox.confirm(1);
  outbox.broke();
  assert.deepEqual([outbox.doubt, outbox.waiting], [pasted, 'later'.length]);
  outbox.decide(false);
  assert.equal(drained(outbox, 1), 'later');
});

test('what was typed for programs that have ended is in doubt as a whole', () => {
  const outbox = new Outbox();
  outbox.add(input(`\x1b[200~${'a'.repeat(2 * MAX_INPUT)}\x1b[201~`));
  outbox.add(input('b'));
  outbox.next(1);
  outbox.broke();
  outbox.add(input('c'));
  assert.deepEqual([outbox.unsent?.text.slice(-2), outbox.unsent?.wasSent], ['bc', true]);
  outbox.moved();
  assert.deepEqual([outbox.isForAnother, outbox.doubt.slice(-2), outbox.waiting, outbox.next(1)], [true, 'bc', 0, undefined]);
  outbox.add(input('d'));
  outbox.decide(false);
  // Not even the end of a paste: nothing of it was begun here.
  assert.deepEqual([outbox.isForAnother, outbox.isInDoubt, drained(outbox, 1), outbox.unsent?.text], [false, false, 'd', 'd']);
  outbox.confirm(1);
  assert.equal(outbox.unsent, undefined);
  outbox.moved();
  assert.ok(!outbox.isForAnother);
});
