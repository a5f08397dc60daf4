// SPDX-License-Identifier: GPL-2.0-or-later
//
// Operations that look at names and inodes: lookup, getattr, readlink, readdir.

import { parentOf } from '../../item/apply_name.ts';
import {
  direntTypeOf,
  entryIsPlaceholder,
  entryIsSubvolume,
  entryNameAt,
  entryNameLength,
  entryObjectid,
  entryType,
} from '../../item/dir_item.ts';
import { EXTENT_HEAD_BYTES, ExtentType, extentType } from '../../item/extent_data.ts';
import { inodeMode, isDirectory, isSymlink } from '../../item/inode_item.ts';
import { DERIVED, ItemType, ROOT_INO } from '../../item/key.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import type { Core } from '../core.ts';
import { LISTING_WANTS_MAX } from '../limits.ts';
import { isPlaceholderNode, nodeOf, placeholderNode } from '../node_id.ts';
import { type AttrOut, type DirSink, MISS } from '../operations.ts';
import { findName, found, nameError, nameHash } from './entry.ts';
import { fillPlaceholder, placeholderAttr } from './placeholder.ts';

const DT_DIR = 4;

export function lookup(core: Core, dirNode: number, name: Uint8Array, out: AttrOut): number {
  const error = core.begin();
  out.node = 0;
  out.cacheable = false;
  if (error !== 0) return error;
  const badName = nameError(name);
  if (badName !== 0) return badName;
  if (isPlaceholderNode(dirNode)) return -Errno.ENOENT;
  const tree = core.treeOf(dirNode);
  const dir = core.inoOf(dirNode);
  const hash = nameHash(name);
  if (!core.needName(tree, dir, hash, Mode.read)) return MISS;
  const isLasting = core.isLasting(tree, dir, ItemType.dirItem, hash);
  if (!findName(core, tree, dir, name, hash)) {
    out.cacheable = isLasting;
    return -Errno.ENOENT;
  }
  const { tree: childTree, ino } = found;
  if (found.isPlaceholder) return fillPlaceholder(core, dirNode, childTree, out);
  if (!core.needInode(childTree, ino, Mode.read, Mode.read)) return MISS;
  const result = core.fillAttr(childTree, ino, out);
  out.cacheable = out.cacheable && isLasting;
  return result;
}

export function getattr(core: Core, node: number, out: AttrOut): number {
  const error = core.begin();
  if (error !== 0) return error;
  if (isPlaceholderNode(node)) return placeholderAttr(core, node, out);
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (!core.needInode(tree, ino, Mode.read, Mode.read)) return MISS;
  return core.fillAttr(tree, ino, out);
}

export function readlink(core: Core, node: number, target: Uint8Array): number {
  const error = core.begin();
  if (error !== 0) return error;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const hasInode = core.needInode(tree, ino, Mode.read, Mode.read);
  if (!core.needTypes(tree, ino, ItemType.extentData, ItemType.extentData + 1, Mode.read) || !hasInode)
    return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  const items = core.items;
  if (!isSymlink(inodeMode(items.view, items.start))) return -Errno.EINVAL;
  if (!items.find(tree, ino, ItemType.extentData, 0)) return -Errno.EIO;
  if (extentType(items.view, items.start) !== ExtentType.inline) return -Errno.EIO;
  // The kernel keeps a target as a page.
  if (!core.mayGivePages(node, 0, 4096)) return MISS;
  const length = Math.min(target.length, items.size - EXTENT_HEAD_BYTES);
  const start = items.start + EXTENT_HEAD_BYTES;
  target.set(items.bytes.subarray(start, start + length));
  return length;
}

export function directoryEnd(core: Core, node: number): number {
  const error = core.begin();
  if (error !== 0) return error === MISS ? MISS : Infinity;
  const tree = core.treeOf(node);
  const dir = core.inoOf(node);
  const known = core.nextIndex.get(node);
  if (known !== undefined) return known;
  const type = ItemType.dirIndex;
  const tail = core.held.find(tree, { objectid: dir, type, offset: Number.MAX_SAFE_INTEGER - 1 });
  if (tail === undefined) return Infinity;
  const items = core.items;
  const hasLast = items.seekBefore(tree, dir, type + 1, 0) && items.objectid === dir && items.type === type;
  // Below the part that is held to the end there may be entries that are not known.
  const isCut = tail.start.objectid === dir && tail.start.type === type;
  const lowest = isCut ? tail.start.offset : 0;
  return Math.max(lowest, hasLast ? items.offset + 1 : 2);
}

