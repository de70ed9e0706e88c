// Server-sent events of /api/workspace/events, from bytes to objects. `fetch` and not EventSource, which hides the status code.

export interface Step {
  id: string;
  title: string;
  state: 'pending' | 'active' | 'done' | 'failed';
  detail: string;
  /** When it was done (RFC 3339). */
  at?: string;
}

/** The fields of the gateway's view of a Workspace that the pages use. */
export interface View {
  phase: string;
  /** Why it is as it is, in one word of the API, such as `ErrImagePull`. */
  reason: string;
  message: string;
  /** Why the pod is being stopped, or was; empty when it is not. */
  stopReason: string;
  remediationHint: string;
  ttydReady: boolean;
  /** What of the pod is out of date; empty when nothing is. */
  updatePending: string;
  /** When it stops, if nobody uses it until then (RFC 3339). */
  stopsAt?: string;
  steps: Step[];
}

export type Update =
  | { kind: 'workspace'; view: View }
  /** The Workspace was deleted. */
  | { kind: 'gone' }
  /** The session is over. */
  | { kind: 'signed-out' }
  /** The stream ended; ask again, not before `after` milliseconds when the gateway said so. */
  | { kind: 'ended'; after?: number };

const PATH = '/api/workspace/events';

/** The gateway says something every 15 seconds. A stream that is silent for longer is dead, whatever the browser believes. */
const SILENT_AFTER = 40_000;

/** Every update until the stream ends. The last one is always `gone`, `signed-out` or `ended`, unless `signal` ended it. */
export async function* updates(outer: AbortSignal): AsyncGenerator<Update> {
  const silence = new AbortController();
  let watching = setTimeout(() => silence.abort(), SILENT_AFTER);
  const heard = () => {
    clearTimeout(watching);
    watching = setTimeout(() => silence.abort(), SILENT_AFTER);
  };
  const signal = AbortSignal.any([outer, silence.signal]);
  try {
    const response = await fetch(PATH, { signal, headers: { accept: 'text/event-stream' }, cache: 'no-store' });
    if (response.status === 401) {
      yield { kind: 'signed-out' };
      return;
    }
    if (response.ok && response.body) {
      for await (const { event, data } of parse(response.body, heard)) {
        if (event === 'workspace') yield { kind: 'workspace', view: JSON.parse(data) as View };
        if (event === 'gone') {
          yield { kind: 'gone' };
          return;
        }
      }
    }
    const seconds = Number(response.headers.get('retry-after'));
    yield seconds > 0 ? { kind: 'ended', after: seconds * 1000 } : { kind: 'ended' };
  } catch {
    // The network, or a broken event: both mend by asking again.
    if (!outer.aborted) yield { kind: 'ended' };
  } finally {
    clearTimeout(watching);
  }
}

/**
 * One stream for all that listen: browsers open few connections to one site. Who joins wants to know how it is now, and a stream that
 * is there may be dead without a word, so joining begins it anew; those that listened already hear nothing of that.
 */
export class Feed {
  private readonly listeners = new Set<(update: Update) => void>();
  private stream = new AbortController();

  constructor(private readonly open: (signal: AbortSignal) => AsyncIterable<Update>) {}

  /** As {@link updates}. */
  async *updates(signal: AbortSignal): AsyncGenerator<Update> {
    const told: Update[] = [];
    let wake: () => void = () => undefined;
    const hear = (update: Update) => {
      told.push(update);
      wake();
    };
    const leave = () => wake();
    signal.addEventListener('abort', leave);
    this.listeners.add(hear);
    if (!signal.aborted) void this.begin();
    try {
      while (!signal.aborted) {
        const update = told.shift();
        if (update === undefined) await new Promise<void>((resolve) => (wake = resolve));
        else yield update;
        if (update && update.kind !== 'workspace') return;
      }
    } finally {
      signal.removeEventListener('abort', leave);
      this.listeners.delete(hear);
      if (this.listeners.size === 0) this.stream.abort();
    }
  }

  private async begin(): Promise<void> {
    this.stream.abort();
    const { signal } = (this.stream = new AbortController());
    for await (const update of this.open(signal)) {
      if (signal.aborted) return;
      for (const hear of [...this.listeners]) hear(update);
    }
  }
}

/** Events of a stream (HTML Standard, section 9.2.6), of which the gateway uses `event` and one line of `data`. */
export async function* parse(body: ReadableStream<Uint8Array>, heard: () => void = () => undefined): AsyncGenerator<{ event: string; data: string }> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        const fields = new Map(block.split('\n').map((line) => cut(line)));
        const data = fields.get('data');
        if (data !== undefined) yield { event: fields.get('event') ?? 'message', data };
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function cut(line: string): [string, string] {
  const colon = line.indexOf(':');
  return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')];
}
