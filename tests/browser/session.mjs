// A user in a browser of their own: what they do on the pages, and what the pages must never do.
import assert from 'node:assert/strict';

const STARTED = 240_000;
const ANSWERED = 60_000;

/** Waits until what is asked is true. */
export async function eventually(asked, what, timeout = 30_000) {
  for (const deadline = Date.now() + timeout; ; ) {
    if (await asked()) return;
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export class User {
  constructor(context, url) {
    this.context = context;
    this.url = url;
    this.steps = new Set();
    this.violations = [];
    this.hosts = new Set();
  }

  static async open(browser, url, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1100, height: 620 }, colorScheme: 'dark', ...options });
    return User.in(context, url);
  }

  /** In a context that is there already, and maybe a page. */
  static async in(context, url, page) {
    const user = new User(context, url);
    context.setDefaultTimeout(ANSWERED);
    // The screen is then text in the page, as screen readers need it.
    await context.addInitScript(() => {
      if (/^https?:$/.test(location.protocol)) localStorage.setItem('devplane.screenReader', 'true');
    });
    await context.exposeFunction('tellViolation', (text) => user.violations.push(text));
    await context.addInitScript(() =>
      addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => globalThis.tellViolation(`${violatedDirective} ${blockedURI}`)),
    );
    context.on('request', (request) => user.hosts.add(new URL(request.url()).hostname));
    context.on('weberror', (error) => user.violations.push(error.error().stack ?? String(error.error())));
    user.page = page ?? (await context.newPage());
    user.page.on('websocket', (socket) => user.followKeys(socket));
    return user;
  }

  /** Follows what is typed to where the page knows that it has arrived: the first heartbeat behind it is answered. */
  followKeys(socket) {
    const [input, heartbeat] = ['0', 'h'].map((command) => command.charCodeAt(0));
    const serial = (bytes) => Number(bytes.subarray(1));
    socket.on('framesent', ({ payload }) => {
      if (payload[0] === input) this.arrivesWith = Infinity;
      else if (payload[0] === heartbeat && this.arrivesWith === Infinity) this.arrivesWith = serial(payload);
    });
    socket.on('framereceived', ({ payload }) => {
      if (payload[0] === heartbeat && serial(payload) >= this.arrivesWith) this.arrivesWith = undefined;
    });
    socket.on('close', () => (this.arrivesWith = undefined));
  }

  /** Waits until all has arrived that was typed. */
  arrived() {
    return eventually(() => this.arrivesWith === undefined, 'what was typed does not arrive');
  }

  /** From the gateway's address through the provider's form and back. */
  async signIn(login) {
    await this.page.goto(this.url);
    await this.fillIn(login);
  }

  /** The provider's form. */
  async fillIn(login) {
    await this.page.getByLabel('Login').fill(login);
    await this.page.getByLabel('Password').fill('any');
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.waitForURL(`${this.url}/`);
  }

  /** Waits for the terminal, and keeps what the starting page told meanwhile as `step:state`. */
  async waitForTerminal() {
    const deadline = Date.now() + STARTED;
    for (;;) {
      const seen = await this.page
        .evaluate(() => ({
          state: document.body.dataset.state,
          steps: [...document.querySelectorAll('.steps li')].map(({ id, dataset }) => `${id.replace('step-', '')}:${dataset.state}`),
          text: document.body.innerText,
        }))
        .catch(() => undefined); // The page was just being left.
      for (const step of seen?.steps ?? []) this.steps.add(step);
      if (seen?.state === 'open') break;
      assert.ok(Date.now() < deadline, `no terminal; the page says:\n${seen?.text}`);
      await this.page.waitForTimeout(100);
    }
    await this.page.locator('.xterm-helper-textarea').focus();
  }

  async state(name, timeout = ANSWERED) {
    await this.page.waitForFunction((expected) => document.body.dataset.state === expected, name, { timeout });
  }

  /** Keeps when the page says what of its connection, in milliseconds of the computer's clock, as it is drawn next. */
  async watchStates() {
    await this.page.evaluate(() => {
      globalThis.states = [];
      new MutationObserver(() => {
        const name = document.body.dataset.state;
        requestAnimationFrame(() => globalThis.states.push({ name, at: performance.timeOrigin + performance.now() }));
      }).observe(document.body, { attributeFilter: ['data-state'] });
    });
  }

  /** The states since the last time that they were asked for. */
  statesSeen() {
    return this.page.evaluate(() => globalThis.states.splice(0));
  }

  /**
   * How late a timer of the page is at the worst, in milliseconds, over some seconds of it. A computer that is busy with something else makes it
   * late as well: what the page does itself shows each of three times.
   */
  async worstTimer(milliseconds) {
    const worst = [];
    for (let turn = 0; turn < 3; turn++) worst.push(await this.worstTimerOnce(milliseconds));
    return Math.min(...worst);
  }

  worstTimerOnce(milliseconds) {
    return this.page.evaluate(async (milliseconds) => {
      let worst = 0;
      for (const end = performance.now() + milliseconds; performance.now() < end; ) {
        const began = performance.now();
        await new Promise((resolve) => setTimeout(resolve, 20));
        worst = Math.max(worst, performance.now() - began - 20);
      }
      return worst;
    }, milliseconds);
  }

  /** The terminal has the keyboard. */
  focus() {
    return this.page.locator('.xterm-helper-textarea').focus();
  }

  screen() {
    return this.page.evaluate(() => [...document.querySelectorAll('.xterm-accessibility-tree > *')].map((line) => line.textContent.trimEnd()).join('\n'));
  }

  async type(line) {
    await this.page.keyboard.type(line);
    await this.page.keyboard.press('Enter');
  }

  /** Waits until the screen matches, and gives the match. */
  async see(pattern, timeout = ANSWERED) {
    const deadline = Date.now() + timeout;
    for (;;) {
      const screen = await this.screen();
      const match = pattern.exec(screen);
      if (match) return match;
      assert.ok(Date.now() < deadline, `${pattern} is not on the screen:\n${screen}`);
      await this.page.waitForTimeout(100);
    }
  }

  /** What the page's own script would get. */
  fetch(path, options = {}) {
    return this.page.evaluate(
      async ([path, options]) => {
        const answer = await fetch(path, options);
        return { status: answer.status, body: await answer.text() };
      },
      [path, options],
    );
  }
}
