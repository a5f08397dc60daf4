// SPDX-License-Identifier: GPL-2.0-or-later
//
// Who holds which keys in which mode: the server's map of all grants, one `HolderSet` a range. The grant table keeps
// it and each session's own `Holder` in step. Pure.
//
// INVARIANT: per key one writer, or any number of readers, or any number of mergers; never two modes at a time.

import { assert } from '../util/assert.ts';
import type { Key, TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { Mode } from '../wire/message.ts';

/** All holders of one range. Values are never changed, only replaced. */
export interface HolderSet {
  readonly mode: Mode;
  /** Numbers of sessions, rising; not empty. */
  readonly sessions: readonly number[];
}

function sameHolders(a: HolderSet, b: HolderSet): boolean {
  if (a === b) return true;
  if (a.mode !== b.mode || a.sessions.length !== b.sessions.length) return false;
  return a.sessions.every((session, at) => session === b.sessions[at]);
}

export class Holders {
  readonly #map = new RangeForest<HolderSet>(sameHolders);

  /** Number of ranges. */
  get size(): number {
    return this.#map.size;
  }

  /** Visits who holds parts of `range`, gaps left out. */
  forEachIn(
    range: TreeRange,
    visit: (start: Key, end: Key, holders: HolderSet) => boolean | undefined,
  ): boolean {
    return this.#map.forEachIn(range, visit);
  }

  /** Makes `session` hold `range` in exactly `mode`, and not at all for Mode.none. */
  put(session: number, range: TreeRange, mode: Mode): void {
    this.#map.update(range, (old) => {
      const others = old?.sessions.filter((other) => other !== session) ?? [];
      if (mode === Mode.none) return others.length === 0 ? undefined : { mode: old!.mode, sessions: others };
      if (others.length === 0) return { mode, sessions: [session] };
      // INVARIANT: the grant table asked every conflicting holder first.
      assert(old!.mode === mode && mode !== Mode.write, 'a grant conflicts with another one');
      return { mode, sessions: [...others, session].sort((a, b) => a - b) };
    });
  }

  forEach(visit: (tree: number, start: Key, end: Key, holders: HolderSet) => void): void {
    this.#map.forEach(visit);
  }

  verify(): void {
    this.#map.verify();
    this.#map.forEach((_tree, _start, _end, { mode, sessions }) => {
      assert(sessions.length > 0 && mode !== Mode.none, 'a range of the table has holders');
      assert(mode !== Mode.write || sessions.length === 1, 'a written range has a single holder');
    });
  }
}
