// SPDX-License-Identifier: GPL-2.0-or-later
//
// What changes of an inode itself do to items: new inode, set fields, drop inode, xattrs.
//
// All functions return 0 or a negative errno; they may leave a half-done state when they refuse.

import { Errno } from '../util/errno.ts';
import { applySize } from './apply_extent.ts';
import { FieldMask, type InodeFields, TARGET_MAX, XattrChangeFlags } from './change.ts';
import { DIR_ENTRY_HEAD_BYTES, entryBytes, FileType, findEntry, writeEntry } from './dir_item.ts';
import { EXTENT_HEAD_BYTES, writeInlineHead } from './extent_data.ts';
import {
  FileMode,
  INODE_ITEM_BYTES,
  InodeField,
  inodeMode,
  inodeNlink,
  inodeSize,
  setInodeNbytes,
  setInodeSize,
  setInodeTime,
} from './inode_item.ts';
import type { ItemMap } from './item_map.ts';
import { ItemType } from './key.ts';
import { setU64 } from './number_fields.ts';

/** Kinds of inodes that exist, by mode >> 12. */
const KNOWN_TYPES =
  (1 << 0o01) | (1 << 0o02) | (1 << 0o04) | (1 << 0o06) | (1 << 0o10) | (1 << 0o12) | (1 << 0o14);

