// SPDX-License-Identifier: GPL-2.0-or-later
//
// Extended attributes: getxattr, listxattr, setxattr, removexattr; and security.capability, which goes when a file's
// content or owner changes.

import { applySetFields } from '../../item/apply_inode.ts';
import { FieldMask, InodeFields, XattrChangeFlags } from '../../item/change.ts';
import {
  DIR_ENTRY_HEAD_BYTES,
  entryBytes,
  entryDataLength,
  entryNameLength,
  NAME_MAX,
} from '../../item/dir_item.ts';
import { FileMode, inodeMode, isDirectory } from '../../item/inode_item.ts';
import { ItemType } from '../../item/key.ts';
import { nameHash } from '../../item/name_hash.ts';
import { modeOfAcl } from '../../item/posix_acl.ts';
import { assert } from '../../util/assert.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import { xattrCost } from '../../wire/space.ts';
import type { Core } from '../core.ts';
import { logInode } from '../file_writer.ts';
import { isPlaceholderNode } from '../node_id.ts';
import { MISS, XattrFlags } from '../operations.ts';
import { ACCESS_ACL, DEFAULT_ACL, isAclName, isName } from './acl.ts';
import { cutXattr, findXattr, putXattr, xattrName, xattrValue } from './xattr_items.ts';

const XATTR = ItemType.xattrItem;

/** XATTR_SIZE_MAX of Linux. */
const VALUE_MAX = 65_536;

/** Namespaces that BTRFS stores. */
const NAMESPACES = ['user.', 'security.', 'trusted.'].map((prefix) => xattrName(prefix).bytes);

const CAPABILITY = xattrName('security.capability');

function isStorable(name: Uint8Array): boolean {
  if (isAclName(name)) return true;
  return NAMESPACES.some(
    (prefix) => name.length > prefix.length && prefix.every((byte, at) => name[at] === byte),
  );
}

/** Whether all xattrs of an inode are held: they are few, and programs ask for several. */
function needXattrs(core: Core, tree: number, ino: number, mode: Mode): boolean {
  return core.needTypes(tree, ino, XATTR, XATTR + 1, mode);
}

export function getxattr(core: Core, node: number, name: Uint8Array, target: Uint8Array): number {
  const error = core.begin();
  if (error !== 0) return error;
  if (isPlaceholderNode(node)) return isStorable(name) ? -Errno.ENODATA : -Errno.EOPNOTSUPP;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const hash = nameHash(name);
  if (!core.held.holds(tree, ino, XATTR, hash, Mode.read) && !needXattrs(core, tree, ino, Mode.read))
    return MISS;
  if (isAclName(name)) core.noteAclGiven(node);
  const at = findXattr(core, tree, ino, name, hash);
  if (at < 0) return isStorable(name) ? -Errno.ENODATA : -Errno.EOPNOTSUPP;
  const length = entryDataLength(core.items.view, at);
  if (target.length === 0) return length;
  if (target.length < length) return -Errno.ERANGE;
  target.set(xattrValue(core, at));
  return length;
}

export function listxattr(core: Core, node: number, target: Uint8Array): number {
  const error = core.begin();
  if (error !== 0) return error;
  if (isPlaceholderNode(node)) return 0;
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
  const error = core.beginChange(node);
  if (error !== 0) return error;
  if (name.length === 0 || name.length > NAME_MAX) return -Errno.ERANGE;
  if (!isStorable(name)) return -Errno.EOPNOTSUPP;
  if (value.length > VALUE_MAX) return -Errno.E2BIG;
  if (isAclName(name)) return setAcl(core, node, name, value, flags);
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
  let changeFlags = 0;
  if ((flags & XattrFlags.create) !== 0) changeFlags = XattrChangeFlags.mustNotExist;
  else if ((flags & XattrFlags.replace) !== 0) changeFlags = XattrChangeFlags.mustExist;
  putXattr(core, tree, ino, changeFlags, name, hash, value);
  core.space.spend(cost);
  const file = core.files.get(node);
  if (file !== undefined) file.hasNoCapability = false;
  core.writeBack.changed();
  return 0;
}

const fields = new InodeFields();

/** Sets an ACL. An access ACL changes the mode with it, and is not stored if the mode says all of it. */
function setAcl(core: Core, node: number, name: Uint8Array, value: Uint8Array, flags: number): number {
  const said = modeOfAcl(value);
  if (said === null) return -Errno.EINVAL;
  const isAccess = isName(name, ACCESS_ACL.bytes);
  const { items } = core;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  const { hash } = isAccess ? ACCESS_ACL : DEFAULT_ACL;
  const hasInode = core.needInode(tree, ino, isAccess ? Mode.write : Mode.read, Mode.write);
  const hasXattr = core.needXattr(tree, ino, hash, Mode.write);
  const stale = hasInode ? core.findInode(tree, ino) : 0;
  if (stale !== 0) return stale;
  const cost = xattrCost(value.length);
  if (!core.needSpace(cost) || !core.needRoom() || !hasInode || !hasXattr) return MISS;
  core.findInode(tree, ino);
  const mode = inodeMode(items.view, items.start);
  if (!isAccess && !isDirectory(mode)) return -Errno.EACCES;
  const isThere = findXattr(core, tree, ino, name, hash) >= 0;
  if (isThere && (flags & XattrFlags.create) !== 0) return -Errno.EEXIST;
  if (!isThere && (flags & XattrFlags.replace) !== 0) return -Errno.ENODATA;

  logInode(core, node);
  core.stamp.take();
  if (isAccess) {
    const kept = (flags & XattrFlags.killSetGid) !== 0 ? mode & ~FileMode.setGid : mode;
    fields.mask = FieldMask.mode | FieldMask.ctime;
    fields.mode = (kept & ~0o777) | said.bits;
    fields.ctimeSec = core.stamp.sec;
    fields.ctimeNsec = core.stamp.nsec;
    core.writeBack.setFields(tree, ino, fields);
    const result = applySetFields(items, core.limits.maxInlineBytes, tree, ino, fields);
    assert(result === 0, 'the mode of an inode that is held can be set');
  }
  if (isAccess && said.isAll) {
    if (isThere) cutXattr(core, tree, ino, name, hash);
  } else {
    putXattr(core, tree, ino, 0, name, hash, value);
    core.space.spend(cost);
  }
  core.writeBack.changed();
  return 0;
}

function bucketBytes(core: Core, tree: number, ino: number, hash: number): number {
  return core.items.find(tree, ino, XATTR, hash) ? core.items.size : 0;
}

export function removexattr(core: Core, node: number, name: Uint8Array): number {
  const error = core.beginChange(node);
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
  cutXattr(core, tree, ino, name, hash);
  core.writeBack.changed();
  return 0;
}

/** Whether it is known if the file has a security.capability, which a write, truncate or chown must take away. */
export function needCapability(core: Core, node: number): boolean {
  if (core.files.get(node)?.hasNoCapability === true) return true;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  return (
    core.held.holds(tree, ino, XATTR, CAPABILITY.hash, Mode.write) || needXattrs(core, tree, ino, Mode.write)
  );
}

/** Takes security.capability away, with the stamp taken, after `needCapability` said yes. */
export function dropCapability(core: Core, node: number): void {
  const file = core.files.get(node);
  if (file?.hasNoCapability === true) return;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (findXattr(core, tree, ino, CAPABILITY.bytes, CAPABILITY.hash) >= 0) {
    logInode(core, node);
    cutXattr(core, tree, ino, CAPABILITY.bytes, CAPABILITY.hash);
  }
  if (file !== undefined) file.hasNoCapability = true;
}
