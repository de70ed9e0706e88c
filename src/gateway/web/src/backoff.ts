// How long to wait before the next try: longer each time, never the same for everyone after a restart of the gateway.

const FIRST = 250;
const LONGEST = 15_000;

/** Milliseconds before try number `attempt`, counted from 0: between half and the whole of a doubled time. */
export function delay(attempt: number, random: () => number = Math.random): number {
  const whole = Math.min(LONGEST, FIRST * 2 ** Math.min(attempt, 16));
  return whole / 2 + (whole / 2) * random();
}

/** Waits; ends early when the browser is online again or the tab is looked at. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      document.removeEventListener('visibilitychange', seen);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const seen = () => {
      if (document.visibilityState === 'visible') done();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener('online', done);
    document.addEventListener('visibilitychange', seen);
    signal.addEventListener('abort', done);
  });
}
