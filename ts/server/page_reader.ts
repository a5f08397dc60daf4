// SPDX-License-Identifier: GPL-2.0-or-later
//
// Reads the pages that go with newly granted ranges: one page or several for each range, within the reply's budget.
//
// A derived key stands for the inode item too: a range that begins with `(ino, 1, 1)` is read from `(ino, 1, 0)`.

import { DERIVED, ItemType } from '../item/key.ts';
import type { Volume } from '../store/volume.ts';
import { PAGE_BYTES_MAX, WIDE_BYTES } from '../util/limits.ts';
import { compareKey, type Key, type TreeRange } from '../util/range.ts';

/** A range whose items a reply must bring, and how far it may be widened. */
export interface PieceToRead extends TreeRange {
  /** The grant reaches up to here; what is not read of `[end, wideEnd)` will be given back. An inode boundary. */
  readonly wideEnd: Key;
}

export interface PageRead extends TreeRange {
  readonly bytes: Buffer;
}

/**
 * Reads a piece from its start on.
 *
 * @param budget - bytes that the reply has left; at least one page is read
 * @returns the pages, one after the other without gaps; the last one ends where the reading ended
 */
export async function readPiece(volume: Volume, piece: PieceToRead, budget: number): Promise<PageRead[]> {
  const { tree } = piece;
  const pages: PageRead[] = [];
  let left = budget;
  let at = piece.start;
  const isWide = compareKey(piece.end, piece.wideEnd) < 0;
  let until = piece.wideEnd;
  let bytesMax = isWide ? WIDE_BYTES : PAGE_BYTES_MAX;
  while (compareKey(at, until) < 0 && (pages.length === 0 || left > 0)) {
    const read = await volume.readItems(tree, startOfItems(at), until, bytesMax);
    let end = read.coveredEnd;
    // What was asked for did not fit into one page: nothing is widened.
    if (compareKey(end, piece.end) < 0) until = piece.end;
    else if (isWide && compareKey(end, until) < 0) {
      until = inodeBoundary(end);
      end = until;
    }
    pages.push({ tree, start: at, end, bytes: read.page });
    left -= read.page.length;
    bytesMax = Math.min(PAGE_BYTES_MAX, Math.max(left, 1));
    at = end;
  }
  return pages;
}

function startOfItems(start: Key): Key {
  return start.type === ItemType.inodeItem && start.offset === DERIVED ? { ...start, offset: 0 } : start;
}

/** The key at which the inode of `key` begins. */
function inodeBoundary(key: Key): Key {
  return { objectid: key.objectid, type: 0, offset: 0 };
}
