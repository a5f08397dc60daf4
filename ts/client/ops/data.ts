// SPDX-License-Identifier: GPL-2.0-or-later
//
// Operations over the bytes of files, and over open files: open, release, forget, read, write, lseek, fallocate.

import { applyPreallocate, sectorCeil, sectorFloor } from '../../item/apply_extent.ts';
import { applySetFields } from '../../item/apply_inode.ts';
import { InodeFields } from '../../item/change.ts';
import { ExtentType, extentIsHole, extentLength, extentType } from '../../item/extent_data.ts';
import { inodeMode, inodeSize, isDirectory, isRegular } from '../../item/inode_item.ts';
import { DERIVED, ItemType } from '../../item/key.ts';
import { assert } from '../../util/assert.ts';
import { Errno } from '../../util/errno.ts';
import { isPlanted } from '../../util/test_faults.ts';
import { Mode } from '../../wire/message.ts';
import { CUT_COST } from '../../wire/space.ts';
import type { Core } from '../core.ts';
import { dropRead, followReader, type NeighbourReader, readBytes } from '../file_reader.ts';
import type { FileState } from '../file_state.ts';
import {
  canWrite,
  cutBytes,
  cutToNothing,
  growthOf,
  keepInline,
  logFile,
  writeBytes,
} from '../file_writer.ts';
import { FILE_SIZE_MAX, NEIGHBOUR_FILE_BYTES } from '../limits.ts';
import { isPlaceholderNode } from '../node_id.ts';
import { MISS, OpenFlags, OpenResult, ReadFlags, WriteFlags } from '../operations.ts';
import { withoutPrivileges } from './attributes.ts';
import { dropIfUnused } from './remove.ts';
import { dropCapability, needCapability } from './xattr.ts';

const fields = new InodeFields();

/** The bits of a set-fields change for mode and ctime. */
const MODE_AND_CTIME = 1 | 64;

export function open(core: Core, node: number, flags: number): number {
  const error = core.begin();
  if (error !== 0) return error;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const truncates = (flags & OpenFlags.truncate) !== 0;
  if (core.isReadOnly(node) && (flags & (OpenFlags.write | OpenFlags.truncate)) !== 0) return -Errno.EROFS;
  if (isPlaceholderNode(node)) return 0;
  const needed = truncates ? Mode.write : Mode.read;
  if (!core.needInode(tree, ino, needed, needed)) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  const mode = inodeMode(core.items.view, core.items.start);
  // One whose last name another client has just taken away can be opened all the same, as on a local disk: the server
  // drops it when no grant of it is left and nobody says that it is open.
  if (isDirectory(mode) && (flags & OpenFlags.write) !== 0) return -Errno.EISDIR;
  // Asked before anything is changed: an open that misses something runs again, and must not cut twice.
  if (isRegular(mode)) {
    const isReady =
      !truncates || (core.needBytesFrom(tree, ino, 0) && needCapability(core, node) && core.needRoom());
    if (!isReady) return MISS;
    if ((flags & OpenFlags.write) !== 0 && !core.mayDirtyPages(node, tree, ino)) return MISS;
  }
  if (truncates && isRegular(mode)) {
    core.stamp.take();
    if ((flags & OpenFlags.killSuidgid) !== 0) clearPrivileges(core, node, tree, ino, mode);
    dropCapability(core, node);
    cutToNothing(core, core.files.make(node, tree, ino), core.stamp.sec, core.stamp.nsec);
    core.writeBack.dataWritten();
  }
  const file = core.files.make(node, tree, ino);
  file.opens++;
  if ((flags & OpenFlags.write) !== 0) file.writers++;
  if (!isRegular(mode)) return 0;
  return openResult(core, file);
}

/** How the kernel may keep the pages of a file that was just opened. */
export function openResult(core: Core, file: FileState): number {
  return core.contention.has(file.node) ? OpenResult.direct | OpenResult.dropPages : 0;
}

