// SPDX-License-Identifier: GPL-2.0-or-later
//
// What names that come and go do to items: DIR_ITEM, DIR_INDEX, INODE_REF or INODE_EXTREF, the directory's size and
// times, the inode's nlink and ctime. The client's cache, MemoryVolume and the engine's property test share it.
//
// All functions return 0 or a negative errno; they may leave a half-done state when they refuse, so whoever applies
// what a peer sent must be able to take it back.

import { Errno } from '../util/errno.ts';
import {
  DIR_ENTRY_HEAD_BYTES,
  entryBytes,
  entryObjectid,
  fileTypeOfMode,
  findEntry,
  writeEntry,
} from './dir_item.ts';
import {
  advanceInodeTime,
  InodeField,
  inodeMode,
  inodeNlink,
  inodeSize,
  isDirectory,
  NLINK_MAX,
  setInodeSize,
  setInodeTime,
} from './inode_item.ts';
import {
  EXTREF_HEAD_BYTES,
  findExtref,
  findRef,
  REF_HEAD_BYTES,
  writeExtref,
  writeRef,
} from './inode_ref.ts';
import type { ItemMap } from './item_map.ts';
import { ItemType, ROOT_INO } from './key.ts';
import { extrefHash } from './name_hash.ts';

/** Deeper than any sound tree: a walk that is still going then is in a loop of a broken image. */
const DEPTH_MAX = 1_000_000;

/** Takes the bytes `[at, at + length)` out of the current item, and the item itself if nothing is left. */
function cutItem(map: ItemMap, at: number, length: number): void {
  if (length === map.size) {
    map.remove();
    return;
  }
  map.touch();
  map.bytes.copyWithin(at, at + length, map.start + map.size);
  map.resize(map.size - length);
}

/** Adds the items of a name, without the counts and times that follow from it. */
function insertNameItems(
  map: ItemMap,
  maxItemBytes: number,
  tree: number,
  dir: number,
  index: number,
  ino: number,
  type: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  hash: number,
): number {
  const bytes = DIR_ENTRY_HEAD_BYTES + nameLength;
  if (map.find(tree, dir, ItemType.dirItem, hash)) {
    if (findEntry(map.bytes, map.view, map.start, map.size, name, nameStart, nameLength) >= 0) {
      return -Errno.EEXIST;
    }
    const size = map.size;
    if (size + bytes > maxItemBytes) return -Errno.EOVERFLOW;
    map.resize(size + bytes);
    writeEntry(map.bytes, map.view, map.start + size, ino, type, name, nameStart, nameLength, 0);
  } else {
    map.insert(tree, dir, ItemType.dirItem, hash, bytes);
    writeEntry(map.bytes, map.view, map.start, ino, type, name, nameStart, nameLength, 0);
  }
  if (map.find(tree, dir, ItemType.dirIndex, index)) return -Errno.EEXIST;
  map.insert(tree, dir, ItemType.dirIndex, index, bytes);
  writeEntry(map.bytes, map.view, map.start, ino, type, name, nameStart, nameLength, 0);
  return insertRef(map, maxItemBytes, tree, dir, index, ino, name, nameStart, nameLength);
}

function insertRef(
  map: ItemMap,
  maxItemBytes: number,
  tree: number,
  dir: number,
  index: number,
  ino: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
): number {
  const bytes = REF_HEAD_BYTES + nameLength;
  if (!map.find(tree, ino, ItemType.inodeRef, dir)) {
    map.insert(tree, ino, ItemType.inodeRef, dir, bytes);
    writeRef(map.bytes, map.view, map.start, index, name, nameStart, nameLength);
    return 0;
  }
  const size = map.size;
  if (size + bytes <= maxItemBytes) {
    map.resize(size + bytes);
    writeRef(map.bytes, map.view, map.start + size, index, name, nameStart, nameLength);
    return 0;
  }
  const extrefBytes = EXTREF_HEAD_BYTES + nameLength;
  const hash = extrefHash(dir, name, nameStart, nameLength);
  let at = 0;
  if (map.find(tree, ino, ItemType.inodeExtref, hash)) {
    at = map.size;
    if (at + extrefBytes > maxItemBytes) return -Errno.EMLINK;
    map.resize(at + extrefBytes);
  } else {
    map.insert(tree, ino, ItemType.inodeExtref, hash, extrefBytes);
  }
  writeExtref(map.bytes, map.view, map.start + at, dir, index, name, nameStart, nameLength);
  return 0;
}

