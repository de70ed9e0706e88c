// The bar above the screen: what the connection does, and what can be chosen.

import type { State } from './connection';
import type { View } from './events';
import { FONT_SIZES, type Preferences } from './preferences';
import type { Notice } from './protocol';
import { notSent, plainLine, remaining } from './text';

export interface Listener {
  chosen(preferences: Preferences): void;
  search(text: string, direction: 'next' | 'previous'): void;
  searchEnded(): void;
  /** The user wants the workspace to start again. */
  start(): void;
  reconnect(): void;
  restart(): void;
  keepWorking(): void;
  /** Whether what was asked about is to be sent. */
  decided(isSent: boolean): void;
  /** The user wants this in the clipboard. */
  copied(text: string): void;
  /** The keyboard is the terminal's again. */
  left(): void;
}

interface Action {
  label: string;
  run(): void;
}

/** What stands above the screen. */
interface Told {
  text: string;
  actions?: Action[];
}

const LABELS: Record<State['name'], string> = {
  connecting: 'Connecting…', open: 'Connected', quiet: 'No answer', waiting: 'Connecting again…', ended: 'Stopped',
};
const ENDED: Record<Extract<State, { name: 'ended' }>['why'], { text: string; label: string }> = {
  idle: { text: 'Your workspace was stopped, because nobody used it for as long as is allowed. Your files are kept.', label: 'Start it again' },
  stopped: { text: 'Your workspace was stopped. Your files are kept.', label: 'Start it again' },
  unused: { text: 'You were signed out, because nobody typed anything for as long as is allowed.', label: 'Sign in again' },
  gone: { text: 'Your workspace was deleted.', label: 'Make a new one' },
  'signed-out': { text: 'Your session has ended.', label: 'Sign in again' },
  refused: { text: 'You may not enter this workspace at the moment.', label: 'See why' },
};
const QUIET = 'Nothing is heard from your workspace. What you type is kept until it answers.';
const LOST_ON_ITS_WAY = 'The connection broke while this was on its way, so all of it, a part or nothing may have arrived:';
const FOR_ANOTHER = 'Your workspace was started anew. This was typed before that, for programs that have ended:';
const NEXT_THEME = { system: 'dark', dark: 'light', light: 'system' } as const;
const NOTICE_MILLISECONDS = 6000;
/** When a stop is near enough to stand out, in milliseconds. */
const SOON = 10 * 60_000;
const SHOW_TIME_EVERY = 10_000;

