// The terminal page: the bar, the screen and the connection, joined.

import { pause } from './backoff';
import { Bar } from './bar';
import { Connection } from './connection';
import { updates } from './events';
import { browserStore, read, write } from './preferences';
import * as protocol from './protocol';
import { Screen } from './terminal';

const APPLICATION = document.title;
const store = browserStore();

function openSocket(): WebSocket {
  const url = new URL('/ws', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  return new WebSocket(url, ['tty']);
}

function signIn(): void {
  location.assign(`/login?return=${encodeURIComponent(location.pathname + location.search)}`);
}

const host = document.getElementById('screen');
if (host) {
  const preferences = read(store);
  const bar = new Bar(
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
    },
    preferences,
  );

  /** Browsers may want a click of the user before they take something for the clipboard. */
  const copy = (text: string) => {
    const offer = () => bar.tell('The browser asks for a click before it copies.', { lasts: true, action: { label: 'Copy', run: () => copy(text) } });
    if (!navigator.clipboard) return bar.tell('Copying needs a connection over HTTPS.');
    navigator.clipboard.writeText(text).then(() => bar.hide(), offer);
  };

  const screen: Screen = new Screen(
    host,
    {
      typed: (typed) => {
        if (!connection.type(typed)) bar.tell('The connection is down, and too much was typed meanwhile to keep it.');
      },
      resized: (size) => connection.resize(size),
      titled: (title) => {
        document.title = title ? `${title} – ${APPLICATION}` : APPLICATION;
      },
      copied: copy,
      congested: (isCongested) => connection.control(isCongested ? protocol.pause() : protocol.resume()),
    },
    preferences,
  );
  const connection: Connection = new Connection(
    { open: openSocket, updates, pause, signIn, reload: () => location.reload() },
    {
      state: (state) => {
        if (state.name === 'open') screen.forgetCongestion();
        bar.state(state);
      },
      output: (bytes) => screen.write(bytes),
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
  matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => screen.apply(read(store)));

  // Signing out closes the terminal as one whose session is over, and that would sign in again before the answer is here.
  document.querySelector('form[action="/logout"]')?.addEventListener('submit', () => connection.stop());

  await screen.open();
  connection.resize(screen.size);
  connection.start();
}

export {};