export function readdir(
  core: Core,
  node: number,
  cookie: number,
  end: number,
  sink: DirSink,
  attr: AttrOut | null,
): number {
  const error = core.begin();
  if (error !== 0) return error;
  if (isPlaceholderNode(node)) return listPlaceholder(core, node, cookie, sink, attr);
  plainEntries = 0;
  const tree = core.treeOf(node);
  const dir = core.inoOf(node);
  if (!core.needInode(tree, dir, Mode.read, Mode.read)) return MISS;
  const stale = core.findInode(tree, dir);
  if (stale !== 0) return stale;
  if (!isDirectory(inodeMode(core.items.view, core.items.start))) return -Errno.ENOTDIR;
  let at = cookie;
  if (at < 2) {
    const parent = parentNode(core, tree, dir, node);
    if (parent === MISS) return MISS;
    while (at < 2) {
      if (!addDots(core, node, parent, at, sink, attr)) return 0;
      at++;
    }
  }
  return listEntries(core, tree, dir, at, end, sink, attr, at > cookie);
}

/** An empty directory. */
function listPlaceholder(
  core: Core,
  node: number,
  cookie: number,
  sink: DirSink,
  attr: AttrOut | null,
): number {
  const parent = core.placeholders.get(node);
  if (parent === undefined) return -Errno.ESTALE;
  for (let at = cookie; at < 2; at++) {
    if (!addDots(core, node, parent, at, sink, attr)) return 0;
  }
  return 0;
}

const DOTS = Uint8Array.of(0x2e, 0x2e);

/** `.` (position 0) or `..` (position 1). */
function addDots(
  core: Core,
  node: number,
  parent: number,
  position: number,
  sink: DirSink,
  attr: AttrOut | null,
): boolean {
  if (attr !== null) attr.node = 0;
  const target = position === 0 ? node : parent;
  // A placeholder's own number is no inode's.
  const ino = nodeOf(core.treeOf(target), core.inoOf(target)) || target;
  return sink.add(DOTS, 0, position + 1, target, ino, DT_DIR, position + 1);
}

/** The node of the directory above, or MISS; of a subvolume's root that which holds it. The root of the mount is above itself. */
function parentNode(core: Core, tree: number, dir: number, node: number): number {
  if (node === 1) return node;
  if (dir === ROOT_INO) {
    const subvolume = core.subvolumes.get(tree);
    const above = subvolume === undefined ? 0 : core.nodeOf(subvolume.parentTree, subvolume.parentDir);
    return above === 0 ? node : above;
  }
  if (!core.needTypes(tree, dir, ItemType.inodeRef, ItemType.inodeRef + 1, Mode.read)) return MISS;
  const parent = parentOf(core.items, tree, dir);
  return parent === 0 ? node : core.nodeOf(tree, parent);
}

/** @param hasAdded - whether the sink has entries already, so that the call may end early. */
function listEntries(
  core: Core,
  tree: number,
  dir: number,
  cookie: number,
  end: number,
  sink: DirSink,
  attr: AttrOut | null,
  hasAdded: boolean,
): number {
  const { items, held } = core;
  const type = ItemType.dirIndex;
  let at = cookie;
  let added = hasAdded;
  while (at < end) {
    if (!core.needIndex(tree, dir, at, Mode.read)) return added ? 0 : MISS;
    const range = held.find(tree, { objectid: dir, type, offset: at })!;
    const isLast = range.end.objectid > dir || range.end.type > type;
    const stop = Math.min(end, isLast ? Infinity : range.end.offset);
    while (at < stop) {
      if (!items.seek(tree, dir, type, at) || items.objectid !== dir || items.type !== type) break;
      if (items.offset >= stop) break;
      const offset = items.offset;
      const result = addEntry(core, tree, dir, end, sink, attr);
      if (result === MISS) return added ? 0 : MISS;
      if (result === 0) return 0;
      added = true;
      at = offset + 1;
    }
    if (stop === Infinity || stop >= end) return 0;
    at = Math.max(at, stop);
  }
  return 0;
}

/** Entries that one listing of a contended directory gives without attributes, which the kernel asks for if it needs them. */
const PLAIN_ENTRIES_MAX = 1;
let plainEntries = 0;

