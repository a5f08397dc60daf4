// SPDX-License-Identifier: GPL-2.0-or-later
//
// Operations that take names away: unlink, rmdir, rename; and the end of inodes without a name.
//
// An inode whose last name goes lives on while a handle is open or the kernel knows it; then it is dropped, with what
// was written to it and not sent.

import { applyDropInode } from '../../item/apply_inode.ts';
import { applyRemoveName, applyRename, parentOf } from '../../item/apply_name.ts';
import { FileType } from '../../item/dir_item.ts';
import { inodeNlink, inodeSize } from '../../item/inode_item.ts';
import { ItemType, ROOT_INO } from '../../item/key.ts';
import { assert } from '../../util/assert.ts';
import { Errno } from '../../util/errno.ts';
import { inodeRange } from '../../util/range.ts';
import { Mode } from '../../wire/message.ts';
import { NAME_COST } from '../../wire/space.ts';
import type { Core } from '../core.ts';
import { bytesChanged, cutRuns, logFile, logInode } from '../file_writer.ts';
import { MISS, RenameFlags } from '../operations.ts';
import {
  bucketError,
  directoryError,
  findName,
  found,
  indexOf,
  isDotName,
  nameError,
  nameHash,
  needDirectoryEntry,
  nextIndex,
} from './entry.ts';

export function unlink(core: Core, dirNode: number, name: Uint8Array): number {
  return remove(core, dirNode, name, false);
}

export function rmdir(core: Core, dirNode: number, name: Uint8Array): number {
  return remove(core, dirNode, name, true);
}

function remove(core: Core, dirNode: number, name: Uint8Array, isRmdir: boolean): number {
  const error = core.beginChange(dirNode);
  if (error !== 0) return error;
  if (isDotName(name))
    return isRmdir && name.length === 1 ? -Errno.EINVAL : isRmdir ? -Errno.ENOTEMPTY : -Errno.EISDIR;
  const badName = nameError(name);
  if (badName !== 0) return badName;
  const tree = core.treeOf(dirNode);
  const dir = core.inoOf(dirNode);
  const hash = nameHash(name);
  const hasDirectory = needDirectoryEntry(core, tree, dir, hash);
  if (!core.held.holds(tree, dir, ItemType.dirItem, hash, Mode.read)) return MISS;
  if (!findName(core, tree, dir, name, hash)) return -Errno.ENOENT;
  const { ino, isSubvolume } = found;
  const isDir = found.type === FileType.directory;
  if (isRmdir !== isDir) return isDir ? -Errno.EISDIR : -Errno.ENOTDIR;
  if (isSubvolume) return subvolumeRefusal(core);
  const index = needVictim(core, tree, dir, ino, name, isDir);
  if (index < 0 && index !== MISS) return index;
  if (!core.needRoom() || index === MISS || !hasDirectory) return MISS;

  core.stamp.take();
  removeName(core, tree, dir, index, ino, name, hash);
  core.writeBack.changed();
  return 0;
}

/** Why the subvolume in `found` cannot be removed, or MISS: one that holds something for that, as in Linux. */
function subvolumeRefusal(core: Core): number {
  if (found.isPlaceholder) return -Errno.EPERM;
  const { tree, ino } = found;
  if (!core.needInode(tree, ino, Mode.read, Mode.read)) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  return inodeSize(core.items.view, core.items.start) > 0 ? -Errno.ENOTEMPTY : -Errno.EPERM;
}

/**
 * Whether an entry's inode and index are held for the entry to go.
 *
 * @returns the index; MISS; -ENOTEMPTY; -EIO if the image lacks the reference.
 */
function needVictim(
  core: Core,
  tree: number,
  dir: number,
  ino: number,
  name: Uint8Array,
  isDir: boolean,
): number {
  if (!core.needInode(tree, ino, Mode.read, Mode.write)) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return -Errno.EIO;
  // The size of a directory counts its names, so it tells emptiness without the entries.
  if (isDir && inodeSize(core.items.view, core.items.start) > 0) return -Errno.ENOTEMPTY;
  const isLast = inodeNlink(core.items.view, core.items.start) <= 1;
  const hasInode = isLast
    ? core.needPrefix(tree, ino, Mode.write)
    : core.needTypes(tree, ino, ItemType.inodeRef, ItemType.inodeExtref + 1, Mode.write);
  if (!hasInode) return MISS;
  const index = indexOf(core, tree, dir, ino, name);
  if (index < 0) return index;
  return core.needIndex(tree, dir, index, Mode.write) ? index : MISS;
}

