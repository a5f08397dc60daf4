// SPDX-License-Identifier: GPL-2.0-or-later
//
// Takes the reply to an acquire in: items, grants, the data beside them, space, inode numbers. Runs in the order of
// the stream, so that a revoke that follows the reply finds its grants.
//
// INVARIANT: a range counts as held only if its items are here. What was held before keeps its items (they may be
// newer than the server's); what a page of this reply covers takes them from it. A granted piece that is neither was
// released by us while the server was still answering: it is released again, so that the next want brings its page.

import type { Buffer } from 'node:buffer';
import { sectorCeil } from '../item/apply_extent.ts';
import { cutExtent, ExtentType, extentLength, extentType } from '../item/extent_data.ts';
import { copyDerived, copyIdentity } from '../item/inode_item.ts';
import { DERIVED, ItemType, ROOT_INO } from '../item/key.ts';
import { CorruptionError, ProtocolError } from '../util/errors.ts';
import { compareKey, inodeRange, type Key, rangesOverlap, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { type ItemPage, readItemPage } from '../wire/item_page.ts';
import {
  type Acquire,
  type AcquireReply,
  type FileExtent,
  type GrantRange,
  Mode,
  type ModeChange,
  type PageEntry,
  type Subvolume,
} from '../wire/message.ts';
import type { Core } from './core.ts';
import { dropItems } from './dropping.ts';
import type { ByteRange, FileState } from './file_state.ts';

import { itemIsSound } from './item_check.ts';
import { nodeOf } from './node_id.ts';

const SECTOR = 4096;

/** @returns grants of the reply that must be released again. */
export function adoptReply(core: Core, asked: Acquire, reply: AcquireReply, body: Buffer): ModeChange[] {
  const granted = new RangeForest<Mode>();
  for (const grant of reply.grants) granted.set(grant, grant.mode);
  for (const subvolume of reply.subvolumes) adoptSubvolume(core, subvolume);
  const isNew = reply.data.map((extent) => !isHeldInPart(core, extent));
  /** Ranges whose items this reply brings, or which have none. */
  const known = new RangeForest<boolean>();
  let at = 0;
  for (const entry of reply.pages) {
    if (at + entry.length > body.length)
      throw new ProtocolError('the pages of a reply are longer than its body');
    if (!known.forEachIn(entry, () => false)) throw new ProtocolError('two pages of a reply overlap');
    adoptPage(core, granted, entry, body.subarray(at, at + entry.length));
    known.set(entry, true);
    at += entry.length;
  }
  const run = reply.inodeRun;
  if (run !== null && run.count > 0) {
    known.set(runRange(run), true);
    core.held.add({ ...runRange(run), mode: Mode.write });
    core.numbers.add(run.tree, run.first, run.count);
  }
  const unknown: ModeChange[] = [];
  for (const grant of reply.grants) adoptGrant(core, known, grant, unknown);
  noteOpenElsewhere(core, reply);
  core.space.add(reply.space, asked.spaceWanted);
  adoptData(core, reply, body, at, isNew);
  return unknown;
}

/** What has no node is never asked about again. */
function adoptSubvolume(core: Core, subvolume: Subvolume): void {
  if (nodeOf(subvolume.tree, ROOT_INO) !== 0) core.subvolumes.set(subvolume.tree, subvolume);
}

/** Of the inodes that may be unlinked now, which ones others have open. */
function noteOpenElsewhere(core: Core, { grants, openElsewhere }: AcquireReply): void {
  for (const node of core.openElsewhere) {
    const range = inodeRange(core.treeOf(node), core.inoOf(node));
    const isAnew = grants.some((grant) => grant.mode === Mode.write && rangesOverlap(grant, range));
    if (isAnew) core.openElsewhere.delete(node);
  }
  for (const { tree, ino } of openElsewhere) core.openElsewhere.add(core.nodeOf(tree, ino));
}

function isHeldInPart(core: Core, { tree, ino, offset, length }: FileExtent): boolean {
  const type = ItemType.extentData;
  const start = { objectid: ino, type, offset };
  let isHeld = false;
  core.held.forEachIn({ tree, start, end: { objectid: ino, type, offset: offset + length } }, () => {
    isHeld = true;
    return false;
  });
  return isHeld;
}

function adoptGrant(core: Core, known: RangeForest<boolean>, grant: GrantRange, unknown: ModeChange[]): void {
  const { tree, mode } = grant;
  const usable: TreeRange[] = [];
  known.forEachPiece(grant, (start, end, isKnown) => {
    const piece = { tree, start, end };
    if (isKnown === true) {
      usable.push(piece);
      return;
    }
    core.held.forEachIn(piece, (heldStart, heldEnd) => {
      usable.push({ tree, start: heldStart, end: heldEnd });
      return true;
    });
    for (const gap of core.held.missing(piece, Mode.read)) {
      unknown.push({ ...gap, oldMode: mode, newMode: Mode.none });
    }
  });
  for (const piece of usable) core.held.add({ ...piece, mode });
}

function runRange(run: { tree: number; first: number; count: number }): TreeRange {
  return {
    tree: run.tree,
    start: { objectid: run.first, type: 0, offset: 0 },
    end: { objectid: run.first + run.count, type: 0, offset: 0 },
  };
}

/** Takes the items of those parts of a page that are granted and not held. */
function adoptPage(core: Core, granted: RangeForest<Mode>, entry: PageEntry, bytes: Buffer): void {
  const page = readItemPage(bytes, core.crc32c);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { tree } = entry;
  for (const gap of core.held.missing(entry, Mode.read)) {
    granted.forEachIn(gap, (from, to) => {
      dropOlder(core, tree, from, to);
      adoptItems(core, page, view, tree, from, to);
    });
  }
}

/**
 * What was given up a moment ago may still have its items here (giver.ts), some of which are not there any more. The item
 * of an inode stays if its other half is held.
 */
function dropOlder(core: Core, tree: number, start: Key, to: Key): void {
  const isHalf = to.type === ItemType.inodeItem && to.offset === DERIVED;
  const isOtherHeld = isHalf && core.held.holds(tree, to.objectid, to.type, to.offset, Mode.read);
  const end = isOtherHeld ? { ...to, offset: 0 } : to;
  if (compareKey(start, end) < 0) dropItems(core, { tree, start, end });
}

function adoptItems(core: Core, page: ItemPage, view: DataView, tree: number, from: Key, to: Key): void {
  // The derived key stands for the inode item too, which lies before it.
  const isDerived = from.type === ItemType.inodeItem && from.offset === DERIVED;
  const first = page.lowerBound(from.objectid, from.type, isDerived ? 0 : from.offset);
  const end = page.lowerBound(to.objectid, to.type, to.offset);
  if (first > 0) adoptExtentOver(core, page, view, tree, first - 1, from, to);
  for (let slot = first; slot < end; slot++) {
    const objectid = page.objectid(slot);
    const type = page.type(slot);
    const offset = page.offset(slot);
    const start = page.dataStart(slot);
    const size = page.dataSize(slot);
    requireSound(tree, objectid, type, offset, view, start, size);
    if (type === ItemType.inodeItem && core.items.find(tree, objectid, type, offset)) {
      // Known under a grant of its other half, which may have changed here since.
      const both = core.items.bytes.subarray(core.items.start, core.items.start + size);
      const bytes = page.bytes.subarray(start, start + size);
      const isIdentity = !isDerived || objectid !== from.objectid;
      const derived = { objectid, type, offset: DERIVED };
      if (isIdentity) copyIdentity(both, bytes);
      if (compareKey(derived, to) < 0) copyDerived(both, bytes);
    } else if (type === ItemType.extentData && reachesOver(view, start, offset, objectid, to)) {
      const value = cutExtent(view, start, size, 0, to.offset - offset);
      core.items.adopt(tree, objectid, type, offset, value, 0, size);
    } else {
      core.items.adopt(tree, objectid, type, offset, page.bytes, start, size);
    }
  }
}

/** Takes the part of an extent before the slots that lies behind the start: of its beginning something newer is held. */
function adoptExtentOver(
  core: Core,
  page: ItemPage,
  view: DataView,
  tree: number,
  slot: number,
  from: Key,
  to: Key,
): void {
  if (from.type !== ItemType.extentData || page.type(slot) !== from.type) return;
  if (page.objectid(slot) !== from.objectid) return;
  const offset = page.offset(slot);
  const start = page.dataStart(slot);
  const size = page.dataSize(slot);
  requireSound(tree, from.objectid, from.type, offset, view, start, size);
  const skipped = from.offset - offset;
  if (extentType(view, start) === ExtentType.inline || extentLength(view, start) <= skipped) return;
  const isSame = to.objectid === from.objectid && to.type === from.type;
  const value = cutExtent(view, start, size, skipped, isSame ? to.offset - from.offset : Infinity);
  core.items.adopt(tree, from.objectid, from.type, from.offset, value, 0, size);
}

/** Whether a cuttable extent at `offset` reaches over the end of what is taken. */
function reachesOver(view: DataView, start: number, offset: number, ino: number, to: Key): boolean {
  if (to.objectid !== ino || to.type !== ItemType.extentData) return false;
  return extentType(view, start) !== ExtentType.inline && offset + extentLength(view, start) > to.offset;
}

/** @throws CorruptionError */
function requireSound(
  tree: number,
  objectid: number,
  type: number,
  offset: number,
  view: DataView,
  start: number,
  size: number,
): void {
  if (itemIsSound(type, offset, view, start, size)) return;
  throw new CorruptionError(`corrupt item from the server: tree ${tree} key (${objectid} ${type} ${offset})`);
}

/**
 * Takes in the bytes of small files.
 *
 * @param isNew - whether nothing of each was held before: else this client may have changed it, and the server have applied
 *   that, since these bytes were read.
 */
function adoptData(
  core: Core,
  reply: AcquireReply,
  body: Buffer,
  from: number,
  isNew: readonly boolean[],
): void {
  let at = from;
  for (const [index, extent] of reply.data.entries()) {
    const sums = Math.ceil(extent.length / SECTOR) * 4;
    if (at + sums + extent.length > body.length) {
      throw new ProtocolError('the data of a reply is longer than its body');
    }
    const { tree, ino, offset, length } = extent;
    const bytes = sectorsMatch(core, tree, ino, offset, length, body, at, at + sums);
    const node = core.nodeOf(tree, ino);
    if (node !== 0 && length > 0 && isNew[index]) {
      adoptBytes(core, core.files.make(node, tree, ino), offset, offset + length, bytes, []);
    }
    at += sums + extent.length;
  }
}

/**
 * Checks bytes that the server sent.
 *
 * @returns the bytes, a copy unless they are most of the body: one small file must not keep a whole reply in memory.
 * @throws CorruptionError - a sector's sum is wrong.
 */
export function sectorsMatch(
  core: Core,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  body: Buffer,
  sumsAt: number,
  bytesAt: number,
): Uint8Array {
  const sectors = Math.ceil(length / SECTOR);
  if (sumScratch.length < sectors) sumScratch = new Uint32Array(sectors);
  const source = body.subarray(bytesAt, bytesAt + length);
  const bytes = length > body.length / 2 ? source : source.slice();
  core.sectorSums(bytes, sumScratch, 0);
  for (let sector = 0; sector < sectors; sector++) {
    if (sumScratch[sector] !== body.readUInt32LE(sumsAt + sector * 4)) {
      throw new CorruptionError(
        `wrong checksum of tree ${tree} inode ${ino} byte ${offset + sector * SECTOR}`,
      );
    }
  }
  return bytes;
}

/**
 * Keeps `[start, end)` of a file as read ahead, but for parts that this client has changed since the bytes were asked
 * for. What lies behind the end of `bytes` is zero.
 *
 * @param stale - such parts that are not among the file's runs and pending pieces any more.
 */
export function adoptBytes(
  core: Core,
  file: FileState,
  start: number,
  end: number,
  bytes: Uint8Array,
  stale: readonly ByteRange[],
): void {
  const newer = [...stale, ...file.pending, ...file.runs].sort((a, b) => a.start - b.start);
  const keep = (from: number, to: number): void => {
    if (from >= to) return;
    core.files.dropCleanRange(file, from, to);
    core.files.addClean({ file, start: from, end: to, bytes: bytes.subarray(from - start, to - start) });
  };
  let at = start;
  for (const piece of newer) {
    keep(at, Math.min(end, piece.start));
    at = Math.max(at, Math.min(end, sectorCeil(piece.end)));
  }
  keep(at, end);
  core.files.settle(file);
}

let sumScratch = new Uint32Array(1024);