export function release(core: Core, node: number, flags: number): void {
  const file = core.files.get(node);
  if (file === undefined || file.opens === 0) return;
  file.opens--;
  if ((flags & OpenFlags.write) !== 0) {
    file.writers--;
    if (file.writers === 0 && file.isDirty && !core.orphans.has(node)) {
      logFile(core, file);
      core.writeBack.changed();
    }
    if (file.writers === 0) core.followers.closed(file);
  }
  if (file.opens > 0) return;
  file.hasNoCapability = false;
  file.readEnd = -1;
  file.readAhead = 0;
  if (core.orphans.has(node)) forget(core, node);
  else if (file.isToldOpen) core.sayClosed(file, false);
  core.files.settle(file);
}

/** The kernel forgot the inode, or the last handle was closed. */
export function forget(core: Core, node: number): void {
  if (core.orphans.size === 0 || !core.orphans.has(node)) return;
  dropIfUnused(core, node);
  core.writeBack.changed();
}

export function flush(core: Core, node: number): number {
  const file = core.files.get(node);
  if (core.ended !== 0) return core.ended;
  if (file?.writers === 1) core.followers.closing(file);
  if (file === undefined || file.error === 0) return 0;
  const { error } = file;
  file.error = 0;
  core.files.settle(file);
  return -error;
}

export function read(
  core: Core,
  neighbours: NeighbourReader,
  node: number,
  offset: number,
  length: number,
  target: Uint8Array,
  flags: number,
): number {
  const error = core.begin();
  if (error !== 0) return error;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const file = core.files.get(node);
  const givesPages = (flags & ReadFlags.pages) !== 0;
  const dirties = givesPages && file !== undefined && file.writers > 0 && !isPlanted('dirty-under-read');
  if (
    givesPages &&
    !core.held.holds(tree, ino, ItemType.inodeItem, DERIVED, dirties ? Mode.write : Mode.read)
  ) {
    const left = readLeaving(core, file, tree, ino, offset, length, dirties, target);
    if (left !== 0) return left;
  }
  // The type is in the item, which either part brings.
  const hasInode = givesPages
    ? core.needDerived(tree, ino, dirties ? Mode.write : Mode.read)
    : core.needInode(tree, ino, Mode.read, Mode.read);
  if (!hasInode) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  if (isDirectory(inodeMode(core.items.view, core.items.start))) return -Errno.EISDIR;
  const size = inodeSize(core.items.view, core.items.start);
  const asked = offset + Math.min(length, target.length);
  const end = Math.min(size, asked);
  if (end <= offset && !givesPages) return 0;
  const first = sectorFloor(offset);
  // The kernel keeps pages behind the end too, as zeros: they must go when others make the file longer.
  const last = sectorCeil(givesPages ? asked : end);
  // Pages of a file that is open for writing can be dirtied without asking.
  if (!core.needBytes(tree, ino, first, last, size, dirties ? Mode.write : Mode.read)) return MISS;
  if (givesPages && !core.mayGivePages(node, first, last)) return MISS;
  if (end <= offset) return 0;
  const isComplete = readBytes(core, file, tree, ino, offset, end, target, 0, true);
  if (file !== undefined) readOn(core, file, offset, end, size);
  if (offset === 0 && size <= NEIGHBOUR_FILE_BYTES) {
    for (const want of neighbours.next(core, tree, ino)) {
      if (isComplete) core.readAhead(want);
      else core.missing.data.push(want);
    }
  }
  if (!isComplete) return MISS;
  if (file !== undefined && file.clean.length > 0) dropRead(core, file, end === size ? Infinity : end);
  return end - offset;
}

/**
 * A READ for pages that are being given back: the kernel has them locked, and the invalidation that the release waits for
 * waits for the answer. So it is answered from what is there, whatever else of the inode is held; the bytes behind the
 * end of the file are zero.
 *
 * @returns bytes; MISS when some must be fetched; 0 when the range is not being given back.
 */