/** Takes a name away, with the stamp taken; everything is held. */
function removeName(
  core: Core,
  tree: number,
  dir: number,
  index: number,
  ino: number,
  name: Uint8Array,
  hash: number,
): void {
  const { items, writeBack } = core;
  const { sec, nsec } = core.stamp;
  const node = core.nodeOf(tree, ino);
  items.find(tree, ino, ItemType.inodeItem, 0);
  // The bytes of a file that keeps another name come first; those of one that goes need not be sent at all,
  // but an open one goes on, and the times of its bytes must not follow that of its name.
  if (inodeNlink(items.view, items.start) > 1 || core.files.get(node)?.opens) logInode(core, node);
  writeBack.open.log.removeName(tree, dir, index, ino, sec, nsec, name);
  const result = applyRemoveName(items, tree, dir, index, ino, sec, nsec, name, 0, name.length, hash);
  assert(result === 0, 'a name that is held can be removed');
  items.find(tree, ino, ItemType.inodeItem, 0);
  if (inodeNlink(items.view, items.start) > 0) return;
  core.orphans.add(node);
  dropIfUnused(core, node);
}

/** Drops an inode without a name if nobody uses it any more. The caller calls `writeBack.changed`. */
export function dropIfUnused(core: Core, node: number): void {
  if (!core.orphans.has(node)) return;
  const file = core.files.get(node);
  if ((file !== undefined && file.opens > 0) || core.kernel.isReferenced(node)) return;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  core.forgetNextIndex(node);
  if (core.openElsewhere.delete(node) || !core.held.covers(inodeRange(tree, ino), Mode.write)) {
    // Others may go on reading it: the server drops it when they are done.
    const left = core.files.make(node, tree, ino);
    logFile(core, left);
    core.orphans.delete(node);
    core.sayClosed(left, true);
    return;
  }
  core.orphans.delete(node);
  if (file !== undefined) {
    cutRuns(core, file, 0);
    file.isCutPending = false;
    core.files.dirty.delete(file);
    bytesChanged(core, file, 0, Infinity);
    file.error = 0;
    core.files.settle(file);
  }
  if (core.ended !== 0 || !core.items.find(tree, ino, ItemType.inodeItem, 0)) return;
  core.writeBack.open.log.dropInode(tree, ino);
  applyDropInode(core.items, tree, ino);
  if (file?.isToldOpen === true) core.sayClosed(file, true);
}

