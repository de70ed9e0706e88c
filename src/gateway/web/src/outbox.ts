// What was typed, from the key to the workspace: it waits, is on its way, and has arrived or is in doubt. Pure.
//
// What was typed or pasted at once is one whole. A connection that breaks amid a paste leaves a part of it behind, and the rest alone would
// be keys there, each line a command: all of it is in doubt then, and is sent again from its beginning or not at all.

import { isPaste, type Message, pasteEnds } from './protocol';

interface Unit {
  messages: Message[];
  /** Of each that was sent, the number of the first heartbeat behind it. */
  marks: number[];
  /** How many have arrived. */
  arrived: number;
}

/** What was typed and did not arrive, for all that is known. */
export interface Unsent {
  text: string;
  /** Whether some of it was sent, and may have arrived after all. */
  wasSent: boolean;
}

export class Outbox {
  /** How many bytes wait, and how many are on their way. */
  waiting = 0;
  underWay = 0;
  private units: Unit[] = [];
  private doubtful: Unit[] = [];
  /** Whether what is in doubt was typed for programs that have ended. */
  isForAnother = false;
  /** Whether a program may wait for the end of a paste that was torn: until then keys would be part of it. */
  private isTorn = false;

  add(messages: Message[]): void {
    if (messages.length === 0) return;
    this.units.push(unsent(messages));
    this.waiting += size(messages);
  }

  /** Takes the next message to be sent; `mark` is the number of the first heartbeat that follows it. */
  next(mark: number): Message | undefined {
    const unit = this.units.find(({ messages, marks }) => marks.length < messages.length);
    const message = unit?.messages[unit.marks.length];
    if (!unit || !message) return undefined;
    unit.marks.push(mark);
    this.waiting -= size([message]);
    this.underWay += size([message]);
    return message;
  }

  /** All that was sent before this heartbeat has arrived. */
  confirm(serial: number): void {
    for (const unit of this.units) {
      const arrived = unit.marks.filter((mark) => mark <= serial).length;
      this.underWay -= size(unit.messages.slice(unit.arrived, arrived));
      unit.arrived = arrived;
    }
    this.units = this.units.filter(({ messages, arrived }) => arrived < messages.length);
  }

  /** The connection broke: what was sent and has not arrived as a whole is in doubt. */
  broke(): void {
    const sent = this.units.filter(({ marks }) => marks.length > 0);
    this.isTorn ||= sent.some(({ messages }) => messages.length > 1 && isPaste(messages));
    this.doubtful.push(...sent);
    this.units = this.units.filter(({ marks }) => marks.length === 0);
    this.waiting = this.units.reduce((sum, { messages }) => sum + size(messages), 0);
    this.underWay = 0;
  }

  /** Whether the rest of something waits whose beginning was sent. */
  get isAmidUnit(): boolean {
    return this.units.some(({ messages, marks }) => marks.length > 0 && marks.length < messages.length);
  }

  /** Whether something is in doubt. */
  get isInDoubt(): boolean {
    return this.doubtful.length > 0;
  }

  /** What is in doubt, as text. */
  get doubt(): string {
    return text(this.doubtful);
  }

  /** All that waits or is in doubt; nothing when there is none. */
  get unsent(): Unsent | undefined {
    const units = [...this.doubtful, ...this.units];
    return units.length === 0 ? undefined : { text: text(units), wasSent: units.some(({ marks }) => marks.length > 0) };
  }

  /** There are other programs now than those for which all this was typed: it is in doubt whether they are to have it. */
  moved(): void {
    this.doubtful.push(...this.units);
    this.units = [];
    this.waiting = this.underWay = 0;
    this.isForAnother = this.isInDoubt;
    this.isTorn = false;
  }

  /** What is in doubt is sent again, before all else, or never. */
  decide(sendAgain: boolean): void {
    const again = sendAgain ? this.doubtful.map(({ messages }) => messages) : [];
    const first = [...(this.isTorn ? [[pasteEnds()]] : []), ...again];
    this.doubtful = [];
    this.isTorn = this.isForAnother = false;
    this.units.unshift(...first.map(unsent));
    this.waiting += size(first.flat());
  }
}

function text(units: Unit[]): string {
  const decoder = new TextDecoder();
  const messages = units.flatMap(({ messages }) => messages);
  return messages.map((message) => decoder.decode(message.subarray(1), { stream: true })).join('');
}

const unsent = (messages: Message[]): Unit => ({ messages, marks: [], arrived: 0 });

/** Of what messages carry, in bytes: without their first ones, which say what they are. */
export function size(messages: Message[]): number {
  return messages.reduce((sum, message) => sum + message.length - 1, 0);
}
