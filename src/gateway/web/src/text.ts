// Text that a program in the workspace chose, made fit to stand in a title or a notice.

const MAX_TITLE = 80;

/** One line without control and direction characters, which could make it look like something else. */
export function title(text: string): string {
  const plain = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ').replace(/\s+/g, ' ').trim();
  return plain.length > MAX_TITLE ? `${plain.slice(0, MAX_TITLE - 1)}…` : plain;
}

/** Whether a link may be opened: web pages only. */
export function isWebLink(uri: string): boolean {
  try {
    return ['http:', 'https:'].includes(new URL(uri).protocol);
  } catch {
    return false;
  }
}
