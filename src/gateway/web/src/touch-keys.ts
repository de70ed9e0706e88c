// Keys that a touch keyboard has not. `Ctrl` holds for the next key.

const PLAIN: Record<string, string> = { Escape: '\x1b', Tab: '\t', ArrowUp: '\x1b[A', ArrowDown: '\x1b[B', ArrowRight: '\x1b[C', ArrowLeft: '\x1b[D' };

export class TouchKeys {
  private readonly control: HTMLElement | null;

  constructor(toolbar: HTMLElement, press: (keys: string) => void) {
    this.control = toolbar.querySelector('[data-key="Control"]');
    toolbar.onclick = ({ target }) => {
      const key = target instanceof Element ? target.closest<HTMLElement>('[data-key]')?.dataset.key : undefined;
      if (key === 'Control') this.hold(!this.isHeld);
      else if (key) press(PLAIN[key] ?? '');
    };
  }

  /** What was typed, with Ctrl where that is held. */
  applied(typed: string): string {
    if (!this.isHeld || typed.length !== 1) return typed;
    this.hold(false);
    return withControl(typed);
  }

  private get isHeld(): boolean {
    return this.control?.ariaPressed === 'true';
  }

  private hold(isHeld: boolean): void {
    if (this.control) this.control.ariaPressed = String(isHeld);
  }
}

/** The control character of a key, where it has one (ECMA-48: columns 4 and 5 become 0 and 1). */
export function withControl(key: string): string {
  const code = key.toUpperCase().charCodeAt(0);
  return code >= 0x40 && code < 0x60 ? String.fromCharCode(code - 0x40) : key;
}
