// A WebSocket that comes back: what is typed while it is down is kept, and sent once when it is up again.
//
// Up is a terminal that says something, or answers a heartbeat: a gateway opens a connection too to say that there is no
// place for another one, and keys that were sent into that would be lost.

import { delay } from './backoff';
import type { Update } from './events';
import { Heartbeat, TICK } from './heartbeat';
import { Outbox, size, type Unsent } from './outbox';
import { heartbeat, heartbeatAnswer, hello, input, isOfTheMoment, type Message, notice, type Notice, output, resize, type Size } from './protocol';

export type State =
  | { name: 'connecting' }
  | { name: 'open' }
  /** It was open, but nothing is heard. What is typed waits. */
  | { name: 'quiet' }
  /** Down, and being mended. `detail` is for the user; what has failed may be tried again. */
  | { name: 'waiting'; detail: string; hasFailed?: boolean }
  /** Down until the user does something. */
  | { name: 'ended'; why: 'idle' | 'stopped' | 'gone' | 'unused' | 'signed-out' | 'refused'; unsent?: Unsent };

/** What the connection needs of the browser; tests give it their own. */
export interface Surroundings {
  open(): WebSocket;
  updates(signal: AbortSignal): AsyncIterable<Update>;
  pause(milliseconds: number, signal: AbortSignal): Promise<void>;
  signIn(): void;
  /** Asks the gateway for the page again: it says what is the matter. */
  reload(): void;
  /** Milliseconds since some moment. */
  now(): number;
  isVisible(): boolean;
  /** Calls again and again, until what it gives is called. */
  every(milliseconds: number, run: () => void): () => void;
}

export interface Listener {
  state(state: State): void;
  output(bytes: Uint8Array): void;
  /** How many milliseconds it is to the workspace and back. */
  latency(milliseconds: number): void;
  /** What the gateway says of the terminal. */
  told(notice: Notice): void;
  /** How many bytes of what was typed wait to be sent. */
  kept(bytes: number): void;
  /**
   * The connection broke while this was on its way; or it was typed for programs that have ended, and there are others now. It waits,
   * and all that is typed, until `decide` is called.
   */
  unsure(typed: string, isForAnother: boolean): void;
}

/** The close code of a session that is over. */
const SIGNED_OUT = 4401;
/** And that of a workspace that the user may not enter, such as one that an administrator has suspended. */
const FORBIDDEN = 4403;
/** And that of one that is being stopped; the reason is a word. */
const STOPPED = 4410;
/** Why it will be back by itself, in words for the user. */
const RESTARTS: Record<string, string> = {
  restart: 'Your workspace is being restarted: you or an administrator asked for it.',
  update: 'Your workspace is being restarted: the platform has new settings for it.',
};
const LOST = 'Connection lost. Connecting again…';
/** And that of a session that must be recorded, and can't be. */
const NOT_RECORDED = 4503;
const UNRECORDED = 'Sessions can’t be recorded at the moment, so this one was ended. Trying again…';
/** And that of one that is too many: the user has as many terminals open as one may have. */
const TOO_MANY = 4429;
const CROWDED = 'As many terminals of yours are open as one may have. Close another one; trying again…';
/** What is typed while the connection is down, in bytes; more is not taken. */
const MAX_KEPT = 64 * 1024;
/** What is on its way until it is known to have arrived, in bytes: a heartbeat behind it is answered in time over a slow network, too. */
const MAX_UNDER_WAY = 64 * 1024;
const RETRY_SEND = 20;
/** For a connection to open and say its first word, in milliseconds: a network that swallows everything gives no error. */
const OPEN_WITHIN = 15_000;

export class Connection {
  private socket: WebSocket | undefined;
  private readonly outbox = new Outbox();
  /** What the browser had yet to send at the last tick, in bytes. */
  private buffered = 0;
  private heart: Heartbeat | undefined;
  private attempt = 0;
  private name: State['name'] = 'connecting';
  /** Whether the next terminal has other programs: what was typed for those of the last is not for them. */
  private isAnother = false;
  /** The container of the last terminal. */
  private container = '';
  private sending: ReturnType<typeof setTimeout> | undefined;
  private stopTicks: () => void = () => undefined;
  private skipPause = new AbortController();
  /** The user wants to be connected, whatever is known of the workspace. */
  private asked = new AbortController();
  private readonly stopped = new AbortController();

  constructor(
    private readonly surroundings: Surroundings,
    private readonly listener: Listener,
    private size: Size,
  ) {}

  start(): void {
    this.tell({ name: 'connecting' });
    this.connect();
  }

  stop(): void {
    this.stopped.abort();
    this.stopTicks();
    this.socket?.close(1000);
  }

