import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf, heartbeat, heartbeatAnswer, hello, input, isOfTheMoment, isPaste, MAX_INPUT, notice, output, pasteEnds, resize } from '../src/protocol';
import cases from './terminal-input.json';

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

test('what the gateway tells of a terminal', () => {
  const message = (content: string) => new TextEncoder().encode(content).buffer as ArrayBuffer;
  assert.deepEqual(notice(message('r{"bar":true,"title":false,"container":"c"}')), { bar: true, title: false, container: 'c' });
  assert.deepEqual(notice(message('r{"bar":1,"container":2}')), { bar: false, title: false, container: '' });
  for (const other of ['0r', 'r', 'rno', '']) assert.equal(notice(message(other)), undefined, other);
});

test('what a person types is kept, and what a terminal says of itself is not', () => {
  for (const { input, key } of cases) assert.equal(!isOfTheMoment(input), key, JSON.stringify(input));
  assert.ok(isOfTheMoment(Uint8Array.of(27)));
  assert.ok(!isOfTheMoment(''));
});

test('a key that looks as the terminal’s own answer is one where it is known to be pressed', () => {
  for (const { input } of cases.filter(({ also }) => also)) assert.ok(!isOfTheMoment(input, true), JSON.stringify(input));
});
