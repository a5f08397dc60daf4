// SPDX-License-Identifier: GPL-2.0-or-later
//
// Operations that add names: mknod, create, mkdir, symlink, link.

import { applyNewInode } from '../../item/apply_inode.ts';
import { applyAddName } from '../../item/apply_name.ts';
import { TARGET_MAX } from '../../item/change.ts';
import {
  FileMode,
  InodeField,
  inodeMode,
  inodeNlink,
  isDirectory,
  NLINK_MAX,
} from '../../item/inode_item.ts';
import { ItemType } from '../../item/key.ts';
import { assert } from '../../util/assert.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import { NAME_COST, newInodeCost } from '../../wire/space.ts';
import { type Core, decodeRdev } from '../core.ts';
import { logInode } from '../file_writer.ts';
import { type AttrOut, MISS, OpenFlags, UMASK_SHIFT } from '../operations.ts';
import { inherited, needInherited, putInherited } from './acl.ts';
import { openResult } from './data.ts';
import { bucketError, directoryError, findName, isDotName, nameError, nameHash, nextIndex } from './entry.ts';

const NO_TARGET = new Uint8Array(0);

/** Makes an inode and its first name. @param mode - with the umask, but for a symbolic link. @param target - of a symbolic link; else empty. */
function make(
  core: Core,
  dirNode: number,
  name: Uint8Array,
  mode: number,
  rdev: number,
  uid: number,
  gid: number,
  target: Uint8Array,
  out: AttrOut,
): number {
  const error = core.beginChange(dirNode);
  if (error !== 0) return error;
  const badName = isDotName(name) ? -Errno.EEXIST : nameError(name);
  if (badName !== 0) return badName;
  const { items, writeBack } = core;
  const tree = core.treeOf(dirNode);
  const dir = core.inoOf(dirNode);
  const hash = nameHash(name);
  const hasInode = core.needInode(tree, dir, Mode.read, Mode.write);
  const hasName = core.needName(tree, dir, hash, Mode.write);
  if (hasInode && hasName) {
    const refused = refusal(core, tree, dir, name, hash);
    if (refused !== 0) return refused;
  }
  const isLink = target.length > 0;
  const hasAcl = isLink
    ? 0
    : needInherited(core, tree, dir, mode & 0xffff, mode >>> UMASK_SHIFT, isDirectory(mode));
  if (hasAcl < 0 && hasAcl !== MISS) return hasAcl;
  const cost = newInodeCost(target.length) + NAME_COST + (isLink ? 0 : inherited.cost);
  const index = nextIndex(core, tree, dir);
  const hasNumber = core.needNumber(tree);
  const hasSpace = core.needSpace(cost);
  if (!core.needRoom() || !hasInode || !hasName || index === MISS || !hasNumber || !hasSpace) return MISS;
  if (hasAcl === MISS) return MISS;

  const { ownMode, ownGid } = ownershipIn(core, tree, dir, isLink ? mode : inherited.mode, gid);
  const ino = core.numbers.take(tree);
  core.stamp.take();
  const { sec, nsec } = core.stamp;
  const ownRdev = decodeRdev(rdev);
  writeBack.open.log.newInode(tree, ino, ownMode, uid, ownGid, ownRdev, sec, nsec, target);
  writeBack.open.log.addName(tree, dir, index, ino, sec, nsec, name);
  const isMade =
    applyNewInode(items, tree, ino, ownMode, uid, ownGid, ownRdev, sec, nsec, target, 0, target.length) ===
      0 &&
    applyAddName(
      items,
      core.limits.maxBucketBytes,
      tree,
      dir,
      index,
      ino,
      sec,
      nsec,
      name,
      0,
      name.length,
      hash,
    ) === 0;
  assert(isMade, 'a new name and inode fit the items that are held');
  if (!isLink) putInherited(core, tree, ino);
  core.space.spend(cost);
  core.setNextIndex(dirNode, index + 1);
  writeBack.changed();
  core.topUp(tree);
  return fillEntry(core, tree, dir, hash, ino, out);
}

