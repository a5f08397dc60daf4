// SPDX-License-Identifier: GPL-2.0-or-later
//
// The grants that one session holds, as a pure map of ranges: kept by the client for itself, and by the grant table
// for each session. It neither waits nor sends; it answers what is held, and what is missing for an operation.
//
// On the client the map changes in the order of the stream: `add` when an acquire reply arrives, `lower` when a release
// is sent. The server's copy differs only by what is in flight.

import { compareKey, type Key, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { type GrantRange, Mode, type ModeChange } from '../wire/message.ts';
import { modeSatisfies } from './mode.ts';

export class Holder {
  readonly #held = new RangeForest<Mode>();
  /** Grows with every change: a cheap "has it changed since" for what is derived from the map. */
  version = 0;

  /** Ranges held. */
  get size(): number {
    return this.#held.size;
  }

  /** The mode in which a key is held. */
  mode(tree: number, objectid: number, type: number, offset: number): Mode {
    return this.#held.get(tree, objectid, type, offset) ?? Mode.none;
  }

  /** Whether a key is held in a mode that satisfies `wanted`. */
  holds(tree: number, objectid: number, type: number, offset: number, wanted: Mode): boolean {
    const held = this.#held.get(tree, objectid, type, offset);
    return held !== undefined && modeSatisfies(held, wanted);
  }

  /** Whether the whole range is held in a mode that satisfies `wanted`. */
  covers(range: TreeRange, wanted: Mode): boolean {
    return this.#held.covers(range, (held) => modeSatisfies(held, wanted));
  }

  /** The held range around a key; undefined where none is held. */
  find(tree: number, key: Key): GrantRange | undefined {
    const found = this.#held.tree(tree)?.find(key);
    return found && { tree, start: found.start, end: found.end, mode: found.value };
  }

  /** The parts of `range` that are not held in a mode that satisfies `wanted`, in key order, neighbours joined. */
  missing(range: TreeRange, wanted: Mode): TreeRange[] {
    const missing: { tree: number; start: Key; end: Key }[] = [];
    this.#held.forEachPiece(range, (start, end, held) => {
      if (held !== undefined && modeSatisfies(held, wanted)) return;
      const last = missing.at(-1);
      if (last !== undefined && compareKey(last.end, start) === 0) last.end = end;
      else missing.push({ tree: range.tree, start, end });
    });
    return missing;
  }

  /** Visits the parts of `range` that are held in any mode. */
  forEachIn(range: TreeRange, visit: (start: Key, end: Key, mode: Mode) => boolean | undefined): boolean {
    return this.#held.forEachIn(range, visit);
  }

  /** Visits the parts of `range`, those that are not held with undefined. */
  forEachPiece(range: TreeRange, visit: (start: Key, end: Key, mode: Mode | undefined) => void): void {
    this.#held.forEachPiece(range, (start, end, mode) => {
      visit(start, end, mode);
    });
  }

  /** Visits everything held, trees and keys in rising order. */
  forEach(visit: (tree: number, start: Key, end: Key, mode: Mode) => void): void {
    this.#held.forEach(visit);
  }

  /** Takes a grant in; what was held of the range before gets its mode, greater or lesser. */
  add(grant: GrantRange): void {
    this.version++;
    if (grant.mode === Mode.none) this.#held.cut(grant);
    else this.#held.set(grant, grant.mode);
  }

  /**
   * Brings what is held of `range` down to `newMode` at most.
   *
   * @returns what changed, in key order: the ranges of a release
   */
  lower(range: TreeRange, newMode: Mode): ModeChange[] {
    const changes: ModeChange[] = [];
    this.#held.forEachIn(range, (start, end, oldMode) => {
      if (!modeSatisfies(newMode, oldMode)) changes.push({ tree: range.tree, start, end, oldMode, newMode });
    });
    for (const change of changes) this.add({ ...change, mode: newMode });
    return changes;
  }

  clear(): void {
    this.version++;
    this.#held.clear();
  }

  verify(): void {
    this.#held.verify();
  }
}
