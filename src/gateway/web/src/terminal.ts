// The screen: xterm and its addons, set up for a terminal that is not trusted.

import { ClipboardAddon } from '@xterm/addon-clipboard';
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { Unicode11Addon } from '@xterm/addon-unicode11';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { WebglAddon } from '@xterm/addon-webgl';
import { Terminal, type ITheme } from '@xterm/xterm';
import { constructStyleSheets } from './csp-styles';
import type { Preferences } from './preferences';
import { bytesOf, type Size } from './protocol';
import { isWebLink, title } from './text';

export const FONT = 'DevPlane Mono';
/** Icons of programs, which come when one is shown. */
const SYMBOLS = 'DevPlane Symbols';

export interface Listener {
  /** `isKey` where it is known to come from a key, and not from the terminal itself. */
  typed(typed: string | Uint8Array, isKey: boolean): void;
  resized(size: Size): void;
  titled(title: string): void;
  /** A program in the workspace copied something. */
  copied(text: string): void;
  /** More output than the screen can show waits, or no longer does. */
  congested(isCongested: boolean): void;
}

const DARK: ITheme = {
  background: '#0f1319', foreground: '#d7dce4', cursor: '#d7dce4', cursorAccent: '#0f1319', selectionBackground: '#33506e',
  black: '#1b2129', red: '#ec7077', green: '#8ccf7e', yellow: '#e5c76b', blue: '#6fa8f5', magenta: '#c58af0', cyan: '#5fc9c4', white: '#c8ced8',
  brightBlack: '#66707f', brightRed: '#ff8b92', brightGreen: '#a5e596', brightYellow: '#f5dc8a', brightBlue: '#8fbdff', brightMagenta: '#d8a8ff',
  brightCyan: '#7fe0db', brightWhite: '#f4f6fa',
};
const LIGHT: ITheme = {
  background: '#ffffff', foreground: '#1f2630', cursor: '#1f2630', cursorAccent: '#ffffff', selectionBackground: '#b9d4f5',
  black: '#1f2630', red: '#b3232d', green: '#2b6e2f', yellow: '#7a5a00', blue: '#1d4ed8', magenta: '#8528b0', cyan: '#0b6a70', white: '#5c6673',
  brightBlack: '#6b7583', brightRed: '#c9303b', brightGreen: '#2f7d34', brightYellow: '#876400', brightBlue: '#2f62e8', brightMagenta: '#9a3bc6',
  brightCyan: '#0d777e', brightWhite: '#3a4350',
};

/** Output that waits for the screen, in bytes, before ttyd is asked to pause, and when it may go on. */
const HIGH_WATER = 1024 * 1024;
const LOW_WATER = 128 * 1024;
const SCROLLBACK_LINES = 10_000;

export class Screen {
  readonly search = new SearchAddon();
  private readonly terminal: Terminal;
  private readonly fit = new FitAddon();
  private waiting = 0;
  private isCongested = false;

  constructor(
    private readonly element: HTMLElement,
    private readonly listener: Listener,
    preferences: Preferences,
    mayCopy: boolean,
  ) {
    constructStyleSheets(document);
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: true,
      fontFamily: `"${FONT}", "${SYMBOLS}", monospace`,
      linkHandler: { activate: (_event, uri) => confirmLink(uri) },
      macOptionClickForcesSelection: true,
      scrollback: SCROLLBACK_LINES,
    });
    this.terminal.loadAddon(this.fit);
    this.terminal.loadAddon(this.search);
    this.terminal.loadAddon(new WebLinksAddon((_event, uri) => openLink(uri)));
    // As tmux counts: what is of East Asia, and emoji, is two cells wide.
    this.terminal.loadAddon(new Unicode11Addon());
    this.terminal.unicode.activeVersion = '11';
    if (mayCopy) this.terminal.loadAddon(this.clipboard());
    // xterm tells of a key right before it gives what the key stands for.
    let pressed: string | undefined;
    this.terminal.onKey(({ key }) => (pressed = key));
    this.terminal.onData((data) => {
      const isKey = pressed === data;
      pressed = undefined;
      listener.typed(data, isKey);
    });
    this.terminal.onBinary((data) => listener.typed(bytesOf(data), false));
    this.terminal.onResize(({ cols, rows }) => listener.resized({ columns: cols, rows }));
    this.terminal.onTitleChange((text) => listener.titled(title(text)));
    this.apply(preferences);
  }

  /** Puts the screen into its element, and keeps it as large as that is. */
  async open(): Promise<void> {
    // A terminal measures its font when it is opened.
    await Promise.allSettled([document.fonts.load(`14px "${FONT}"`), document.fonts.load(`bold 14px "${FONT}"`)]);
    this.terminal.open(this.element);
    this.useGraphicsCard();
    document.fonts.addEventListener('loadingdone', () => this.drawAnew());
    this.fit.fit();
    let frame = 0;
    new ResizeObserver(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => this.fit.fit());
    }).observe(this.element);
    this.focus();
  }

  get size(): Size {
    return { columns: this.terminal.cols, rows: this.terminal.rows };
  }

  apply({ fontSize, theme, screenReader }: Preferences): void {
    const isDark = theme === 'dark' || (theme === 'system' && !matchMedia('(prefers-color-scheme: light)').matches);
    this.terminal.options.theme = isDark ? DARK : LIGHT;
    this.terminal.options.fontSize = fontSize;
    this.terminal.options.screenReaderMode = screenReader;
    if (this.terminal.element) this.fit.fit();
  }

  /** As if it were typed. */
  input(keys: string): void {
    this.terminal.input(keys);
  }

  write(bytes: Uint8Array): void {
    this.waiting += bytes.length;
    this.terminal.write(bytes, () => {
      this.waiting -= bytes.length;
      this.tellCongestion();
    });
    this.tellCongestion();
  }

  /** A new connection begins without a pause of the one before. */
  forgetCongestion(): void {
    this.isCongested = false;
    this.tellCongestion();
  }

  focus(): void {
    this.terminal.focus();
  }

  selection(): string {
    return this.terminal.getSelection();
  }

  onKey(handler: (event: KeyboardEvent) => boolean): void {
    this.terminal.attachCustomKeyEventHandler(handler);
  }

  private tellCongestion(): void {
    const next = this.isCongested ? this.waiting > LOW_WATER : this.waiting > HIGH_WATER;
    if (next === this.isCongested) return;
    this.isCongested = next;
    this.listener.congested(next);
  }

  /** A program may set the clipboard, as tmux does when a selection ends. None may read it. */
  private clipboard(): ClipboardAddon {
    return new ClipboardAddon(undefined, {
      readText: () => '',
      writeText: (_selection, text) => this.listener.copied(text),
    });
  }

  /** What was drawn before its font was there. */
  private drawAnew(): void {
    this.terminal.clearTextureAtlas();
    this.terminal.refresh(0, this.terminal.rows - 1);
  }

  /** Without WebGL, or when the card is lost, xterm draws with elements. */
  private useGraphicsCard(): void {
    try {
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => webgl.dispose());
      this.terminal.loadAddon(webgl);
    } catch {
      // No WebGL here.
    }
  }
}

function openLink(uri: string): void {
  if (isWebLink(uri)) open(uri, '_blank', 'noopener,noreferrer');
}

/** For links whose text may say something else than where they go (OSC 8). */
function confirmLink(uri: string): void {
  if (isWebLink(uri) && confirm(`Open this link?\n\n${uri}`)) openLink(uri);
}
