// SPDX-License-Identifier: GPL-2.0-or-later
//
// Numbers of inodes and placeholders: each its own, both ways, within what a double holds exactly.

import { expect, test } from 'vitest';
import {
  FIRST_SPARE_NODE,
  inoOfNode,
  isPlaceholderNode,
  nodeOf,
  placeholderNode,
  treeOfNode,
} from '../../../ts/client/node_id.ts';

const UNIT = 2 ** 36;
const LAST_INO = UNIT - 2 ** 17 - 1;
const LAST_TREE = 255 + 2 ** 17 - 2;

test('inodes keep tree and number, each with a number of its own', () => {
  const seen = new Set<number>();
  for (const tree of [5, 256, 257, LAST_TREE]) {
    for (const ino of [256, 257, LAST_INO]) {
      const node = nodeOf(tree, ino);
      expect([treeOfNode(node), inoOfNode(node), isPlaceholderNode(node)]).toEqual([tree, ino, false]);
      seen.add(node);
    }
    for (const absent of [5, 256, LAST_TREE]) {
      const node = placeholderNode(tree, absent);
      expect([treeOfNode(node), isPlaceholderNode(node)]).toEqual([tree, true]);
      seen.add(node);
    }
  }
  expect(seen.size).toBe(24);
  expect(Math.max(...seen)).toBeLessThan(FIRST_SPARE_NODE);
  expect(FIRST_SPARE_NODE + UNIT).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER + 1);
  expect(nodeOf(5, 300)).toBe(300);
  expect(isPlaceholderNode(FIRST_SPARE_NODE + LAST_INO + 1)).toBe(false);
});

test('what has no number is told by 0', () => {
  expect([nodeOf(5, LAST_INO + 1), nodeOf(256, LAST_INO + 1)]).toEqual([0, 0]);
  expect([nodeOf(LAST_TREE + 1, 256), nodeOf(7, 256)]).toEqual([0, 0]);
  expect([placeholderNode(LAST_TREE + 1, 256), placeholderNode(5, LAST_TREE + 1)]).toEqual([0, 0]);
});