/** The element of the page with this id; the page always has it. */
export function find<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${id}`);
  return element;
}

export class Bar {
  private readonly bar = find('bar', HTMLElement);
  private readonly status = find('status', HTMLElement);
  private readonly latencyText = find('latency', HTMLElement);
  private readonly keptText = find('kept', HTMLElement);
  private readonly notice = find('notice', HTMLElement);
  private readonly noticeText = find('notice-text', HTMLElement);
  private readonly noticeAction = find('notice-action', HTMLButtonElement);
  private readonly noticeOther = find('notice-other', HTMLButtonElement);
  private readonly reconnect = find('reconnect', HTMLButtonElement);
  private readonly update = find('update', HTMLButtonElement);
  private readonly stops = find('stops', HTMLElement);
  private readonly stopsText = find('stops-text', HTMLElement);
  private readonly searchForm = find('search', HTMLFormElement);
  private readonly searchText = find('search-text', HTMLInputElement);
  private readonly theme = find('theme', HTMLButtonElement);
  private readonly reader = find('screen-reader', HTMLButtonElement);
  private readonly barShow = find('bar-show', HTMLButtonElement);
  private readonly barShowState = find('bar-show-state', HTMLElement);
  private readonly recordedMarks = [find('recorded', HTMLElement), find('bar-show-recorded', HTMLElement)];
  private readonly dialog = find('restart-dialog', HTMLDialogElement);
  private hiding: ReturnType<typeof setTimeout> | undefined;
  private stopsAt: number | undefined;
  /** Of what is told, the first of these that there is: what was said last, how the connection is, what the user is to decide. */
  private said: Told | undefined;
  private standing: Told | undefined;
  private question: Told | undefined;

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
    find('bar-hide', HTMLButtonElement).onclick = () => this.choose({ barHidden: true });
    this.barShow.onclick = () => {
      this.choose({ barHidden: false });
      this.enter();
    };
    this.reconnect.onclick = () => listener.reconnect();
    find('restart', HTMLButtonElement).onclick = () => this.dialog.showModal();
    this.update.onclick = () => this.dialog.showModal();
    this.dialog.onclose = () => {
      if (this.dialog.returnValue === 'restart') listener.restart();
      this.dialog.returnValue = '';
      listener.left();
    };
    find('keep-working', HTMLButtonElement).onclick = () => listener.keepWorking();
    this.searchForm.onsubmit = (event) => {
      event.preventDefault();
      listener.search(this.searchText.value, 'next');
    };
    this.bar.onkeydown = (event) => {
      if (event.key !== 'Escape') return;
      if (this.searchForm.contains(event.target as Node)) this.closeSearch();
      else listener.left();
    };
    setInterval(() => this.showStop(), SHOW_TIME_EVERY);
    this.show();
  }

  openSearch(): void {
    if (this.preferences.barHidden) this.choose({ barHidden: false });
    this.searchForm.hidden = false;
    this.searchText.select();
  }

  /** Gives the keyboard to what is asked, or else to the bar. */
  enter(): void {
    if (this.preferences.barHidden) this.choose({ barHidden: false });
    const buttons = [this.noticeAction, ...this.bar.querySelectorAll('button')];
    buttons.find((button) => button.checkVisibility())?.focus();
  }

  state(state: State): void {
    document.body.dataset.state = state.name;
    this.status.textContent = LABELS[state.name];
    this.barShowState.textContent = state.name === 'open' ? '' : `${LABELS[state.name]} · `;
    this.reconnect.hidden = state.name !== 'quiet' && state.name !== 'waiting';
    if (state.name !== 'open') this.latencyText.textContent = '';
    this.standing = this.told(state);
    if (state.name !== 'open') this.said = undefined;
    this.showTold();
    this.show();
  }

  private told(state: State): Told | undefined {
    switch (state.name) {
      case 'connecting':
      case 'open':
        return undefined;
      case 'quiet':
        return { text: QUIET };
      case 'waiting':
        return { text: state.detail, actions: state.hasFailed ? [{ label: 'Try again', run: () => this.listener.restart() }] : [] };
      case 'ended': {
        const { text, label } = ENDED[state.why];
        const start = { label, run: () => this.listener.start() };
        const { unsent } = state;
        if (!unsent) return { text, actions: [start] };
        return { text: `${text} ${notSent(unsent)}`, actions: [start, { label: 'Copy what was not sent', run: () => this.listener.copied(unsent.text) }] };
      }
    }
  }

  recorded({ bar }: Notice): void {
    const isNew = bar && this.recordedMarks.some((mark) => mark.hidden);
    for (const mark of this.recordedMarks) mark.hidden = !bar;
    if (isNew) this.tell('What you do in this terminal is recorded from now on.');
  }

  latency(milliseconds: number): void {
    this.latencyText.textContent = `${Math.round(milliseconds)} ms`;
  }

  kept(bytes: number): void {
    this.keptText.hidden = bytes === 0;
    // Without a number: a screen reader would say it again at every key.
    this.keptText.textContent = bytes === 0 ? '' : 'What you type waits to be sent';
  }

  /** Asks what becomes of keys that may have arrived, or were for programs that have ended. Nothing can be typed until that is decided. */
  unsure(typed: string, isForAnother: boolean): void {
    const decide = (isSent: boolean) => () => {
      this.question = undefined;
      this.hide();
      this.listener.decided(isSent);
      this.listener.left();
    };
    this.question = {
      text: `${isForAnother ? FOR_ANOTHER : LOST_ON_ITS_WAY} ${plainLine(typed)}`,
      actions: [
        { label: isForAnother ? 'Send it' : 'Send it again', run: decide(true) },
        { label: 'Don’t', run: decide(false) },
      ],
    };
    this.hide();
  }

  workspace({ updatePending, stopsAt }: View): void {
    this.update.hidden = updatePending === '';
    this.update.title = updatePending === '' ? '' : `The platform has new settings: ${updatePending}`;
    const at = Date.parse(stopsAt ?? '');
    this.stopsAt = Number.isNaN(at) ? undefined : at;
    this.showStop();
  }

  /** Says something above the screen; for a moment, or until something else happens. */
  tell(text: string, { lasts = false, actions = [] }: { lasts?: boolean; actions?: Action[] } = {}): void {
    const { standing } = this;
    // A way on is not taken away.
    this.said = standing?.actions?.length ? { ...standing, text: `${text} ${standing.text}` } : { text, actions };
    this.showTold();
    clearTimeout(this.hiding);
    if (!lasts) this.hiding = setTimeout(() => this.hide(), NOTICE_MILLISECONDS);
  }

  /** Takes away what was said. How the connection is, and what is to be decided, comes back. */
  hide(): void {
    clearTimeout(this.hiding);
    this.said = undefined;
    this.showTold();
  }

  private showTold(): void {
    const told = this.said ?? this.standing ?? this.question;
    this.notice.hidden = told === undefined;
    if (!told) return;
    this.noticeText.textContent = told.text;
    [this.noticeAction, this.noticeOther].forEach((button, index) => {
      const action = told.actions?.[index];
      button.hidden = !action;
      button.textContent = action?.label ?? '';
      button.onclick = () => action?.run();
    });
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

  private showStop(): void {
    const left = this.stopsAt === undefined ? undefined : this.stopsAt - Date.now();
    this.stops.hidden = left === undefined;
    if (left === undefined) return;
    this.stopsText.textContent = `Stops in ${remaining(left)} if unused`;
    this.stops.classList.toggle('soon', left < SOON);
  }

  private show(): void {
    const { theme, screenReader, barHidden } = this.preferences;
    document.documentElement.dataset.theme = theme;
    this.theme.title = `Colours: ${theme}`;
    this.reader.ariaPressed = String(screenReader);
    this.bar.hidden = barHidden;
    this.barShow.hidden = !barHidden;
  }
}
