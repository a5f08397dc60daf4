// SPDX-License-Identifier: GPL-2.0-or-later
//
// Reads a file's bytes from the layers that file_state.ts names, newest first, and notes what the server must be
// asked for. Decides what is worth reading ahead: more of a file that is read in order, and the next small files of
// a program that reads file after file.

import { sectorCeil, sectorFloor } from '../item/apply_extent.ts';
import {
  EXTENT_HEAD_BYTES,
  ExtentType,
  extentIsHole,
  extentLength,
  extentType,
} from '../item/extent_data.ts';
import { FileMode, inodeMode, inodeSize } from '../item/inode_item.ts';
import { ItemType } from '../item/key.ts';
import { Mode } from '../wire/message.ts';
import type { Core } from './core.ts';
import type { CleanRun, FileState, PendingRun, Run } from './file_state.ts';
import {
  DATA_CACHE_SHARE,
  NEIGHBOUR_FILE_BYTES,
  NEIGHBOURS_MAX,
  READ_AHEAD_FIRST,
  READ_AHEAD_LARGEST,
  READ_REQUEST_BYTES,
} from './limits.ts';
import type { DataWant } from './missing.ts';

/** Items looked through for neighbours at once. */
const NEIGHBOUR_ITEMS_MAX = 4096;

/** How far apart two files that are read one after the other may lie, in inode numbers. */
const NEIGHBOUR_DISTANCE = 512;

/** Copies a stretch; what lies behind the source's end is zero. */
function copy(target: Uint8Array, at: number, source: Uint8Array, start: number, end: number): void {
  const last = Math.max(start, Math.min(end, source.length));
  target.set(source.subarray(start, last), at);
  target.fill(0, at + last - start, at + end - start);
}

function runAt(runs: readonly Run[], at: number): Run | undefined {
  for (const run of runs) if (run.start <= at && at < run.end) return run;
  return undefined;
}

/** The least start of a layer's pieces that is greater than `at`, or `limit`. */
function nextStart(runs: readonly { readonly start: number }[], at: number, limit: number): number {
  let next = limit;
  for (const run of runs) if (run.start > at && run.start < next) next = run.start;
  return next;
}

/**
 * Copies the bytes `[start, end)` of a file, which must lie within its size and be held, to `target`.
 *
 * @param runsToo - whether bytes that are not in the log yet count.
 * @returns whether all are there; otherwise what is missing is noted, and `target` holds rubbish there.
 */
export function readBytes(
  core: Core,
  file: FileState | undefined,
  tree: number,
  ino: number,
  start: number,
  end: number,
  target: Uint8Array,
  targetAt: number,
  runsToo: boolean,
): boolean {
  let at = start;
  let isComplete = true;
  while (at < end) {
    let limit = end;
    if (file !== undefined) {
      if (runsToo) {
        const run = runAt(file.runs, at);
        if (run !== undefined) {
          const to = Math.min(end, run.end);
          copy(target, targetAt + at - start, run.bytes, at - run.start, to - run.start);
          at = to;
          continue;
        }
        limit = nextStart(file.runs, at, limit);
      }
      const source = pendingAt(file.pending, at, limit) ?? cleanAt(file, at, limit);
      if (source !== undefined) {
        const to = Math.min(sourceLimit, source.end);
        copy(target, targetAt + at - start, source.bytes, at - source.start, to - source.start);
        at = to;
        continue;
      }
      limit = sourceLimit;
    }
    const to = readItem(core, tree, ino, at, limit, target, targetAt + at - start);
    if (to > 0) {
      at = to;
    } else {
      isComplete = false;
      core.missing.data.push({ tree, ino, start: sectorFloor(at), end: sectorCeil(-to) });
      at = -to;
    }
  }
  return isComplete;
}

/** How far what `pendingAt` and `cleanAt` found is good for. */
let sourceLimit = 0;

/** The newest pending piece that covers `at`; newer pieces behind `at` bound how far it counts. */
function pendingAt(pending: readonly PendingRun[], at: number, limit: number): PendingRun | undefined {
  sourceLimit = limit;
  for (let index = pending.length - 1; index >= 0; index--) {
    const piece = pending[index]!;
    if (piece.start <= at && at < piece.end) return piece;
    if (piece.start > at && piece.start < sourceLimit) sourceLimit = piece.start;
  }
  return undefined;
}

function cleanAt(file: FileState, at: number, limit: number): CleanRun | undefined {
  if (sourceLimit > limit) sourceLimit = limit;
  for (const piece of file.clean) if (piece.start <= at && at < piece.end) return piece;
  sourceLimit = nextStart(file.clean, at, sourceLimit);
  return undefined;
}

/**
 * Copies from what items say: inline bytes and zeros.
 *
 * @returns up to where; negated if the server has the bytes up to there.
 */