/** Hands the current item to the sink. @returns 1 if it was taken, 0 if not, MISS if attributes are missing. */
function addEntry(
  core: Core,
  tree: number,
  dir: number,
  end: number,
  sink: DirSink,
  attr: AttrOut | null,
): number {
  const items = core.items;
  const { view, start, offset, bytes } = items;
  const isSubvolume = entryIsSubvolume(view, start);
  const objectid = entryObjectid(view, start);
  if (entryIsPlaceholder(view, start)) return addPlaceholder(core, tree, dir, sink, attr);
  const childTree = isSubvolume ? objectid : tree;
  const ino = isSubvolume ? ROOT_INO : objectid;
  const nameAt = entryNameAt(start);
  const length = entryNameLength(view, start);
  const type = direntTypeOf(entryType(view, start));
  const node = core.nodeOf(childTree, ino);
  if (attr !== null) {
    if (!hasAttributes(core, childTree, ino)) {
      // What another client has just made is mostly one file: its name alone costs no further round trip.
      const isPlain = plainEntries < PLAIN_ENTRIES_MAX && core.contention.has(core.nodeOf(tree, dir));
      if (!isPlain) {
        wantChildren(core, tree, dir, offset, end);
        return MISS;
      }
      plainEntries++;
      attr.node = 0;
    } else if (core.fillAttr(childTree, ino, attr) !== 0) attr.node = 0;
    else if (attr.cacheable) attr.cacheable = isLastingName(core, tree, dir, nameHash(bytes, nameAt, length));
  }
  return sink.add(bytes, nameAt, length, node, nodeOf(childTree, ino), type, offset + 1) ? 1 : 0;
}

/** As `addEntry`, for an entry that leads to a subvolume which is not there. */
function addPlaceholder(core: Core, tree: number, dir: number, sink: DirSink, attr: AttrOut | null): number {
  const { items } = core;
  const absent = entryObjectid(items.view, items.start);
  const { offset } = items;
  if (attr !== null) {
    const result = fillPlaceholder(core, core.nodeOf(tree, dir), absent, attr);
    if (result === MISS) return MISS;
    if (result !== 0) attr.node = 0;
    items.find(tree, dir, ItemType.dirIndex, offset);
  }
  const { view, start, bytes } = items;
  const node = placeholderNode(tree, absent);
  const length = entryNameLength(view, start);
  return sink.add(bytes, entryNameAt(start), length, node, node, DT_DIR, offset + 1) ? 1 : 0;
}

/** Whether the kernel may keep a name that a listing gives: it is taken back by its DIR_ITEM, not by its index. */
function isLastingName(core: Core, tree: number, dir: number, hash: number): boolean {
  const type = ItemType.dirItem;
  return core.held.holds(tree, dir, type, hash, Mode.read) && core.isLasting(tree, dir, type, hash);
}

/** Whether both parts of an inode are held: others may change the derived one beside a reader of identity. */
function hasAttributes(core: Core, tree: number, ino: number): boolean {
  const type = ItemType.inodeItem;
  return (
    core.held.holds(tree, ino, type, 0, Mode.read) && core.held.holds(tree, ino, type, DERIVED, Mode.read)
  );
}

/** Wants the inodes of the entries from an index on, neighbours in one range. */
function wantChildren(core: Core, tree: number, dir: number, from: number, end: number): void {
  const items = core.items;
  const type = ItemType.dirIndex;
  const inodes: number[] = [];
  let subvolumes = 0;
  let isFound = items.seek(tree, dir, type, from);
  while (isFound && items.objectid === dir && items.type === type && items.offset < end) {
    if (!core.held.holds(tree, dir, type, items.offset, Mode.read)) break;
    const { view, start } = items;
    const objectid = entryObjectid(view, start);
    if (!entryIsSubvolume(view, start)) inodes.push(objectid);
    else if (!entryIsPlaceholder(view, start) && !hasAttributes(core, objectid, ROOT_INO)) {
      wantAttributes(core, objectid, ROOT_INO);
      subvolumes++;
    }
    if (inodes.length + subvolumes >= LISTING_WANTS_MAX) break;
    isFound = items.next();
  }
  inodes.sort((a, b) => a - b);
  for (let at = 0; at < inodes.length; ) {
    let last = at;
    while (last + 1 < inodes.length && inodes[last + 1]! - inodes[last]! <= 2) last++;
    wantInodes(core, tree, inodes[at]!, inodes[last]!);
    at = last + 1;
  }
}

/** Wants the inode item alone: whoever lists many subvolumes does not walk into all of them. */
function wantAttributes(core: Core, tree: number, ino: number): void {
  const type = ItemType.inodeItem;
  core.missing.want(tree, ino, type, 0, ino, type, DERIVED + 1, Mode.read, false);
}

/** Wants the inode items of `[first, last]`; each unless it is held. */
function wantInodes(core: Core, tree: number, first: number, last: number): void {
  let from = first;
  while (from <= last && hasAttributes(core, tree, from)) from++;
  let to = last;
  while (to >= from && hasAttributes(core, tree, to)) to--;
  if (from > to) return;
  core.missing.want(tree, from, 0, 0, to + 1, 0, 0, Mode.read, true);
}