function readLeaving(
  core: Core,
  file: FileState | undefined,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  dirties: boolean,
  target: Uint8Array,
): number {
  const first = sectorFloor(offset);
  const last = sectorCeil(offset + length);
  if (isPlanted('leaving-reads-wait')) return 0;
  if (!core.isLeaving(tree, ino, ItemType.extentData, first, last)) return 0;
  if (!core.holdsBytes(tree, ino, first, last, dirties ? Mode.write : Mode.read)) return 0;
  if (!core.mayGivePages(core.nodeOf(tree, ino), first, last)) return MISS;
  return readBytes(core, file, tree, ino, offset, offset + length, target, 0, true) ? length : MISS;
}

/** Reads ahead of a reader that goes through the file in order, only of bytes whose extents are held. */
function readOn(core: Core, file: FileState, offset: number, end: number, size: number): void {
  if (file.opens === 0) return;
  // A repeated run of the same read, after a MISS, is no new read.
  if (file.readEnd === end) return;
  const until = followReader(file, offset, end, size);
  if (until <= end) return;
  const { items } = core;
  const { tree, ino } = file;
  // One extent is enough to know that there are bytes to read; holes are not asked for.
  if (
    !items.seekBefore(tree, ino, ItemType.extentData, end + 1) ||
    items.objectid !== ino ||
    items.type !== ItemType.extentData
  ) {
    return;
  }
  const { view, start } = items;
  if (extentType(view, start) !== ExtentType.regular || extentIsHole(view, start)) return;
  const last = Math.min(until, items.offset + extentLength(view, start));
  if (last > end) core.readAhead({ tree, ino, start: sectorFloor(end), end: sectorCeil(last) });
}

export function write(core: Core, node: number, offset: number, data: Uint8Array, flags: number): number {
  const error = core.beginChange(node);
  if (error !== 0) return error;
  if (data.length === 0) return 0;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const kills = (flags & WriteFlags.killSuidgid) !== 0;
  const isFromPages = (flags & WriteFlags.pages) !== 0;
  // The kernel keeps a page locked for a write of part of it, and while it writes back what was dirtied through mmap. An
  // invalidation waits for that and a release for the invalidation: so a write asks for no more of the inode than
  // is held together with the bytes of a file that is open for writing (core.mayDirtyPages).
  const hasInode = kills
    ? core.needInode(tree, ino, Mode.write, Mode.write)
    : core.needDerived(tree, ino, Mode.write);
  if (!hasInode) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  const { view, start } = core.items;
  const mode = inodeMode(view, start);
  const size = inodeSize(view, start);
  if (!isRegular(mode)) return -Errno.EINVAL;
  const from = (flags & WriteFlags.append) !== 0 ? size : offset;
  const end = from + data.length;
  if (end > FILE_SIZE_MAX) return -Errno.EFBIG;
  if (!core.needBytes(tree, ino, sectorFloor(from), sectorCeil(end), Math.max(size, end), Mode.write))
    return MISS;
  // Whole pages that are written stay in the kernel, behind its back if they are leaving.
  const givesPages = (flags & (WriteFlags.pages | WriteFlags.direct)) === 0;
  if (givesPages && !core.mayGivePages(node, sectorFloor(from), sectorCeil(end))) return MISS;
  const file = core.files.make(node, tree, ino);
  const isReady = canWrite(core, file, from, end, size);
  const cost = growthOf(file, from, end);
  const hasSpace = core.needSpace(cost);
  const hasRest = isFromPages || (needCapability(core, node) && core.needRoom());
  if (!hasRest || !isReady || !hasSpace) {
    core.files.settle(file);
    return MISS;
  }
  core.stamp.take();
  if (kills) clearPrivileges(core, node, tree, ino, mode);
  if (!isFromPages) dropCapability(core, node);
  core.space.spend(cost);
  writeBytes(core, file, from, data, size, core.stamp.sec, core.stamp.nsec);
  core.writeBack.changed();
  if (core.space.isLow) core.topUp(tree);
  return data.length;
}