/** Removes the items of a name. @returns -ENOENT if it is not there with this index and inode. */
function removeNameItems(
  map: ItemMap,
  tree: number,
  dir: number,
  index: number,
  ino: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  hash: number,
): number {
  if (!map.find(tree, dir, ItemType.dirItem, hash)) return -Errno.ENOENT;
  let at = findEntry(map.bytes, map.view, map.start, map.size, name, nameStart, nameLength);
  if (at < 0 || entryObjectid(map.view, at) !== ino) return -Errno.ENOENT;
  cutItem(map, at, entryBytes(map.view, at));
  if (!map.find(tree, dir, ItemType.dirIndex, index)) return -Errno.ENOENT;
  at = findEntry(map.bytes, map.view, map.start, map.size, name, nameStart, nameLength);
  if (at < 0 || entryObjectid(map.view, at) !== ino) return -Errno.ENOENT;
  map.remove();
  if (map.find(tree, ino, ItemType.inodeRef, dir)) {
    at = findRef(map.bytes, map.view, map.start, map.size, name, nameStart, nameLength);
    if (at >= 0) {
      cutItem(map, at, REF_HEAD_BYTES + nameLength);
      return 0;
    }
  }
  const extref = extrefHash(dir, name, nameStart, nameLength);
  if (!map.find(tree, ino, ItemType.inodeExtref, extref)) return -Errno.ENOENT;
  at = findExtref(map.bytes, map.view, map.start, map.size, dir, name, nameStart, nameLength);
  if (at < 0) return -Errno.ENOENT;
  cutItem(map, at, EXTREF_HEAD_BYTES + nameLength);
  return 0;
}

/** Changes a directory's size by `delta` and advances its times. */
function touchDirectory(
  map: ItemMap,
  tree: number,
  dir: number,
  delta: number,
  sec: number,
  nsec: number,
): void {
  map.find(tree, dir, ItemType.inodeItem, 0);
  map.touch();
  setInodeSize(map.view, map.start, inodeSize(map.view, map.start) + delta);
  advanceInodeTime(map.view, map.start, InodeField.mtime, sec, nsec);
  advanceInodeTime(map.view, map.start, InodeField.ctime, sec, nsec);
}