export function rename(
  core: Core,
  sourceNode: number,
  sourceName: Uint8Array,
  targetNode: number,
  targetName: Uint8Array,
  flags: number,
): number {
  const error = core.beginChange(sourceNode);
  if (error !== 0) return error;
  const isExchange = flags === RenameFlags.exchange;
  if (flags !== 0 && flags !== RenameFlags.noReplace && !isExchange) return -Errno.EINVAL;
  if (isDotName(sourceName) || isDotName(targetName)) return -Errno.EBUSY;
  const badName = nameError(sourceName) || nameError(targetName);
  if (badName !== 0) return badName;
  const tree = core.treeOf(sourceNode);
  if (core.treeOf(targetNode) !== tree) return core.isReadOnly(targetNode) ? -Errno.EROFS : -Errno.EXDEV;
  if (isExchange) return exchange(core, sourceNode, sourceName, targetNode, targetName);
  const sourceDir = core.inoOf(sourceNode);
  const targetDir = core.inoOf(targetNode);
  const sourceHash = nameHash(sourceName);
  const targetHash = nameHash(targetName);
  const hasSource = needDirectoryEntry(core, tree, sourceDir, sourceHash);
  const hasTarget = needDirectoryEntry(core, tree, targetDir, targetHash);
  if (!hasSource || !hasTarget) return MISS;

  if (!findName(core, tree, sourceDir, sourceName, sourceHash)) return -Errno.ENOENT;
  const { ino, isSubvolume } = found;
  const isDir = found.type === FileType.directory;
  // Not EXDEV: mv(1) would copy what is in it, and then delete all of it.
  if (isSubvolume) return -Errno.EBUSY;
  const badTarget = directoryError(core, tree, targetDir);
  if (badTarget !== 0) return badTarget;
  const hasVictim = findName(core, tree, targetDir, targetName, targetHash);
  const victim = found.ino;
  const victimIsDir = found.type === FileType.directory;
  if (hasVictim) {
    const refused = victimRefusal(ino, isDir, victim, victimIsDir, found.isSubvolume, flags);
    if (refused !== 0) return refused;
    if (victim === ino) return 0;
  }
  const isReady = needMoved(core, tree, ino, isDir, sourceDir, targetDir);
  if (isReady < 0) return isReady;
  let victimIndex = 0;
  if (hasVictim) {
    victimIndex = needVictim(core, tree, targetDir, victim, targetName, victimIsDir);
    if (victimIndex < 0 && victimIndex !== MISS) return victimIndex;
  } else {
    const full = bucketError(core, tree, targetDir, targetHash, targetName);
    if (full !== 0) return full;
  }
  const sourceIndex = indexOf(core, tree, sourceDir, ino, sourceName);
  if (sourceIndex < 0) return sourceIndex;
  const hasIndex = core.needIndex(tree, sourceDir, sourceIndex, Mode.write);
  const targetIndex = nextIndex(core, tree, targetDir);
  const hasSpace = core.needSpace(NAME_COST);
  if (!core.needRoom() || !hasIndex || targetIndex === MISS || victimIndex === MISS || !hasSpace) return MISS;

  // A rename that puts a written file in place takes its data along.
  logInode(core, core.nodeOf(tree, ino));
  core.stamp.take();
  if (hasVictim) removeName(core, tree, targetDir, victimIndex, victim, targetName, targetHash);
  const from = { dir: sourceDir, index: sourceIndex, name: sourceName, hash: sourceHash };
  const to = { dir: targetDir, index: targetIndex, name: targetName, hash: targetHash };
  moveName(core, tree, ino, from, to);
  core.space.spend(NAME_COST);
  core.setNextIndex(targetNode, targetIndex + 1);
  core.writeBack.changed();
  return 0;
}

/** A name's items, as they are or as they will be. */
interface Place {
  readonly dir: number;
  readonly index: number;
  readonly name: Uint8Array;
  readonly hash: number;
}

/** Moves a name, with the stamp taken; everything is held, and the target is free. */
function moveName(core: Core, tree: number, ino: number, from: Place, to: Place): void {
  const { sec, nsec } = core.stamp;
  core.writeBack.open.log.rename(
    tree,
    ino,
    sec,
    nsec,
    from.dir,
    from.index,
    to.dir,
    to.index,
    from.name,
    to.name,
  );
  const result = applyRename(
    core.items,
    core.limits.maxBucketBytes,
    tree,
    ino,
    sec,
    nsec,
    from.dir,
    from.index,
    to.dir,
    to.index,
    from.name,
    0,
    from.name.length,
    from.hash,
    to.name,
    0,
    to.name.length,
    to.hash,
  );
  assert(result === 0, 'a rename whose names are held can be done');
}

/** A name that no program is likely to use, beside one that changes places with another. */
function passingName(ino: number, turn: number): Uint8Array {
  return Uint8Array.from(`.crfs-exchange-${ino}-${turn}`, (letter) => letter.charCodeAt(0));
}

