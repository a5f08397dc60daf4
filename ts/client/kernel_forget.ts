// SPDX-License-Identifier: GPL-2.0-or-later
//
// Says to the kernel what it must forget when grants over ranges of keys go: names by the DIR_ITEMs, attributes by
// the inode items, pages by the EXTENT_DATAs. (It keeps no listings.) Names of all ranges come before any
// inode (kernel_cache.ts says why).

import { inodeMode, isDirectory } from '../item/inode_item.ts';
import { ItemType } from '../item/key.ts';
import { compareKey, type Key, type TreeRange } from '../util/range.ts';
import { Mode } from '../wire/message.ts';
import type { Core } from './core.ts';

/** Hashes are 32 bits. */
const HASH_END = 0x1_0000_0000;

/** What of one inode's keys lies in a range: `[from, to)` of the keys of one type, or null. */
function partOf(
  range: TreeRange,
  ino: number,
  type: number,
  end: number,
): { from: number; to: number } | null {
  const { start: first, end: last } = range;
  const isStartInside = first.objectid === ino && first.type === type;
  const isEndInside = last.objectid === ino && last.type === type;
  if (first.objectid > ino || (first.objectid === ino && first.type > type)) return null;
  if (last.objectid < ino || (last.objectid === ino && last.type < type)) return null;
  const from = isStartInside ? first.offset : 0;
  const to = isEndInside ? last.offset : end;
  return from < to ? { from, to } : null;
}

/** The inodes with keys in the range of which the kernel can know more than attributes. */
function inodesIn(core: Core, range: TreeRange, isWanted: (mode: number) => boolean): Set<number> {
  const { tree, start, end } = range;
  const { items } = core;
  const found = new Set<number>([start.objectid]);
  if (compareKey({ objectid: end.objectid, type: 0, offset: 0 }, end) < 0) found.add(end.objectid);
  let isThere = items.seek(tree, start.objectid + 1, 0, 0);
  while (isThere && items.objectid < end.objectid) {
    if (items.type === ItemType.inodeItem && isWanted(inodeMode(items.view, items.start)))
      found.add(items.objectid);
    isThere = items.next();
  }
  // Of others parts are held without the inode item, perhaps only the absence of a name: there a held piece begins or ends.
  core.held.forEachIn(range, (from, to) => {
    if (from.type > 0 || from.offset > 0) found.add(from.objectid);
    if (to.type > 0 || to.offset > 0) found.add(to.objectid);
    return true;
  });
  return found;
}

/** Queues everything that the kernel must forget of these ranges, which are still held. */
export function forgetRanges(core: Core, ranges: readonly TreeRange[]): void {
  for (const range of ranges) {
    for (const ino of inodesIn(core, range, isDirectory)) forgetNames(core, range, ino);
  }
  for (const range of ranges) forgetInodes(core, range);
}

function forgetNames(core: Core, range: TreeRange, ino: number): void {
  const node = core.nodeOf(range.tree, ino);
  if (node === 0) return;
  const names = partOf(range, ino, ItemType.dirItem, HASH_END);
  if (names !== null) core.kernel.forgetNames(node, names.from, names.to);
  if (partOf(range, ino, ItemType.dirIndex, Infinity) !== null) core.loseNextIndex(node);
}

function forgetInodes(core: Core, range: TreeRange): void {
  const { tree, start, end } = range;
  const hasAttributes =
    compareKey(start, { objectid: start.objectid, type: ItemType.inodeItem, offset: 2 }) < 0;
  // The kernel keeps ACLs for as long as attributes.
  const isFirstIn = hasAttributes || partOf(range, start.objectid, ItemType.xattrItem, HASH_END) !== null;
  const isLastIn = compareKey({ objectid: end.objectid, type: ItemType.inodeItem, offset: 0 }, end) < 0;
  forgetSpan(
    core,
    tree,
    isFirstIn ? start.objectid : start.objectid + 1,
    isLastIn ? end.objectid + 1 : end.objectid,
  );
  for (const ino of inodesIn(core, range, (mode) => !isDirectory(mode))) forgetContent(core, range, ino);
}

/** Attributes of the inodes `[from, to)`. */
function forgetSpan(core: Core, tree: number, from: number, to: number): void {
  if (from >= to) return;
  // The root's number in the kernel is not its own.
  if (tree === core.rootTree && from <= core.rootIno && core.rootIno < to) core.kernel.forgetAttributes(1, 2);
  const start = core.nodeOf(tree, from);
  const last = core.nodeOf(tree, to - 1);
  const low = start === 1 ? core.nodeOf(tree, from + 1) : start;
  const high = last === 1 ? core.nodeOf(tree, to - 2) : last;
  if (low !== 0 && low <= high) core.kernel.forgetAttributes(low, high + 1);
}

/**
 * Pages of a file, or the target of a symbolic link, as far as the range is held: elsewhere there are none, and a READ that
 * waits there for a grant has its page locked.
 *
 * @param dirtied - only pages that can be dirtied through mmap.
 */
export function forgetContent(core: Core, range: TreeRange, ino: number, dirtied = false): void {
  const { tree } = range;
  const node = core.nodeOf(tree, ino);
  const bytes = node === 0 ? null : partOf(range, ino, ItemType.extentData, Infinity);
  if (bytes === null) return;
  const hasWriters = (core.files.get(node)?.writers ?? 0) > 0;
  if (dirtied && !hasWriters) return;
  const start = { objectid: ino, type: ItemType.extentData, offset: bytes.from };
  const end =
    bytes.to === Infinity
      ? { objectid: ino, type: ItemType.extentData + 1, offset: 0 }
      : { objectid: ino, type: ItemType.extentData, offset: bytes.to };
  core.held.forEachIn({ tree, start, end }, (from, to, mode) => {
    // A file that is open for writing has no pages of what is held to read (core.mayDirtyPages).
    if (hasWriters && mode !== Mode.write) return true;
    core.kernel.forgetBytes(node, from.offset, to.type === ItemType.extentData ? to.offset : Infinity);
    return true;
  });
}

/** The key right behind all keys of an inode. */
export function endOfInode(ino: number): Key {
  return { objectid: ino + 1, type: 0, offset: 0 };
}