function readItem(
  core: Core,
  tree: number,
  ino: number,
  at: number,
  limit: number,
  target: Uint8Array,
  targetAt: number,
): number {
  const items = core.items;
  if (
    items.seekBefore(tree, ino, ItemType.extentData, at + 1) &&
    items.objectid === ino &&
    items.type === ItemType.extentData
  ) {
    const { view, start, offset } = items;
    const type = extentType(view, start);
    const end = offset + extentLength(view, start);
    if (type === ExtentType.inline) {
      if (end > at && items.size === EXTENT_HEAD_BYTES + end - offset) {
        const to = Math.min(limit, end);
        const from = start + EXTENT_HEAD_BYTES + at - offset;
        copy(target, targetAt, items.bytes, from, from + to - at);
        return to;
      }
      // Compressed: the server unpacks it.
      if (end > at) return -Math.min(limit, end);
    } else if (end > at) {
      const to = Math.min(limit, end);
      if (type === ExtentType.regular && !extentIsHole(view, start)) return -to;
      target.fill(0, targetAt, targetAt + to - at);
      return to;
    }
  }
  let to = limit;
  if (
    items.seek(tree, ino, ItemType.extentData, at + 1) &&
    items.objectid === ino &&
    items.type === ItemType.extentData &&
    items.offset < limit
  ) {
    to = items.offset;
  }
  target.fill(0, targetAt, targetAt + to - at);
  return to;
}

/** What the program that reads file after file is at; one a session. */
export class NeighbourReader {
  #tree = 0;
  #ino = 0;
  /** Files read in rising order so far. */
  #row = 0;
  /** Where to look for the next files, and at which file to do so. */
  #from = 0;
  #trigger = 0;

  /** Whether files are being read one after another. */
  get isOn(): boolean {
    return this.#row >= 2;
  }

  /**
   * A small file is read from its beginning.
   *
   * @returns what is worth reading ahead now.
   */
  next(core: Core, tree: number, ino: number): DataWant[] {
    const isNear = tree === this.#tree && ino > this.#ino && ino - this.#ino <= NEIGHBOUR_DISTANCE;
    if (ino !== this.#ino || tree !== this.#tree) this.#row = isNear ? this.#row + 1 : 0;
    this.#tree = tree;
    this.#ino = ino;
    if (!this.isOn) {
      this.#trigger = 0;
      this.#from = 0;
      return [];
    }
    if (ino < this.#trigger) return [];
    return this.#collect(core, tree, Math.max(ino + 1, this.#from));
  }

  #collect(core: Core, tree: number, first: number): DataWant[] {
    const items = core.items;
    const found: DataWant[] = [];
    let bytes = 0;
    let from = first;
    let left = NEIGHBOUR_ITEMS_MAX;
    while (bytes < READ_REQUEST_BYTES && found.length < NEIGHBOURS_MAX && left-- > 0) {
      if (!items.seek(tree, from, ItemType.inodeItem, 0)) break;
      const ino = items.objectid;
      // What lies between may not be cached yet: the next look begins where this one stopped.
      if (ino - this.#ino > NEIGHBOUR_DISTANCE * 4) break;
      from = ino + 1;
      if (items.type !== ItemType.inodeItem) continue;
      const size = inodeSize(items.view, items.start);
      const isFile = (inodeMode(items.view, items.start) & FileMode.typeMask) === FileMode.regular;
      if (!isFile || size === 0 || size > NEIGHBOUR_FILE_BYTES) continue;
      if (!core.held.holds(tree, ino, ItemType.extentData, 0, Mode.read) || !isStored(core, tree, ino))
        continue;
      const file = core.files.get(core.nodeOf(tree, ino));
      if (file !== undefined && (file.clean.length > 0 || file.pending.length > 0 || file.isDirty)) continue;
      found.push({ tree, ino, start: 0, end: sectorCeil(size) });
      bytes += size;
    }
    this.#from = from;
    // The next look comes when half of these are read.
    this.#trigger = found[found.length >>> 1]?.ino ?? this.#ino + 1;
    return found;
  }
}

/** Whether a file's first bytes are at the server, in a regular extent. */
function isStored(core: Core, tree: number, ino: number): boolean {
  const items = core.items;
  return (
    items.find(tree, ino, ItemType.extentData, 0) &&
    extentType(items.view, items.start) === ExtentType.regular &&
    !extentIsHole(items.view, items.start)
  );
}

/**
 * Follows a reader through a file: grows and shrinks how far ahead of it to read.
 *
 * @returns up to where to read ahead, beginning at the end of this read.
 */
export function followReader(file: FileState, start: number, end: number, size: number): number {
  if (start === file.readEnd || (start === 0 && size > end)) {
    file.readAhead =
      file.readAhead === 0 ? READ_AHEAD_FIRST : Math.min(READ_AHEAD_LARGEST, file.readAhead * 2);
  } else {
    file.readAhead = 0;
  }
  file.readEnd = end;
  return Math.min(size, end + file.readAhead);
}

/** Drops what the kernel has taken over, and what is too much. */
export function dropRead(core: Core, file: FileState, end: number): void {
  for (let at = file.clean.length - 1; at >= 0; at--) {
    const run = file.clean[at]!;
    if (run.end <= end) core.files.dropClean(run);
  }
  core.files.settle(file);
  core.files.trimClean(core.cacheBytes * DATA_CACHE_SHARE);
}
