import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Feed, parse, type Update, type View } from '../src/events';

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

const phase = (phase: string): Update => ({ kind: 'workspace', view: { phase } as View });

test('all that listen share one stream, which begins anew for who joins', async () => {
  const streams: { signal: AbortSignal; tell: (update: Update) => void }[] = [];
  const open = () => streams.filter(({ signal }) => !signal.aborted).length;
  const feed = new Feed((signal) => {
    let tell: (update: Update) => void = () => undefined;
    const next = () => new Promise<Update | undefined>((resolve) => {
      tell = resolve;
      signal.addEventListener('abort', () => resolve(undefined));
    });
    let coming = next();
    streams.push({ signal, tell: (update) => tell(update) });
    return (async function* () {
      for (let update = await coming; update; update = await coming) {
        coming = next();
        yield update;
        if (update.kind !== 'workspace') return;
      }
    })();
  });
  const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
  const listen = (signal: AbortSignal) => {
    const heard: string[] = [];
    const ended = (async () => {
      for await (const update of feed.updates(signal)) heard.push(update.kind === 'workspace' ? update.view.phase : update.kind);
    })();
    return { heard, ended };
  };
  const leaving = new AbortController();
  const bar = listen(new AbortController().signal);
  await settle();
  streams[0]!.tell(phase('Running'));
  await settle();
  const connection = listen(leaving.signal);
  await settle();
  assert.deepEqual([streams.length, open()], [2, 1]);
  streams[1]!.tell(phase('Creating'));
  await settle();
  assert.deepEqual([bar.heard, connection.heard], [['Running', 'Creating'], ['Creating']]);
  leaving.abort();
  await connection.ended;
  assert.equal(open(), 1);
  streams[1]!.tell({ kind: 'gone' });
  await bar.ended;
  assert.deepEqual([bar.heard, open()], [['Running', 'Creating', 'gone'], 0]);
  await listen(AbortSignal.abort()).ended;
  assert.equal(streams.length, 2);
});
