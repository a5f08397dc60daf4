// SPDX-License-Identifier: GPL-2.0-or-later
//
// Applies change records to a map of items: exactly what the engine makes of them (docs/protocol.md, "Changes"),
// orphan items apart, which no client sees. MemoryVolume runs batches through it, tests take it as the oracle for
// the engine, and the client's operations call the same functions record by record as they take effect.

import { Errno } from '../util/errno.ts';
import { applyCut, applyPreallocate, applyPutData } from './apply_extent.ts';
import {
  applyDropInode,
  applyNewInode,
  applyRemoveXattr,
  applySetFields,
  applySetXattr,
} from './apply_inode.ts';
import { applyAddName, applyRemoveName, applyRename } from './apply_name.ts';
import { ChangeKind, type ChangeReader } from './change.ts';
import type { ItemMap } from './item_map.ts';
import { nameHash } from './name_hash.ts';

/** Limits of the image that decide which items a change makes; the greeting tells them. Units: bytes. */
export interface ItemLimits {
  /** Largest file that is stored inline. */
  readonly maxInlineBytes: number;
  /** Largest XATTR_ITEM of one name, entry head included. */
  readonly maxXattrBytes: number;
  /** Largest item that packs several entries: DIR_ITEM, INODE_REF, XATTR_ITEM. */
  readonly maxBucketBytes: number;
}

/**
 * Applies the record at which `change` stands.
 *
 * @param data - holds the payload of a put data from `dataStart` on.
 * @returns 0 or a negative errno, with the map then possibly half changed.
 */
export function applyChange(
  map: ItemMap,
  limits: ItemLimits,
  change: ChangeReader,
  data: Uint8Array,
  dataStart: number,
): number {
  const { tree, ino, sec, nsec, bytes, nameStart, nameLength } = change;
  switch (change.kind) {
    case ChangeKind.newInode:
      return applyNewInode(
        map,
        tree,
        ino,
        change.mode,
        change.uid,
        change.gid,
        change.rdev,
        sec,
        nsec,
        bytes,
        change.targetStart,
        change.targetLength,
      );
    case ChangeKind.setFields:
      return applySetFields(map, limits.maxInlineBytes, tree, ino, change.fields);
    case ChangeKind.addName:
      return applyAddName(
        map,
        limits.maxBucketBytes,
        tree,
        change.dir,
        change.index,
        ino,
        sec,
        nsec,
        bytes,
        nameStart,
        nameLength,
        nameHash(bytes, nameStart, nameLength),
      );
    case ChangeKind.removeName:
      return applyRemoveName(
        map,
        tree,
        change.dir,
        change.index,
        ino,
        sec,
        nsec,
        bytes,
        nameStart,
        nameLength,
        nameHash(bytes, nameStart, nameLength),
      );
    case ChangeKind.rename:
      return applyRename(
        map,
        limits.maxBucketBytes,
        tree,
        ino,
        sec,
        nsec,
        change.dir,
        change.index,
        change.targetDir,
        change.targetIndex,
        bytes,
        nameStart,
        nameLength,
        nameHash(bytes, nameStart, nameLength),
        bytes,
        change.targetStart,
        change.targetLength,
        nameHash(bytes, change.targetStart, change.targetLength),
      );
    case ChangeKind.setXattr:
      return applySetXattr(
        map,
        limits.maxXattrBytes,
        limits.maxBucketBytes,
        tree,
        ino,
        sec,
        nsec,
        change.flags,
        bytes,
        nameStart,
        nameLength,
        nameHash(bytes, nameStart, nameLength),
        bytes,
        change.valueStart,
        change.valueLength,
      );
    case ChangeKind.removeXattr:
      return applyRemoveXattr(
        map,
        tree,
        ino,
        sec,
        nsec,
        bytes,
        nameStart,
        nameLength,
        nameHash(bytes, nameStart, nameLength),
      );
    case ChangeKind.putData:
      return applyPutData(
        map,
        limits.maxInlineBytes,
        tree,
        ino,
        change.fileOffset,
        change.length,
        change.newSize,
        sec,
        nsec,
        data,
        dataStart,
      );
    case ChangeKind.cut:
      return applyCut(map, tree, ino, change.fileOffset, change.length, sec, nsec);
    case ChangeKind.preallocate:
      return applyPreallocate(map, tree, ino, change.fileOffset, change.length, change.newSize, sec, nsec);
    case ChangeKind.dropInode:
      return applyDropInode(map, tree, ino);
    default:
      return -Errno.EINVAL;
  }
}
