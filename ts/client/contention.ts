// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which inodes another client wants too: those whose keys were revoked a moment ago. What is known about them decides
// how much of them is asked for again, and whether the kernel may keep it:
//
// - Of a directory, or a large file, only the very keys that an operation needs are asked for, so that two clients
//   that work in it take no more from each other than they use. Other inodes are small and come whole, with their data.
// - What the kernel is told of them has timeouts of zero: the next revoke then has nothing to invalidate, and nothing
//   for which a notification would have to wait.
//
// An inode that was left alone for a while is asked for widely again, and kept by the kernel again.

import type { Clock } from '../util/clock.ts';
import { CONTENDED_INODES_MAX, CONTENDED_MS } from './limits.ts';

interface Contended {
  untilMs: number;
  /** Only single keys of it are asked for. */
  readonly isLarge: boolean;
}

export class Contention {
  readonly #clock: Clock;
  readonly #inodes = new Map<number, Contended>();
  /** When the last revoke is forgotten. */
  #untilMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether anything was revoked a moment ago. */
  get isOn(): boolean {
    return this.#untilMs > 0 && this.#clock.nowMs() < this.#untilMs;
  }

  /** Contended inodes, some of them perhaps not any more. */
  get size(): number {
    return this.#inodes.size;
  }

  /** A part of an inode is revoked. */
  note(node: number, isLarge: boolean): void {
    if (this.#inodes.size >= CONTENDED_INODES_MAX) this.#inodes.clear();
    this.#untilMs = this.#clock.nowMs() + CONTENDED_MS;
    this.#inodes.set(node, { untilMs: this.#untilMs, isLarge });
  }

  has(node: number): boolean {
    return this.#find(node) !== undefined;
  }

  /** Whether the inode is contended and large. */
  isLarge(node: number): boolean {
    return this.#find(node)?.isLarge === true;
  }

  #find(node: number): Contended | undefined {
    if (this.#inodes.size === 0) return undefined;
    const found = this.#inodes.get(node);
    if (found === undefined || this.#clock.nowMs() < found.untilMs) return found;
    this.#inodes.delete(node);
    return undefined;
  }
}
