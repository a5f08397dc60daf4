// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which inodes another client wants too: those whose keys were revoked a moment ago. What is known about them decides
// how much of them is asked for again, and whether the kernel may keep it:
//
// - Of a directory, or a large file, only the very keys that an operation needs are asked for, so that two clients
//   that work in it take no more from each other than they use. Other inodes are small and come whole, with their data;
//   for writing if they were written here a moment ago, since a program that looks at them then will write them again.
// - What the kernel is told of them has timeouts of zero: the next revoke then has nothing to invalidate, and nothing
//   for which a notification would have to wait.
//
// - What was used a moment ago is given back a little later (`giver.ts`): the call that runs, and those that follow it
//   closely, get done before the grants travel on. Handing over takes longer than many a call.
//
// An inode that was left alone for a while is asked for widely again, and kept by the kernel again.

import type { Clock } from '../util/clock.ts';
import { CONTENDED_INODES_MAX, CONTENDED_MS, IN_USE_MS } from './limits.ts';

interface Contended {
  untilMs: number;
  /** Only single keys of it are asked for. */
  readonly isLarge: boolean;
  /** When an operation needed something of it last, and for writing. */
  usedMs: number;
  wroteMs: number;
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
    const { usedMs, wroteMs } = this.#inodes.get(node) ?? { usedMs: -Infinity, wroteMs: -Infinity };
    this.#inodes.set(node, { untilMs: this.#untilMs, isLarge, usedMs, wroteMs });
  }

  /** An operation needs something of the inode. */
  used(node: number, forWriting: boolean): void {
    if (this.#inodes.size === 0) return;
    const found = this.#inodes.get(node);
    if (found === undefined) return;
    found.usedMs = this.#clock.nowMs();
    if (forWriting) found.wroteMs = found.usedMs;
  }

  /** Whether the inode is contended, small, and was written here a moment ago. */
  isWrittenHere(node: number): boolean {
    const found = this.#find(node);
    return found !== undefined && !found.isLarge && this.#clock.nowMs() - found.wroteMs < CONTENDED_MS;
  }

  /** Whether the inode is contended, and in use at this moment. */
  isInUse(node: number): boolean {
    const found = this.#find(node);
    return found !== undefined && this.#clock.nowMs() - found.usedMs < IN_USE_MS;
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
