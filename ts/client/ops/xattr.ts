// SPDX-License-Identifier: GPL-2.0-or-later
//
// Extended attributes: getxattr, listxattr, setxattr, removexattr; and security.capability, which goes when a file's
// content or owner changes.

import { applyRemoveXattr, applySetXattr } from '../../item/apply_inode.ts';
import { XattrChangeFlags } from '../../item/change.ts';
import {
  DIR_ENTRY_HEAD_BYTES,
  entryBytes,
  entryDataLength,
  entryNameLength,
  findEntry,
  NAME_MAX,
} from '../../item/dir_item.ts';
import { ItemType } from '../../item/key.ts';
import { nameHash } from '../../item/name_hash.ts';
import { assert } from '../../util/assert.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import { xattrCost } from '../../wire/space.ts';
import type { Core } from '../core.ts';
import { logInode } from '../file_writer.ts';
import { MISS, XattrFlags } from '../operations.ts';

const XATTR = ItemType.xattrItem;

/** XATTR_SIZE_MAX of Linux. */
const VALUE_MAX = 65_536;

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Namespaces that BTRFS stores. */
const NAMESPACES = ['user.', 'security.', 'trusted.', 'system.posix_acl_'].map(ascii);

const CAPABILITY = ascii('security.capability');
const CAPABILITY_HASH = nameHash(CAPABILITY);

function isStorable(name: Uint8Array): boolean {
  return NAMESPACES.some(
    (prefix) => name.length > prefix.length && prefix.every((byte, at) => name[at] === byte),
  );
}

/** The position of an xattr's entry in the items, or -1; its key must be held. */
function findXattr(core: Core, tree: number, ino: number, name: Uint8Array, hash: number): number {
  const items = core.items;
  if (!items.find(tree, ino, XATTR, hash)) return -1;
  return findEntry(items.bytes, items.view, items.start, items.size, name, 0, name.length);
}

/** Whether all xattrs of an inode are held: they are few, and programs ask for several. */
function needXattrs(core: Core, tree: number, ino: number, mode: Mode): boolean {
  return core.needTypes(tree, ino, XATTR, XATTR + 1, mode);
}

export function getxattr(core: Core, node: number, name: Uint8Array, target: Uint8Array): number {
  const error = core.begin();
  if (error !== 0) return error;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const hash = nameHash(name);
  if (!core.held.holds(tree, ino, XATTR, hash, Mode.read) && !needXattrs(core, tree, ino, Mode.read))
    return MISS;
  const at = findXattr(core, tree, ino, name, hash);
  if (at < 0) return isStorable(name) ? -Errno.ENODATA : -Errno.EOPNOTSUPP;
  const { bytes, view } = core.items;
  const length = entryDataLength(view, at);
  if (target.length === 0) return length;
  if (target.length < length) return -Errno.ERANGE;
  const start = at + DIR_ENTRY_HEAD_BYTES + entryNameLength(view, at);
  target.set(bytes.subarray(start, start + length));
  return length;
}

export function listxattr(core: Core, node: number, target: Uint8Array): number {
  const error = core.begin();
  if (error !== 0) return error;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (!needXattrs(core, tree, ino, Mode.read)) return MISS;
  const items = core.items;
  let total = 0;
  let isFound = items.seek(tree, ino, XATTR, 0);
  while (isFound && items.objectid === ino && items.type === XATTR) {
    const end = items.start + items.size;
    for (let at = items.start; at < end; at += entryBytes(items.view, at)) {
      const length = entryNameLength(items.view, at);
      if (target.length > 0) {
        if (total + length + 1 > target.length) return -Errno.ERANGE;
        const start = at + DIR_ENTRY_HEAD_BYTES;
        target.set(items.bytes.subarray(start, start + length), total);
        target[total + length] = 0;
      }
      total += length + 1;
    }
    isFound = items.next();
  }
  return total;
}