  /** Sends what was typed, or keeps it. False when too much is kept already, or nothing will be sent any more. */
  type(typed: string | Uint8Array, isKey = false): boolean {
    if (isOfTheMoment(typed, isKey)) {
      // Sent now or never: a click was meant for the screen that was there, and would be a part of what is being pasted.
      if (this.isOpen && !this.outbox.isAmidUnit) for (const message of input(typed)) this.socket?.send(message);
      return true;
    }
    const messages = input(typed);
    if (this.hasEnded) return false;
    if (!this.mayType && this.outbox.waiting + size(messages) > MAX_KEPT) return false;
    this.outbox.add(messages);
    this.flush();
    return true;
  }

  /** Whether there will be no terminal until the user does something. */
  get hasEnded(): boolean {
    return this.name === 'ended';
  }

  /** Whether something would be lost if the page were left now, and the user has not been told so. */
  get isWaiting(): boolean {
    return !this.hasEnded && !this.stopped.signal.aborted && (this.outbox.waiting > 0 || this.outbox.isInDoubt);
  }

  /** The user has said what becomes of what `unsure` told. */
  decide(sendAgain: boolean): void {
    this.outbox.decide(sendAgain);
    this.flush();
  }

  /** Asks at once whether what was typed has arrived: the page may be put aside, and its timers with it. */
  ask(): void {
    const serial = this.isOpen ? this.heart?.ask(this.surroundings.now()) : undefined;
    if (serial !== undefined) this.socket?.send(heartbeat(serial));
  }

  /** Connects again at once: because the user wants it, or the network is there again. */
  hurry(isAsked: boolean): void {
    if (this.name === 'quiet' && isAsked) this.drop(LOST);
    else if (this.name === 'quiet') this.heart?.hurry(this.surroundings.now());
    else this.skipPause.abort();
    if (isAsked) this.asked.abort();
  }

  resize(size: Size): void {
    this.size = size;
    // Nothing to send while it is down: the first message of a connection has the size.
    if (this.isOpen) this.socket?.send(resize(size));
  }

  /** Sends a message that means something to this connection only, such as pause. */
  control(message: Message): void {
    if (this.isOpen) this.socket?.send(message);
  }

  private get isOpen(): boolean {
    return this.socket?.readyState === 1;
  }

  private get mayType(): boolean {
    return this.isOpen && this.name === 'open' && !this.outbox.isInDoubt;
  }

  private tell(state: State): void {
    this.name = state.name;
    this.listener.state(state);
  }