/** Mode and group of what is made in a directory, whose set-group-ID goes on to them. */
function ownershipIn(
  { items }: Core,
  tree: number,
  dir: number,
  mode: number,
  gid: number,
): { ownMode: number; ownGid: number } {
  items.find(tree, dir, ItemType.inodeItem, 0);
  const { view, start } = items;
  if ((inodeMode(view, start) & FileMode.setGid) === 0) return { ownMode: mode, ownGid: gid };
  return {
    ownMode: isDirectory(mode) ? mode | FileMode.setGid : mode,
    ownGid: view.getUint32(start + InodeField.gid, true),
  };
}

/** Fills `out` for a new name: the kernel may keep it only if it may keep the name as well as the inode. */
function fillEntry(core: Core, tree: number, dir: number, hash: number, ino: number, out: AttrOut): number {
  const result = core.fillAttr(tree, ino, out);
  if (!core.isLasting(tree, dir, ItemType.dirItem, hash)) out.cacheable = false;
  return result;
}

/** Why a name cannot be added, from what is held. */
function refusal(core: Core, tree: number, dir: number, name: Uint8Array, hash: number): number {
  const error = directoryError(core, tree, dir);
  if (error !== 0) return error;
  if (findName(core, tree, dir, name, hash)) return -Errno.EEXIST;
  return bucketError(core, tree, dir, hash, name);
}

export function mknod(
  core: Core,
  dir: number,
  name: Uint8Array,
  mode: number,
  rdev: number,
  uid: number,
  gid: number,
  out: AttrOut,
): number {
  const type = mode & FileMode.typeMask;
  const isDevice = type === FileMode.character || type === FileMode.block;
  if (type === FileMode.directory || type === FileMode.symlink) return -Errno.EINVAL;
  const ownMode = type === 0 ? mode | FileMode.regular : mode;
  return make(core, dir, name, ownMode, isDevice ? rdev : 0, uid, gid, NO_TARGET, out);
}

export function create(
  core: Core,
  dir: number,
  name: Uint8Array,
  mode: number,
  uid: number,
  gid: number,
  flags: number,
  out: AttrOut,
): number {
  const ownMode = (mode & ~FileMode.typeMask) | FileMode.regular;
  const result = make(core, dir, name, ownMode, 0, uid, gid, NO_TARGET, out);
  if (result !== 0) return result;
  const file = core.files.make(out.node, core.treeOf(out.node), core.inoOf(out.node));
  file.opens++;
  if ((flags & OpenFlags.write) !== 0) {
    file.writers++;
    core.followers.created(dir, file);
  } else core.followers.changed(dir);
  file.hasNoCapability = true;
  return openResult(core, file);
}

export function tmpfile(
  core: Core,
  dirNode: number,
  mode: number,
  uid: number,
  gid: number,
  flags: number,
  out: AttrOut,
): number {
  const error = core.beginChange(dirNode);
  if (error !== 0) return error;
  const { items, writeBack } = core;
  const tree = core.treeOf(dirNode);
  const dir = core.inoOf(dirNode);
  const hasDirectory = core.needInode(tree, dir, Mode.read, Mode.read);
  const refused = hasDirectory ? directoryError(core, tree, dir) : 0;
  if (refused !== 0) return refused;
  const asked = (mode & 0o7777) | FileMode.regular;
  const hasAcl = needInherited(core, tree, dir, asked, mode >>> UMASK_SHIFT, false);
  if (hasAcl < 0 && hasAcl !== MISS) return hasAcl;
  const cost = newInodeCost(0) + inherited.cost;
  const hasNumber = core.needNumber(tree);
  if (!core.needSpace(cost) || !core.needRoom() || !hasDirectory || hasAcl === MISS || !hasNumber)
    return MISS;

  const { ownMode, ownGid } = ownershipIn(core, tree, dir, inherited.mode, gid);
  const ino = core.numbers.take(tree);
  core.stamp.take();
  const { sec, nsec } = core.stamp;
  writeBack.open.log.newInode(tree, ino, ownMode, uid, ownGid, 0, sec, nsec, NO_TARGET);
  const result = applyNewInode(items, tree, ino, ownMode, uid, ownGid, 0, sec, nsec, NO_TARGET, 0, 0);
  assert(result === 0, 'a new inode fits the items that are held');
  putInherited(core, tree, ino);
  core.space.spend(cost);
  const node = core.nodeOf(tree, ino);
  core.orphans.add(node);
  writeBack.changed();
  core.topUp(tree);
  const file = core.files.make(node, tree, ino);
  file.opens++;
  if ((flags & OpenFlags.write) !== 0) file.writers++;
  file.hasNoCapability = true;
  file.isLinkable = true;
  core.fillAttr(tree, ino, out);
  return openResult(core, file);
}

