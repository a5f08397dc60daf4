// SPDX-License-Identifier: GPL-2.0-or-later
// A link between a mount and its server over which everything takes a while, in order, both ways. What happens on one
// side while a message is on its way is a race that comes out the same way every time.

import { connect, createServer, type Server, type Socket } from 'node:net';

export class SlowLink {
  /** Milliseconds that whatever is sent from now on takes, one way. */
  delayMs = 0;
  readonly #server: Server;
  readonly #sockets: Set<Socket> = new Set();

  private constructor(upstream: string) {
    this.#server = createServer((near) => {
      const far = connect(upstream);
      this.#carry(near, far);
      this.#carry(far, near);
    });
  }

  /** Starts a link from the unix socket `path`, which it makes, to the one at `upstream`. */
  static start(path: string, upstream: string): Promise<SlowLink> {
    const link = new SlowLink(upstream);
    return new Promise((resolve, reject) => {
      link.#server.once('error', reject);
      link.#server.listen(path, () => resolve(link));
    });
  }

  #carry(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    /** What is under way, in order: timers of different lengths would not keep it. */
    const queue: { due: number; what: () => void }[] = [];
    const next = (): void => {
      const first = queue[0];
      if (first === undefined) return;
      const wait = first.due - performance.now();
      if (wait > 0) {
        setTimeout(next, Math.ceil(wait));
        return;
      }
      queue.shift();
      first.what();
      next();
    };
    const later = (what: () => void): void => {
      queue.push({ due: performance.now() + this.delayMs, what });
      if (queue.length === 1) next();
    };
    from.on('data', (chunk: Buffer) => later(() => to.write(chunk)));
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      later(() => to.end());
    });
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
