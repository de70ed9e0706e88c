// Is the way to the workspace open, and has all arrived that was sent? Asked by small messages on the terminal's own connection, which
// the gateway passes on as pings.
//
// Pure: time is told. Only a page asks that is looked at or waits for keys to arrive; one in the background, or a laptop that slept, has
// lost nothing by that.

/** Between two beats, in milliseconds. */
const EVERY = 850;
/** How long after keys were sent it is asked whether they arrived. */
const AFTER_INPUT = 250;
/** Between two beats that a large paste waits for, at the least. */
const SOON = 20;
/** Silence that is shown: within 3 seconds of the loss, whenever in between two beats that is. */
const QUIET_AFTER = 1_750;
/** Silence that a connection is not believed to come back from. */
const LOST_AFTER = 12_000;
/** After the network came back: the old connection seldom does. */
const LOST_SOON = 2_000;
/** Between two ticks of a page that is looked at; much more, and the computer slept. */
export const TICK = 300;
const SLEPT = 2_500;
const REMEMBERED = 16;

export interface Beat {
  /** To be sent now. */
  serial?: number;
  state: 'well' | 'quiet' | 'lost';
}

export class Heartbeat {
  /** To the workspace and back, in milliseconds. */
  latency: number | undefined;
  /** The newest beat that was sent, and the newest one that was answered. */
  serial = 0;
  answered = 0;
  private readonly sent = new Map<number, number>();
  private beatAt = -Infinity;
  private inputAt: number | undefined;
  /** Since when an answer is waited for. */
  private silentSince: number | undefined;
  private patience = LOST_AFTER;
  private ticked: number;

  constructor(now: number) {
    this.ticked = now;
  }

  /** `matters` says whether anybody wants to know. */
  tick(now: number, matters: boolean): Beat {
    const slept = now - this.ticked > SLEPT;
    this.ticked = now;
    if (!matters || slept) this.silentSince = undefined;
    if (!matters) return { state: 'well' };
    const isDue = now - this.beatAt >= EVERY || (this.inputAt !== undefined && now - this.inputAt >= AFTER_INPUT);
    const serial = isDue || slept ? this.beat(now) : undefined;
    const state = this.state(now);
    return serial === undefined ? { state } : { serial, state };
  }

  /** Something was typed, and is on its way. */
  typed(now: number): void {
    this.inputAt ??= now;
  }

  /** A beat at once, for what was typed since the last one; none when it would be one too many. */
  ask(now: number): number | undefined {
    return this.inputAt === undefined || now - this.beatAt < SOON ? undefined : this.beat(now);
  }

  /** Anything that comes is a sign of life. */
  heard(): void {
    this.silentSince = undefined;
    this.patience = LOST_AFTER;
  }

  /** Whether it is the answer to one that was sent. */
  answer(serial: number, now: number): boolean {
    const sent = this.sent.get(serial);
    if (sent === undefined) return false;
    this.latency = Math.max(0, now - sent);
    this.answered = Math.max(this.answered, serial);
    for (const earlier of this.sent.keys()) if (earlier <= serial) this.sent.delete(earlier);
    return true;
  }

  /** The network is there again: whether this connection is too will show soon. */
  hurry(now: number): void {
    if (this.silentSince === undefined) return;
    this.silentSince = Math.min(this.silentSince, now - QUIET_AFTER);
    this.patience = now - this.silentSince + LOST_SOON;
  }

  /** The next one, to be sent now. */
  beat(now: number): number {
    this.beatAt = now;
    this.inputAt = undefined;
    this.silentSince ??= now;
    this.serial++;
    this.sent.set(this.serial, now);
    if (this.sent.size > REMEMBERED) this.sent.delete(this.serial - REMEMBERED);
    return this.serial;
  }

  /** Nothing is lost that never answered: the workspace may be one that does not. */
  private state(now: number): Beat['state'] {
    if (this.silentSince === undefined || this.answered === 0) return 'well';
    const silent = now - this.silentSince;
    if (silent >= this.patience) return 'lost';
    // A way that is always slow is not lost.
    return silent >= Math.max(QUIET_AFTER, Math.min(2 * (this.latency ?? 0), LOST_AFTER / 2)) ? 'quiet' : 'well';
  }
}
