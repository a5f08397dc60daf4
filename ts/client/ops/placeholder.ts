// SPDX-License-Identifier: GPL-2.0-or-later
//
// Placeholders: entries that lead to a subvolume which is not there. As in Linux each is an empty directory with the owner
// and times of the directory that it lies in, and nothing about it can be changed. It has no items: what programs see is
// made here. The kernel may keep nothing of it, since it is not told when the directory changes.

import { FileMode } from '../../item/inode_item.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import type { Core } from '../core.ts';
import { PLACEHOLDERS_MAX } from '../limits.ts';
import { placeholderNode } from '../node_id.ts';
import { type AttrOut, MISS } from '../operations.ts';

const MODE: number = FileMode.directory | 0o755;

/** Fills `out` for the entry of `dir` that names subvolume `absent`. @returns 0, MISS or an errno. */
export function fillPlaceholder(core: Core, dir: number, absent: number, out: AttrOut): number {
  const node = placeholderNode(core.treeOf(dir), absent);
  if (node === 0) return -Errno.EOVERFLOW;
  const result = fill(core, node, dir, out);
  if (result !== 0) return result;
  if (core.placeholders.size >= PLACEHOLDERS_MAX) core.placeholders.clear();
  core.placeholders.set(node, dir);
  return 0;
}

/** Fills `out` for one that the kernel knows. @returns 0, MISS or an errno. */
export function placeholderAttr(core: Core, node: number, out: AttrOut): number {
  const dir = core.placeholders.get(node);
  return dir === undefined ? -Errno.ESTALE : fill(core, node, dir, out);
}

function fill(core: Core, node: number, dir: number, out: AttrOut): number {
  const tree = core.treeOf(dir);
  const ino = core.inoOf(dir);
  if (!core.needInode(tree, ino, Mode.read, Mode.read)) return MISS;
  const result = core.fillAttr(tree, ino, out);
  if (result !== 0) return result;
  out.node = node;
  out.ino = node;
  out.mode = MODE;
  out.nlink = 1;
  out.size = 0;
  out.blocks = 0;
  out.cacheable = false;
  return 0;
}
