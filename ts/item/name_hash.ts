// SPDX-License-Identifier: GPL-2.0-or-later
//
// Hashes of names as BTRFS keys use them: raw crc32c (reflected, polynomial 0x82f63b78) over the bytes of the name,
// without a final inversion. DIR_ITEM and XATTR_ITEM start from ~1, INODE_EXTREF from the parent's number.
//
// Names are short, so a table of 256 entries and a loop beats a call into native code.

const TABLE = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  TABLE[byte] = crc;
}

function rawCrc32c(seed: number, bytes: Uint8Array, start: number, length: number): number {
  let crc = seed | 0;
  const end = start + length;
  for (let index = start; index < end; index++) {
    crc = TABLE[(crc ^ bytes[index]!) & 0xff]! ^ (crc >>> 8);
  }
  return crc >>> 0;
}

/** Offset of the DIR_ITEM or XATTR_ITEM of a name. */
export function nameHash(name: Uint8Array, start = 0, length: number = name.length): number {
  return rawCrc32c(~1, name, start, length);
}

/** Offset of the INODE_EXTREF of a name in a directory. */
export function extrefHash(
  parent: number,
  name: Uint8Array,
  start = 0,
  length: number = name.length,
): number {
  // The engine's seed is the low half of the parent's number.
  return rawCrc32c(parent >>> 0, name, start, length);
}
