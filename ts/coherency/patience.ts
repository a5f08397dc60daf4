// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations that wait patiently (grant_table.ts), by session and by what they want, and those of which a part has
// become free. They only read. Pure.

import { assert } from '../util/assert.ts';
import { PATIENT_MAX } from '../util/limits.ts';
import type { TreeRange } from '../util/range.ts';
import { Mode } from '../wire/message.ts';
import type { Operation } from './operation.ts';
import { Waiters } from './waiters.ts';

const NONE: ReadonlySet<Operation> = new Set();

export class Patience {
  readonly #waiters = new Waiters<Operation>();
  /** By session, the oldest first. */
  readonly #sessions = new Map<number, Set<Operation>>();
  readonly #candidates = new Set<Operation>();

  get size(): number {
    return this.#waiters.size;
  }

  /** The operations of a session, the oldest first; those that are visited may be removed. */
  ofSession(session: number): ReadonlySet<Operation> {
    return this.#sessions.get(session) ?? NONE;
  }

  /** The operation of a session that must end before there may be one more; undefined if none must. */
  excess(session: number): Operation | undefined {
    const own = this.ofSession(session);
    return own.size < PATIENT_MAX ? undefined : own.values().next().value;
  }

  /** Adds an operation, to be tried at once; its order must be the highest so far. */
  add(operation: Operation): void {
    const own = this.#sessions.get(operation.session) ?? new Set();
    this.#sessions.set(operation.session, own.add(operation));
    this.#waiters.add(operation);
    this.#candidates.add(operation);
  }

  remove(operation: Operation): void {
    const own = this.#sessions.get(operation.session);
    own?.delete(operation);
    if (own?.size === 0) this.#sessions.delete(operation.session);
    this.#waiters.remove(operation);
    this.#candidates.delete(operation);
  }

  /** Keys of the range may have become free. @param waiters - those who go first. */
  collect(range: TreeRange, waiters: Waiters<Operation>): void {
    if (this.size === 0) return;
    // Where somebody waits to write, they are looked at when that one is served.
    waiters.forEachUncontested(range, Mode.read, (piece) => this.#waiters.collect(piece, this.#candidates));
  }

  /** The operations to be tried; none of them is a candidate any more. */
  takeCandidates(): Operation[] {
    const taken = [...this.#candidates];
    this.#candidates.clear();
    return taken;
  }

  /** Checks the invariants; for tests and simulations. */
  verify(): void {
    this.#waiters.verify();
    let count = 0;
    for (const own of this.#sessions.values()) {
      assert(own.size > 0 && own.size <= PATIENT_MAX, 'patience is bounded');
      for (const operation of own) assert(this.#waiters.has(operation), 'who is patient waits');
      count += own.size;
    }
    assert(count === this.size, 'who waits patiently is known by session');
  }
}
