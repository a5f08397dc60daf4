// SPDX-License-Identifier: GPL-2.0-or-later
//
// Names in directories, as every operation over names looks at them: finding an entry, its index, the next free
// index. Results lie in `found`, which the next call overwrites: nothing is allocated.

import {
  entryIsPlaceholder,
  entryIsSubvolume,
  entryObjectid,
  entryType,
  findEntry,
  NAME_MAX,
} from '../../item/dir_item.ts';
import { inodeMode, inodeNlink, inodeSize, isDirectory } from '../../item/inode_item.ts';
import { findExtref, findRef, refIndex } from '../../item/inode_ref.ts';
import { ItemType, ROOT_INO } from '../../item/key.ts';
import { extrefHash, nameHash } from '../../item/name_hash.ts';
import { getU64 } from '../../item/number_fields.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import type { Core } from '../core.ts';
import { MISS } from '../operations.ts';

/** What `findName` found. */
export const found = {
  tree: 0,
  ino: 0,
  /** The entry's type (FileType). */
  type: 0,
  isSubvolume: false,
  /** Whether it names subvolume `tree`, which is not there. */
  isPlaceholder: false,
};

/** What is wrong with the length of a name, or 0. */
export function nameError(name: Uint8Array): number {
  if (name.length > NAME_MAX) return -Errno.ENAMETOOLONG;
  return name.length === 0 ? -Errno.ENOENT : 0;
}

/** Whether the name is `.` or `..`. */
export function isDotName(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** Looks a name up in the items; its key must be held. @returns whether it is there; then `found` tells what. */
export function findName(core: Core, tree: number, dir: number, name: Uint8Array, hash: number): boolean {
  const items = core.items;
  if (!items.find(tree, dir, ItemType.dirItem, hash)) return false;
  const at = findEntry(items.bytes, items.view, items.start, items.size, name, 0, name.length);
  if (at < 0) return false;
  found.isSubvolume = entryIsSubvolume(items.view, at);
  found.isPlaceholder = entryIsPlaceholder(items.view, at);
  const objectid = entryObjectid(items.view, at);
  found.tree = found.isSubvolume ? objectid : tree;
  found.ino = found.isSubvolume ? ROOT_INO : objectid;
  found.type = entryType(items.view, at);
  return true;
}

/** Whether one more entry fits beside those with the same hash. @returns 0 or -EOVERFLOW. */
export function bucketError(core: Core, tree: number, dir: number, hash: number, name: Uint8Array): number {
  const items = core.items;
  if (!items.find(tree, dir, ItemType.dirItem, hash)) return 0;
  return items.size + 30 + name.length > core.limits.maxBucketBytes ? -Errno.EOVERFLOW : 0;
}

/**
 * The index of a name, from the inode's side; the inode's references must be held.
 *
 * @returns the index, or -EIO if the image lacks the reference.
 */
export function indexOf(core: Core, tree: number, dir: number, ino: number, name: Uint8Array): number {
  const items = core.items;
  if (items.find(tree, ino, ItemType.inodeRef, dir)) {
    const at = findRef(items.bytes, items.view, items.start, items.size, name, 0, name.length);
    if (at >= 0) return refIndex(items.view, at);
  }
  if (items.find(tree, ino, ItemType.inodeExtref, extrefHash(dir, name))) {
    const at = findExtref(items.bytes, items.view, items.start, items.size, dir, name, 0, name.length);
    if (at >= 0) return getU64(items.view, at + 8);
  }
  return -Errno.EIO;
}

/** Whether a directory can take names: 0, -ENOTDIR, or -ENOENT if it was removed. Its inode must be held. */
export function directoryError(core: Core, tree: number, dir: number): number {
  const error = core.findInode(tree, dir);
  if (error !== 0) return error;
  const { view, start } = core.items;
  if (!isDirectory(inodeMode(view, start))) return -Errno.ENOTDIR;
  return inodeNlink(view, start) === 0 ? -Errno.ENOENT : 0;
}

/** Directories up to this size, in bytes of names twice, have their whole index asked for. */
const SMALL_DIRECTORY = 65_536;

const TAIL_OFFSET = Number.MAX_SAFE_INTEGER - 1;

/**
 * The index for a directory's next name, held for writing: one more than the last, or where the part of the index
 * begins that is held to its end without an entry.
 *
 * That part is asked for from where the next index was last, as far as that is known; of a large directory from about
 * where the last entry may be.
 *
 * @returns the index, or MISS.
 */
export function nextIndex(core: Core, tree: number, dir: number): number {
  const node = core.nodeOf(tree, dir);
  const type = ItemType.dirIndex;
  const known = core.nextIndex.get(node);
  if (known !== undefined && core.held.holds(tree, dir, type, known, Mode.write)) {
    // Whoever took the rest of the index back may have used what comes behind.
    core.needs.add(tree, dir, type, known, dir, type + 1, 0, Mode.write);
    return known;
  }
  const tail = core.held.find(tree, { objectid: dir, type, offset: TAIL_OFFSET });
  if (tail !== undefined && tail.mode === Mode.write) {
    const isCut = tail.start.objectid === dir && tail.start.type === type;
    const lowest = isCut ? tail.start.offset : 0;
    const { items } = core;
    const hasLast =
      items.seekBefore(tree, dir, type + 1, 0) &&
      items.objectid === dir &&
      items.type === type &&
      items.offset >= lowest;
    const index = Math.max(2, hasLast ? items.offset + 1 : lowest);
    core.setNextIndex(node, index);
    core.needs.add(tree, dir, type, lowest, dir, type + 1, 0, Mode.write);
    return index;
  }
  core.missing.want(tree, dir, type, firstWanted(core, tree, dir), dir, type + 1, 0, Mode.write, false);
  return MISS;
}

/** From where on a directory's index is asked for. */
function firstWanted(core: Core, tree: number, dir: number): number {
  const last = core.lastIndex.get(core.nodeOf(tree, dir));
  if (last !== undefined) return last;
  if (core.findInode(tree, dir) !== 0) return 0;
  const size = inodeSize(core.items.view, core.items.start);
  return size > SMALL_DIRECTORY ? Math.ceil(size / 2) + 2 : 0;
}

/** Whether what is needed for taking a name away or changing it is held: name and directory. */
export function needDirectoryEntry(core: Core, tree: number, dir: number, hash: number): boolean {
  const hasDirectory = core.needInode(tree, dir, Mode.read, Mode.write);
  return core.needName(tree, dir, hash, Mode.write) && hasDirectory;
}

export { nameHash };
