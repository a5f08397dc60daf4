// SPDX-License-Identifier: GPL-2.0-or-later
//
// Finds the directory that a client mounts: walks the names of its path from the top of the image, subvolumes
// included, as a directory is walked into. Symbolic links are not followed: the path names a directory of the image, not
// of some client's tree.

import {
  entryIsPlaceholder,
  entryIsSubvolume,
  entryObjectid,
  entryType,
  FileType,
  findEntry,
} from '../item/dir_item.ts';
import { FS_TREE, ItemType, ROOT_INO } from '../item/key.ts';
import { nameHash } from '../item/name_hash.ts';
import type { Volume } from '../store/volume.ts';
import type { Crc32c } from '../util/crc32c.ts';
import { Errno } from '../util/errno.ts';
import { FsError } from '../util/errors.ts';
import { NAME_BYTES_MAX, PAGE_BYTES_MAX } from '../util/limits.ts';
import { readItemPage } from '../wire/item_page.ts';
import type { TreeInode } from '../wire/message.ts';

const SLASH = 0x2f;

/**
 * @param path - absolute, raw bytes
 * @throws FsError ENOENT - a name is missing; ENOTDIR - one of them is no directory
 */
export async function findExportRoot(volume: Volume, path: Uint8Array, crc32c: Crc32c): Promise<TreeInode> {
  let here: TreeInode = { tree: FS_TREE, ino: ROOT_INO };
  for (const name of namesOf(path)) here = await step(volume, here, name, crc32c);
  return here;
}

function namesOf(path: Uint8Array): Uint8Array[] {
  if (path[0] !== SLASH) throw new FsError(Errno.ENOENT, 'the path to mount is not absolute');
  const names: Uint8Array[] = [];
  for (let start = 1; start < path.length; ) {
    const slash = path.indexOf(SLASH, start);
    const end = slash < 0 ? path.length : slash;
    if (end > start) names.push(path.subarray(start, end));
    start = end + 1;
  }
  return names;
}

async function step(volume: Volume, dir: TreeInode, name: Uint8Array, crc32c: Crc32c): Promise<TreeInode> {
  const shown = JSON.stringify(Buffer.from(name).toString());
  if (name.length > NAME_BYTES_MAX) throw new FsError(Errno.ENOENT, `${shown} is longer than a name can be`);
  const offset = nameHash(name);
  const start = { objectid: dir.ino, type: ItemType.dirItem, offset };
  const end = { objectid: dir.ino, type: ItemType.dirItem, offset: offset + 1 };
  const { page: bytes } = await volume.readItems(dir.tree, start, end, PAGE_BYTES_MAX);
  const page = readItemPage(bytes, crc32c);
  if (page.count === 0) throw new FsError(Errno.ENOENT, `${shown} is not in the image`);
  const data = page.data(0);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const at = findEntry(data, view, 0, data.length, name, 0, name.length);
  if (at < 0) throw new FsError(Errno.ENOENT, `${shown} is not in the image`);
  const objectid = entryObjectid(view, at);
  if (entryIsPlaceholder(view, at))
    throw new FsError(
      Errno.ENOENT,
      `${shown} is the place of a subvolume that this snapshot does not contain`,
    );
  if (entryIsSubvolume(view, at)) return { tree: objectid, ino: ROOT_INO };
  if (entryType(view, at) !== FileType.directory)
    throw new FsError(Errno.ENOTDIR, `${shown} is not a directory`);
  return { tree: dir.tree, ino: objectid };
}
