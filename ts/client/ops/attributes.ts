// SPDX-License-Identifier: GPL-2.0-or-later
//
// setattr: chmod, chown, truncate, utimens, alone and together.

import { sectorCeil, sectorFloor } from '../../item/apply_extent.ts';
import { applySetFields } from '../../item/apply_inode.ts';
import { InodeFields } from '../../item/change.ts';
import { ExtentType, extentIsHole, extentLength, extentType } from '../../item/extent_data.ts';
import { FileMode, inodeMode, inodeSize, isDirectory, isRegular } from '../../item/inode_item.ts';
import { ItemType } from '../../item/key.ts';
import { assert } from '../../util/assert.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import type { Core } from '../core.ts';
import type { FileState } from '../file_state.ts';
import {
  bytesChanged,
  canWrite,
  cutRuns,
  cutToNothing,
  growthOf,
  keepInline,
  logFile,
  logInode,
  writeBytes,
} from '../file_writer.ts';
import { FILE_SIZE_MAX } from '../limits.ts';
import { type AttrOut, MISS, type SetAttr, SetAttrMask } from '../operations.ts';
import { needModeInAcl, putModeInAcl } from './acl.ts';
import { dropCapability, needCapability } from './xattr.ts';

const M = SetAttrMask;
const fields = new InodeFields();
const ZEROS = new Uint8Array(4096);

/** The mode without set-user-ID, and without set-group-ID where that is a privilege. */
export function withoutPrivileges(mode: number): number {
  const isPrivilege = (mode & FileMode.groupExecute) !== 0;
  return mode & ~(FileMode.setUid | (isPrivilege ? FileMode.setGid : 0));
}

export function setattr(core: Core, node: number, set: SetAttr, out: AttrOut): number {
  const error = core.beginChange(node);
  if (error !== 0) return error;
  const tree = core.treeOf(node);
  const ino = core.inoOf(node);
  if (!core.needInode(tree, ino, Mode.write, Mode.write)) return MISS;
  const stale = core.findInode(tree, ino);
  if (stale !== 0) return stale;
  const { items } = core;
  const mode = inodeMode(items.view, items.start);
  const size = inodeSize(items.view, items.start);
  const setsSize = (set.mask & M.size) !== 0;
  const killsPrivileges = setsSize || ((set.mask & (M.uid | M.gid)) !== 0 && isRegular(mode));
  if (setsSize) {
    const refused = needSize(core, node, tree, ino, mode, size, set.size);
    if (refused !== 0) return refused;
  }
  if (killsPrivileges && !needCapability(core, node)) return MISS;
  const setsMode = (set.mask & M.mode) !== 0;
  if (setsMode) {
    const refused = needModeInAcl(core, tree, ino);
    if (refused !== 0) return refused;
  }
  if (!core.needRoom()) return MISS;

  core.stamp.take();
  if (killsPrivileges) dropCapability(core, node);
  if (setsSize && set.size === 0 && size > 0) {
    cutToNothing(core, core.files.make(node, tree, ino), core.stamp.sec, core.stamp.nsec);
    core.writeBack.dataWritten();
    if ((set.mask & ~(M.size | M.mtimeNow | M.ctime)) === 0) return core.fillAttr(tree, ino, out);
    set.mask &= ~M.size;
  } else if (setsSize && set.size !== size) {
    prepareSize(core, core.files.make(node, tree, ino), size, set.size);
  }
  logInode(core, node);
  if (setsMode) putModeInAcl(core, tree, ino, set.mode);
  collect(core, set, mode, size);
  if (fields.mask !== 0) {
    core.writeBack.setFields(tree, ino, fields);
    const result = applySetFields(items, core.limits.maxInlineBytes, tree, ino, fields);
    assert(result === 0, 'fields of an inode that is held can be set');
    core.writeBack.changed();
  }
  return core.fillAttr(tree, ino, out);
}

