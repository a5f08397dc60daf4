// SPDX-License-Identifier: GPL-2.0-or-later
//
// The numbers by which the kernel knows inodes, and st_ino: an inode of a tree folded into one safe integer.
//
// Inodes of the default tree (5) keep their numbers. An inode of subvolume `tree` (256 and up) becomes
// (tree - 255) * 2^40 + ino. So numbers are the same in every mount and after every restart, and distinct while a
// subvolume has fewer than 2^40 inode numbers in use and trees are numbered below 8,446; beyond that a node is
// refused with EOVERFLOW rather than given a number that another inode has. Node 1, which no inode has, is the root
// of the mount, whatever directory that is.

import { FIRST_SUBVOLUME_TREE, FS_TREE } from '../item/key.ts';

/** The kernel's number of the root of every mount. */
export const ROOT_NODE = 1;

const TREE_UNIT = 2 ** 40;
const FIRST_FOLDED = FIRST_SUBVOLUME_TREE - 1;
const FOLDED_TREES = 2 ** 13 - 1;

/** Numbers from here on, 2^40 of them, are no inode's: the kernel channel has uses for them. */
export const FIRST_SPARE_NODE: number = FOLDED_TREES * TREE_UNIT;

/** The number of an inode; 0 if it cannot have one. */
export function nodeOf(tree: number, ino: number): number {
  if (tree === FS_TREE) return ino < TREE_UNIT ? ino : 0;
  const slot = tree - FIRST_FOLDED;
  return slot < FOLDED_TREES && slot > 0 && ino < TREE_UNIT ? slot * TREE_UNIT + ino : 0;
}

/** The tree of a number that `nodeOf` made. */
export function treeOfNode(node: number): number {
  return node < TREE_UNIT ? FS_TREE : Math.floor(node / TREE_UNIT) + FIRST_FOLDED;
}

/** The inode of a number that `nodeOf` made. */
export function inoOfNode(node: number): number {
  return node < TREE_UNIT ? node : node % TREE_UNIT;
}
