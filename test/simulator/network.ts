// SPDX-License-Identifier: GPL-2.0-or-later
//
// A simulated connection: what one end sends arrives at the other in order, after a delay of its own; connections do
// not keep each other's order. A connection can be slow, fall silent (what is sent is held, perhaps for ever), and
// break (what is on its way is lost).

import { Buffer } from 'node:buffer';
import type { Prng } from '../../ts/util/prng.ts';
import type { Transport, TransportHandlers } from '../../ts/wire/transport.ts';
import type { VirtualTime } from './virtual_time.ts';

/** Bytes arrive at least so often while there are any on their way, milliseconds. */
const PIECE_MS = 250;

export interface LinkOptions {
  readonly time: VirtualTime;
  readonly random: Prng;
  /** Least delay one way, and what chance adds at most, milliseconds. */
  readonly latencyMs: number;
  readonly jitterMs: number;
  /** Bytes a millisecond. */
  readonly bandwidth: number;
  /** Sees every frame that leaves (`false`) or arrives at the server or client; may drop one by saying false. */
  readonly onFrame: (fromServer: boolean, isArrival: boolean, frame: Buffer) => boolean;
}

export class Link {
  readonly client: SimulatedTransport;
  readonly server: SimulatedTransport;
  readonly options: LinkOptions;
  /** Nothing arrives before this moment. */
  heldUntilMs = 0;
  isBroken = false;

  constructor(options: LinkOptions) {
    this.options = options;
    this.client = new SimulatedTransport(this, false);
    this.server = new SimulatedTransport(this, true);
    this.client.other = this.server;
    this.server.other = this.client;
  }

  /** Bytes on their way in both directions. */
  get backlog(): number {
    return this.client.queuedBytes + this.server.queuedBytes;
  }

  /** Holds everything back for a time; Infinity for good. */
  silence(ms: number): void {
    this.heldUntilMs = Math.max(this.heldUntilMs, this.options.time.nowMs() + ms);
  }

  /** Breaks the connection: the client knows at once, the server after a moment. */
  break(): void {
    if (this.isBroken) return;
    this.isBroken = true;
    this.client.end(new Error('the connection broke'));
    const { time, random, latencyMs } = this.options;
    time.setTimer(latencyMs * (1 + random.below(20)), () =>
      this.server.end(new Error('the connection broke')),
    );
  }
}

export class SimulatedTransport implements Transport {
  readonly peerName: string;
  readonly isLocal = false;
  queuedBytes = 0;
  other!: SimulatedTransport;
  readonly #link: Link;
  readonly #isServer: boolean;
  #handlers: TransportHandlers | null = null;
  #lastMs = 0;
  /** What is on its way, in order. */
  readonly #underWay: (() => void)[] = [];
  #isClosed = false;

  constructor(link: Link, isServer: boolean) {
    this.#link = link;
    this.#isServer = isServer;
    this.peerName = isServer ? 'simulated client' : 'simulated server';
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
  }

  send(buffers: readonly Uint8Array[]): boolean {
    if (this.#isClosed) return true;
    const frame = Buffer.concat(buffers);
    if (!this.#link.options.onFrame(this.#isServer, false, frame)) return true;
    this.queuedBytes += frame.length;
    const most = PIECE_MS * this.#link.options.bandwidth;
    for (let at = 0; at < frame.length; at += most) {
      const piece = frame.subarray(at, at + most);
      const isLast = at + most >= frame.length;
      this.#later(piece.length, at > 0, () => {
        this.queuedBytes -= piece.length;
        this.other.#receive(piece, isLast ? frame : null);
      });
    }
    return true;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#later(0, false, () => this.other.end(null));
    this.#link.options.time.setTimer(0, () => this.end(null));
  }

  destroy(): void {
    this.close();
  }

  /** The stream is over at this end. */
  end(cause: Error | null): void {
    this.#isClosed = true;
    const handlers = this.#handlers;
    this.#handlers = null;
    handlers?.onClose(cause);
    if (handlers !== null && !this.#link.isBroken) this.#later(0, false, () => this.other.end(null));
  }

  /** @param frame - the frame that is complete with this piece */
  #receive(piece: Buffer, frame: Buffer | null): void {
    if (this.#handlers === null) return;
    if (frame !== null) this.#link.options.onFrame(!this.#isServer, true, frame);
    this.#handlers.onData(piece);
  }

  /** Sets a delivery behind all earlier ones of this direction. @param follows - right behind the one before */
  #later(bytes: number, follows: boolean, deliver: () => void): void {
    const { time, random, latencyMs, jitterMs, bandwidth } = this.#link.options;
    const wayMs = follows ? 0 : latencyMs + (jitterMs * random.below(1024)) / 1024;
    const freeMs = Math.max(this.#lastMs, time.nowMs() + wayMs);
    const dueMs = Math.max(freeMs + bytes / bandwidth, this.#link.heldUntilMs);
    this.#lastMs = dueMs;
    if (dueMs === Infinity) return;
    this.#underWay.push(deliver);
    const run = (): void => {
      if (this.#link.isBroken) return;
      // Silence that began meanwhile holds back what was on its way too.
      if (this.#link.heldUntilMs > time.nowMs()) {
        if (this.#link.heldUntilMs < Infinity) time.at(this.#link.heldUntilMs, run);
        return;
      }
      this.#underWay.shift()!();
    };
    time.at(dueMs, run);
  }
}
