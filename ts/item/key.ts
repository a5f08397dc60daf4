// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keys of BTRFS items: (objectid, type, offset), ordered by the three in turn. Used by every layer above util.
//
// In memory a key is three numbers, passed side by side: no object is made for one. On the wire it is 17 bytes,
// each part big-endian, so that memcmp order is key order. Objectids and offsets that clients see stay below 2^53
// (inode numbers, file offsets, hashes, directory indexes); a decoder must check `isSafeKey` on what a peer sent.
//
// See docs/protocol.md, "Keys, ranges, modes".

/** Types of items that clients see, as on disk. */
export const ItemType = {
  inodeItem: 1,
  inodeRef: 12,
  inodeExtref: 13,
  xattrItem: 24,
  dirItem: 84,
  dirIndex: 96,
  extentData: 108,
  /** Only as the location of a directory entry: the entry is a subvolume. */
  rootItem: 132,
} as const;

/** Offset of the key that stands for an inode's size, nlink, nbytes and times in the space of grants. */
export const DERIVED = 1;

/** The number of the root directory of every tree. */
export const ROOT_INO = 256;

/** The default tree (FS_TREE) and the first number of other subvolumes. */
export const FS_TREE = 5;
export const FIRST_SUBVOLUME_TREE = 256;

/** Bytes of a key on the wire. */
export const KEY_BYTES = 17;

/** Largest number that an objectid or an offset may have. */
export const KEY_NUMBER_MAX: number = Number.MAX_SAFE_INTEGER;

/** Orders two keys. @returns less than, equal to or greater than zero. */
export function compareKeys(
  objectidA: number,
  typeA: number,
  offsetA: number,
  objectidB: number,
  typeB: number,
  offsetB: number,
): number {
  if (objectidA !== objectidB) return objectidA < objectidB ? -1 : 1;
  if (typeA !== typeB) return typeA - typeB;
  return offsetA === offsetB ? 0 : offsetA < offsetB ? -1 : 1;
}

function putU64Be(bytes: Uint8Array, at: number, value: number): void {
  let high = Math.floor(value / 0x1_0000_0000);
  let low = value >>> 0;
  for (let index = 3; index >= 0; index--) {
    bytes[at + index] = high & 0xff;
    bytes[at + 4 + index] = low & 0xff;
    high >>>= 8;
    low >>>= 8;
  }
}

function getU32Be(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Writes a key in its wire form at `at`. */
export function encodeKey(
  bytes: Uint8Array,
  at: number,
  objectid: number,
  type: number,
  offset: number,
): void {
  putU64Be(bytes, at, objectid);
  bytes[at + 8] = type;
  putU64Be(bytes, at + 9, offset);
}

/** Makes a new 17-byte string of a key. */
export function keyBytes(objectid: number, type: number, offset: number): Uint8Array {
  const bytes = new Uint8Array(KEY_BYTES);
  encodeKey(bytes, 0, objectid, type, offset);
  return bytes;
}

/** The objectid of the wire key at `at`; not exact from 2^53 on. */
export function decodeObjectid(bytes: Uint8Array, at: number): number {
  return getU32Be(bytes, at) * 0x1_0000_0000 + getU32Be(bytes, at + 4);
}

export function decodeType(bytes: Uint8Array, at: number): number {
  return bytes[at + 8]!;
}

/** The offset of the wire key at `at`; not exact from 2^53 on. */
export function decodeOffset(bytes: Uint8Array, at: number): number {
  return getU32Be(bytes, at + 9) * 0x1_0000_0000 + getU32Be(bytes, at + 13);
}

/** Whether the 17 bytes at `at` hold a key whose numbers are exact. */
export function isSafeKey(bytes: Uint8Array, at: number): boolean {
  return (
    bytes.length >= at + KEY_BYTES &&
    decodeObjectid(bytes, at) <= KEY_NUMBER_MAX &&
    decodeOffset(bytes, at) <= KEY_NUMBER_MAX
  );
}