/** Gathers what the change record shall set. */
function collect(core: Core, set: SetAttr, mode: number, size: number): void {
  const { mask } = set;
  const { sec, nsec } = core.stamp;
  // The bits of these fields are the same in both masks.
  fields.mask = mask & (M.mode | M.uid | M.gid | M.size | M.atime | M.mtime);
  fields.uid = set.uid;
  fields.gid = set.gid;
  fields.size = set.size;
  let newMode = mode;
  if ((mask & M.mode) !== 0) newMode = (mode & FileMode.typeMask) | (set.mode & ~FileMode.typeMask);
  const clears =
    (mask & (M.uid | M.gid | M.killSuidgid)) !== 0 && (mask & M.mode) === 0 && !isDirectory(mode);
  if (clears) newMode = withoutPrivileges(newMode);
  if (newMode !== mode) fields.mask |= M.mode;
  fields.mode = newMode;
  fields.atimeSec = set.atimeSec;
  fields.atimeNsec = set.atimeNsec;
  fields.mtimeSec = set.mtimeSec;
  fields.mtimeNsec = set.mtimeNsec;
  if ((mask & M.atimeNow) !== 0) {
    fields.mask |= M.atime;
    fields.atimeSec = sec;
    fields.atimeNsec = nsec;
  }
  const sizeChanges = (mask & M.size) !== 0 && set.size !== size;
  if ((mask & M.size) !== 0 && !sizeChanges) fields.mask &= ~M.size;
  if ((mask & M.mtimeNow) !== 0 || (sizeChanges && (mask & M.mtime) === 0)) {
    fields.mask |= M.mtime;
    fields.mtimeSec = sec;
    fields.mtimeNsec = nsec;
  }
  const setsCtime = (mask & M.ctime) !== 0;
  if (fields.mask !== 0 || setsCtime) fields.mask |= CTIME;
  fields.ctimeSec = setsCtime ? set.ctimeSec : sec;
  fields.ctimeNsec = setsCtime ? set.ctimeNsec : nsec;
}

/** The ctime bit of a set-fields change. */
const CTIME = 64;

/** Whether what a new size needs is held. @returns 0, MISS or an errno. */
function needSize(
  core: Core,
  node: number,
  tree: number,
  ino: number,
  mode: number,
  size: number,
  newSize: number,
): number {
  if (isDirectory(mode)) return -Errno.EISDIR;
  if (!isRegular(mode)) return -Errno.EINVAL;
  if (newSize < 0 || newSize > FILE_SIZE_MAX) return -Errno.EFBIG;
  const isHeld =
    newSize < size
      ? core.needBytesFrom(tree, ino, sectorFloor(newSize))
      : core.needBytes(tree, ino, 0, 4096, size, Mode.write);
  if (!isHeld) return MISS;
  if (newSize >= size || newSize === 0) return 0;
  const file = core.files.make(node, tree, ino);
  let isReady = true;
  if (hasTail(core, file, newSize)) {
    const end = Math.min(size, sectorCeil(newSize));
    isReady = canWrite(core, file, newSize, end, size);
    isReady = core.needSpace(growthOf(file, newSize, end)) && isReady;
  }
  core.files.settle(file);
  return isReady ? 0 : MISS;
}

/** Whether a new size lies inside a sector that is stored, so that the rest of the sector must be zeroed. */
function hasTail(core: Core, file: FileState, newSize: number): boolean {
  if (newSize % 4096 === 0) return false;
  const { items } = core;
  const { tree, ino } = file;
  if (
    !items.seekBefore(tree, ino, ItemType.extentData, newSize) ||
    items.objectid !== ino ||
    items.type !== ItemType.extentData
  ) {
    return false;
  }
  const { view, start } = items;
  const isStored = extentType(view, start) === ExtentType.regular && !extentIsHole(view, start);
  return isStored && items.offset + extentLength(view, start) > newSize;
}

/** Brings written bytes in line with a size that is about to be set. */
function prepareSize(core: Core, file: FileState, size: number, newSize: number): void {
  if (newSize >= size) {
    logFile(core, file);
    if (newSize > core.limits.maxInlineBytes) keepInline(core, file);
    return;
  }
  if (hasTail(core, file, newSize)) {
    const end = Math.min(size, sectorCeil(newSize));
    core.space.spend(growthOf(file, newSize, end));
    writeBytes(core, file, newSize, ZEROS.subarray(0, end - newSize), size, core.stamp.sec, core.stamp.nsec);
  }
  cutRuns(core, file, newSize);
  logFile(core, file);
  // Bytes that were written behind it may never have reached the extent itself.
  if (newSize > core.limits.maxInlineBytes) keepInline(core, file);
  bytesChanged(core, file, newSize, Infinity);
}