export function setxattr(
  core: Core,
  node: number,
  name: Uint8Array,
  value: Uint8Array,
  flags: number,
): number {
  const error = core.beginChange();
  if (error !== 0) return error;
  if (name.length === 0 || name.length > NAME_MAX) return -Errno.ERANGE;
  if (!isStorable(name)) return -Errno.EOPNOTSUPP;
  if (value.length > VALUE_MAX) return -Errno.E2BIG;
  const { items, limits } = core;
  const size = DIR_ENTRY_HEAD_BYTES + name.length + value.length;
  if (size > limits.maxXattrBytes || value.length > 0xffff) return -Errno.E2BIG;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const hash = nameHash(name);
  const hasInode = core.needInode(tree, ino, Mode.read, Mode.write);
  const hasXattr =
    core.held.holds(tree, ino, XATTR, hash, Mode.write) || needXattrs(core, tree, ino, Mode.write);
  const stale = hasInode ? core.findInode(tree, ino) : 0;
  if (stale !== 0) return stale;
  if (hasXattr) {
    const at = findXattr(core, tree, ino, name, hash);
    if (at >= 0 && (flags & XattrFlags.create) !== 0) return -Errno.EEXIST;
    if (at < 0 && (flags & XattrFlags.replace) !== 0) return -Errno.ENODATA;
    const others = at >= 0 ? items.size - entryBytes(items.view, at) : bucketBytes(core, tree, ino, hash);
    if (others + size > limits.maxBucketBytes) return -Errno.ENOSPC;
  }
  const cost = xattrCost(value.length);
  if (!core.needSpace(cost) || !core.needRoom() || !hasInode || !hasXattr) return MISS;

  logInode(core, node);
  core.stamp.take();
  const { sec, nsec } = core.stamp;
  let changeFlags = 0;
  if ((flags & XattrFlags.create) !== 0) changeFlags = XattrChangeFlags.mustNotExist;
  else if ((flags & XattrFlags.replace) !== 0) changeFlags = XattrChangeFlags.mustExist;
  core.writeBack.open.log.setXattr(tree, ino, sec, nsec, changeFlags, name, value);
  const result = applySetXattr(
    items,
    limits.maxXattrBytes,
    limits.maxBucketBytes,
    tree,
    ino,
    sec,
    nsec,
    changeFlags,
    name,
    0,
    name.length,
    hash,
    value,
    0,
    value.length,
  );
  assert(result === 0, 'an xattr of an inode that is held can be set');
  core.space.spend(cost);
  const file = core.files.get(node);
  if (file !== undefined) file.hasNoCapability = false;
  core.writeBack.changed();
  return 0;
}

function bucketBytes(core: Core, tree: number, ino: number, hash: number): number {
  return core.items.find(tree, ino, XATTR, hash) ? core.items.size : 0;
}

export function removexattr(core: Core, node: number, name: Uint8Array): number {
  const error = core.beginChange();
  if (error !== 0) return error;
  if (!isStorable(name)) return -Errno.EOPNOTSUPP;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const hash = nameHash(name);
  const hasInode = core.needInode(tree, ino, Mode.read, Mode.write);
  const hasXattr =
    core.held.holds(tree, ino, XATTR, hash, Mode.write) || needXattrs(core, tree, ino, Mode.write);
  if (!hasInode || !hasXattr) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  if (findXattr(core, tree, ino, name, hash) < 0) return -Errno.ENODATA;
  if (!core.needRoom()) return MISS;
  logInode(core, node);
  core.stamp.take();
  remove(core, tree, ino, name, hash);
  core.writeBack.changed();
  return 0;
}

/** Removes an xattr that is there, with the stamp taken. */
function remove(core: Core, tree: number, ino: number, name: Uint8Array, hash: number): void {
  const { sec, nsec } = core.stamp;
  core.writeBack.open.log.removeXattr(tree, ino, sec, nsec, name);
  const result = applyRemoveXattr(core.items, tree, ino, sec, nsec, name, 0, name.length, hash);
  assert(result === 0, 'an xattr that is held can be removed');
}

/** Whether it is known if the file has a security.capability, which a write, truncate or chown must take away. */
export function needCapability(core: Core, node: number): boolean {
  if (core.files.get(node)?.hasNoCapability === true) return true;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  return (
    core.held.holds(tree, ino, XATTR, CAPABILITY_HASH, Mode.write) || needXattrs(core, tree, ino, Mode.write)
  );
}

/** Takes security.capability away, with the stamp taken, after `needCapability` said yes. */
export function dropCapability(core: Core, node: number): void {
  const file = core.files.get(node);
  if (file?.hasNoCapability === true) return;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (findXattr(core, tree, ino, CAPABILITY, CAPABILITY_HASH) >= 0) {
    logInode(core, node);
    remove(core, tree, ino, CAPABILITY, CAPABILITY_HASH);
  }
  if (file !== undefined) file.hasNoCapability = true;
}