/** @returns 0 if the inode is a directory that has a name (or is the root of its tree). */
function checkLiveDirectory(map: ItemMap, tree: number, dir: number): number {
  if (!map.find(tree, dir, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  if (!isDirectory(inodeMode(map.view, map.start))) return -Errno.ENOTDIR;
  return inodeNlink(map.view, map.start) > 0 ? 0 : -Errno.ENOENT;
}

/** Add name. @param hash - `nameHash` of the name. */
export function applyAddName(
  map: ItemMap,
  maxItemBytes: number,
  tree: number,
  dir: number,
  index: number,
  ino: number,
  sec: number,
  nsec: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  hash: number,
): number {
  const problem = checkLiveDirectory(map, tree, dir);
  if (problem !== 0) return problem;
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  const mode = inodeMode(map.view, map.start);
  const nlink = inodeNlink(map.view, map.start);
  if (nlink >= (isDirectory(mode) ? 1 : NLINK_MAX)) return -Errno.EMLINK;
  map.touch();
  map.view.setUint32(map.start + InodeField.nlink, nlink + 1, true);
  setInodeTime(map.view, map.start, InodeField.ctime, sec, nsec);
  const error = insertNameItems(
    map,
    maxItemBytes,
    tree,
    dir,
    index,
    ino,
    fileTypeOfMode(mode),
    name,
    nameStart,
    nameLength,
    hash,
  );
  if (error !== 0) return error;
  touchDirectory(map, tree, dir, 2 * nameLength, sec, nsec);
  return 0;
}

/** Remove name. */
export function applyRemoveName(
  map: ItemMap,
  tree: number,
  dir: number,
  index: number,
  ino: number,
  sec: number,
  nsec: number,
  name: Uint8Array,
  nameStart: number,
  nameLength: number,
  hash: number,
): number {
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  if (isDirectory(inodeMode(map.view, map.start)) && !directoryIsEmpty(map, tree, ino))
    return -Errno.ENOTEMPTY;
  const error = removeNameItems(map, tree, dir, index, ino, name, nameStart, nameLength, hash);
  if (error !== 0) return error;
  map.find(tree, ino, ItemType.inodeItem, 0);
  map.touch();
  const nlink = inodeNlink(map.view, map.start);
  if (nlink === 0) return -Errno.ENOENT;
  map.view.setUint32(map.start + InodeField.nlink, nlink - 1, true);
  setInodeTime(map.view, map.start, InodeField.ctime, sec, nsec);
  touchDirectory(map, tree, dir, -2 * nameLength, sec, nsec);
  return 0;
}

/** Whether a directory has no entry. */
export function directoryIsEmpty(map: ItemMap, tree: number, dir: number): boolean {
  return !(
    map.seek(tree, dir, ItemType.dirIndex, 0) &&
    map.objectid === dir &&
    map.type === ItemType.dirIndex
  );
}

/** Rename. The names' hashes are computed by the caller; the target name must be free. */
export function applyRename(
  map: ItemMap,
  maxItemBytes: number,
  tree: number,
  ino: number,
  sec: number,
  nsec: number,
  sourceDir: number,
  sourceIndex: number,
  targetDir: number,
  targetIndex: number,
  sourceName: Uint8Array,
  sourceStart: number,
  sourceLength: number,
  sourceHash: number,
  targetName: Uint8Array,
  targetStart: number,
  targetLength: number,
  targetHash: number,
): number {
  const problem = checkLiveDirectory(map, tree, targetDir);
  if (problem !== 0) return problem;
  if (!map.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ENOENT;
  const mode = inodeMode(map.view, map.start);
  if (isDirectory(mode) && isBelow(map, tree, targetDir, ino)) return -Errno.EINVAL;
  let error = removeNameItems(
    map,
    tree,
    sourceDir,
    sourceIndex,
    ino,
    sourceName,
    sourceStart,
    sourceLength,
    sourceHash,
  );
  if (error !== 0) return error;
  error = insertNameItems(
    map,
    maxItemBytes,
    tree,
    targetDir,
    targetIndex,
    ino,
    fileTypeOfMode(mode),
    targetName,
    targetStart,
    targetLength,
    targetHash,
  );
  if (error !== 0) return error;
  map.find(tree, ino, ItemType.inodeItem, 0);
  map.touch();
  setInodeTime(map.view, map.start, InodeField.ctime, sec, nsec);
  touchDirectory(map, tree, sourceDir, -2 * sourceLength, sec, nsec);
  touchDirectory(map, tree, targetDir, 2 * targetLength, sec, nsec);
  return 0;
}

/** The directory that holds a directory's only name; 0 if none is known. */
export function parentOf(map: ItemMap, tree: number, dir: number): number {
  if (dir === ROOT_INO) return 0;
  if (!map.seek(tree, dir, ItemType.inodeRef, 0)) return 0;
  return map.objectid === dir && map.type === ItemType.inodeRef ? map.offset : 0;
}

/** Whether `dir` is `ancestor` or lies below it. */
export function isBelow(map: ItemMap, tree: number, dir: number, ancestor: number): boolean {
  let at = dir;
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    if (at === ancestor) return true;
    if (at === 0) return false;
    at = parentOf(map, tree, at);
  }
  return true;
}
