import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from '../src/events';

async function parsed(...chunks: string[]) {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(encoder.encode(chunk));
      controller.close();
    },
  });
  const events = [];
  for await (const event of parse(body)) events.push(event);
  return events;
}

test('events come out whole, however they are cut', async () => {
  const stream = ': keep-alive\n\nevent: workspace\ndata: {"phase":"Ä"}\n\nevent: gone\ndata: {}\n\n';
  const expected = [{ event: 'workspace', data: '{"phase":"Ä"}' }, { event: 'gone', data: '{}' }];
  assert.deepEqual(await parsed(stream), expected);
  assert.deepEqual(await parsed(...stream), expected);
});

test('what is not finished is no event', async () => {
  assert.deepEqual(await parsed('event: workspace\ndata: {}\n'), []);
});
