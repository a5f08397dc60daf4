// SPDX-License-Identifier: GPL-2.0-or-later
// A relay between a mount and its server that counts every frame in both directions.
//
// It is the judge of message counts, so it shares no code with ts/wire: it reads the 24-byte frame header as
// docs/protocol.md describes it, and passes the bytes on unchanged.

import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';

const HEADER_BYTES = 24;
const KIND_OFFSET = 5;
const CONTROL_LENGTH_OFFSET = 12;
const BODY_LENGTH_OFFSET = 16;

/** What went one way. */
export class Flow {
  /** Kind (number in docs/protocol.md) -> frames, requests and replies alike. */
  readonly frames: Map<number, number> = new Map();
  /** All bytes, headers included. */
  bytes = 0;
  #header = Buffer.alloc(HEADER_BYTES);
  #have = 0;
  #skip = 0;

  get total(): number {
    return [...this.frames.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Follows the frame boundaries through `chunk`. */
  see(chunk: Buffer): void {
    this.bytes += chunk.length;
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
        continue;
      }
      const step = Math.min(HEADER_BYTES - this.#have, chunk.length - at);
      chunk.copy(this.#header, this.#have, at, at + step);
      this.#have += step;
      at += step;
      if (this.#have === HEADER_BYTES) this.#count();
    }
  }

  #count(): void {
    if (this.#header.toString('latin1', 0, 4) !== 'CRFS') throw new Error('relay: not a frame');
    const kind = this.#header[KIND_OFFSET]!;
    this.frames.set(kind, (this.frames.get(kind) ?? 0) + 1);
    this.#skip =
      this.#header.readUInt32LE(CONTROL_LENGTH_OFFSET) + this.#header.readUInt32LE(BODY_LENGTH_OFFSET);
    this.#have = 0;
  }
}

export class Relay {
  /** From the mount to the server. */
  up: Flow = new Flow();
  /** From the server to the mount. */
  down: Flow = new Flow();
  readonly #server: Server;
  readonly #sockets: Set<Socket> = new Set();

  private constructor(upstream: NetConnectOpts) {
    this.#server = createServer((near) => this.#join(near, connect(upstream)));
  }

  /** Starts a relay that listens on the unix socket `path`. */
  static start(path: string, upstream: NetConnectOpts): Promise<Relay> {
    const relay = new Relay(upstream);
    return new Promise((resolve, reject) => {
      relay.#server.once('error', reject);
      relay.#server.listen(path, () => resolve(relay));
    });
  }

  #join(near: Socket, far: Socket): void {
    this.#carry(near, far, (chunk) => this.up.see(chunk));
    this.#carry(far, near, (chunk) => this.down.see(chunk));
  }

  #carry(from: Socket, to: Socket, see: (chunk: Buffer) => void): void {
    this.#sockets.add(from);
    from.on('data', (chunk: Buffer) => {
      see(chunk);
      if (!to.write(chunk)) {
        from.pause();
        to.once('drain', () => from.resume());
      }
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      to.end();
    });
  }

  /** Counts of now, by which later ones can be compared. */
  snapshot(): { messages: number; bytes: number } {
    return { messages: this.up.total + this.down.total, bytes: this.up.bytes + this.down.bytes };
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
