// The starting page: the steps of a start as the gateway tells them, until there is a terminal.

import { delay, pause } from './backoff';
import { updates, type Step, type View } from './events';
import { elapsed } from './text';
import { wish } from './wishes';

/** For the terminal page to find the workspace ready at another replica too. */
const BEFORE_OPENING = 200;
const never = new AbortController().signal;
const opened = Date.now();
const title = document.title;
/** Since when the step that goes on does, by its id. */
const began = new Map<string, number>();

function text(id: string, value: string): void {
  const element = document.getElementById(id);
  if (!element) return;
  element.textContent = value;
  element.hidden = value === '';
}

function reveal(id: string, isShown: boolean): void {
  const element = document.getElementById(id);
  if (element) element.hidden = !isShown;
}

function show(view: View): void {
  const hasFailed = view.phase === 'Failed';
  document.body.dataset.phase = view.phase;
  document.body.classList.toggle('failed', hasFailed);
  text('title', hasFailed ? 'Your workspace did not start' : 'Your workspace is starting');
  document.title = hasFailed ? 'Not started – DevPlane' : title.replace('Not started', 'Starting');
  text('message', view.message);
  text('hint', view.remediationHint);
  text('reason', hasFailed ? view.reason : '');
  reveal('retry', hasFailed);
  reveal('ask', hasFailed);
  reveal('renew', false);
  view.steps.forEach(showStep);
  showTimes();
}

function showStep({ id, state, detail, at }: Step): void {
  const element = document.getElementById(`step-${id}`);
  if (!element) return;
  element.dataset.state = state;
  element.querySelector('.state')!.textContent = state;
  element.querySelector('.detail')!.textContent = detail;
  element.dataset.at = at ?? '';
  if (state === 'active' && !began.has(id)) began.set(id, Date.now());
  if (state === 'pending') began.delete(id);
}

/** What is done shows when it was; what goes on, for how long it has. */
function showTimes(): void {
  for (const element of document.querySelectorAll<HTMLElement>('.steps li')) {
    const { state, at } = element.dataset;
    const since = began.get(element.id.replace('step-', '')) ?? opened;
    const time = state === 'done' && at ? new Date(at).toLocaleTimeString() : state === 'active' ? elapsed(Date.now() - since) : '';
    element.querySelector('.time')!.textContent = time;
  }
}

document.getElementById('retry')?.addEventListener('click', async () => {
  text('message', 'Trying again…');
  const refused = await wish('restart');
  if (refused) text('message', refused);
});
document.getElementById('renew')?.addEventListener('click', () => location.reload());
setInterval(showTimes, 1000);

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
        text('title', 'Your workspace was deleted');
        text('message', 'You can make a new one.');
        text('hint', '');
        text('reason', '');
        reveal('retry', false);
        reveal('renew', true);
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
