// SPDX-License-Identifier: GPL-2.0-or-later
//
// Two connected transports within the process, for tests and simulations. Every delivery (data, drain, close) is a
// task handed to the scheduler that the caller gives; the order in which it runs the tasks of one direction must be
// the order in which it got them, and everything else is its choice. What is sent is copied, and can be cut into
// pieces as a network would.

import { Buffer } from 'node:buffer';
import { SEND_QUEUE_BYTES_HIGH } from '../util/limits.ts';
import type { Transport, TransportHandlers } from './transport.ts';

/** Runs a delivery later, never at once. */
export type Scheduler = (deliver: () => void) => void;

export interface MemoryPairOptions {
  schedule: Scheduler;
  /** Length of the next piece in bytes, at least 1; without it everything arrives as it was sent. */
  pieceBytes?: () => number;
}

/** Tasks that run when they are told to, in order: a scheduler for tests. */
export class TaskQueue {
  readonly #tasks: (() => void)[] = [];

  readonly schedule: Scheduler = (task) => {
    this.#tasks.push(task);
  };

  get length(): number {
    return this.#tasks.length;
  }

  /** Runs one task. @returns false when there was none */
  step(): boolean {
    const task = this.#tasks.shift();
    if (task === undefined) return false;
    task();
    return true;
  }

  /** Runs tasks until none is left. */
  run(): void {
    while (this.step()) {
      // Tasks add tasks.
    }
  }
}

class MemoryTransport implements Transport {
  readonly peerName: string;
  readonly isLocal = true;
  queuedBytes = 0;
  other: MemoryTransport | null = null;
  readonly #options: MemoryPairOptions;
  #handlers: TransportHandlers | null = null;
  #early: Buffer[] = [];
  #closed = false;
  #over = false;

  constructor(peerName: string, options: MemoryPairOptions) {
    this.peerName = peerName;
    this.#options = options;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
    const early = this.#early;
    this.#early = [];
    for (const chunk of early) this.#options.schedule(() => this.receive(chunk));
  }

  send(buffers: readonly Uint8Array[]): boolean {
    if (this.#closed) return true;
    const whole = Buffer.concat(buffers);
    let at = 0;
    while (at < whole.length) {
      const length = Math.min(this.#options.pieceBytes?.() ?? whole.length, whole.length - at);
      const piece = Buffer.from(whole.subarray(at, at + length));
      at += length;
      this.queuedBytes += length;
      this.#options.schedule(() => this.#delivered(piece));
    }
    this.#over ||= this.queuedBytes > SEND_QUEUE_BYTES_HIGH;
    return !this.#over;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.schedule(() => this.other?.end(null));
    this.#options.schedule(() => this.end(null));
  }

  destroy(): void {
    this.close();
  }

  /** Ends this side. */
  end(cause: Error | null): void {
    this.#closed = true;
    const handlers = this.#handlers;
    this.#handlers = null;
    handlers?.onClose(cause);
    if (handlers !== null) this.#options.schedule(() => this.other?.end(null));
  }

  receive(chunk: Buffer): void {
    if (this.#handlers !== null) this.#handlers.onData(chunk);
    else if (!this.#closed) this.#early.push(chunk);
  }

  #delivered(piece: Buffer): void {
    this.queuedBytes -= piece.length;
    this.other?.receive(piece);
    if (this.#over && this.queuedBytes <= SEND_QUEUE_BYTES_HIGH / 2) {
      this.#over = false;
      this.#handlers?.onDrain();
    }
  }
}

/** Makes two transports whose ends are each other. */
export function memoryPair(options: MemoryPairOptions): [Transport, Transport] {
  const one = new MemoryTransport('memory:1', options);
  const two = new MemoryTransport('memory:2', options);
  one.other = two;
  two.other = one;
  return [one, two];
}