export function writtenSize(core: Core, node: number): number {
  const isThere = core.findInode(core.treeOf(node), core.inoOf(node)) === 0;
  assert(isThere, 'the inode of a file that was just written is there');
  return inodeSize(core.items.view, core.items.start);
}

/** Clears set-user-ID and set-group-ID, with the stamp taken. */
function clearPrivileges(core: Core, node: number, tree: number, ino: number, mode: number): void {
  const newMode = withoutPrivileges(mode);
  if (newMode === mode) return;
  const file = core.files.get(node);
  if (file !== undefined) logFile(core, file);
  fields.mask = MODE_AND_CTIME;
  fields.mode = newMode;
  fields.ctimeSec = core.stamp.sec;
  fields.ctimeNsec = core.stamp.nsec;
  core.writeBack.setFields(tree, ino, fields);
  const result = applySetFields(core.items, core.limits.maxInlineBytes, tree, ino, fields);
  assert(result === 0, 'the mode of an inode that is held can be set');
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export function lseek(core: Core, node: number, offset: number, whence: number): number {
  const error = core.begin();
  if (error !== 0) return error;
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -Errno.EINVAL;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (!core.needInode(tree, ino, Mode.read, Mode.read)) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  const size = inodeSize(core.items.view, core.items.start);
  if (offset < 0 || offset >= size) return -Errno.ENXIO;
  if (!core.needBytes(tree, ino, sectorFloor(offset), sectorCeil(size), size, Mode.read)) return MISS;
  const file = core.files.get(node);
  if (file?.isDirty === true) {
    logFile(core, file);
    core.writeBack.changed();
  }
  return whence === SEEK_DATA
    ? seekData(core, tree, ino, offset, size)
    : seekHole(core, tree, ino, offset, size);
}

/** The end of the data that covers `at`; `at` itself if none does. */
function dataEnd(core: Core, tree: number, ino: number, at: number): number {
  const { items } = core;
  const type = ItemType.extentData;
  if (!items.seekBefore(tree, ino, type, at + 1) || items.objectid !== ino || items.type !== type) return at;
  const kind = extentType(items.view, items.start);
  if (kind === ExtentType.preallocated || extentIsHole(items.view, items.start)) return at;
  const length = extentLength(items.view, items.start);
  // An inline extent fills its sector, as far as seeking is concerned.
  const end = items.offset + (kind === ExtentType.inline ? sectorCeil(length) : length);
  return Math.max(at, end);
}

function seekData(core: Core, tree: number, ino: number, offset: number, size: number): number {
  if (dataEnd(core, tree, ino, offset) > offset) return offset;
  const { items } = core;
  const type = ItemType.extentData;
  let isFound = items.seek(tree, ino, type, offset + 1);
  while (isFound && items.objectid === ino && items.type === type && items.offset < size) {
    const kind = extentType(items.view, items.start);
    if (kind !== ExtentType.preallocated && !extentIsHole(items.view, items.start)) return items.offset;
    isFound = items.next();
  }
  return -Errno.ENXIO;
}

function seekHole(core: Core, tree: number, ino: number, offset: number, size: number): number {
  let at = offset;
  while (at < size) {
    const end = dataEnd(core, tree, ino, at);
    if (end === at) return at;
    at = end;
  }
  return size;
}

const Fallocate = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;

export function fallocate(core: Core, node: number, mode: number, offset: number, length: number): number {
  const error = core.beginChange(node);
  if (error !== 0) return error;
  const { keepSize, punchHole, zeroRange } = Fallocate;
  if ((mode & ~(keepSize | punchHole | zeroRange)) !== 0) return -Errno.EOPNOTSUPP;
  const punches = (mode & punchHole) !== 0;
  const zeroes = (mode & zeroRange) !== 0;
  if (punches && (zeroes || (mode & keepSize) === 0)) return -Errno.EOPNOTSUPP;
  if (offset < 0 || length <= 0) return -Errno.EINVAL;
  const end = offset + length;
  if (end > FILE_SIZE_MAX) return -Errno.EFBIG;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (!core.needInode(tree, ino, Mode.read, Mode.write)) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  const { view, start } = core.items;
  if (isDirectory(inodeMode(view, start))) return -Errno.EISDIR;
  if (!isRegular(inodeMode(view, start))) return -Errno.ENODEV;
  const size = inodeSize(view, start);
  const first = sectorFloor(offset);
  const last = sectorCeil(end);
  if (!core.needBytes(tree, ino, first, last, Math.max(size, end), Mode.write)) return MISS;
  const file = core.files.make(node, tree, ino);
  const isReady = punches || zeroes ? canZeroEdges(core, file, offset, end, size) : true;
  const cost = (punches ? 0 : last - first) + (punches || zeroes ? zeroCost(file, offset, end, size) : 0);
  if (!core.needSpace(cost) || !core.needRoom() || !isReady) {
    core.files.settle(file);
    return MISS;
  }
  core.stamp.take();
  core.space.spend(cost);
  const { sec, nsec } = core.stamp;
  if (punches || zeroes) zeroBytes(core, file, offset, end, size, sec, nsec);
  if (!punches) {
    const newSize = (mode & keepSize) !== 0 ? 0 : end;
    logFile(core, file);
    keepInline(core, file);
    core.writeBack.open.log.preallocate(tree, ino, first, last - first, newSize, sec, nsec);
    const result = applyPreallocate(core.items, tree, ino, first, last - first, newSize, sec, nsec);
    assert(result === 0, 'bytes of a file that is held can be preallocated');
  }
  core.files.settle(file);
  core.writeBack.changed();
  return 0;
}

/** The parts of sectors at the ends of a range that is zeroed: written with zeros, within the file. */
function edges(offset: number, end: number, size: number): [number, number][] {
  const to = Math.min(end, size);
  const inner = sectorCeil(offset);
  const outer = sectorFloor(to);
  const parts: [number, number][] = [];
  if (inner > outer) {
    if (offset < to) parts.push([offset, to]);
    return parts;
  }
  if (offset < inner) parts.push([offset, inner]);
  // What ends at the end of the file goes with its whole sector.
  if (outer < to && to < size) parts.push([outer, to]);
  return parts;
}

function canZeroEdges(core: Core, file: FileState, offset: number, end: number, size: number): boolean {
  let isReady = true;
  for (const [from, to] of edges(offset, end, size))
    isReady = canWrite(core, file, from, to, size) && isReady;
  return isReady;
}

/** What `zeroBytes` costs of the reservation. */
function zeroCost(file: FileState, offset: number, end: number, size: number): number {
  const [from, to] = inside(offset, end, size);
  let cost = to > from ? CUT_COST : 0;
  for (const [start, stop] of edges(offset, end, size)) cost += growthOf(file, start, stop);
  return cost;
}

/** The whole sectors of a range that is zeroed. */
function inside(offset: number, end: number, size: number): [number, number] {
  return [sectorCeil(offset), end >= size ? sectorCeil(Math.max(end, size)) : sectorFloor(end)];
}

function zeroBytes(
  core: Core,
  file: FileState,
  offset: number,
  end: number,
  size: number,
  sec: number,
  nsec: number,
): void {
  for (const [from, to] of edges(offset, end, size)) {
    writeBytes(core, file, from, new Uint8Array(to - from), size, sec, nsec);
  }
  logFile(core, file);
  const [from, to] = inside(offset, end, size);
  if (to > from) cutBytes(core, file, from, to - from, sec, nsec);
}
