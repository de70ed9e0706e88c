// Text that a program in the workspace chose, made fit to stand in a title or a notice.

import type { Unsent } from './outbox';

const MAX_TITLE = 80;

/** One line without control and direction characters, which could make it look like something else. */
export function title(text: string): string {
  const plain = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ').replace(/\s+/g, ' ').trim();
  return plain.length > MAX_TITLE ? `${plain.slice(0, MAX_TITLE - 1)}…` : plain;
}

const MAX_SHOWN = 60;
const CONTROLS: Record<string, string> = { '\r': '⏎', '\n': '⏎', '\t': '⇥', '\x1b': '␛', '\x7f': '⌫' };

/** Keys as a line that can be read: control characters as signs, and of what is long the end and how much it is. */
export function plainLine(typed: string): string {
  const { length } = [...typed];
  return length > MAX_SHOWN ? `${endOf(typed)} (${length} characters)` : endOf(typed);
}

function endOf(typed: string): string {
  const signs = typed.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => CONTROLS[character] ?? '·');
  const characters = [...signs];
  return characters.length > MAX_SHOWN ? `…${characters.slice(-MAX_SHOWN).join('')}` : signs;
}

/** Says that what was typed did not arrive, with how much it is and how it ends. */
export function notSent({ text, wasSent }: Unsent): string {
  const count = [...text].length;
  const what = `What you typed last (${count} character${count === 1 ? '' : 's'})`;
  return `${what} ${wasSent ? 'may not have arrived' : 'was not sent'}: ${endOf(text)}`;
}

/** A time that is left, as people say it. */
export function remaining(milliseconds: number): string {
  const minutes = Math.floor(Math.max(0, milliseconds) / 60_000);
  if (minutes < 1) return 'less than a minute';
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}

/** Whether a link may be opened: web pages only. */
export function isWebLink(uri: string): boolean {
  try {
    return ['http:', 'https:'].includes(new URL(uri).protocol);
  } catch {
    return false;
  }
}

/** A time that has passed, in whole seconds. */
export function elapsed(milliseconds: number): string {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
