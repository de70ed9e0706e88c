// A WebSocket that comes back: what is typed while it is down is kept, and sent once when it is up again.

import { delay } from './backoff';
import type { Update } from './events';
import { hello, input, output, resize, type Size } from './protocol';

export type State =
  | { name: 'connecting' }
  | { name: 'open' }
  /** Down, and being mended. `detail` is for the user. */
  | { name: 'waiting'; detail: string }
  /** Down until the user does something. */
  | { name: 'ended'; why: 'idle' | 'stopped' | 'gone' };

/** What the connection needs of the browser; tests give it their own. */
export interface Surroundings {
  open(): WebSocket;
  updates(signal: AbortSignal): AsyncIterable<Update>;
  pause(milliseconds: number, signal: AbortSignal): Promise<void>;
  signIn(): void;
  /** Asks the gateway for the page again: it says what is the matter. */
  reload(): void;
}

export interface Listener {
  state(state: State): void;
  output(bytes: Uint8Array): void;
}

/** The close code of a session that is over. */
const SIGNED_OUT = 4401;
/** And that of a workspace that an administrator has suspended. */
const SUSPENDED = 4403;
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
/** What may wait in the browser's own buffer, in bytes. */
const MAX_BUFFERED = 512 * 1024;
const RETRY_SEND = 20;

export class Connection {
  private socket: WebSocket | undefined;
  private outbox: Uint8Array<ArrayBuffer>[] = [];
  private attempt = 0;
  /** Whether the next terminal is another one: what was typed for the last is not for it. */
  private isAnother = false;
  private sending: ReturnType<typeof setTimeout> | undefined;
  private readonly stopped = new AbortController();

  constructor(
    private readonly surroundings: Surroundings,
    private readonly listener: Listener,
    private size: Size,
  ) {}

  start(): void {
    this.listener.state({ name: 'connecting' });
    this.connect();
  }

  stop(): void {
    this.stopped.abort();
    this.socket?.close(1000);
  }

  get isOpen(): boolean {
    return this.socket?.readyState === 1;
  }

  /** Sends what was typed, or keeps it. False when too much is kept already. */
  type(typed: string | Uint8Array): boolean {
    const messages = input(typed);
    if (!this.isOpen && bytes(this.outbox) + bytes(messages) > MAX_KEPT) return false;
    this.outbox.push(...messages);
    this.flush();
    return true;
  }

  resize(size: Size): void {
    this.size = size;
    // Nothing to send while it is down: the first message of a connection has the size.
    if (this.isOpen) this.socket?.send(resize(size));
  }

  /** Sends a message that means something to this connection only, such as pause. */
  control(message: Uint8Array<ArrayBuffer>): void {
    if (this.isOpen) this.socket?.send(message);
  }

  private connect(): void {
    const socket = this.surroundings.open();
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    let isFirst = true;
    socket.onopen = () => {
      socket.send(hello(this.size));
      if (this.isAnother) this.outbox = [];
      this.isAnother = false;
      this.listener.state({ name: 'open' });
      this.flush();
    };
    socket.onmessage = ({ data }) => {
      const bytes = data instanceof ArrayBuffer ? output(data) : undefined;
      if (!bytes) return;
      // Only a terminal that shows something has been reached.
      if (isFirst) this.attempt = 0;
      isFirst = false;
      this.listener.output(bytes);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.stopped.signal.aborted) return;
      if (code === SIGNED_OUT) this.surroundings.signIn();
      else if (code === SUSPENDED) this.surroundings.reload();
      else if (code === STOPPED) this.leave(reason);
      else if (code === NOT_RECORDED) void this.recover(UNRECORDED);
      else if (code === TOO_MANY) void this.recover(CROWDED);
      else void this.recover(LOST);
    };
  }

  /** The workspace is being stopped: it comes back by itself, or when the user wants it. */
  private leave(reason: string): void {
    this.isAnother = true;
    if (reason === 'idle') this.listener.state({ name: 'ended', why: 'idle' });
    else void this.recover(RESTARTS[reason] ?? LOST);
  }

  /** Waits until the workspace runs, then connects. Waking one that was stopped is the user's to decide. */
  private async recover(detail: string): Promise<void> {
    const { signal } = this.stopped;
    let pause = delay(this.attempt++);
    for (;;) {
      this.listener.state({ name: 'waiting', detail });
      await this.surroundings.pause(pause, signal);
      if (signal.aborted) return;
      const next = await this.follow();
      if (next !== 'again') return;
      pause = delay(this.attempt++);
    }
  }

  private async follow(): Promise<'again' | 'done'> {
    const following = new AbortController();
    const stop = () => following.abort();
    this.stopped.signal.addEventListener('abort', stop);
    try {
      for await (const update of this.surroundings.updates(following.signal)) {
        if (update.kind === 'signed-out') {
          this.surroundings.signIn();
          return 'done';
        }
        if (update.kind === 'gone') {
          this.listener.state({ name: 'ended', why: 'gone' });
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
          this.listener.state({ name: 'ended', why: update.view.stopReason === 'Idle' ? 'idle' : 'stopped' });
          return 'done';
        }
        this.listener.state({ name: 'waiting', detail: update.view.message || 'Your workspace is starting…' });
      }
    } finally {
      this.stopped.signal.removeEventListener('abort', stop);
      following.abort();
    }
    return this.stopped.signal.aborted ? 'done' : 'again';
  }

  private flush(): void {
    clearTimeout(this.sending);
    while (this.isOpen && this.socket && this.outbox.length > 0 && this.socket.bufferedAmount < MAX_BUFFERED) {
      const message = this.outbox.shift();
      if (message) this.socket.send(message);
    }
    if (this.isOpen && this.outbox.length > 0) this.sending = setTimeout(() => this.flush(), RETRY_SEND);
  }
}

function bytes(messages: Uint8Array[]): number {
  return messages.reduce((sum, message) => sum + message.length, 0);
}
