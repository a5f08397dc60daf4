// SPDX-License-Identifier: GPL-2.0-or-later
//
// Checks an item that the server sent before it enters the cache, so that readers of items need not: its size, the
// packed entries, numbers that must be exact. What fails is EIO for the operation that asked.

import { DIR_ENTRY_HEAD_BYTES, entriesAreSound, entryBytes } from '../item/dir_item.ts';
import {
  EXTENT_BYTES,
  EXTENT_HEAD_BYTES,
  ExtentType,
  extentIsCompressed,
  extentLength,
  extentRamBytes,
  extentType,
} from '../item/extent_data.ts';
import { INODE_ITEM_BYTES, inodeNbytes, inodeSize } from '../item/inode_item.ts';
import { EXTREF_HEAD_BYTES, REF_HEAD_BYTES } from '../item/inode_ref.ts';
import { ItemType } from '../item/key.ts';

/** Largest item that the cache can hold. */
const ITEM_BYTES_MAX = 0xff_ffff;

function refsAreSound(view: DataView, start: number, size: number, headBytes: number): boolean {
  const end = start + size;
  let at = start;
  while (at < end) {
    if (at + headBytes > end) return false;
    const length = view.getUint16(at + headBytes - 2, true);
    if (length === 0 || at + headBytes + length > end) return false;
    at += headBytes + length;
  }
  return size > 0;
}

function extentIsSound(view: DataView, start: number, size: number, offset: number): boolean {
  if (size < EXTENT_HEAD_BYTES) return false;
  const type = extentType(view, start);
  if (type === ExtentType.inline) {
    const isWhole = size === EXTENT_HEAD_BYTES + extentRamBytes(view, start);
    return (
      offset === 0 && extentRamBytes(view, start) <= 65_536 && (isWhole || extentIsCompressed(view, start))
    );
  }
  const length = extentLength(view, start);
  return (
    type <= ExtentType.preallocated &&
    size === EXTENT_BYTES &&
    length > 0 &&
    length % 4096 === 0 &&
    offset % 4096 === 0 &&
    offset + length <= Number.MAX_SAFE_INTEGER
  );
}

/** Whether the item may enter the cache; its value lies at `[start, start + size)` of `view`. */
export function itemIsSound(
  type: number,
  offset: number,
  view: DataView,
  start: number,
  size: number,
): boolean {
  switch (type) {
    case ItemType.inodeItem:
      return (
        size === INODE_ITEM_BYTES &&
        inodeSize(view, start) <= Number.MAX_SAFE_INTEGER &&
        inodeNbytes(view, start) <= Number.MAX_SAFE_INTEGER
      );
    case ItemType.inodeRef:
      return refsAreSound(view, start, size, REF_HEAD_BYTES);
    case ItemType.inodeExtref:
      return refsAreSound(view, start, size, EXTREF_HEAD_BYTES);
    case ItemType.dirItem:
    case ItemType.xattrItem:
      return entriesAreSound(view, start, size);
    case ItemType.dirIndex:
      return (
        size >= DIR_ENTRY_HEAD_BYTES && entriesAreSound(view, start, size) && entryBytes(view, start) === size
      );
    case ItemType.extentData:
      return extentIsSound(view, start, size, offset);
    default:
      return size <= ITEM_BYTES_MAX;
  }
}
