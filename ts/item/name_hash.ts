// SPDX-License-Identifier: GPL-2.0-or-later
//
// Hashes of names as BTRFS keys use them: raw crc32c over the bytes of the name, without inversions. DIR_ITEM and
// XATTR_ITEM start from ~1, INODE_EXTREF from the low half of the parent's number.

import { crc32cRaw } from '../util/crc32c.ts';

/** Offset of the DIR_ITEM or XATTR_ITEM of a name. */
export function nameHash(name: Uint8Array, start = 0, length: number = name.length): number {
  return crc32cRaw(name, start, start + length, 0xfffffffe);
}

/** Offset of the INODE_EXTREF of a name in a directory. */
export function extrefHash(
  parent: number,
  name: Uint8Array,
  start = 0,
  length: number = name.length,
): number {
  return crc32cRaw(name, start, start + length, parent >>> 0);
}
