// The bar above the screen: what the connection does, and what can be chosen.

import type { State } from './connection';
import { FONT_SIZES, type Preferences } from './preferences';

export interface Listener {
  chosen(preferences: Preferences): void;
  search(text: string, direction: 'next' | 'previous'): void;
  searchEnded(): void;
  /** The user wants the workspace to start again. */
  start(): void;
}

const LABELS: Record<State['name'], string> = { connecting: 'Connecting…', open: 'Connected', waiting: 'Connecting again…', ended: 'Stopped' };
const ENDED: Record<Extract<State, { name: 'ended' }>['why'], { text: string; label: string }> = {
  idle: { text: 'Your workspace was stopped, because nobody used it for as long as is allowed. Your files are kept.', label: 'Start it again' },
  stopped: { text: 'Your workspace was stopped. Your files are kept.', label: 'Start it again' },
  gone: { text: 'Your workspace was deleted.', label: 'Make a new one' },
};
const NEXT_THEME = { system: 'dark', dark: 'light', light: 'system' } as const;
const NOTICE_MILLISECONDS = 6000;

/** The element of the page with this id; the page always has it. */
function find<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${id}`);
  return element;
}

export class Bar {
  private readonly status = find('status', HTMLElement);
  private readonly notice = find('notice', HTMLElement);
  private readonly noticeText = find('notice-text', HTMLElement);
  private readonly noticeAction = find('notice-action', HTMLButtonElement);
  private readonly searchForm = find('search', HTMLFormElement);
  private readonly searchText = find('search-text', HTMLInputElement);
  private readonly theme = find('theme', HTMLButtonElement);
  private readonly reader = find('screen-reader', HTMLButtonElement);
  private hiding: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly listener: Listener,
    private preferences: Preferences,
  ) {
    find('font-smaller', HTMLButtonElement).onclick = () => this.choose({ fontSize: Math.max(FONT_SIZES.least, this.preferences.fontSize - 1) });
    find('font-larger', HTMLButtonElement).onclick = () => this.choose({ fontSize: Math.min(FONT_SIZES.most, this.preferences.fontSize + 1) });
    this.theme.onclick = () => this.choose({ theme: NEXT_THEME[this.preferences.theme] });
    this.reader.onclick = () => this.choose({ screenReader: !this.preferences.screenReader });
    find('search-open', HTMLButtonElement).onclick = () => this.openSearch();
    find('search-previous', HTMLButtonElement).onclick = () => listener.search(this.searchText.value, 'previous');
    find('search-close', HTMLButtonElement).onclick = () => this.closeSearch();
    this.searchForm.onsubmit = (event) => {
      event.preventDefault();
      listener.search(this.searchText.value, 'next');
    };
    this.searchText.onkeydown = (event) => {
      if (event.key === 'Escape') this.closeSearch();
    };
    this.show();
  }

  openSearch(): void {
    this.searchForm.hidden = false;
    this.searchText.select();
  }

  state(state: State): void {
    document.body.dataset.state = state.name;
    this.status.textContent = LABELS[state.name];
    switch (state.name) {
      case 'connecting':
        break;
      case 'open':
        this.hide();
        break;
      case 'waiting':
        this.tell(state.detail, { lasts: true });
        break;
      case 'ended': {
        const { text, label } = ENDED[state.why];
        this.tell(text, { lasts: true, action: { label, run: () => this.listener.start() } });
        break;
      }
    }
  }

  /** Says something above the screen; for a moment, or until something else happens. */
  tell(text: string, { lasts = false, action }: { lasts?: boolean; action?: { label: string; run: () => void } } = {}): void {
    clearTimeout(this.hiding);
    this.noticeText.textContent = text;
    this.noticeAction.hidden = !action;
    this.noticeAction.textContent = action?.label ?? '';
    this.noticeAction.onclick = () => action?.run();
    this.notice.hidden = false;
    if (!lasts) this.hiding = setTimeout(() => this.hide(), NOTICE_MILLISECONDS);
  }

  hide(): void {
    clearTimeout(this.hiding);
    this.notice.hidden = true;
  }

  private closeSearch(): void {
    this.searchForm.hidden = true;
    this.listener.searchEnded();
  }

  private choose(change: Partial<Preferences>): void {
    this.preferences = { ...this.preferences, ...change };
    this.show();
    this.listener.chosen(this.preferences);
  }

  private show(): void {
    const { theme, screenReader } = this.preferences;
    document.documentElement.dataset.theme = theme;
    this.theme.title = `Colours: ${theme}`;
    this.reader.ariaPressed = String(screenReader);
  }
}
