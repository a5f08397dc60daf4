// SPDX-License-Identifier: GPL-2.0-or-later
//
// What sessions hold besides ranges: runs of inode numbers and credits of space. Pure; ts/server asks the volume for
// the facts (highest number in use, bytes available) and hands them in.
//
// INVARIANT: no inode number is given to two sessions, nor one that was in use when it was given, nor one by which another
// session may remember an inode that is gone. A session's credit is
// what the volume promised for it, less what its applied batches cost; the volume counts the sum in the same way.

import { INODE_GIVEN_MAX, INODE_RUN_MAX, SPACE_KEPT_BYTES } from '../util/limits.ts';
import type { InodeRun } from '../wire/message.ts';

interface OwnedRun {
  session: number;
  first: number;
  end: number;
  /** Another session was granted keys of it: it, and its kernel, may remember inodes that are gone by now. */
  isShared: boolean;
}

/** Runs of free inode numbers, each tree from its high-water mark upward. */
export class InodeRuns {
  readonly #next = new Map<number, number>();
  readonly #runs = new Map<number, OwnedRun[]>();
  /** Below it no number is given again. */
  readonly #floor = new Map<number, number>();

  /** Whether the tree's mark is known; `open` sets it. */
  knows(tree: number): boolean {
    return this.#next.has(tree);
  }

  /** @param highest - the highest inode number in use */
  open(tree: number, highest: number): void {
    if (!this.#next.has(tree)) this.#next.set(tree, highest + 1);
  }

  /** The number at which the next run begins: nothing from here on is in use or given. */
  next(tree: number): number {
    return this.#next.get(tree) ?? 0;
  }

  /** Gives a run; null when the numbers are used up. */
  take(session: number, tree: number, count: number): InodeRun | null {
    const first = this.next(tree);
    const end = Math.min(first + Math.min(count, INODE_RUN_MAX), INODE_GIVEN_MAX + 1);
    if (end <= first) return null;
    this.#next.set(tree, end);
    const runs = this.#runs.get(tree) ?? [];
    this.#runs.set(tree, runs);
    const last = runs.at(-1);
    const joins = last !== undefined && last.session === session && last.end === first && !last.isShared;
    if (joins) last.end = end;
    else runs.push({ session, first, end, isShared: false });
    return { tree, first, count: end - first };
  }

  /** A session was granted keys of the inodes `[first, end)`. */
  granted(session: number, tree: number, first: number, end: number): void {
    for (const run of this.#runs.get(tree) ?? []) {
      if (run.session !== session && run.first < end && first < run.end) run.isShared = true;
    }
  }

  /** Trees in which the session has runs. */
  treesOf(session: number): number[] {
    const trees: number[] = [];
    for (const [tree, runs] of this.#runs) {
      if (runs.some((run) => run.session === session)) trees.push(tree);
    }
    return trees;
  }

  /**
   * The session is over: what lies unused above everything else can be given again.
   *
   * @param highest - the highest inode number in use in the tree, its last batches included
   */
  giveBack(session: number, tree: number, highest: number): void {
    let next = Math.max(highest + 1, this.#floor.get(tree) ?? 0);
    const left: OwnedRun[] = [];
    for (const run of this.#runs.get(tree) ?? []) {
      if (run.session !== session) left.push(run);
      else if (run.isShared) next = Math.max(next, run.end);
    }
    this.#runs.set(tree, left);
    this.#floor.set(tree, next);
    for (const run of left) next = Math.max(next, run.end);
    this.#next.set(tree, Math.min(next, this.next(tree)));
  }
}

/** Credits of space, in bytes. */
export class SpaceCredits {
  readonly #credits = new Map<number, number>();
  #total = 0;

  /** Bytes that all sessions hold together. */
  get total(): number {
    return this.#total;
  }

  of(session: number): number {
    return this.#credits.get(session) ?? 0;
  }

  /** What could be promised beyond the credits that are out. @param available - bytes free for data and items */
  promisable(available: number): number {
    return Math.max(0, Math.floor(available - SPACE_KEPT_BYTES - this.#total));
  }

  /** The volume promised so much for the session. */
  add(session: number, given: number): void {
    this.#set(session, this.of(session) + given);
  }

  /** A batch of this cost was applied: what it used is not promised any more. */
  spend(session: number, cost: number): void {
    this.#set(session, Math.max(0, this.of(session) - cost));
  }

  /** @returns what the session had not used */
  endSession(session: number): number {
    const left = this.of(session);
    this.#set(session, 0);
    this.#credits.delete(session);
    return left;
  }

  #set(session: number, credit: number): void {
    this.#total += credit - this.of(session);
    this.#credits.set(session, credit);
  }
}
