// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether a change stays within its sender's write grants, for the memory volume: the table "Which grants a change
// needs" of docs/protocol.md. The engine has its own judge (crates/crfs-engine/src/change/grants.rs).

import { ChangeKind, type ChangeReader, FieldMask, SECTOR_BYTES } from '../item/change.ts';
import { DERIVED, decodeObjectid, decodeOffset, decodeType, ItemType } from '../item/key.ts';
import { nameHash } from '../item/name_hash.ts';
import { getU64 } from '../item/number_fields.ts';
import { formatRange, inodeRange, type Key, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';

/** Layout of a packed entry, in bytes (coherency/packed_grants.ts). */
const ENTRY_BYTES = 48;
const START_AT = 8;
const END_AT = 25;

const IDENTITY_FIELDS: number = FieldMask.mode | FieldMask.uid | FieldMask.gid | FieldMask.inodeFlags;
const DERIVED_FIELDS: number = FieldMask.size | FieldMask.atime | FieldMask.mtime | FieldMask.ctime;

/** Reads packed write grants. */
export function unpackGrants(packed: Uint8Array): RangeForest<true> {
  const forest = new RangeForest<true>();
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  for (let at = 0; at < packed.length; at += ENTRY_BYTES) {
    const range = {
      tree: getU64(view, at),
      start: keyAt(packed, at + START_AT),
      end: keyAt(packed, at + END_AT),
    };
    forest.set(range, true);
  }
  return forest;
}

function keyAt(bytes: Uint8Array, at: number): Key {
  return {
    objectid: decodeObjectid(bytes, at),
    type: decodeType(bytes, at),
    offset: decodeOffset(bytes, at),
  };
}

/**
 * What a change needs and its sender does not hold, in words; null when it may be applied.
 *
 * @param oldSize - of the file that a set fields changes, bytes
 */
export function missingGrant(
  grants: RangeForest<true>,
  change: ChangeReader,
  oldSize: number,
): string | null {
  const missing = neededRanges(change, oldSize).find((range) => !grants.covers(range, () => true));
  return missing === undefined ? null : `${formatRange(missing)} is outside the sender's write grants`;
}

function neededRanges(change: ChangeReader, oldSize: number): TreeRange[] {
  const { tree, ino } = change;
  switch (change.kind) {
    case ChangeKind.newInode:
    case ChangeKind.dropInode:
      return [inodeRange(tree, ino)];
    case ChangeKind.setFields:
      return fieldRanges(change, oldSize);
    case ChangeKind.addName:
    case ChangeKind.removeName:
      return nameRanges(change, change.dir, change.index, change.nameStart, change.nameLength);
    case ChangeKind.rename:
      return [
        ...nameRanges(change, change.dir, change.index, change.nameStart, change.nameLength),
        ...nameRanges(change, change.targetDir, change.targetIndex, change.targetStart, change.targetLength),
      ];
    case ChangeKind.setXattr:
    case ChangeKind.removeXattr: {
      const hash = nameHash(change.bytes, change.nameStart, change.nameLength);
      return [oneKey(tree, ino, ItemType.xattrItem, hash), derived(tree, ino)];
    }
    default:
      return [byteRange(tree, ino, change.fileOffset, change.fileOffset + change.length), derived(tree, ino)];
  }
}

function fieldRanges(change: ChangeReader, oldSize: number): TreeRange[] {
  const { tree, ino } = change;
  const { mask, size } = change.fields;
  const ranges: TreeRange[] = [];
  if ((mask & IDENTITY_FIELDS) !== 0) ranges.push(oneKey(tree, ino, ItemType.inodeItem, 0));
  if ((mask & DERIVED_FIELDS) !== 0) ranges.push(derived(tree, ino));
  if ((mask & FieldMask.size) !== 0 && size < oldSize) {
    const from = Math.ceil(size / SECTOR_BYTES) * SECTOR_BYTES;
    const end = { objectid: ino, type: ItemType.extentData + 1, offset: 0 };
    ranges.push({ tree, start: { objectid: ino, type: ItemType.extentData, offset: from }, end });
  }
  return ranges;
}

function nameRanges(
  change: ChangeReader,
  dir: number,
  index: number,
  start: number,
  length: number,
): TreeRange[] {
  const { tree, ino } = change;
  return [
    oneKey(tree, dir, ItemType.dirItem, nameHash(change.bytes, start, length)),
    oneKey(tree, dir, ItemType.dirIndex, index),
    derived(tree, dir),
    derived(tree, ino),
    oneKey(tree, ino, ItemType.inodeRef, dir),
  ];
}

function oneKey(tree: number, objectid: number, type: number, offset: number): TreeRange {
  return { tree, start: { objectid, type, offset }, end: { objectid, type, offset: offset + 1 } };
}

function derived(tree: number, ino: number): TreeRange {
  return oneKey(tree, ino, ItemType.inodeItem, DERIVED);
}

function byteRange(tree: number, ino: number, start: number, end: number): TreeRange {
  const type = ItemType.extentData;
  return { tree, start: { objectid: ino, type, offset: start }, end: { objectid: ino, type, offset: end } };
}
