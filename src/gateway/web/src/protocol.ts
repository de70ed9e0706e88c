// Bytes of ttyd's WebSocket subprotocol `tty`, from and to what they mean. A message begins with one byte that says what it is.

const INPUT = 0x30; // '0'
const RESIZE = 0x31; // '1'
const PAUSE = 0x32; // '2'
const RESUME = 0x33; // '3'
const HEARTBEAT = 0x68; // 'h', which the gateway passes on as a ping

const OUTPUT = 0x30; // '0'
const NOTICE = 0x72; // 'r', of the gateway itself

/** In bytes. A large paste goes in pieces that are soon written, each: the workspace shows the first ones while others are on their way. */
export const MAX_INPUT = 16 * 1024;

/** One message, its command byte first. */
export type Message = Uint8Array<ArrayBuffer>;

export interface Size {
  columns: number;
  rows: number;
}

const encoder = new TextEncoder();

/** The first message of a connection. */
export function hello({ columns, rows }: Size): Uint8Array<ArrayBuffer> {
  return encoder.encode(JSON.stringify({ AuthToken: '', columns, rows }));
}

export function resize({ columns, rows }: Size): Uint8Array<ArrayBuffer> {
  return message(RESIZE, encoder.encode(JSON.stringify({ columns, rows })));
}

/** Asks ttyd to hold its output back, and to go on. */
export const pause = (): Uint8Array<ArrayBuffer> => Uint8Array.of(PAUSE);
export const resume = (): Uint8Array<ArrayBuffer> => Uint8Array.of(RESUME);

/** Asks whether all before it has reached the workspace; the answer has the same number. */
export const heartbeat = (serial: number): Uint8Array<ArrayBuffer> => message(HEARTBEAT, encoder.encode(String(serial)));

/** The number in the answer to a heartbeat; nothing for every other message. */
export function heartbeatAnswer(data: ArrayBuffer): number | undefined {
  const bytes = new Uint8Array(data);
  if (bytes[0] !== HEARTBEAT || bytes.length > 17) return undefined;
  const serial = Number(new TextDecoder().decode(bytes.subarray(1)));
  return Number.isSafeInteger(serial) ? serial : undefined;
}

/** What the gateway tells of a terminal. */
export interface Notice {
  /** Where it is shown that the session is recorded. */
  bar: boolean;
  title: boolean;
  /** The container that the terminal is in; empty when that is not known. In another one no program goes on that ran in the last. */
  container: string;
}

/** The gateway's notice; nothing for every other message. A workspace could only forge one for its own user. */
export function notice(data: ArrayBuffer): Notice | undefined {
  const bytes = new Uint8Array(data);
  if (bytes[0] !== NOTICE) return undefined;
  try {
    const { bar, title, container } = JSON.parse(new TextDecoder().decode(bytes.subarray(1))) as Partial<Notice>;
    return { bar: bar === true, title: title === true, container: typeof container === 'string' ? container : '' };
  } catch {
    return undefined;
  }
}

/** What a terminal says by itself, or with the mouse: an answer to a program, focus, a click. It is for the screen of this moment only. */
const OF_THE_MOMENT = /^(?:\x1b(?:\[(?:[IO]|[?>=]?[\d;]*\$?[Rncty]|\?\d*u|<[\d;]*[Mm]|M[^]{3})|[\]P_^X][^]*?(?:\x07|\x1b\\)))+$/;

/** `isKey` says that it is known to come from a key: `ESC[1;2R` is Shift+F3, or a cursor that is in the first row. */
export function isOfTheMoment(typed: string | Uint8Array, isKey = false): boolean {
  return typeof typed !== 'string' || (!isKey && OF_THE_MOMENT.test(typed));
}

/** What was typed or pasted, as messages that are small enough. Cutting between bytes of one character is fine: a terminal reads bytes. */
export function input(typed: string | Uint8Array): Uint8Array<ArrayBuffer>[] {
  const bytes = typeof typed === 'string' ? encoder.encode(typed) : typed;
  const messages = [];
  for (let start = 0; start < bytes.length; start += MAX_INPUT) {
    messages.push(message(INPUT, bytes.subarray(start, start + MAX_INPUT)));
  }
  return messages;
}

const PASTE_BEGINS = '\x1b[200~';
const PASTE_ENDS = '\x1b[201~';

/** Whether a program is told that this is pasted (DEC mode 2004). */
export function isPaste([first]: Message[]): boolean {
  return first !== undefined && new TextDecoder().decode(first.subarray(1, 1 + PASTE_BEGINS.length)) === PASTE_BEGINS;
}

/** Ends a paste whose own end is missing. */
export const pasteEnds = (): Message => message(INPUT, encoder.encode(PASTE_ENDS));

/** A string of which each character is one byte, as xterm gives mouse reports. */
export function bytesOf(binary: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(binary, (character) => character.charCodeAt(0) & 0xff);
}

/** The bytes for the screen; nothing for every other message: a workspace chooses neither our title nor our preferences. */
export function output(data: ArrayBuffer): Uint8Array<ArrayBuffer> | undefined {
  const bytes = new Uint8Array(data);
  return bytes[0] === OUTPUT ? bytes.subarray(1) : undefined;
}

function message(command: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(payload.length + 1);
  bytes[0] = command;
  bytes.set(payload, 1);
  return bytes;
}