  private connect(): void {
    const { surroundings } = this;
    const socket = surroundings.open();
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    const began = surroundings.now();
    let hasSpoken = false;
    let isReached = false;
    let isFirst = true;
    this.stopTicks();
    this.stopTicks = surroundings.every(TICK, () => {
      if (!isReached && socket.readyState <= 1 && surroundings.now() - began > OPEN_WITHIN) this.drop(LOST);
      else if (socket.readyState === 1) this.tick();
    });
    socket.onopen = () => {
      if (socket !== this.socket) return;
      socket.send(hello(this.size));
      this.heart = new Heartbeat(surroundings.now());
      // Whether anybody looks or not: a program that prints nothing is a terminal too.
      socket.send(heartbeat(this.heart.beat(surroundings.now())));
    };
    const reached = () => {
      isReached = true;
      const { outbox } = this;
      if (this.isAnother) outbox.moved();
      this.isAnother = false;
      this.tell({ name: 'open' });
      if (outbox.isInDoubt) this.listener.unsure(outbox.doubt, outbox.isForAnother);
      this.flush();
    };
    socket.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer) || socket !== this.socket) return;
      this.heart?.heard();
      // The gateway's, and the first of a connection: later ones would be a workspace's. It is no word of a terminal yet.
      const told = hasSpoken ? undefined : notice(data);
      hasSpoken = true;
      if (told) return this.arrive(told);
      if (!isReached) reached();
      else if (this.name === 'quiet') this.tell({ name: 'open' });
      const answered = heartbeatAnswer(data);
      if (answered !== undefined) this.confirm(answered);
      if (this.outbox.waiting > 0) this.flush();
      const bytes = output(data);
      if (!bytes) return;
      // Only a terminal that shows something has been reached.
      if (isFirst) this.attempt = 0;
      isFirst = false;
      this.listener.output(bytes);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.stopped.signal.aborted || socket !== this.socket) return;
      this.end();
      // A page that nobody looks after must not begin a new session by itself.
      if (code === SIGNED_OUT && reason === 'idle') this.finish('unused');
      else if (code === SIGNED_OUT) this.leavePage('signed-out');
      else if (code === FORBIDDEN) this.leavePage('refused');
      else if (code === STOPPED) this.leave(reason);
      else if (code === NOT_RECORDED) void this.recover(UNRECORDED);
      else if (code === TOO_MANY) void this.recover(CROWDED);
      else void this.recover(because(reason));
    };
  }

  private tick(): void {
    const { heart, outbox, socket, surroundings } = this;
    const buffered = socket?.bufferedAmount ?? 0;
    // What the network takes of a large paste is a sign of life.
    if (buffered < this.buffered) heart?.heard();
    this.buffered = buffered;
    const beat = heart?.tick(surroundings.now(), surroundings.isVisible() || outbox.underWay > 0);
    if (!beat) return;
    if (beat.state === 'lost') return this.drop(LOST);
    if (beat.serial !== undefined) socket?.send(heartbeat(beat.serial));
    if (beat.state === 'quiet' && this.name === 'open') this.tell({ name: 'quiet' });
    if (beat.state === 'well' && this.name === 'quiet') this.tell({ name: 'open' });
  }

  /** All that was sent before this heartbeat has arrived. */
  private confirm(serial: number): void {
    if (!this.heart?.answer(serial, this.surroundings.now())) return;
    if (this.heart.latency !== undefined) this.listener.latency(this.heart.latency);
    this.outbox.confirm(serial);
  }

  /** Gives the connection up without waiting for the network to agree. */
  private drop(detail: string): void {
    const { socket } = this;
    this.socket = undefined;
    socket?.close();
    this.end();
    void this.recover(detail);
  }

  private end(): void {
    this.stopTicks();
    clearTimeout(this.sending);
    this.outbox.broke();
    this.buffered = 0;
    this.heart = undefined;
  }

  private arrive(told: Notice): void {
    if (told.container !== '') {
      this.isAnother ||= this.container !== '' && this.container !== told.container;
      this.container = told.container;
    }
    this.listener.told(told);
  }

  /** Nothing is sent any more. What waits is told, with all that there is to say. */
  private finish(why: Extract<State, { name: 'ended' }>['why']): void {
    const { unsent } = this.outbox;
    this.tell(unsent ? { name: 'ended', why, unsent } : { name: 'ended', why });
    this.listener.kept(0);
  }

  /** Another page says what is to be done. Who has typed what was not sent is told first, and leaves by themselves. */
  private leavePage(why: 'signed-out' | 'refused'): void {
    if (this.outbox.unsent) this.finish(why);
    else if (why === 'signed-out') this.surroundings.signIn();
    else this.surroundings.reload();
  }

  /** The workspace is being stopped: it comes back by itself, or when the user wants it. */
  private leave(reason: string): void {
    this.isAnother = true;
    if (reason === 'idle') this.finish('idle');
    else void this.recover(RESTARTS[reason] ?? LOST);
  }

  /** Waits until the workspace runs, then connects. Waking one that was stopped is the user's to decide. */
  private async recover(detail: string): Promise<void> {
    let pause = delay(this.attempt++);
    for (;;) {
      this.tell({ name: 'waiting', detail });
      this.skipPause = new AbortController();
      this.asked = new AbortController();
      await this.surroundings.pause(pause, AbortSignal.any([this.stopped.signal, this.skipPause.signal]));
      if (this.stopped.signal.aborted) return;
      const next = await this.follow();
      if (next === 'done') return;
      if (this.asked.signal.aborted) return this.connect();
      pause = delay(this.attempt++);
    }
  }

  private async follow(): Promise<'again' | 'done'> {
    const following = new AbortController();
    const signal = AbortSignal.any([following.signal, this.asked.signal, this.stopped.signal]);
    try {
      for await (const update of this.surroundings.updates(signal)) {
        if (update.kind === 'signed-out') {
          this.leavePage('signed-out');
          return 'done';
        }
        if (update.kind === 'gone') {
          this.finish('gone');
          return 'done';
        }
        if (update.kind === 'ended') {
          if (update.after) await this.surroundings.pause(update.after, this.stopped.signal);
          break;
        }
        if (update.view.ttydReady) {
          this.connect();
          return 'done';
        }
        if (update.view.phase === 'Stopped') {
          this.finish(update.view.stopReason === 'Idle' ? 'idle' : 'stopped');
          return 'done';
        }
        const { message, reason, remediationHint, phase } = update.view;
        const hasFailed = phase === 'Failed';
        const why = hasFailed && reason !== '' ? `(${reason})` : '';
        const detail = [message || 'Your workspace is starting…', remediationHint, why].filter((text) => text !== '').join(' ');
        this.tell({ name: 'waiting', detail, hasFailed });
      }
    } finally {
      following.abort();
    }
    return this.stopped.signal.aborted ? 'done' : 'again';
  }

  private flush(): void {
    clearTimeout(this.sending);
    const { heart, outbox, socket } = this;
    if (this.mayType && heart && socket) {
      while (outbox.waiting > 0 && outbox.underWay < MAX_UNDER_WAY) {
        const message = outbox.next(heart.serial + 1);
        if (!message) break;
        socket.send(message);
        heart.typed(this.surroundings.now());
      }
      if (outbox.waiting > 0) this.ask();
    }
    this.listener.kept(this.mayType ? 0 : outbox.waiting);
    if (this.mayType && outbox.waiting > 0) this.sending = setTimeout(() => this.flush(), RETRY_SEND);
  }
}

/** Why a connection ended, as the gateway says it. A network says nothing, and a workspace's words are not passed on. */
function because(reason: string): string {
  return reason === '' ? LOST : `${reason.charAt(0).toUpperCase()}${reason.slice(1)}. Connecting again…`;
}
