// SPDX-License-Identifier: GPL-2.0-or-later
//
// What changes of a file's bytes do to its items: the prediction of EXTENT_DATA items, nbytes and size.
//
// The client applies these to its item cache, MemoryVolume to its store, and a property test holds the engine to
// them. The engine may cut the bytes of one put data into several extents; adjacent extents of one kind count as
// equal to their union, which is the form made here.
//
// Inline rule: a put data at offset 0 makes an inline extent if the file then ends within `maxInlineBytes` and has
// no extent beyond its first sector. An inline extent becomes a regular sector when anything else gets an extent
// or the size passes `maxInlineBytes`; a lesser size cuts it, a greater one pads it with zeros.
//
// All functions return 0 or a negative errno; what they refuse is only what a peer could send.

import { Errno } from '../util/errno.ts';
import { SECTOR_BYTES } from './change.ts';
import {
  EXTENT_BYTES,
  EXTENT_HEAD_BYTES,
  ExtentType,
  extentIsHole,
  extentLength,
  extentNbytes,
  extentType,
  setExtentLength,
  writeExtent,
  writeInlineHead,
} from './extent_data.ts';
import {
  InodeField,
  inodeMode,
  inodeNbytes,
  inodeSize,
  isRegular,
  setInodeNbytes,
  setInodeSize,
  setInodeTime,
} from './inode_item.ts';
import type { ItemMap } from './item_map.ts';
import { ItemType } from './key.ts';
import { setU64 } from './number_fields.ts';

const EXTENT = ItemType.extentData;