/** New inode. @param target - of a symbolic link at `[targetStart, targetStart + targetLength)`; else no bytes. */
export function applyNewInode(
  map: ItemMap,
  tree: number,
  ino: number,
  mode: number,
  uid: number,
  gid: number,
  rdev: number,
  sec: number,
  nsec: number,
  target: Uint8Array,
  targetStart: number,
  targetLength: number,
): number {
  const type = mode & FileMode.typeMask;
  if (mode > 0o177777 || (KNOWN_TYPES & (1 << (type >>> 12))) === 0) return -Errno.EINVAL;
  if (targetLength > TARGET_MAX || (type === FileMode.symlink) !== targetLength > 0) return -Errno.EINVAL;
  if (rdev !== 0 && type !== FileMode.character && type !== FileMode.block) return -Errno.EINVAL;
  if (map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.EEXIST;
  map.insert(tree, ino, ItemType.inodeItem, 0, INODE_ITEM_BYTES);
  const { view, start } = map;
  view.setUint32(start + InodeField.uid, uid, true);
  view.setUint32(start + InodeField.gid, gid, true);
  view.setUint32(start + InodeField.mode, mode, true);
  setU64(view, start + InodeField.rdev, rdev);
  setInodeTime(view, start, InodeField.atime, sec, nsec);
  setInodeTime(view, start, InodeField.ctime, sec, nsec);
  setInodeTime(view, start, InodeField.mtime, sec, nsec);
  setInodeTime(view, start, InodeField.otime, sec, nsec);
  if (targetLength === 0) return 0;
  setInodeSize(view, start, targetLength);
  setInodeNbytes(view, start, targetLength);
  map.insert(tree, ino, ItemType.extentData, 0, EXTENT_HEAD_BYTES + targetLength);
  writeInlineHead(map.view, map.start, targetLength);
  map.bytes.set(target.subarray(targetStart, targetStart + targetLength), map.start + EXTENT_HEAD_BYTES);
  return 0;
}

/** Set fields. */
export function applySetFields(
  map: ItemMap,
  maxInlineBytes: number,
  tree: number,
  ino: number,
  fields: InodeFields,
): number {
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  const mask = fields.mask;
  if ((mask & FieldMask.mode) !== 0) {
    const same = (inodeMode(map.view, map.start) & FileMode.typeMask) === (fields.mode & FileMode.typeMask);
    if (!same || fields.mode > 0o177777) return -Errno.EINVAL;
  }
  if ((mask & FieldMask.size) !== 0 && fields.size !== inodeSize(map.view, map.start)) {
    const problem = applySize(map, maxInlineBytes, tree, ino, fields.size);
    if (problem !== 0) return problem;
    map.find(tree, ino, ItemType.inodeItem, 0);
  }
  map.touch();
  const { view, start } = map;
  if ((mask & FieldMask.mode) !== 0) view.setUint32(start + InodeField.mode, fields.mode, true);
  if ((mask & FieldMask.uid) !== 0) view.setUint32(start + InodeField.uid, fields.uid, true);
  if ((mask & FieldMask.gid) !== 0) view.setUint32(start + InodeField.gid, fields.gid, true);
  if ((mask & FieldMask.atime) !== 0) {
    setInodeTime(view, start, InodeField.atime, fields.atimeSec, fields.atimeNsec);
  }
  if ((mask & FieldMask.mtime) !== 0) {
    setInodeTime(view, start, InodeField.mtime, fields.mtimeSec, fields.mtimeNsec);
  }
  if ((mask & FieldMask.ctime) !== 0) {
    setInodeTime(view, start, InodeField.ctime, fields.ctimeSec, fields.ctimeNsec);
  }
  if ((mask & FieldMask.inodeFlags) !== 0) setU64(view, start + InodeField.flags, fields.inodeFlags);
  return 0;
}

/** Drop inode: an inode without names goes with all its items. */
export function applyDropInode(map: ItemMap, tree: number, ino: number): number {
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  if (inodeNlink(map.view, map.start) !== 0) return -Errno.EINVAL;
  while (map.seek(tree, ino, 0, 0) && map.objectid === ino) map.remove();
  return 0;
}

/** Makes the inode item the current one and stamps its ctime. */
function stampCtime(map: ItemMap, tree: number, ino: number, sec: number, nsec: number): void {
  map.find(tree, ino, ItemType.inodeItem, 0);
  map.touch();
  setInodeTime(map.view, map.start, InodeField.ctime, sec, nsec);
}

/** Set xattr. @param flags - of `XattrChangeFlags`. @param maxXattrBytes - largest item of one xattr. */
export function applySetXattr(
  map: ItemMap,
  maxXattrBytes: number,
  maxItemBytes: number,
  tree: number,
  ino: number,
  sec: number,
  nsec: number,
  flags: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  hash: number,
  value: Uint8Array,
  valueStart: number,
  valueLength: number,
): number {
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  const bytes = DIR_ENTRY_HEAD_BYTES + nameLength + valueLength;
  if (bytes > maxXattrBytes || valueLength > 0xffff) return -Errno.ENOSPC;
  let at = -1;
  let rest = 0;
  const hasItem = map.find(tree, ino, ItemType.xattrItem, hash);
  if (hasItem) {
    at = findEntry(map.bytes, map.view, map.start, map.size, name, nameStart, nameLength);
    rest = map.size;
  }
  if (at >= 0 && (flags & XattrChangeFlags.mustNotExist) !== 0) return -Errno.EEXIST;
  if (at < 0 && (flags & XattrChangeFlags.mustExist) !== 0) return -Errno.ENODATA;
  if (at >= 0) {
    const old = entryBytes(map.view, at);
    map.touch();
    map.bytes.copyWithin(at, at + old, map.start + map.size);
    rest -= old;
  }
  if (rest + bytes > maxItemBytes) return -Errno.ENOSPC;
  if (hasItem) map.resize(rest + bytes);
  else map.insert(tree, ino, ItemType.xattrItem, hash, bytes);
  const start = map.start + rest;
  writeEntry(map.bytes, map.view, start, 0, FileType.xattr, name, nameStart, nameLength, valueLength);
  map.bytes.set(
    value.subarray(valueStart, valueStart + valueLength),
    start + DIR_ENTRY_HEAD_BYTES + nameLength,
  );
  stampCtime(map, tree, ino, sec, nsec);
  return 0;
}

/** Remove xattr. */
export function applyRemoveXattr(
  map: ItemMap,
  tree: number,
  ino: number,
  sec: number,
  nsec: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  hash: number,
): number {
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  if (!map.find(tree, ino, ItemType.xattrItem, hash)) return -Errno.ENODATA;
  const at = findEntry(map.bytes, map.view, map.start, map.size, name, nameStart, nameLength);
  if (at < 0) return -Errno.ENODATA;
  const bytes = entryBytes(map.view, at);
  if (bytes === map.size) {
    map.remove();
  } else {
    map.touch();
    map.bytes.copyWithin(at, at + bytes, map.start + map.size);
    map.resize(map.size - bytes);
  }
  stampCtime(map, tree, ino, sec, nsec);
  return 0;
}
