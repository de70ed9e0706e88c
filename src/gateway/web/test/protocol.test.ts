import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf, hello, input, MAX_INPUT, output, resize } from '../src/protocol';

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

test('only output reaches the screen', () => {
  const message = (content: string) => new TextEncoder().encode(content).buffer as ArrayBuffer;
  assert.equal(text(output(message('0out'))!), 'out');
  for (const other of ['1title', '2{"fontSize":99}', '9?', '']) assert.equal(output(message(other)), undefined);
});
