// SPDX-License-Identifier: GPL-2.0-or-later
//
// Forgets what is known of ranges that are not held any more: items, and bytes that were read ahead.

import {
  cutExtent,
  ExtentType,
  extentIsHole,
  extentLength,
  extentType,
  setExtentLength,
} from '../item/extent_data.ts';
import { ItemType } from '../item/key.ts';
import type { Key, TreeRange } from '../util/range.ts';
import { Mode } from '../wire/message.ts';
import type { Core } from './core.ts';
import { filesIn } from './range_files.ts';

/** Forgets the items of a range that was given up some time ago; of what was granted anew since they stay. */
export function dropGone(core: Core, range: TreeRange): void {
  for (const piece of core.held.missing(range, Mode.read)) dropItems(core, piece);
}

/** Forgets the items of a range; an extent that reaches over an end keeps its part outside. */
export function dropItems(core: Core, range: TreeRange): void {
  const { tree, start, end } = range;
  splitExtentAt(core, tree, start);
  splitExtentAt(core, tree, end);
  core.items.dropRange(tree, start.objectid, start.type, start.offset, end.objectid, end.type, end.offset);
}

/** Forgets bytes that were read ahead, or are on their way, of files whose ranges go. */
export function dropData(core: Core, ranges: readonly TreeRange[]): void {
  for (const range of ranges) {
    for (const file of filesIn(core, range)) {
      file.hasNoCapability = false;
      if (file.clean.length === 0 && file.fetches.length === 0) continue;
      file.markStale(0, Infinity);
      core.files.dropCleanRange(file, 0, Infinity);
      core.files.settle(file);
    }
  }
}

/** Cuts the extent that holds the byte at which a range begins or ends into two items. */
function splitExtentAt(core: Core, tree: number, key: Key): void {
  if (key.type !== ItemType.extentData || key.offset === 0) return;
  const items = core.items;
  const { objectid: ino, type, offset } = key;
  if (!items.seekBefore(tree, ino, type, offset) || items.objectid !== ino || items.type !== type) return;
  const first = items.offset;
  const last = first + extentLength(items.view, items.start);
  if (extentType(items.view, items.start) === ExtentType.inline || last <= offset) return;
  const isHole = extentIsHole(items.view, items.start);
  const value = cutExtent(items.view, items.start, items.size, offset - first, Infinity);
  setExtentLength(items.view, items.start, offset - first);
  if (!isHole) items.adopt(tree, ino, type, offset, value, 0, value.length);
}