/** Has two names change places: three renames of one batch, by way of a name that nobody sees. */
function exchange(
  core: Core,
  oneNode: number,
  oneName: Uint8Array,
  otherNode: number,
  otherName: Uint8Array,
): number {
  const tree = core.treeOf(oneNode);
  const [oneDir, otherDir] = [core.inoOf(oneNode), core.inoOf(otherNode)];
  const [oneHash, otherHash] = [nameHash(oneName), nameHash(otherName)];
  const hasOne = needDirectoryEntry(core, tree, oneDir, oneHash);
  const hasOther = needDirectoryEntry(core, tree, otherDir, otherHash);
  if (!hasOne || !hasOther) return MISS;
  if (!findName(core, tree, oneDir, oneName, oneHash)) return -Errno.ENOENT;
  const one = { ...found };
  if (!findName(core, tree, otherDir, otherName, otherHash)) return -Errno.ENOENT;
  const other = { ...found };
  if (one.isSubvolume || other.isSubvolume) return -Errno.EBUSY;
  if (one.ino === other.ino) return 0;
  const isDir = (entry: typeof found): boolean => entry.type === FileType.directory;
  const hasMovedOne = needMoved(core, tree, one.ino, isDir(one), oneDir, otherDir);
  const hasMovedOther = needMoved(core, tree, other.ino, isDir(other), otherDir, oneDir);
  for (const ready of [hasMovedOne, hasMovedOther]) if (ready < 0 && ready !== MISS) return ready;
  if (hasMovedOne === MISS || hasMovedOther === MISS) return MISS;
  const oneIndex = indexOf(core, tree, oneDir, one.ino, oneName);
  const otherIndex = indexOf(core, tree, otherDir, other.ino, otherName);
  if (oneIndex < 0) return oneIndex;
  if (otherIndex < 0) return otherIndex;
  let turn = 0;
  let passing: Uint8Array;
  let passingHash: number;
  for (;;) {
    passing = passingName(one.ino, turn++);
    passingHash = nameHash(passing);
    if (!core.needName(tree, oneDir, passingHash, Mode.write)) return MISS;
    if (!findName(core, tree, oneDir, passing, passingHash)) break;
  }
  const full = bucketError(core, tree, oneDir, passingHash, passing);
  if (full !== 0) return full;
  const hasOneIndex = core.needIndex(tree, oneDir, oneIndex, Mode.write);
  const hasOtherIndex = core.needIndex(tree, otherDir, otherIndex, Mode.write);
  const passingIndex = nextIndex(core, tree, oneDir);
  const hasSpace = core.needSpace(3 * NAME_COST);
  if (!core.needRoom() || !hasOneIndex || !hasOtherIndex || passingIndex === MISS || !hasSpace) return MISS;

  logInode(core, core.nodeOf(tree, one.ino));
  logInode(core, core.nodeOf(tree, other.ino));
  core.stamp.take();
  const onePlace = { dir: oneDir, index: oneIndex, name: oneName, hash: oneHash };
  const otherPlace = { dir: otherDir, index: otherIndex, name: otherName, hash: otherHash };
  const passingPlace = { dir: oneDir, index: passingIndex, name: passing, hash: passingHash };
  moveName(core, tree, one.ino, onePlace, passingPlace);
  moveName(core, tree, other.ino, otherPlace, onePlace);
  moveName(core, tree, one.ino, passingPlace, otherPlace);
  core.space.spend(3 * NAME_COST);
  core.setNextIndex(oneNode, passingIndex + 1);
  core.writeBack.changed();
  return 0;
}

/** Why an entry cannot take another's place, or 0. */
function victimRefusal(
  ino: number,
  isDir: boolean,
  victim: number,
  victimIsDir: boolean,
  victimIsSubvolume: boolean,
  flags: number,
): number {
  if ((flags & RenameFlags.noReplace) !== 0) return -Errno.EEXIST;
  // An empty one too, as in Linux.
  if (victimIsSubvolume) return isDir ? -Errno.ENOTEMPTY : -Errno.EISDIR;
  if (victim === ino) return 0;
  if (isDir && !victimIsDir) return -Errno.ENOTDIR;
  return !isDir && victimIsDir ? -Errno.EISDIR : 0;
}

/**
 * Whether the inode that moves is held for it, and for a directory every step from its new place to the root.
 *
 * @returns 0; MISS; -EINVAL if a directory would move below itself.
 */
function needMoved(
  core: Core,
  tree: number,
  ino: number,
  isDir: boolean,
  sourceDir: number,
  targetDir: number,
): number {
  const hasInode = core.needInode(tree, ino, Mode.read, Mode.write);
  const hasRefs = core.needTypes(tree, ino, ItemType.inodeRef, ItemType.inodeExtref + 1, Mode.write);
  if (isDir && sourceDir !== targetDir) {
    let at = targetDir;
    while (at !== ROOT_INO && at !== 0) {
      if (at === ino) return -Errno.EINVAL;
      if (at === core.rootIno && tree === core.rootTree) break;
      if (!core.needTypes(tree, at, ItemType.inodeRef, ItemType.inodeRef + 1, Mode.read)) return MISS;
      at = parentOf(core.items, tree, at);
    }
  } else if (isDir && targetDir === ino) {
    return -Errno.EINVAL;
  }
  return hasInode && hasRefs ? 0 : MISS;
}
