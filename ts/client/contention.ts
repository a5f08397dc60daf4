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
// - What was used each time after it had come back is wanted again as soon as it is given away (`giver.ts`): patiently, so
//   that it comes when whoever changes it gives it back by itself.
//
// An inode that was left alone for a while is asked for widely again, and kept by the kernel again.

import type { Clock } from '../util/clock.ts';
import {
  CONTENDED_INODES_MAX,
  CONTENDED_MS,
  FOLLOWED_MIN,
  IN_USE_MS,
  RETURNS_MAX,
  RETURNS_MIN,
} from './limits.ts';

interface Contended {
  untilMs: number;
  /** Only single keys of it are asked for. */
  isLarge: boolean;
  /** When an operation needed something of it last, and for writing. */
  usedMs: number;
  wroteMs: number;
  /** Changes since it was last revoked or given early. */
  changes: number;
  /** How often in a row it was revoked for a reader after a single change. */
  followed: number;
  /** Whether it was used since it was revoked last, and how often it was of late; each time that it was not counts against it. */
  isUsed: boolean;
  returns: number;
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

  /** A part of an inode is revoked. @param forReading - it may still be read here. */
  note(node: number, isLarge: boolean, forReading: boolean): void {
    if (this.#inodes.size >= CONTENDED_INODES_MAX) this.#inodes.clear();
    const untilMs = this.#clock.nowMs() + CONTENDED_MS;
    this.#untilMs = untilMs;
    const last = this.#inodes.get(node);
    if (last === undefined) {
      const never = -Infinity;
      const counts = { changes: 0, followed: 0, isUsed: false, returns: 0 };
      this.#inodes.set(node, { untilMs, isLarge, usedMs: never, wroteMs: never, ...counts });
      return;
    }
    last.untilMs = untilMs;
    last.isLarge = isLarge;
    if (!forReading || last.changes > 1) last.followed = 0;
    else if (last.changes === 1) last.followed++;
    last.changes = 0;
  }

  /**
   * A revoke that takes something of the inode altogether is answered.
   *
   * @returns whether it is likely to be looked at here again, and not changed.
   */
  gone(node: number): boolean {
    const found = this.#find(node);
    if (found === undefined) return false;
    found.returns = found.isUsed ? Math.min(found.returns + 1, RETURNS_MAX) : Math.max(0, found.returns - 1);
    found.isUsed = false;
    return found.returns >= RETURNS_MIN && this.#clock.nowMs() - found.wroteMs >= CONTENDED_MS;
  }

  /** Something of the inode was changed. @returns whether a reader follows each change. */
  changed(node: number): boolean {
    if (this.#inodes.size === 0) return false;
    const found = this.#find(node);
    if (found === undefined) return false;
    found.changes++;
    return this.isFollowed(node);
  }

  /** Whether a reader follows each change of the inode. */
  isFollowed(node: number): boolean {
    const found = this.#find(node);
    return found !== undefined && found.followed >= FOLLOWED_MIN;
  }

  /** The inode was given to readers early. */
  givenEarly(node: number): void {
    const found = this.#find(node);
    if (found !== undefined) found.changes = 0;
  }

  /** An operation needs something of the inode. */
  used(node: number, forWriting: boolean): void {
    if (this.#inodes.size === 0) return;
    const found = this.#inodes.get(node);
    if (found === undefined) return;
    found.usedMs = this.#clock.nowMs();
    found.isUsed = true;
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
