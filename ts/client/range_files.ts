// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which files have keys in a range: of those about which anything is remembered.

import { inodeRange, rangesOverlap, type TreeRange } from '../util/range.ts';
import type { Core } from './core.ts';
import type { FileState } from './file_state.ts';

/** Inodes of a range that are looked up one by one rather than by going through all files. */
const FEW_INODES = 64;

/** The files, of those about which anything is remembered, with keys in the range. */
export function filesIn(core: Core, range: TreeRange): FileState[] {
  const { tree, start, end } = range;
  const found: FileState[] = [];
  if (end.objectid - start.objectid <= FEW_INODES) {
    const isLastIn = end.type > 0 || end.offset > 0;
    for (let ino = start.objectid; ino < end.objectid + (isLastIn ? 1 : 0); ino++) {
      const file = core.files.get(core.nodeOf(tree, ino));
      if (file !== undefined) found.push(file);
    }
    return found;
  }
  for (const file of core.files.all()) {
    if (file.tree === tree && rangesOverlap(range, inodeRange(tree, file.ino))) found.push(file);
  }
  return found;
}
