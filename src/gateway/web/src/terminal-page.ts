// The terminal page: the bar, the screen and the connection, joined.

import { delay, pause } from './backoff';
import { Bar, find } from './bar';
import { Connection } from './connection';
import { Feed, updates } from './events';
import { fullScreen } from './full-screen';
import { browserStore, read, write } from './preferences';
import * as protocol from './protocol';
import { Screen } from './terminal';
import { TouchKeys } from './touch-keys';
import { keepInView } from './viewport';
import { wish, type Wish } from './wishes';

const RECORDED = '● Recorded · ';
const APPLICATION = document.title.replace(RECORDED, '');
const FULL = 'The connection is down, and as much waits already as is kept: this was not taken.';
const NO_TERMINAL = 'There is no terminal any more: this was not taken.';
const store = browserStore();
/** How the workspace is: for the bar, and for a connection that waits for it. */
const feed = new Feed(updates);

function openSocket(): WebSocket {
  const url = new URL('/ws?client=page', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  return new WebSocket(url, ['tty']);
}

function signIn(): void {
  location.assign(`/login?return=${encodeURIComponent(location.pathname + location.search)}`);
}

const isVisible = () => document.visibilityState === 'visible';

const host = document.getElementById('screen');
if (host) {
  const preferences = read(store);
  let [isMarked, programTitle] = [document.title.startsWith(RECORDED), ''];
  const showTitle = () => {
    document.title = `${isMarked ? RECORDED : ''}${programTitle ? `${programTitle} – ` : ''}${APPLICATION}`;
  };
  const allowed = document.body.dataset.clipboard ?? '';
  const mayCopy = ['both', 'copy'].includes(allowed);
  const mayPaste = ['both', 'paste'].includes(allowed);
  const ask = async (what: Wish, done: string) => bar.tell((await wish(what)) ?? done);

  const bar: Bar = new Bar(
    {
      chosen: (chosen) => {
        write(store, chosen);
        screen.apply(chosen);
        screen.focus();
      },
      search: (text, direction) => (direction === 'next' ? screen.search.findNext(text) : screen.search.findPrevious(text)),
      searchEnded: () => {
        screen.search.clearDecorations();
        screen.focus();
      },
      start: () => location.reload(),
      reconnect: () => {
        connection.hurry(true);
        screen.focus();
      },
      restart: () => void ask('restart', 'The workspace is being restarted…'),
      keepWorking: () => {
        void ask('keep-working', 'The workspace goes on.');
        screen.focus();
      },
      decided: (isSent) => connection.decide(isSent),
      copied: (text) => copyTyped(text),
      left: () => screen.focus(),
    },
    preferences,
  );

  /** Browsers may want a click of the user before they take something for the clipboard. */
  const copy = (text: string) => {
    const offer = () => bar.tell('The browser asks for a click before it copies.', { lasts: true, actions: [{ label: 'Copy', run: () => copy(text) }] });
    if (!mayCopy) return bar.tell('Copying out of the workspace is switched off here.');
    if (!navigator.clipboard) return bar.tell('Copying needs a connection over HTTPS.');
    navigator.clipboard.writeText(text).then(() => bar.hide(), offer);
  };

  /** What a user typed is theirs, also where nothing may be copied out of the workspace. */
  const copyTyped = (text: string) => {
    const failed = () => bar.tell('The browser did not copy it.');
    if (!navigator.clipboard) return bar.tell('Copying needs a connection over HTTPS.');
    navigator.clipboard.writeText(text).then(() => bar.tell('Copied.'), failed);
  };

  const keys = new TouchKeys(find('keys', HTMLElement), (pressed) => {
    screen.input(pressed);
    screen.focus();
  });
  const screen: Screen = new Screen(
    host,
    {
      typed: (typed, isKey) => {
        const taken = connection.type(typeof typed === 'string' ? keys.applied(typed) : typed, isKey);
        if (!taken) bar.tell(connection.hasEnded ? NO_TERMINAL : FULL);
      },
      resized: (size) => connection.resize(size),
      titled: (title) => {
        programTitle = title;
        showTitle();
      },
      copied: copy,
      congested: (isCongested) => connection.control(isCongested ? protocol.pause() : protocol.resume()),
    },
    preferences,
    mayCopy,
  );
  const connection: Connection = new Connection(
    {
      open: openSocket,
      updates: (signal) => feed.updates(signal),
      pause,
      signIn,
      reload: () => location.reload(),
      now: () => performance.now(),
      isVisible,
      every: (milliseconds, run) => {
        const timer = setInterval(run, milliseconds);
        return () => clearInterval(timer);
      },
    },
    {
      state: (state) => {
        if (state.name === 'connecting' || state.name === 'waiting') screen.forgetCongestion();
        bar.state(state);
      },
      output: (bytes) => screen.write(bytes),
      latency: (milliseconds) => bar.latency(milliseconds),
      told: (notice) => {
        isMarked = notice.title;
        showTitle();
        bar.recorded(notice);
      },
      kept: (bytes) => bar.kept(bytes),
      unsure: (typed, isForAnother) => bar.unsure(typed, isForAnother),
    },
    { columns: 80, rows: 24 },
  );

  screen.onKey((event) => {
    if (event.type !== 'keydown' || !event.ctrlKey || !event.shiftKey) return true;
    switch (event.code) {
      case 'KeyC':
        event.preventDefault();
        if (screen.selection()) copy(screen.selection());
        return false;
      case 'KeyE':
        event.preventDefault();
        bar.enter();
        return false;
      case 'KeyF':
        event.preventDefault();
        bar.openSearch();
        return false;
      // The browser pastes by itself.
      case 'KeyV':
        return false;
      default:
        return true;
    }
  });
  const forbid = (event: 'copy' | 'cut' | 'paste' | 'drop', told: string) =>
    host.addEventListener(
      event,
      (happened) => {
        happened.preventDefault();
        happened.stopImmediatePropagation();
        bar.tell(told);
      },
      { capture: true },
    );
  if (!mayCopy) for (const event of ['copy', 'cut'] as const) forbid(event, 'Copying out of the workspace is switched off here.');
  if (!mayPaste) for (const event of ['paste', 'drop'] as const) forbid(event, 'Pasting into the workspace is switched off here.');
  matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => screen.apply(read(store)));
  addEventListener('online', () => connection.hurry(false));
  addEventListener('pagehide', () => connection.ask());
  document.addEventListener('visibilitychange', () => connection.ask());
  keepInView();
  fullScreen(find('full-screen', HTMLButtonElement), () => screen.focus());

  // The browser asks whether the page is to be left while something waits to be sent.
  addEventListener('beforeunload', (event) => {
    if (connection.isWaiting) event.preventDefault();
  });
  // Signing out closes the terminal as one whose session is over, and that would sign in again before the answer is here.
  document.querySelector('form[action="/logout"]')?.addEventListener('submit', (event) => {
    if (connection.isWaiting && !confirm('What you typed last was not sent yet. Sign out without it?')) event.preventDefault();
    else connection.stop();
  });

  await screen.open();
  connection.resize(screen.size);
  connection.start();
  void follow(bar);
}

/** Shows what the gateway tells of the workspace, while somebody looks. */
async function follow(bar: Bar): Promise<void> {
  const never = new AbortController().signal;
  for (let attempt = 0; ; attempt++) {
    const looking = new AbortController();
    const look = () => {
      if (!isVisible()) looking.abort();
    };
    document.addEventListener('visibilitychange', look);
    look();
    let wait = 0;
    for await (const update of feed.updates(looking.signal)) {
      // The terminal's own connection says what is to be done.
      if (update.kind === 'signed-out') return;
      if (update.kind === 'ended') wait = update.after ?? 0;
      if (update.kind !== 'workspace') continue;
      attempt = 0;
      bar.workspace(update.view);
    }
    document.removeEventListener('visibilitychange', look);
    if (!isVisible()) await seen();
    else await pause(Math.max(delay(attempt + 2), wait), never);
  }
}

function seen(): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!isVisible()) return;
      document.removeEventListener('visibilitychange', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
  });
}

export {};