export function mkdir(
  core: Core,
  dir: number,
  name: Uint8Array,
  mode: number,
  uid: number,
  gid: number,
  out: AttrOut,
): number {
  const ownMode = (mode & ~FileMode.typeMask) | FileMode.directory;
  const result = make(core, dir, name, ownMode, 0, uid, gid, NO_TARGET, out);
  if (result === 0) core.setNextIndex(out.node, 2);
  return result;
}

export function symlink(
  core: Core,
  dir: number,
  name: Uint8Array,
  target: Uint8Array,
  uid: number,
  gid: number,
  out: AttrOut,
): number {
  if (target.length === 0) return -Errno.ENOENT;
  if (target.length > Math.min(TARGET_MAX, core.limits.maxBucketBytes)) return -Errno.ENAMETOOLONG;
  return make(core, dir, name, FileMode.symlink | 0o777, 0, uid, gid, target, out);
}

export function link(core: Core, node: number, dirNode: number, name: Uint8Array, out: AttrOut): number {
  const error = core.beginChange(dirNode);
  if (error !== 0) return error;
  const badName = isDotName(name) ? -Errno.EEXIST : nameError(name);
  if (badName !== 0) return badName;
  const tree = core.treeOf(dirNode);
  if (core.treeOf(node) !== tree) return -Errno.EXDEV;
  const { items, writeBack } = core;
  const dir = core.inoOf(dirNode);
  const ino = core.inoOf(node);
  const hash = nameHash(name);
  const hasDir = core.needInode(tree, dir, Mode.read, Mode.write);
  const hasName = core.needName(tree, dir, hash, Mode.write);
  const hasInode = core.needInode(tree, ino, Mode.read, Mode.write);
  const hasRefs = core.needTypes(tree, ino, ItemType.inodeRef, ItemType.inodeExtref + 1, Mode.write);
  if (hasDir && hasName && hasInode) {
    const refused = linkRefusal(core, node, tree, ino) || refusal(core, tree, dir, name, hash);
    if (refused !== 0) return refused;
  }
  const index = nextIndex(core, tree, dir);
  const hasSpace = core.needSpace(NAME_COST);
  if (!core.needRoom() || !hasDir || !hasName || !hasInode || !hasRefs || index === MISS || !hasSpace)
    return MISS;

  // A written file takes its data along to its new place.
  logInode(core, node);
  core.stamp.take();
  const { sec, nsec } = core.stamp;
  writeBack.open.log.addName(tree, dir, index, ino, sec, nsec, name);
  const result = applyAddName(
    items,
    core.limits.maxBucketBytes,
    tree,
    dir,
    index,
    ino,
    sec,
    nsec,
    name,
    0,
    name.length,
    hash,
  );
  assert(result === 0, 'a new name fits the items that are held');
  core.space.spend(NAME_COST);
  core.setNextIndex(dirNode, index + 1);
  core.orphans.delete(node);
  writeBack.changed();
  return fillEntry(core, tree, dir, hash, ino, out);
}

/** Why an inode can have no other name. */
function linkRefusal(core: Core, node: number, tree: number, ino: number): number {
  const error = core.findInode(tree, ino);
  if (error !== 0) return error;
  const { view, start } = core.items;
  if (isDirectory(inodeMode(view, start))) return -Errno.EPERM;
  const nlink = inodeNlink(view, start);
  if (nlink === 0 && core.files.get(node)?.isLinkable !== true) return -Errno.ENOENT;
  return nlink >= NLINK_MAX ? -Errno.EMLINK : 0;
}
