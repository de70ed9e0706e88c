import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection, type State } from '../src/connection';
import type { Update, View } from '../src/events';

/** A WebSocket as far as the connection uses one. */
class Socket {
  readyState = 0;
  bufferedAmount = 0;
  binaryType = '';
  sent: string[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  send(bytes: Uint8Array): void {
    this.sent.push(new TextDecoder().decode(bytes));
  }
  /** The gateway's answer to the last heartbeat. */
  answer(): void {
    const beat = this.sent.filter((sent) => /^h\d+$/.test(sent)).at(-1) ?? '';
    this.onmessage?.({ data: new TextEncoder().encode(beat).buffer });
  }
  /** What the workspace prints. */
  print(text: string): void {
    this.onmessage?.({ data: new TextEncoder().encode(`0${text}`).buffer });
  }
  /** The handshake is done; whether there is a terminal behind it is not known yet. */
  accept(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  /** What the gateway says first. */
  tell(container: string): void {
    const notice = JSON.stringify({ bar: false, title: false, container });
    this.onmessage?.({ data: new TextEncoder().encode(`r${notice}`).buffer });
  }
  /** And there is one. */
  open(container?: string): void {
    this.accept();
    if (container !== undefined) this.tell(container);
    this.answer();
  }
  /** What was sent for the workspace. */
  get forTerminal(): string[] {
    return this.sent.filter((sent) => !/^h\d+$/.test(sent));
  }
  close(code = 1006, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

const view = (change: Partial<View>): Update => ({
  kind: 'workspace',
  view: { phase: 'Running', reason: '', message: '', stopReason: '', remediationHint: '', ttydReady: false, updatePending: '', steps: [], ...change },
});

function setUp(told: Update[][], followed?: (signal: AbortSignal) => AsyncIterable<Update>) {
  const sockets: Socket[] = [];
  const states: State[] = [];
  const pauses: number[] = [];
  let signedOut = 0;
  let reloaded = 0;
  let ticks: (() => void) | undefined;
  let visible = true;
  let time = 0;
  const unsure: string[] = [];
  const forAnother: string[] = [];
  const kept: number[] = [];
  const notices: unknown[] = [];
  const connection = new Connection(
    {
      open: () => {
        const socket = new Socket();
        sockets.push(socket);
        return socket as unknown as WebSocket;
      },
      updates: async function* (signal) {
        if (followed) yield* followed(signal);
        else yield* told.shift() ?? [{ kind: 'ended' as const }];
      },
      pause: async (milliseconds) => {
        pauses.push(milliseconds);
        if (pauses.length > 20) await new Promise(() => undefined);
      },
      signIn: () => signedOut++,
      reload: () => reloaded++,
      now: () => time,
      isVisible: () => visible,
      every: (_milliseconds, run) => {
        ticks = run;
        return () => (ticks = undefined);
      },
    },
    {
      state: (state) => states.push(state),
      output: () => undefined,
      latency: () => undefined,
      told: (notice) => notices.push(notice),
      kept: (bytes) => kept.push(bytes),
      unsure: (typed, isForAnother) => (isForAnother ? forAnother : unsure).push(typed),
    },
    { columns: 80, rows: 24 },
  );
  connection.start();
  /** Lets time pass, as a page that ticks sees it. */
  const pass = (milliseconds: number) => {
    for (const end = time + milliseconds; time < end; ) {
      time += 300;
      ticks?.();
    }
  };
  const hide = (isHidden: boolean) => (visible = !isHidden);
  return { connection, sockets, states, pauses, unsure, forAnother, kept, notices, pass, hide, signedOut: () => signedOut, reloaded: () => reloaded };
}

/** Lets everything that waits for nothing run. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

test('what is typed while it is down is sent once, when it is up again', async () => {
  const { connection, sockets, states, pass } = setUp([[view({}), view({ ttydReady: true })]]);
  connection.type('early');
  sockets[0]!.open();
  assert.deepEqual(sockets[0]!.forTerminal, ['{"AuthToken":"","columns":80,"rows":24}', '0early']);
  pass(300);
  sockets[0]!.answer();
  sockets[0]!.close();
  connection.type('late');
  connection.resize({ columns: 90, rows: 30 });
  await settle();
  sockets[1]!.open();
  assert.deepEqual(sockets[1]!.forTerminal, ['{"AuthToken":"","columns":90,"rows":30}', '0late']);
  sockets[1]!.close();
  await settle();
  assert.equal(states.at(-1)?.name, 'waiting');
  assert.ok(sockets.slice(2).every((socket) => !socket.sent.includes('0late')));
});

test('what is typed before a terminal is refused waits for the next one, and is sent once', async () => {
  for (const code of [4429, 1013]) {
    const { connection, sockets, states, kept } = setUp([[view({ ttydReady: true })]]);
    connection.type('before');
    sockets[0]!.accept();
    connection.type(' between');
    assert.equal(kept.at(-1), 'before between'.length);
    sockets[0]!.close(code);
    connection.type(' after');
    await settle();
    assert.deepEqual(sockets[0]!.forTerminal.slice(1), []);
    assert.ok(!states.some((state) => state.name === 'open'));
    sockets[1]!.accept();
    assert.deepEqual(sockets[1]!.forTerminal.slice(1), []);
    // The screen comes first here, the answer to the heartbeat behind it.
    sockets[1]!.print('$ ');
    sockets[1]!.answer();
    assert.deepEqual(sockets[1]!.forTerminal.slice(1), ['0before', '0 between', '0 after']);
    assert.deepEqual([states.at(-1)?.name, kept.at(-1)], ['open', 0]);
  }
});

test('a connection that opens and says nothing is given up, with nothing lost', async () => {
  const { connection, sockets, pass } = setUp([[view({ ttydReady: true })]]);
  sockets[0]!.accept();
  connection.type('ls');
  pass(16_000);
  await settle();
  assert.equal(sockets.length, 2);
  sockets[1]!.open();
  assert.deepEqual([sockets[0]!.forTerminal.length, ...sockets[1]!.forTerminal.slice(1)], [1, '0ls']);
});

test('output is a sign of life where a heartbeat is not answered', () => {
  const { socket, states, pass } = alive();
  for (let second = 0; second < 60; second++) {
    pass(900);
    socket.print('y');
  }
  assert.ok(!states.some((state) => state.name === 'quiet'));
});

test('not everything that is typed while it is down is kept', () => {
  const { connection } = setUp([]);
  assert.equal(connection.type('a'.repeat(60_000)), true);
  assert.equal(connection.type('a'.repeat(60_000)), false);
});

test('a session that is over leads to the sign-in', async () => {
  const { sockets, signedOut, pauses } = setUp([]);
  sockets[0]!.open();
  sockets[0]!.close(4401);
  await settle();
  assert.deepEqual([signedOut(), sockets.length, pauses.length], [1, 1, 0]);
  const second = setUp([[{ kind: 'signed-out' }]]);
  second.sockets[0]!.close();
  await settle();
  assert.equal(second.signedOut(), 1);
});

test('a session that nobody used is not begun anew by the page', async () => {
  const { sockets, signedOut, states } = setUp([]);
  sockets[0]!.open();
  sockets[0]!.close(4401, 'idle');
  await settle();
  assert.deepEqual([signedOut(), sockets.length], [0, 1]);
  assert.deepEqual(states.at(-1), { name: 'ended', why: 'unused' });
});

test('a workspace that was suspended leads to the page that says so', async () => {
  const { sockets, reloaded, pauses } = setUp([]);
  sockets[0]!.open();
  sockets[0]!.close(4403);
  await settle();
  assert.deepEqual([reloaded(), sockets.length, pauses.length], [1, 1, 0]);
});

test('a session that must be recorded and can’t be says why it ended', async () => {
  const { sockets, states } = setUp([]);
  sockets[0]!.open();
  sockets[0]!.close(4503);
  await settle();
  assert.match(JSON.stringify(states), /can’t be recorded/);
});

test('a terminal that is one too many says so', async () => {
  const { sockets, states } = setUp([]);
  sockets[0]!.accept();
  sockets[0]!.close(4429);
  await settle();
  assert.match(JSON.stringify(states), /Close another one/);
});

test('why the gateway ends a connection is told in its own words, and it is tried again more slowly', async () => {
  const { sockets, states, pauses } = setUp([[view({ ttydReady: true })], [view({ ttydReady: true })]]);
  sockets[0]!.accept();
  sockets[0]!.close(1013, 'terminals were opened too often; this takes a moment');
  await settle();
  sockets[1]!.accept();
  sockets[1]!.close(1006);
  await settle();
  const details = states.flatMap((state) => (state.name === 'waiting' ? [state.detail] : []));
  assert.deepEqual(details.slice(0, 2), ['Terminals were opened too often; this takes a moment. Connecting again…', 'Connection lost. Connecting again…']);
  assert.ok(pauses[1]! > pauses[0]! / 2 && sockets.length === 3);
});

test('whether the session is recorded is heard from the gateway, which speaks first', async () => {
  const { sockets, states, notices } = setUp([[view({ ttydReady: true })]]);
  const tell = (socket: Socket, text: string) => socket.onmessage?.({ data: new TextEncoder().encode(text).buffer });
  sockets[0]!.accept();
  tell(sockets[0]!, 'r{"bar":true,"title":false}');
  assert.equal(states.at(-1)?.name, 'connecting');
  sockets[0]!.print('$ ');
  assert.equal(states.at(-1)?.name, 'open');
  // A workspace can't take it back.
  tell(sockets[0]!, 'r{"bar":false,"title":false}');
  assert.deepEqual(notices, [{ bar: true, title: false, container: '' }]);
  sockets[0]!.close();
  await settle();
  sockets[1]!.accept();
  tell(sockets[1]!, 'r{"bar":false,"title":false}');
  assert.equal(notices.length, 2);
});

test('what has failed says what to do, and may be tried again', async () => {
  const told = setUp([[view({ phase: 'Failed', reason: 'ErrImagePull', message: 'The image can’t be pulled.', remediationHint: 'Check its name.' })]]);
  told.sockets[0]!.close();
  await settle();
  const failed = told.states.find((state) => state.name === 'waiting' && state.hasFailed);
  assert.deepEqual(failed, { name: 'waiting', detail: 'The image can’t be pulled. Check its name. (ErrImagePull)', hasFailed: true });
});

test('it connects when the user wants it, whatever is known of the workspace', async () => {
  let isFollowed = false;
  const followed = async function* (signal: AbortSignal): AsyncGenerator<Update> {
    isFollowed = true;
    yield view({ phase: 'Creating', message: 'Waiting for a node' });
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
  };
  const { connection, sockets } = setUp([], followed);
  sockets[0]!.close();
  await settle();
  assert.ok(isFollowed && sockets.length === 1);
  // That the network is there again tells nothing of the workspace.
  connection.hurry(false);
  await settle();
  assert.equal(sockets.length, 1);
  connection.hurry(true);
  await settle();
  assert.equal(sockets.length, 2);
});

test('a workspace that was stopped is not woken by a page that is left open', async () => {
  const { sockets, states } = setUp([[view({ phase: 'Stopped' })]]);
  sockets[0]!.open();
  sockets[0]!.close(1011);
  await settle();
  assert.deepEqual(states.at(-1), { name: 'ended', why: 'stopped' });
  assert.equal(sockets.length, 1);
});

test('an idle workspace is left stopped, and why is told', async () => {
  const { sockets, states, pauses } = setUp([]);
  sockets[0]!.open();
  sockets[0]!.close(4410, 'idle');
  await settle();
  assert.deepEqual(states.at(-1), { name: 'ended', why: 'idle' });
  assert.deepEqual([sockets.length, pauses.length], [1, 0]);
  // A page that was offline meanwhile finds out later.
  const later = setUp([[view({ phase: 'Stopped', stopReason: 'Idle' })]]);
  later.sockets[0]!.close();
  await settle();
  assert.deepEqual(later.states.at(-1), { name: 'ended', why: 'idle' });
});

test('a workspace that restarts is come back to, and what was typed for the last one is asked about', async () => {
  for (const [reason, isSent] of [['restart', true], ['update', false]] as const) {
    const { connection, sockets, states, unsure, forAnother, kept } = setUp([[view({ phase: 'Creating', message: 'Making the pod', stopReason: 'Restart' }), view({ ttydReady: true })]]);
    sockets[0]!.open();
    sockets[0]!.close(4410, reason);
    connection.type('rm -r .');
    await settle();
    sockets[1]!.open();
    const told = states.map((state) => (state.name === 'waiting' ? state.detail : state.name));
    assert.deepEqual([told[0], told[1], ...told.slice(3)], ['connecting', 'open', 'Making the pod', 'open']);
    assert.match(told[2]!, /^Your workspace is being restarted: /);
    assert.deepEqual([unsure, forAnother], [[], ['rm -r .']]);
    connection.type('ls');
    assert.deepEqual([sockets[1]!.forTerminal.slice(1), connection.isWaiting], [[], true]);
    connection.decide(isSent);
    assert.deepEqual(sockets[1]!.forTerminal.slice(1), isSent ? ['0rm -r .', '0ls'] : ['0ls']);
    assert.deepEqual([kept.at(-1), connection.isWaiting], [0, false]);
  }
});

test('keys for the programs of one container are not sent to those of another, however the last was left', async () => {
  const ready = () => [view({ ttydReady: true })];
  for (const [first, second, isAnother] of [['a', 'b', true], ['a', 'a', false], ['', 'b', false], ['a', '', false]] as const) {
    const { connection, sockets, forAnother } = setUp([ready(), ready()]);
    sockets[0]!.open(first);
    sockets[0]!.close();
    connection.type('y\r');
    await settle();
    // This one does not hold either, and is of the last container no more than the next.
    sockets[1]!.accept();
    sockets[1]!.tell(second);
    sockets[1]!.close();
    await settle();
    sockets[2]!.open(second);
    assert.deepEqual(forAnother, isAnother ? ['y\r'] : [], `${first} ${second}`);
    assert.deepEqual(sockets[2]!.forTerminal.slice(1), isAnother ? [] : ['0y\r']);
  }
});

test('that keys were for another container is not forgotten when the connection breaks again', async () => {
  const { connection, sockets, unsure, forAnother } = setUp([[view({ ttydReady: true })], [view({ ttydReady: true })]]);
  sockets[0]!.open('a');
  sockets[0]!.close();
  connection.type(`\x1b[200~${'x'.repeat(40_000)}\x1b[201~`);
  await settle();
  sockets[1]!.open('b');
  sockets[1]!.close();
  await settle();
  sockets[2]!.open('b');
  assert.deepEqual([unsure.length, forAnother.length], [0, 2]);
  connection.decide(false);
  // Nothing of the paste has begun there.
  assert.deepEqual(sockets[2]!.forTerminal.slice(1), []);
});

test('nothing that was typed is lost without a word when there is no way back', async () => {
  const ends: [string, (all: ReturnType<typeof setUp>) => void, Update[][]][] = [
    ['signed-out', ({ sockets }) => sockets[0]!.close(4401), []],
    ['signed-out', ({ sockets }) => sockets[0]!.close(), [[{ kind: 'signed-out' }]]],
    ['refused', ({ sockets }) => sockets[0]!.close(4403), []],
    ['unused', ({ sockets }) => sockets[0]!.close(4401, 'idle'), []],
    ['idle', ({ sockets }) => sockets[0]!.close(4410, 'idle'), []],
    ['stopped', ({ sockets }) => sockets[0]!.close(), [[view({ phase: 'Stopped' })]]],
    ['gone', ({ sockets }) => sockets[0]!.close(), [[{ kind: 'gone' }]]],
  ];
  for (const [why, end, told] of ends) {
    for (const wasSent of [true, false]) {
      const all = setUp([...told]);
      const { connection, sockets, states, kept } = all;
      if (wasSent) sockets[0]!.open();
      connection.type('ls\r');
      end(all);
      await settle();
      assert.deepEqual(states.at(-1), { name: 'ended', why, unsent: { text: 'ls\r', wasSent } });
      assert.deepEqual([all.signedOut(), all.reloaded(), kept.at(-1), connection.isWaiting], [0, 0, 0, false], why);
      assert.equal(connection.type('more'), false, 'nothing waits that is never sent');
    }
  }
});

test('a workspace that is deleted is told of', async () => {
  const { sockets, states } = setUp([[{ kind: 'gone' }]]);
  sockets[0]!.open();
  sockets[0]!.close(4410, 'deleted');
  await settle();
  assert.deepEqual(states.at(-1), { name: 'ended', why: 'gone' });
});

test('it goes on for as long as it takes, ever more slowly', async () => {
  const { sockets, states, pauses } = setUp([]);
  sockets[0]!.close();
  await settle();
  assert.ok(pauses.length > 20 && pauses.at(-1)! > 5_000 && pauses.every((pause) => pause <= 15_000), String(pauses));
  assert.equal(states.at(-1)?.name, 'waiting');
});

test('a large paste goes on as far as it has arrived', async () => {
  const { socket, connection, pass } = alive();
  const text = 'x'.repeat(300_000);
  connection.type(text);
  const pasted = () => socket.sent.filter((sent) => sent.startsWith('0')).map((sent) => sent.slice(1)).join('');
  const [first, beats] = [pasted().length, socket.sent.filter((sent) => /^h\d+$/.test(sent)).length];
  assert.ok(first >= 64 * 1024 && first < 96 * 1024, String(first));
  // Nothing more goes without an answer, and that is asked for. Nor does anything stand within it.
  connection.type('\x1b[I');
  pass(300);
  assert.equal(pasted().length, first);
  for (let turn = 0; pasted().length < text.length; turn++) {
    assert.ok(turn < 10);
    pass(300);
    socket.answer();
  }
  assert.equal(pasted(), text);
  connection.type('\x1b[O');
  assert.equal(pasted(), `${text}\x1b[O`);
  assert.ok(socket.sent.filter((sent) => /^h\d+$/.test(sent)).length > beats);
});

test('an answer to what was not asked says nothing, and a click is no part of a paste', () => {
  const { socket, connection } = alive();
  connection.type('x'.repeat(300_000));
  const sent = socket.sent.length;
  socket.onmessage?.({ data: new TextEncoder().encode('h999999').buffer });
  connection.type('\x1b[<0;3;4M');
  assert.equal(socket.sent.length, sent);
  connection.stop();
});

test('what the network takes of a paste is a sign of life', () => {
  const { socket, states, connection, pass } = alive();
  connection.type('x'.repeat(60_000));
  for (socket.bufferedAmount = 60_000; socket.bufferedAmount > 0; socket.bufferedAmount -= 1_000) pass(900);
  assert.ok(!states.some((state) => state.name === 'quiet'));
  pass(15_000);
  assert.ok(states.some((state) => state.name === 'quiet'));
});

test('a paste that was torn is sent again as a whole or not at all, and its first part is ended', async () => {
  const pasted = `\x1b[200~${'x'.repeat(100_000)}\nrm -r .\n\x1b[201~`;
  for (const sendAgain of [true, false]) {
    const { socket, sockets, connection, unsure, pass } = alive([[view({ ttydReady: true })]]);
    connection.type(pasted);
    pass(300);
    socket.answer();
    socket.close();
    connection.type('after');
    await settle();
    sockets[1]!.open();
    assert.deepEqual(unsure, [pasted]);
    // Nothing of it, and nothing behind it.
    assert.deepEqual(sockets[1]!.forTerminal.slice(1), []);
    connection.decide(sendAgain);
    for (let turn = 0; turn < 4; turn++) {
      pass(300);
      sockets[1]!.answer();
    }
    const sent = sockets[1]!.forTerminal.slice(1).map((message) => message.slice(1));
    assert.equal(sent.join(''), `\x1b[201~${sendAgain ? pasted : ''}after`);
  }
});

test('what is on its way is in doubt even where nothing has answered yet', async () => {
  const { connection, sockets, unsure } = setUp([[view({ ttydReady: true })]]);
  sockets[0]!.accept();
  sockets[0]!.print('$ ');
  connection.type('ls');
  sockets[0]!.close();
  await settle();
  sockets[1]!.open();
  assert.deepEqual(unsure, ['ls']);
});

test('a page that is put aside asks at once whether what was typed has arrived', async () => {
  const { socket, sockets, connection, unsure, hide, pass } = alive([[view({ ttydReady: true })]]);
  const beats = () => socket.sent.filter((sent) => /^h\d+$/.test(sent)).length;
  connection.ask();
  const before = beats();
  connection.type('ls');
  pass(0);
  connection.ask();
  assert.equal(beats(), before + 1);
  hide(true);
  socket.answer();
  pass(60_000);
  assert.equal(beats(), before + 1);
  socket.close();
  await settle();
  sockets[1]!.open();
  assert.deepEqual(unsure, []);
});

test('a page in the background goes on to ask while keys are on their way', () => {
  const { socket, connection, hide, pass } = alive();
  connection.type('ls');
  hide(true);
  const before = socket.sent.length;
  pass(3_000);
  assert.ok(socket.sent.length > before);
});

/** A connection that has been answered once, so that silence means something. */
function alive(told: Update[][] = []) {
  const all = setUp([...told]);
  const socket = all.sockets[0]!;
  socket.open();
  all.pass(300);
  socket.answer();
  return { ...all, socket };
}

test('silence is shown within three seconds, and what is typed then waits', () => {
  const { connection, socket, states, kept, pass } = alive();
  pass(2_900);
  assert.equal(states.at(-1)?.name, 'quiet');
  connection.type('ls');
  assert.ok(!socket.sent.includes('0ls'));
  assert.equal(kept.at(-1), 2);
  socket.answer();
  assert.equal(states.at(-1)?.name, 'open');
  assert.equal(socket.sent.at(-1), '0ls');
  assert.equal(kept.at(-1), 0);
});

test('a page in the background asks nothing and loses nothing', () => {
  const { socket, states, pass, hide } = alive();
  hide(true);
  const before = socket.sent.length;
  pass(60_000);
  assert.equal(socket.sent.length, before);
  assert.equal(states.at(-1)?.name, 'open');
  hide(false);
  pass(600);
  assert.match(socket.sent.at(-1)!, /^h\d+$/);
});

test('a workspace that answers no heartbeats is not lost', () => {
  const { sockets, states, pass } = setUp([]);
  sockets[0]!.accept();
  sockets[0]!.print('$ ');
  pass(60_000);
  assert.equal(states.at(-1)?.name, 'open');
});

test('what may have been lost on its way is asked about, and sent again once', async () => {
  const { connection, socket, sockets, unsure, pass } = alive([[view({ ttydReady: true })]]);
  connection.type('safe');
  pass(300);
  socket.answer();
  connection.type('doubtful');
  pass(15_000);
  connection.type(' late');
  await settle();
  assert.equal(sockets.length, 2);
  sockets[1]!.open();
  assert.deepEqual(unsure, ['doubtful']);
  assert.deepEqual(sockets[1]!.forTerminal.slice(1), []);
  connection.decide(true);
  assert.deepEqual(sockets[1]!.forTerminal.slice(1), ['0doubtful', '0 late']);
  sockets[1]!.close();
});

test('and is dropped when the user says so', async () => {
  const { connection, socket, sockets, pass } = alive([[view({ ttydReady: true })]]);
  connection.type('doubtful');
  socket.close(1006);
  connection.type('late');
  pass(300);
  await settle();
  sockets[1]!.open();
  connection.decide(false);
  assert.deepEqual(sockets[1]!.forTerminal.slice(1), ['0late']);
});

test('a handshake that is swallowed is given up', async () => {
  const { sockets, states, pass } = setUp([[view({ ttydReady: true })]]);
  pass(16_000);
  await settle();
  assert.equal(sockets.length, 2);
  assert.ok(states.some((state) => state.name === 'waiting'));
  // That it opens after all changes nothing.
  sockets[0]!.close();
  await settle();
  assert.equal(sockets.length, 2);
});

test('clicks and answers of the terminal are for the screen of the moment', async () => {
  const { connection, sockets } = setUp([[view({ ttydReady: true })]]);
  connection.type('\x1b[<0;3;4M');
  connection.type('\x1b[24;80R');
  sockets[0]!.open();
  assert.equal(sockets[0]!.forTerminal.length, 1);
  connection.type('\x1b[<0;3;4M');
  assert.equal(sockets[0]!.sent.at(-1), '0\x1b[<0;3;4M');
  // The same bytes from a key are one, also within a paste and while there is no connection.
  sockets[0]!.close();
  connection.type('\x1b[1;2R', true);
  connection.type('\x1b[1;2R');
  await settle();
  sockets[1]!.open();
  assert.deepEqual(sockets[1]!.forTerminal.slice(1), ['0\x1b[1;2R']);
});
