// SPDX-License-Identifier: GPL-2.0-or-later
//
// Gives grants back: when the server revokes them, when a prediction turned out wrong, at the end of the session.
// (eviction.ts gives back what is clean and cold, for memory.)
//
// In this order: the kernel forgets what the ranges cover, which first makes it write back what was dirtied through
// mmap; dirty state is sent and applied; the items are dropped and the release is sent, in one turn. Until that turn
// operations go on under the grants, with answers that the kernel may not keep; if they keep the ranges dirty, the
// grants are lowered first and the operations wait.

import { ExtentType, extentIsHole, extentLength, extentType, setExtentLength } from '../item/extent_data.ts';
import { ItemType } from '../item/key.ts';
import { OPEN_INODES_MAX, RANGES_MAX } from '../util/limits.ts';
import { type Key, rangesOverlap, type TreeRange } from '../util/range.ts';
import { Mode, type ModeChange, type TreeInode } from '../wire/message.ts';
import type { Peer } from '../wire/peer.ts';
import type { Core } from './core.ts';
import { logFile } from './file_writer.ts';
import { endOfInode, forgetRanges } from './kernel_forget.ts';

/** How often what is given back is flushed while operations go on, before they have to wait. */
const ROUNDS_MAX = 4;

/** A range and the mode that may stay. */
export interface Giving extends TreeRange {
  readonly newMode: Mode;
}

export class Giver {
  readonly #core: Core;
  readonly #peer: Peer;

  constructor(core: Core, peer: Peer) {
    this.#core = core;
    this.#peer = peer;
  }

  /** Brings the ranges down to their modes. Resolves when the release is sent. */
  async give(ranges: readonly Giving[]): Promise<void> {
    const core = this.#core;
    for (const range of ranges) core.leaving.set(range, true);
    const gone = ranges.filter((range) => range.newMode === Mode.none);
    forgetRanges(core, gone);
    for (const range of ranges) if (range.newMode === Mode.read) this.#flushMapped(range);
    await core.kernel.settled();
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const place = this.#flush(ranges);
      if (place <= core.writeBack.appliedPlace || core.ended !== 0) break;
      await core.writeBack.whenApplied(place);
    }
    const changes: ModeChange[] = [];
    for (const range of ranges) changes.push(...core.held.lower(range, range.newMode));
    const place = this.#flush(ranges);
    if (place > core.writeBack.appliedPlace) await core.writeBack.whenApplied(place);
    if (core.ended !== 0) return;
    for (const range of gone) dropItems(core, range);
    dropData(core, gone);
    this.release(changes, ranges);
    for (const range of ranges) core.leaving.cut(range);
  }

  /** A range that stays readable: what was written through mmap must come out, and later writes must be asked for. */
  #flushMapped(range: TreeRange): void {
    const core = this.#core;
    for (const file of core.files.all()) {
      if (file.writers > 0 && rangesOverlap(range, prefixOf(file.tree, file.ino))) {
        core.kernel.forgetBytes(file.node, 0, Infinity);
      }
    }
  }

  /** Sends what is dirty in the ranges. @returns the place of the last batch that concerns them. */
  #flush(ranges: readonly TreeRange[]): number {
    const core = this.#core;
    for (const file of [...core.files.dirty]) {
      const prefix = prefixOf(file.tree, file.ino);
      if (ranges.some((range) => rangesOverlap(range, prefix))) logFile(core, file);
    }
    let place = 0;
    for (const { tree, start, end } of ranges) {
      const youngest = core.items.youngestBatch(
        tree,
        start.objectid,
        start.type,
        start.offset,
        end.objectid,
        end.type,
        end.offset,
      );
      if (youngest > place) place = youngest;
    }
    if (place <= core.writeBack.appliedPlace) return place;
    // Prefix order: everything before goes with it. A mark of the open batch may stand for bytes that are not in the
    // log; those of the ranges are now.
    return Math.min(place, core.writeBack.flushLog());
  }

  /** Sends a release of what is clean already. */
  release(changes: readonly ModeChange[], ranges: readonly TreeRange[]): void {
    const core = this.#core;
    const open: TreeInode[] = [];
    if (ranges.length > 0) {
      for (const file of core.files.all()) {
        const prefix = prefixOf(file.tree, file.ino);
        if (file.opens > 0 && ranges.some((range) => rangesOverlap(range, prefix))) {
          open.push({ tree: file.tree, ino: file.ino });
        }
      }
    }
    const afterBatch = core.writeBack.applied;
    for (let at = 0; at < changes.length || at < open.length; at += Math.min(RANGES_MAX, OPEN_INODES_MAX)) {
      this.#peer.notify('release', {
        ranges: changes.slice(at, at + RANGES_MAX),
        afterBatch,
        openInodes: open.slice(at, at + OPEN_INODES_MAX),
      });
    }
  }
}

function prefixOf(tree: number, ino: number): TreeRange {
  return { tree, start: { objectid: ino, type: 0, offset: 0 }, end: endOfInode(ino) };
}

/** Forgets the items of a range; an extent that reaches over an end keeps its part outside. */
export function dropItems(core: Core, range: TreeRange): void {
  const { tree, start, end } = range;
  splitExtentAt(core, tree, start);
  splitExtentAt(core, tree, end);
  core.items.dropRange(tree, start.objectid, start.type, start.offset, end.objectid, end.type, end.offset);
}

/** Forgets bytes that were read ahead, or are on their way, of files whose ranges go. */
export function dropData(core: Core, ranges: readonly TreeRange[]): void {
  if (ranges.length === 0) return;
  for (const file of core.files.all()) {
    if (file.clean.length === 0 && file.fetches.length === 0) continue;
    const prefix = prefixOf(file.tree, file.ino);
    if (!ranges.some((range) => rangesOverlap(range, prefix))) continue;
    file.markStale(0, Infinity);
    core.files.dropCleanRange(file, 0, Infinity);
    core.files.settle(file);
  }
}

/** Cuts the extent that holds the byte at which a range begins or ends into two items. */
function splitExtentAt(core: Core, tree: number, key: Key): void {
  if (key.type !== ItemType.extentData || key.offset === 0) return;
  const items = core.items;
  const { objectid: ino, type, offset } = key;
  if (!items.seekBefore(tree, ino, type, offset) || items.objectid !== ino || items.type !== type) return;
  const first = items.offset;
  const last = first + extentLength(items.view, items.start);
  if (extentType(items.view, items.start) === ExtentType.inline || last <= offset) return;
  const isHole = extentIsHole(items.view, items.start);
  const value = items.bytes.slice(items.start, items.start + items.size);
  const view = new DataView(value.buffer);
  setExtentLength(items.view, items.start, offset - first);
  if (isHole) return;
  setExtentLength(view, 0, last - offset);
  items.adopt(tree, ino, type, offset, value, 0, value.length);
}
