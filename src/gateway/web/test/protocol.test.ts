import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf, heartbeat, heartbeatAnswer, hello, input, isOfTheMoment, isPaste, MAX_INPUT, output, pasteEnds, recorded, resize } from '../src/protocol';

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test('messages to ttyd', () => {
  assert.equal(text(hello({ columns: 80, rows: 24 })), '{"AuthToken":"","columns":80,"rows":24}');
  assert.equal(text(resize({ columns: 9, rows: 8 })), '1{"columns":9,"rows":8}');
  assert.deepEqual(input('é').map((message) => [...message]), [[0x30, 0xc3, 0xa9]]);
  assert.deepEqual([...bytesOf('\x1b[M\xff')], [0x1b, 0x5b, 0x4d, 0xff]);
});

test('a large paste goes in pieces that the gateway takes', () => {
  const pasted = 'äb'.repeat(MAX_INPUT);
  const messages = input(pasted);
  assert.ok(messages.length > 2 && messages.every((message) => message.length <= MAX_INPUT + 1 && message[0] === 0x30));
  const joined = Buffer.concat(messages.map((message) => message.subarray(1)));
  assert.equal(joined.toString(), pasted);
  assert.deepEqual(input(''), []);
});

test('a paste that is marked as one is known by its beginning', () => {
  assert.ok(isPaste(input(`\x1b[200~${'a'.repeat(2 * MAX_INPUT)}\x1b[201~`)));
  for (const other of ['\x1b[201~', 'a\x1b[200~', '\x1b', '']) assert.ok(!isPaste(input(other)), other);
  assert.equal(text(pasteEnds()), '0\x1b[201~');
});

test('only output reaches the screen', () => {
  const message = (content: string) => new TextEncoder().encode(content).buffer as ArrayBuffer;
  assert.equal(text(output(message('0out'))!), 'out');
  for (const other of ['1title', '2{"fontSize":99}', '9?', '']) assert.equal(output(message(other)), undefined);
});

test('a heartbeat and its answer', () => {
  const message = (content: string) => new TextEncoder().encode(content).buffer as ArrayBuffer;
  assert.equal(text(heartbeat(42)), 'h42');
  assert.equal(heartbeatAnswer(message('h42')), 42);
  for (const other of ['0h', 'hello', '', `h${'1'.repeat(17)}`]) assert.equal(heartbeatAnswer(message(other)), undefined, other);
});

test('the notice of a recording', () => {
  const message = (content: string) => new TextEncoder().encode(content).buffer as ArrayBuffer;
  assert.deepEqual(recorded(message('r{"bar":true,"title":false}')), { bar: true, title: false });
  assert.deepEqual(recorded(message('r{"bar":1}')), { bar: false, title: false });
  for (const other of ['0r', 'r', 'rno', '']) assert.equal(recorded(message(other)), undefined, other);
});

test('what a person types is kept, and what a terminal says of itself is not', () => {
  for (const moment of ['\x1b[I', '\x1b[O', '\x1b[24;80R', '\x1b[0n', '\x1b[?1;2c', '\x1b[>0;276;0c', '\x1b[?2026;2$y', '\x1b[<0;1;1M', '\x1b[<0;1;1m',
    '\x1b[M !!', '\x1b]11;rgb:0000/0000/0000\x07', '\x1bP1$r0m\x1b\\', '\x1b[I\x1b[24;80R']) {
    assert.ok(isOfTheMoment(moment), JSON.stringify(moment));
  }
  assert.ok(isOfTheMoment(Uint8Array.of(27)));
  for (const typed of ['a', '\r', '\x1b', '\x1b[A', '\x1bOP', '\x1b[3~', '\x1b[200~x\x1b[201~', '\x1b[Ia', '\x1b[1;5C', '\x1b[15~', '']) {
    assert.ok(!isOfTheMoment(typed), JSON.stringify(typed));
  }
});
