// SPDX-License-Identifier: GPL-2.0-or-later
//
// Finds the small files whose items are in the pages of a reply, so that their data can go with them: regular files
// of at most SMALL_FILE_BYTES with data outside their items, whose whole prefix the pages cover.

import { ExtentType, extentIsHole, extentType } from '../item/extent_data.ts';
import { inodeMode, inodeSize, isRegular } from '../item/inode_item.ts';
import { ItemType } from '../item/key.ts';
import { SMALL_FILE_BYTES } from '../util/limits.ts';
import { compareKey, inodeRange } from '../util/range.ts';
import { ItemPage } from '../wire/item_page.ts';
import type { FileExtent } from '../wire/message.ts';
import type { PageRead } from './page_reader.ts';

const COUNT_AT = 4;

/** @returns whole files, in key order, of `bytesMax` bytes together at most */
export function findSmallFiles(pages: readonly PageRead[], sector: number, bytesMax: number): FileExtent[] {
  const files: FileExtent[] = [];
  let left = bytesMax;
  for (const { tree, start, end, bytes } of pages) {
    const page = new ItemPage(bytes, bytes.readUInt32LE(COUNT_AT));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let slot = 0;
    while (slot < page.count) {
      const ino = page.objectid(slot);
      const next = page.lowerBound(ino + 1, 0, 0);
      const range = inodeRange(tree, ino);
      const isWhole = compareKey(start, range.start) <= 0 && compareKey(range.end, end) <= 0;
      const length = isWhole ? smallFileLength(page, view, slot, next, sector) : 0;
      if (length > left) return files;
      if (length > 0) files.push({ tree, ino, offset: 0, length });
      left -= length;
      slot = next;
    }
  }
  return files;
}

/** Bytes to read of the inode whose items are `[slot, slotEnd)`, whole sectors; 0 when it is not a small file. */
function smallFileLength(
  page: ItemPage,
  view: DataView,
  slot: number,
  slotEnd: number,
  sector: number,
): number {
  if (page.type(slot) !== ItemType.inodeItem) return 0;
  const at = page.dataStart(slot);
  if (!isRegular(inodeMode(view, at))) return 0;
  const size = inodeSize(view, at);
  if (size === 0 || size > SMALL_FILE_BYTES) return 0;
  for (let other = slotEnd - 1; other > slot && page.type(other) === ItemType.extentData; other--) {
    const extent = page.dataStart(other);
    if (extentType(view, extent) === ExtentType.regular && !extentIsHole(view, extent)) {
      return Math.ceil(size / sector) * sector;
    }
  }
  return 0;
}
