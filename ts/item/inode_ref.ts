// SPDX-License-Identifier: GPL-2.0-or-later
//
// INODE_REF (ino, 12, parent) and INODE_EXTREF (ino, 13, hash): the names of an inode, seen from the inode.
//
// An INODE_REF packs entries {index u64, name length u16, name}; once it would outgrow the largest item, further
// names go to INODE_EXTREFs, which pack {parent u64, index u64, name length u16, name}.

import { bytesEqual, copyBytes } from './dir_item.ts';
import { getU64, setU64 } from './number_fields.ts';

export const REF_HEAD_BYTES = 10;
export const EXTREF_HEAD_BYTES = 18;

export function refIndex(view: DataView, at: number): number {
  return getU64(view, at);
}

export function refNameLength(view: DataView, at: number): number {
  return view.getUint16(at + 8, true);
}

export function extrefParent(view: DataView, at: number): number {
  return getU64(view, at);
}

/** Finds the entry of a name in an INODE_REF's value. @returns its position, or -1. */
export function findRef(
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
  while (at + REF_HEAD_BYTES <= end) {
    const length = refNameLength(view, at);
    if (length === nameLength && bytesEqual(bytes, at + REF_HEAD_BYTES, name, nameStart, length)) return at;
    at += REF_HEAD_BYTES + length;
  }
  return -1;
}

/** Finds the entry of a name in a directory in an INODE_EXTREF's value. @returns its position, or -1. */
export function findExtref(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  size: number,
  parent: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
): number {
  const end = start + size;
  let at = start;
  while (at + EXTREF_HEAD_BYTES <= end) {
    const length = view.getUint16(at + 16, true);
    if (
      length === nameLength &&
      extrefParent(view, at) === parent &&
      bytesEqual(bytes, at + EXTREF_HEAD_BYTES, name, nameStart, length)
    ) {
      return at;
    }
    at += EXTREF_HEAD_BYTES + length;
  }
  return -1;
}

export function writeRef(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  index: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
): void {
  setU64(view, at, index);
  view.setUint16(at + 8, nameLength, true);
  copyBytes(bytes, at + REF_HEAD_BYTES, name, nameStart, nameLength);
}

export function writeExtref(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  parent: number,
  index: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
): void {
  setU64(view, at, parent);
  setU64(view, at + 8, index);
  view.setUint16(at + 16, nameLength, true);
  copyBytes(bytes, at + EXTREF_HEAD_BYTES, name, nameStart, nameLength);
}
