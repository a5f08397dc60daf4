// SPDX-License-Identifier: GPL-2.0-or-later
//
// DIR_ITEM, DIR_INDEX and XATTR_ITEM: one or more packed entries.
//
// An entry, as on disk: location key (objectid u64, type u8, offset u64) 17, transid 8, data length u16, name
// length u16, type u8, then the name and the data. Entries of names with the same hash share one DIR_ITEM or
// XATTR_ITEM; a DIR_INDEX holds exactly one.

import { ItemType, KEY_NUMBER_MAX } from './key.ts';
import { getU64, setU64 } from './number_fields.ts';

export const DIR_ENTRY_HEAD_BYTES = 30;

/** Longest name of a file or an xattr, in bytes. */
export const NAME_MAX = 255;

/** Types of directory entries, as on disk. */
export const FileType = {
  unknown: 0,
  regular: 1,
  directory: 2,
  character: 3,
  block: 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
  xattr: 8,
} as const;

const DATA_LENGTH = 25;
const NAME_LENGTH = 27;
const TYPE = 29;

/** By mode >> 12: the entry's type of each kind of inode. */
const TYPE_OF_MODE = new Uint8Array(16);
TYPE_OF_MODE[0o01] = FileType.fifo;
TYPE_OF_MODE[0o02] = FileType.character;
TYPE_OF_MODE[0o04] = FileType.directory;
TYPE_OF_MODE[0o06] = FileType.block;
TYPE_OF_MODE[0o10] = FileType.regular;
TYPE_OF_MODE[0o12] = FileType.symlink;
TYPE_OF_MODE[0o14] = FileType.socket;

export function fileTypeOfMode(mode: number): number {
  return TYPE_OF_MODE[(mode >>> 12) & 15]!;
}

/** DT_* of `struct dirent` by the type of an entry. */
const DT_OF_TYPE = Uint8Array.of(0, 8, 4, 2, 6, 1, 12, 10, 0);

export function direntTypeOf(type: number): number {
  return DT_OF_TYPE[type] ?? 0;
}

export function entryNameLength(view: DataView, at: number): number {
  return view.getUint16(at + NAME_LENGTH, true);
}

export function entryDataLength(view: DataView, at: number): number {
  return view.getUint16(at + DATA_LENGTH, true);
}

export function entryType(view: DataView, at: number): number {
  return view.getUint8(at + TYPE);
}

/** Objectid of an entry's location: an inode number, or a tree's number if the entry is a subvolume. */
export function entryObjectid(view: DataView, at: number): number {
  return getU64(view, at);
}

/** Whether an entry leads to the root of another tree. */
export function entryIsSubvolume(view: DataView, at: number): boolean {
  return view.getUint8(at + 8) === ItemType.rootItem;
}

/**
 * Whether an entry that leads to the root of another tree leads nowhere, as copies of such entries in snapshots do: the
 * offset of its location is 0 then (docs/protocol.md, "Item page").
 */
export function entryIsPlaceholder(view: DataView, at: number): boolean {
  return (
    entryIsSubvolume(view, at) && view.getUint32(at + 9, true) === 0 && view.getUint32(at + 13, true) === 0
  );
}

/** Where an entry's name begins. */
export function entryNameAt(at: number): number {
  return at + DIR_ENTRY_HEAD_BYTES;
}

/** Bytes of the whole entry at `at`. */
export function entryBytes(view: DataView, at: number): number {
  return DIR_ENTRY_HEAD_BYTES + entryNameLength(view, at) + entryDataLength(view, at);
}

/** Compares a stretch of bytes with another of the same length. */
export function bytesEqual(
  a: Uint8Array,
  aStart: number,
  b: Uint8Array,
  bStart: number,
  length: number,
): boolean {
  for (let index = 0; index < length; index++) {
    if (a[aStart + index] !== b[bStart + index]) return false;
  }
  return true;
}

/**
 * Finds the entry of a name in a packed item.
 *
 * @returns the position of the entry in `bytes`, or -1.
 */
export function findEntry(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  size: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
): number {
  const end = start + size;
  let at = start;
  while (at + DIR_ENTRY_HEAD_BYTES <= end) {
    if (
      entryNameLength(view, at) === nameLength &&
      bytesEqual(bytes, at + DIR_ENTRY_HEAD_BYTES, name, nameStart, nameLength)
    ) {
      return at;
    }
    at += entryBytes(view, at);
  }
  return -1;
}

/** Writes the head and name of an entry whose location is an inode (`objectid` 0: an xattr's empty location). */
export function writeEntry(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  objectid: number,
  type: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  dataLength: number,
): void {
  setU64(view, at, objectid);
  view.setUint8(at + 8, objectid === 0 ? 0 : ItemType.inodeItem);
  setU64(view, at + 9, 0);
  setU64(view, at + 17, 0);
  view.setUint16(at + DATA_LENGTH, dataLength, true);
  view.setUint16(at + NAME_LENGTH, nameLength, true);
  view.setUint8(at + TYPE, type);
  copyBytes(bytes, at + DIR_ENTRY_HEAD_BYTES, name, nameStart, nameLength);
}

/** Copies a short stretch; a loop beats `set` with its subarray for names. */
export function copyBytes(
  target: Uint8Array,
  targetStart: number,
  source: Uint8Array,
  sourceStart: number,
  length: number,
): void {
  for (let index = 0; index < length; index++) target[targetStart + index] = source[sourceStart + index]!;
}

/** Whether the packed entries of an item are well formed: for what a peer sent. */
export function entriesAreSound(view: DataView, start: number, size: number): boolean {
  const end = start + size;
  let at = start;
  while (at < end) {
    if (at + DIR_ENTRY_HEAD_BYTES > end || at + entryBytes(view, at) > end) return false;
    if (entryObjectid(view, at) > KEY_NUMBER_MAX || entryNameLength(view, at) === 0) return false;
    at += entryBytes(view, at);
  }
  return at === end && size > 0;
}
