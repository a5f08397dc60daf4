// SPDX-License-Identifier: GPL-2.0-or-later
//
// EXTENT_DATA (ino, 108, file offset): where a file's bytes lie, in the form in which clients see it.
//
//   0 generation u64   8 ram_bytes u64   16 compression u8   17 encryption u8   18 other u16   20 type u8
//  21 inline: the bytes (compressed: as stored)
//  21 regular, preallocated: disk_bytenr u64   29 disk_num_bytes u64   37 offset u64   45 num_bytes u64
//
// No client sees a disk address: disk_bytenr is 1, or 0 for a hole; disk_num_bytes and ram_bytes equal num_bytes,
// and offset is 0 (docs/protocol.md, "Item page").

import { getU64, setU64 } from './number_fields.ts';

export const EXTENT_HEAD_BYTES = 21;
export const EXTENT_BYTES = 53;

export const ExtentType = { inline: 0, regular: 1, preallocated: 2 } as const;

export function extentType(view: DataView, at: number): number {
  return view.getUint8(at + 20);
}

export function extentRamBytes(view: DataView, at: number): number {
  return getU64(view, at + 8);
}

export function extentIsCompressed(view: DataView, at: number): boolean {
  return view.getUint8(at + 16) !== 0;
}

/** Length in the file; for an inline extent the uncompressed length. */
export function extentLength(view: DataView, at: number): number {
  return extentType(view, at) === ExtentType.inline ? getU64(view, at + 8) : getU64(view, at + 45);
}

/** Whether the extent is a hole written down (a file system without NO_HOLES). */
export function extentIsHole(view: DataView, at: number): boolean {
  return extentType(view, at) !== ExtentType.inline && getU64(view, at + 21) === 0;
}

/** Bytes that the extent adds to the inode's nbytes. */
export function extentNbytes(view: DataView, at: number): number {
  return extentIsHole(view, at) ? 0 : extentLength(view, at);
}

/** Writes a regular or preallocated extent of `length` bytes. */
export function writeExtent(view: DataView, at: number, type: number, length: number): void {
  setU64(view, at, 0);
  setU64(view, at + 8, length);
  view.setUint32(at + 16, 0, true);
  view.setUint8(at + 20, type);
  setU64(view, at + 21, 1);
  setU64(view, at + 29, length);
  setU64(view, at + 37, 0);
  setU64(view, at + 45, length);
}

/** Gives a regular or preallocated extent (or a hole) another length. */
export function setExtentLength(view: DataView, at: number, length: number): void {
  setU64(view, at + 8, length);
  if (getU64(view, at + 21) !== 0) setU64(view, at + 29, length);
  setU64(view, at + 45, length);
}

/**
 * A copy of the extent at `at` of `view`, without its first `skipped` bytes and no longer than `most` bytes. Only a regular
 * or preallocated extent, or a hole, can be cut.
 */
export function cutExtent(
  view: DataView,
  at: number,
  size: number,
  skipped: number,
  most: number,
): Uint8Array {
  const value = new Uint8Array(view.buffer, view.byteOffset + at, size).slice();
  const length = Math.min(most, extentLength(view, at) - skipped);
  setExtentLength(new DataView(value.buffer), 0, length);
  return value;
}

/** Writes the head of an inline extent whose bytes follow at `at + 21`. */
export function writeInlineHead(view: DataView, at: number, length: number): void {
  setU64(view, at, 0);
  setU64(view, at + 8, length);
  view.setUint32(at + 16, 0, true);
  view.setUint8(at + 20, ExtentType.inline);
}
