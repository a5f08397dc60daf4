// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations that wait for grants, found by the keys that they want. They are served in the order in which they
// came: an operation never gets a key that an earlier one wants in a conflicting mode, so that nobody starves. Pure.

import type { Key, TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import type { GrantRange, Mode } from '../wire/message.ts';
import { modesConflict } from './mode.ts';

/** What the index needs to know of an operation. */
export interface WaitingOperation {
  /** Place in the order of arrival. */
  readonly order: number;
  readonly session: number;
  /** Sorted and disjoint. */
  readonly wants: readonly GrantRange[];
}

interface Waiter<T> {
  readonly operation: T;
  readonly mode: Mode;
}

/** No session has this number. */
const SEVERAL = -1;

function sameWaiters<T>(a: readonly Waiter<T>[], b: readonly Waiter<T>[]): boolean {
  return a.length === b.length && a.every((waiter, at) => waiter === b[at]);
}

export class Waiters<T extends WaitingOperation> {
  /** Per range the operations that want it, in order of arrival. */
  readonly #map = new RangeForest<readonly Waiter<T>[]>(sameWaiters);
  readonly #operations = new Set<T>();

  get size(): number {
    return this.#operations.size;
  }

  has(operation: T): boolean {
    return this.#operations.has(operation);
  }

  /** Adds an operation; its order must be the highest so far. */
  add(operation: T): void {
    this.#operations.add(operation);
    for (const want of operation.wants) {
      const waiter: Waiter<T> = { operation, mode: want.mode };
      this.#map.update(want, (old) => (old === undefined ? [waiter] : [...old, waiter]));
    }
  }

  remove(operation: T): void {
    if (!this.#operations.delete(operation)) return;
    for (const want of operation.wants) {
      this.#map.update(want, (old) => {
        const left = old?.filter((waiter) => waiter.operation !== operation) ?? [];
        return left.length === 0 ? undefined : left;
      });
    }
  }

  /** Whether an operation of another session that came before `order` wants a key of `range` in a conflicting mode. */
  conflictBefore(order: number, session: number, range: TreeRange, mode: Mode): boolean {
    return !this.#map.forEachIn(range, (_start, _end, waiters) => {
      for (const { operation, mode: wanted } of waiters) {
        if (operation.order >= order) return true;
        if (operation.session !== session && modesConflict(wanted, mode)) return false;
      }
      return true;
    });
  }

  /** The first key of `range` that an operation of another session wants in a conflicting mode, or the range's end. */
  firstConflict(session: number, range: TreeRange, mode: Mode): Key {
    let first = range.end;
    this.#map.forEachIn(range, (start, _end, waiters) => {
      const conflict = waiters.some(
        (waiter) => waiter.operation.session !== session && modesConflict(waiter.mode, mode),
      );
      if (conflict) first = start;
      return !conflict;
    });
    return first;
  }

  /** Visits the parts of `range` that no operation wants in a mode that conflicts with `mode`. */
  forEachUncontested(range: TreeRange, mode: Mode, visit: (piece: TreeRange) => void): void {
    this.#map.forEachPiece(range, (start, end, waiters) => {
      const isContested = waiters?.some((waiter) => modesConflict(waiter.mode, mode)) === true;
      if (!isContested) visit({ tree: range.tree, start, end });
    });
  }

  /**
   * Puts the operations that want keys of `range` and can be next into `found`: of those that want one key the first, and
   * those behind it up to one that must wait for them. With a thousand that want one key the rest need no look.
   */
  collect(range: TreeRange, found: Set<T>): void {
    this.#map.forEachIn(range, (_start, _end, waiters) => {
      /** Who wants it in each mode so far: a session, or SEVERAL. */
      const before = new Map<Mode, number>();
      for (const { operation, mode } of waiters) {
        const { session } = operation;
        for (const [wanted, who] of before) {
          if (who !== session && modesConflict(wanted, mode)) return true;
        }
        before.set(mode, (before.get(mode) ?? session) === session ? session : SEVERAL);
        found.add(operation);
      }
      return true;
    });
  }

  /** The operations of one session. */
  ofSession(session: number): T[] {
    return [...this.#operations].filter((operation) => operation.session === session);
  }

  /** The first `count` operations in order of arrival. */
  inOrder(count: number): T[] {
    return [...this.#operations].sort((a, b) => a.order - b.order).slice(0, count);
  }

  verify(): void {
    this.#map.verify();
  }
}
