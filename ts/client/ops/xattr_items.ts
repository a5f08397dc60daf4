// SPDX-License-Identifier: GPL-2.0-or-later
//
// One extended attribute in the items: finding it, and setting or removing it once everything is held and the stamp is
// taken. The operations on top are in xattr.ts and acl.ts.

import { applyRemoveXattr, applySetXattr } from '../../item/apply_inode.ts';
import { DIR_ENTRY_HEAD_BYTES, entryDataLength, entryNameLength, findEntry } from '../../item/dir_item.ts';
import { ItemType } from '../../item/key.ts';
import { nameHash } from '../../item/name_hash.ts';
import { assert } from '../../util/assert.ts';
import type { Core } from '../core.ts';

/** The name of an xattr with its hash. */
export interface XattrName {
  readonly bytes: Uint8Array;
  readonly hash: number;
}

export function xattrName(text: string): XattrName {
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  return { bytes, hash: nameHash(bytes) };
}

/** The position of an xattr's entry in the items, or -1; its key must be held. */
export function findXattr(core: Core, tree: number, ino: number, name: Uint8Array, hash: number): number {
  const items = core.items;
  if (!items.find(tree, ino, ItemType.xattrItem, hash)) return -1;
  return findEntry(items.bytes, items.view, items.start, items.size, name, 0, name.length);
}

/** The value of the xattr at `at`: a view, valid until the items are looked at again. */
export function xattrValue(core: Core, at: number): Uint8Array {
  const { bytes, view } = core.items;
  const start = at + DIR_ENTRY_HEAD_BYTES + entryNameLength(view, at);
  return bytes.subarray(start, start + entryDataLength(view, at));
}

/** Sets an xattr. @param changeFlags - of the change record. */
export function putXattr(
  core: Core,
  tree: number,
  ino: number,
  changeFlags: number,
  name: Uint8Array,
  hash: number,
  value: Uint8Array,
): void {
  const { sec, nsec } = core.stamp;
  const { items, limits } = core;
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
}

/** Removes an xattr that is there. */
export function cutXattr(core: Core, tree: number, ino: number, name: Uint8Array, hash: number): void {
  const { sec, nsec } = core.stamp;
  core.writeBack.open.log.removeXattr(tree, ino, sec, nsec, name);
  const result = applyRemoveXattr(core.items, tree, ino, sec, nsec, name, 0, name.length, hash);
  assert(result === 0, 'an xattr that is held can be removed');
}
