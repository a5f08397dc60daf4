// SPDX-License-Identifier: GPL-2.0-or-later
//
// The numbers by which the kernel knows inodes, and st_ino: an inode of a tree folded into one safe integer, 17 bits for
// the tree above 36 bits for the inode.
//
// Inodes of the default tree (5) keep their numbers. An inode of subvolume `tree` (256 and up) becomes
// (tree - 255) * 2^36 + ino. So numbers are distinct over the mount, and the same in every mount and after every restart.
// What has no such number (an inode from 2^36 - 2^17 on, a tree from 131,326 on) is refused with EOVERFLOW rather than
// given a number that another inode has.
//
// The last 2^17 numbers of each tree are those of its *placeholders*: entries that lead to a subvolume which is not there,
// as snapshots have them of the subvolumes in what they were made of. Each is an empty directory, numbered by the
// subvolume that its entry names.
//
// Node 1, which no inode has, is the root of the mount, whatever directory that is.

import { FIRST_SUBVOLUME_TREE, FS_TREE } from '../item/key.ts';
import { INODE_GIVEN_MAX } from '../util/limits.ts';

/** The kernel's number of the root of every mount. */
export const ROOT_NODE = 1;

const TREE_UNIT = 2 ** 36;
const FIRST_FOLDED = FIRST_SUBVOLUME_TREE - 1;
const FOLDED_TREES = 2 ** 17 - 1;
const FIRST_PLACEHOLDER = INODE_GIVEN_MAX + 1;

/** Numbers from here on, 2^36 of them, are no inode's: the kernel channel has uses for them. */
export const FIRST_SPARE_NODE: number = FOLDED_TREES * TREE_UNIT;

/** Where a tree's numbers begin; -1 if it has none. */
function firstOf(tree: number): number {
  if (tree === FS_TREE) return 0;
  const slot = tree - FIRST_FOLDED;
  return slot < FOLDED_TREES && slot > 0 ? slot * TREE_UNIT : -1;
}

/** The number of an inode; 0 if it cannot have one. */
export function nodeOf(tree: number, ino: number): number {
  const first = firstOf(tree);
  return first >= 0 && ino < FIRST_PLACEHOLDER ? first + ino : 0;
}

/** The tree of a number that `nodeOf` or `placeholderNode` made. */
export function treeOfNode(node: number): number {
  return node < TREE_UNIT ? FS_TREE : Math.floor(node / TREE_UNIT) + FIRST_FOLDED;
}

/** The inode of a number that `nodeOf` made. */
export function inoOfNode(node: number): number {
  return node < TREE_UNIT ? node : node % TREE_UNIT;
}

/** The number of the empty directory that stands in `tree` for subvolume `absent`; 0 if it cannot have one. */
export function placeholderNode(tree: number, absent: number): number {
  const first = firstOf(tree);
  const isFolded = firstOf(absent) >= 0;
  return first >= 0 && isFolded ? first + FIRST_PLACEHOLDER + Math.max(0, absent - FIRST_FOLDED) : 0;
}

/** Whether `placeholderNode` made this number. */
export function isPlaceholderNode(node: number): boolean {
  return node < FIRST_SPARE_NODE && inoOfNode(node) >= FIRST_PLACEHOLDER;
}
