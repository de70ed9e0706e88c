// The starting page: the steps of a start as the gateway tells them, until there is a terminal.

import { delay, pause } from './backoff';
import { updates, type Step, type View } from './events';

/** For the terminal page to find the workspace ready at another replica too. */
const BEFORE_OPENING = 200;
const never = new AbortController().signal;

function text(id: string, value: string): void {
  const element = document.getElementById(id);
  if (!element) return;
  element.textContent = value;
  element.hidden = value === '';
}

function show(view: View): void {
  document.body.dataset.phase = view.phase;
  document.body.classList.toggle('failed', view.phase === 'Failed');
  text('message', view.message);
  text('hint', view.remediationHint);
  view.steps.forEach(showStep);
}

function showStep({ id, state, detail }: Step): void {
  const element = document.getElementById(`step-${id}`);
  if (!element) return;
  element.dataset.state = state;
  element.querySelector('.state')!.textContent = state;
  element.querySelector('.detail')!.textContent = detail;
}

for (let attempt = 0; ; ) {
  let wait = 0;
  for await (const update of updates(never)) {
    switch (update.kind) {
      case 'workspace':
        attempt = 0;
        show(update.view);
        if (update.view.ttydReady) {
          await pause(BEFORE_OPENING, never);
          location.reload();
        }
        break;
      case 'gone':
        text('message', 'Your workspace was deleted. Reload this page to make a new one.');
        break;
      case 'signed-out':
        location.assign('/login');
        break;
      case 'ended':
        wait = update.after ?? 0;
    }
  }
  await pause(Math.max(wait, delay(attempt++)), never);
}

export {};
