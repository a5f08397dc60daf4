// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keeps the item cache within its bound: when it is over, the coldest pages go, an eighth of the cache at a time, with
// the ranges that they cover given back in few messages.
//
// A page may go when its last change is applied and none of its inodes is open, written, in flight or without a name.
// The range that goes with it reaches from its first key to the first key of the next page, so absence stays right on
// both sides; the parts of it that were not held were not known before either. Free inode numbers stay.

import { countTransition, Transition } from '../coherency/transitions.ts';
import { RANGES_MAX } from '../util/limits.ts';
import { compareKey, earlierKey, type Key, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { Mode, type ModeChange } from '../wire/message.ts';
import type { CachePage } from './cache_page.ts';
import type { Core } from './core.ts';
import { dropData, dropItems } from './dropping.ts';
import type { Giver } from './giver.ts';
import { endOfInode, forgetRanges } from './kernel_forget.ts';
import { EVICTION_SHARE, HELD_RANGES_MAX } from './limits.ts';

interface Candidate {
  readonly range: TreeRange;
  readonly usedAt: number;
  readonly bytes: number;
}

const LAST_KEY: Key = { objectid: Number.MAX_SAFE_INTEGER, type: 255, offset: 0 };

export class Evictor {
  /** Evictions so far, and bytes of pages that they freed. */
  count = 0;
  freedBytes = 0;
  readonly #core: Core;
  readonly #giver: Giver;
  #isRunning = false;
  /** Bytes below which nothing is tried, after a try that found nothing to give. */
  #holdOffBytes = 0;

  constructor(core: Core, giver: Giver) {
    this.#core = core;
    this.#giver = giver;
  }

  /** Starts an eviction if it is time for one. Cheap: called after everything that takes memory. */
  check(): void {
    if (this.#isRunning) return;
    const core = this.#core;
    const used = core.items.usedBytes + core.files.cleanBytes;
    if (used <= Math.max(core.cacheBytes, this.#holdOffBytes) && core.held.size <= HELD_RANGES_MAX) return;
    this.#isRunning = true;
    void this.#evict().finally(() => {
      this.#isRunning = false;
    });
  }

  async #evict(): Promise<void> {
    const core = this.#core;
    const before = core.items.usedBytes;
    const over = before + core.files.cleanBytes - core.cacheBytes;
    const wanted = Math.max(over, 0) + core.cacheBytes * EVICTION_SHARE;
    const chosen = join(this.#choose(wanted));
    if (chosen.length === 0) {
      this.#holdOffBytes = before + core.cacheBytes * (EVICTION_SHARE / 4);
      return;
    }
    for (const range of chosen) core.setLeaving(range, 1);
    forgetRanges(core, chosen);
    await core.kernel.settled();
    if (core.ended !== 0) return;
    const pins = this.#pins();
    const changes: ModeChange[] = [];
    const dropped: TreeRange[] = [];
    for (const range of chosen) {
      for (const piece of this.#stillCold(range, pins)) {
        dropItems(core, piece);
        dropped.push(piece);
        changes.push(...core.held.lower(piece, Mode.none));
      }
      core.setLeaving(range, -1);
    }
    core.dropGivenLeaving();
    dropData(core, dropped);
    for (let at = 0; at < changes.length; at += RANGES_MAX) {
      this.#giver.release(changes.slice(at, at + RANGES_MAX), []);
    }
    this.count++;
    countTransition(Transition.evicted);
    this.freedBytes += Math.max(0, before - core.items.usedBytes);
    this.#holdOffBytes = changes.length === 0 ? before + core.cacheBytes * (EVICTION_SHARE / 4) : 0;
  }

  /** Ranges of keys that must stay: the prefixes of inodes in use, and free inode numbers. */
  #pins(): RangeForest<boolean> {
    const core = this.#core;
    const pins = new RangeForest<boolean>();
    const pin = (tree: number, first: number, end: number): void => {
      pins.set(
        { tree, start: { objectid: first, type: 0, offset: 0 }, end: { objectid: end, type: 0, offset: 0 } },
        true,
      );
    };
    for (const file of core.files.all()) {
      if (file.opens > 0 || file.isDirty || file.pending.length > 0) pin(file.tree, file.ino, file.ino + 1);
    }
    // Their pages came again while the kernel forgot them: they are in use.
    for (const node of core.givenLeaving.keys())
      pin(core.treeOf(node), core.inoOf(node), core.inoOf(node) + 1);
    for (const node of core.orphans) pin(core.treeOf(node), core.inoOf(node), core.inoOf(node) + 1);
    core.numbers.forEachFree(pin);
    return pins;
  }

  /** The coldest pages that may go, of together about `wanted` bytes, in key order. */
  #choose(wanted: number): Candidate[] {
    const core = this.#core;
    const pins = this.#pins();
    const applied = core.writeBack.appliedPlace;
    const candidates: Candidate[] = [];
    core.items.visitPages((page, tree, endObjectid, endType, endOffset) => {
      if (page.batch > applied || page.count === 0) return;
      const range = rangeOf(page, tree, endObjectid, endType, endOffset);
      if (page.usedAt === core.items.age || hasPinnedItem(pins, page, tree)) return;
      candidates.push({ range, usedAt: page.usedAt, bytes: page.frame.capacity });
    });
    const ages = candidates.map((candidate) => candidate.usedAt).sort((a, b) => a - b);
    // The age up to which pages go: the oldest that together are enough.
    let enough = 0;
    let limit = -1;
    for (const age of ages) {
      if (enough >= wanted) break;
      enough += candidates[0]!.bytes;
      limit = age;
    }
    const chosen: Candidate[] = [];
    let bytes = 0;
    for (const candidate of candidates) {
      if (candidate.usedAt > limit || bytes >= wanted) continue;
      chosen.push(candidate);
      bytes += candidate.bytes;
    }
    return chosen;
  }

  /** What of a chosen range may still go, after the kernel has forgotten it. */
  #stillCold(range: TreeRange, pins: RangeForest<boolean>): TreeRange[] {
    const core = this.#core;
    const applied = core.writeBack.appliedPlace;
    const pieces: TreeRange[] = [];
    const { tree } = range;
    core.items.visitPagesIn(range, (page, start, end) => {
      if (page.batch > applied) return;
      // The next page's first inode begins before its first item, and may be new: its keys stay together.
      const isCut = page.count > 0 && page.objectidAt(page.count - 1) < end.objectid;
      const last = isCut ? { objectid: end.objectid, type: 0, offset: 0 } : end;
      pins.forEachPiece({ tree, start, end: earlierKey(last, end) }, (from, to, isPinned) => {
        if (isPinned === true) return;
        const before = pieces.at(-1);
        if (before !== undefined && compareKey(before.end, from) === 0)
          pieces[pieces.length - 1] = { ...before, end: to };
        else pieces.push({ tree, start: from, end: to });
      });
    });
    return pieces;
  }
}

function rangeOf(
  page: CachePage,
  tree: number,
  endObjectid: number,
  endType: number,
  endOffset: number,
): TreeRange {
  return {
    tree,
    start: { objectid: page.lowObjectid, type: page.lowType, offset: page.lowOffset },
    end: endObjectid === Infinity ? LAST_KEY : { objectid: endObjectid, type: endType, offset: endOffset },
  };
}

/** Whether a pinned inode has items in the page. */
function hasPinnedItem(pins: RangeForest<boolean>, page: CachePage, tree: number): boolean {
  const first: Key = { objectid: page.objectidAt(0), type: 0, offset: 0 };
  const end = endOfInode(page.objectidAt(page.count - 1));
  return !pins.forEachIn({ tree, start: first, end }, () => false);
}

/** Joins neighbours into one range. */
function join(candidates: readonly Candidate[]): TreeRange[] {
  const joined: TreeRange[] = [];
  for (const { range } of candidates) {
    const last = joined.at(-1);
    if (last !== undefined && last.tree === range.tree && compareKey(last.end, range.start) === 0) {
      joined[joined.length - 1] = { ...last, end: range.end };
    } else {
      joined.push(range);
    }
  }
  return joined;
}