/** Rounds up to whole sectors. */
export function sectorCeil(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

/** Rounds down to whole sectors. */
export function sectorFloor(bytes: number): number {
  return Math.floor(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

function isExtentOf(map: ItemMap, ino: number): boolean {
  return map.objectid === ino && map.type === EXTENT;
}

function insertExtent(
  map: ItemMap,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  type: number,
): void {
  map.insert(tree, ino, EXTENT, offset, EXTENT_BYTES);
  writeExtent(map.view, map.start, type, length);
}

/** Puts a written-down hole or an extent of `type` at `offset`: the rest of one that was cut. */
function insertRest(
  map: ItemMap,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  type: number,
  isHole: boolean,
): void {
  insertExtent(map, tree, ino, offset, length, type);
  if (!isHole) return;
  setU64(map.view, map.start + 21, 0);
  setU64(map.view, map.start + 29, 0);
}

/**
 * Takes `[start, end)` out of a file's extents; an inline extent goes whole if it begins there.
 *
 * @param end - may be Infinity.
 * @returns by how much nbytes falls.
 */
export function dropExtents(map: ItemMap, tree: number, ino: number, start: number, end: number): number {
  let freed = 0;
  if (map.seekBefore(tree, ino, EXTENT, start) && isExtentOf(map, ino)) {
    const offset = map.offset;
    const type = extentType(map.view, map.start);
    const extentEnd = offset + extentLength(map.view, map.start);
    if (type !== ExtentType.inline && extentEnd > start) {
      const isHole = extentIsHole(map.view, map.start);
      map.touch();
      setExtentLength(map.view, map.start, start - offset);
      if (!isHole) freed += Math.min(extentEnd, end) - start;
      if (extentEnd > end) insertRest(map, tree, ino, end, extentEnd - end, type, isHole);
    }
  }
  while (map.seek(tree, ino, EXTENT, start) && isExtentOf(map, ino) && map.offset < end) {
    const offset = map.offset;
    const type = extentType(map.view, map.start);
    const extentEnd = offset + extentLength(map.view, map.start);
    const isHole = extentIsHole(map.view, map.start);
    const nbytes = extentNbytes(map.view, map.start);
    map.remove();
    if (type === ExtentType.inline || extentEnd <= end) {
      freed += nbytes;
      continue;
    }
    if (!isHole) freed += end - offset;
    insertRest(map, tree, ino, end, extentEnd - end, type, isHole);
  }
  return freed;
}

/** Makes an inline extent a regular sector. @returns by how much nbytes rises. */
function expandInline(map: ItemMap, tree: number, ino: number): number {
  if (!map.find(tree, ino, EXTENT, 0) || extentType(map.view, map.start) !== ExtentType.inline) return 0;
  const length = extentLength(map.view, map.start);
  map.remove();
  if (length === 0) return 0;
  insertExtent(map, tree, ino, 0, SECTOR_BYTES, ExtentType.regular);
  return SECTOR_BYTES - length;
}

function setInline(
  map: ItemMap,
  tree: number,
  ino: number,
  size: number,
  data: Uint8Array,
  dataStart: number,
  length: number,
): void {
  map.insert(tree, ino, EXTENT, 0, EXTENT_HEAD_BYTES + size);
  writeInlineHead(map.view, map.start, size);
  const given = Math.min(length, size);
  map.bytes.set(data.subarray(dataStart, dataStart + given), map.start + EXTENT_HEAD_BYTES);
}

/** Adds a regular extent over a range that holds none, joined with its neighbours. */
function addRegular(map: ItemMap, tree: number, ino: number, offset: number, length: number): void {
  let start = offset;
  let total = length;
  const end = offset + length;
  if (map.find(tree, ino, EXTENT, end) && isJoinable(map)) {
    total += extentLength(map.view, map.start);
    map.remove();
  }
  if (map.seekBefore(tree, ino, EXTENT, offset) && isExtentOf(map, ino) && isJoinable(map)) {
    const before = extentLength(map.view, map.start);
    if (map.offset + before === offset) {
      start = map.offset;
      total += before;
      map.touch();
      setExtentLength(map.view, map.start, total);
      return;
    }
  }
  insertExtent(map, tree, ino, start, total, ExtentType.regular);
}

function isJoinable(map: ItemMap): boolean {
  return extentType(map.view, map.start) === ExtentType.regular && !extentIsHole(map.view, map.start);
}

function hasExtentFrom(map: ItemMap, tree: number, ino: number, offset: number): boolean {
  if (map.seek(tree, ino, EXTENT, offset) && isExtentOf(map, ino)) return true;
  return (
    map.seekBefore(tree, ino, EXTENT, offset) &&
    isExtentOf(map, ino) &&
    map.offset + extentLength(map.view, map.start) > offset
  );
}

/** Makes the inode item the current one if it is of a regular file. @returns 0, -ENOENT or -EINVAL. */
function findFile(map: ItemMap, tree: number, ino: number): number {
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  return isRegular(inodeMode(map.view, map.start)) ? 0 : -Errno.EINVAL;
}

/** Writes what a change of bytes does to the inode item. */
function finish(
  map: ItemMap,
  tree: number,
  ino: number,
  size: number,
  nbytes: number,
  sec: number,
  nsec: number,
): void {
  map.find(tree, ino, ItemType.inodeItem, 0);
  map.touch();
  setInodeSize(map.view, map.start, size);
  setInodeNbytes(map.view, map.start, nbytes);
  setInodeTime(map.view, map.start, InodeField.mtime, sec, nsec);
  setInodeTime(map.view, map.start, InodeField.ctime, sec, nsec);
}

/** Put data. @param data - holds the payload at `[dataStart, dataStart + length)`. */
export function applyPutData(
  map: ItemMap,
  maxInlineBytes: number,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  newSize: number,
  sec: number,
  nsec: number,
  data: Uint8Array,
  dataStart: number,
): number {
  const problem = findFile(map, tree, ino);
  if (problem !== 0) return problem;
  const oldSize = inodeSize(map.view, map.start);
  let nbytes = inodeNbytes(map.view, map.start);
  const size = Math.max(oldSize, newSize);
  if (length % SECTOR_BYTES !== 0 && offset + length < oldSize) return -Errno.EINVAL;
  if (offset === 0 && size <= maxInlineBytes && !hasExtentFrom(map, tree, ino, SECTOR_BYTES)) {
    nbytes -= dropExtents(map, tree, ino, 0, Infinity);
    if (size > 0) setInline(map, tree, ino, size, data, dataStart, length);
    finish(map, tree, ino, size, nbytes + size, sec, nsec);
    return 0;
  }
  const padded = sectorCeil(length);
  if (offset > 0) nbytes += expandInline(map, tree, ino);
  nbytes -= dropExtents(map, tree, ino, offset, offset + padded);
  addRegular(map, tree, ino, offset, padded);
  finish(map, tree, ino, size, nbytes + padded, sec, nsec);
  return 0;
}

/** Cut: a hole of whole sectors; the size stays. */
export function applyCut(
  map: ItemMap,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  sec: number,
  nsec: number,
): number {
  const problem = findFile(map, tree, ino);
  if (problem !== 0) return problem;
  const size = inodeSize(map.view, map.start);
  const nbytes = inodeNbytes(map.view, map.start);
  const freed = dropExtents(map, tree, ino, offset, offset + length);
  finish(map, tree, ino, size, nbytes - freed, sec, nsec);
  return 0;
}

/** Preallocate: fills the holes of a range of whole sectors. */
export function applyPreallocate(
  map: ItemMap,
  tree: number,
  ino: number,
  offset: number,
  length: number,
  newSize: number,
  sec: number,
  nsec: number,
): number {
  const problem = findFile(map, tree, ino);
  if (problem !== 0) return problem;
  const size = Math.max(inodeSize(map.view, map.start), newSize);
  let nbytes = inodeNbytes(map.view, map.start);
  nbytes += expandInline(map, tree, ino);
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const gapEnd = nextExtent(map, tree, ino, at, end);
    if (gapEnd > at) {
      dropExtents(map, tree, ino, at, gapEnd);
      insertExtent(map, tree, ino, at, gapEnd - at, ExtentType.preallocated);
      nbytes += gapEnd - at;
    }
    at = gapEnd < end ? extentEndAt(map, tree, ino, gapEnd) : end;
  }
  finish(map, tree, ino, size, nbytes, sec, nsec);
  return 0;
}

/** Where, from `at` on, the first extent that is no hole begins; at most `end`. */
function nextExtent(map: ItemMap, tree: number, ino: number, at: number, end: number): number {
  let from = at;
  if (map.seekBefore(tree, ino, EXTENT, at + 1) && isExtentOf(map, ino)) {
    const extentEnd = map.offset + extentLength(map.view, map.start);
    if (extentEnd > at) {
      if (!extentIsHole(map.view, map.start)) return at;
      from = extentEnd;
    }
  }
  while (from < end && map.seek(tree, ino, EXTENT, from) && isExtentOf(map, ino) && map.offset < end) {
    if (!extentIsHole(map.view, map.start)) return map.offset;
    from = map.offset + extentLength(map.view, map.start);
  }
  return end;
}

/** The end of the extent that covers `at`. */
function extentEndAt(map: ItemMap, tree: number, ino: number, at: number): number {
  map.seekBefore(tree, ino, EXTENT, at + 1);
  return map.offset + extentLength(map.view, map.start);
}

/** A new size: drops the extents from the next sector on, or makes room for an inline extent's growth. */
export function applySize(
  map: ItemMap,
  maxInlineBytes: number,
  tree: number,
  ino: number,
  size: number,
): number {
  const problem = findFile(map, tree, ino);
  if (problem !== 0) return problem;
  const oldSize = inodeSize(map.view, map.start);
  let nbytes = inodeNbytes(map.view, map.start);
  if (map.find(tree, ino, EXTENT, 0) && extentType(map.view, map.start) === ExtentType.inline) {
    nbytes += resizeInline(map, maxInlineBytes, tree, ino, size);
  }
  if (size < oldSize) nbytes -= dropExtents(map, tree, ino, sectorCeil(size), Infinity);
  map.find(tree, ino, ItemType.inodeItem, 0);
  map.touch();
  setInodeSize(map.view, map.start, size);
  setInodeNbytes(map.view, map.start, nbytes);
  return 0;
}

/** Follows a new size with the inline extent that is the current item. @returns by how much nbytes rises. */
function resizeInline(map: ItemMap, maxInlineBytes: number, tree: number, ino: number, size: number): number {
  const length = extentLength(map.view, map.start);
  if (size === 0) {
    map.remove();
    return -length;
  }
  if (size > maxInlineBytes && size > length) return expandInline(map, tree, ino);
  map.touch();
  map.resize(EXTENT_HEAD_BYTES + size);
  setU64(map.view, map.start + 8, size);
  return size - length;
}
