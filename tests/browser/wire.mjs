// A wire between the browser and the gateway that can be cut: a TCP proxy on a loopback address.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Wire {
  #pairs = new Set();
  #server;
  #mode = 'pass';
  /** How many terminals were answered with 502. */
  refused = 0;

  static async to(host, port) {
    const wire = new Wire();
    wire.#server = createServer((near) => wire.#join(near, host, port));
    await new Promise((resolve) => wire.#server.listen(0, '127.0.0.1', resolve));
    wire.port = wire.#server.address().port;
    return wire;
  }

  async #join(near, host, port) {
    // A browser may go away at any time, also before anything else listens for it.
    near.on('error', () => near.destroy());
    if (this.#mode === 'refuse') return near.resetAndDestroy();
    if (this.#mode === 'bad-gateway') {
      const [first] = await once(near, 'data').catch(() => []);
      if (!first) return;
      near.unshift(first);
      if (/^GET \/ws[?]/.test(first.toString('latin1'))) {
        this.refused += 1;
        return near.end('HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 11\r\nconnection: close\r\n\r\nbad gateway');
      }
    }
    const far = connect({ host, port });
    const pair = { near, far, held: [], frozen: this.#mode === 'freeze' };
    this.#pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', (bytes) => {
        if (pair.frozen) pair.held.push([to, bytes]);
        else if (!to.write(bytes)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        this.#pairs.delete(pair);
      });
    }
  }

  /** Nothing passes any more, and nobody is told: what is sent is held back. */
  freeze() {
    this.#mode = 'freeze';
    for (const pair of this.#pairs) pair.frozen = true;
  }

  /** What was held back passes. */
  thaw() {
    this.#mode = 'pass';
    for (const pair of this.#pairs) {
      pair.frozen = false;
      for (const [to, bytes] of pair.held.splice(0)) to.write(bytes);
    }
  }

  /** New connections pass; what was frozen stays so, and what was held back is lost. */
  renew() {
    this.#mode = 'pass';
    for (const pair of this.#pairs) pair.held.length = 0;
  }

  /** Every connection is reset, and no new one is taken. */
  cut() {
    this.#mode = 'refuse';
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  }

  /** Every connection is reset. New ones pass, but for terminals: to those a proxy on the way says that there is nobody behind it. */
  answerBadGateway() {
    this.cut();
    this.#mode = 'bad-gateway';
  }

  mend() {
    this.#mode = 'pass';
  }

  close() {
    this.#server.close();
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }
}
