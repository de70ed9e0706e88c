// A wire between the browser and the gateway that can be cut: a TCP proxy on a loopback address.
import { connect, createServer } from 'node:net';

export class Wire {
  #pairs = new Set();
  #server;
  #mode = 'pass';

  static async to(host, port) {
    const wire = new Wire();
    wire.#server = createServer((near) => wire.#join(near, host, port));
    await new Promise((resolve) => wire.#server.listen(0, '127.0.0.1', resolve));
    wire.port = wire.#server.address().port;
    return wire;
  }

  #join(near, host, port) {
    if (this.#mode === 'refuse') return near.resetAndDestroy();
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
