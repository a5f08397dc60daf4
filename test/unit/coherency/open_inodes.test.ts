// SPDX-License-Identifier: GPL-2.0-or-later
//
// When an inode without a name is dropped: when the last of those who have it open has closed it.

import { expect, test } from 'vitest';
import { OpenInodes } from '../../../ts/coherency/open_inodes.ts';

const inode = { tree: 5, ino: 300 };

test('an inode that nobody else has open is dropped by who took its last name', () => {
  const open = new OpenInodes();
  expect(open.closed(1, inode, true)).toBe(true);
  expect(open.closed(1, inode, false)).toBe(false);
});

test('the last one to close drops it', () => {
  const open = new OpenInodes();
  open.opened(2, inode);
  open.opened(3, inode);
  open.opened(3, inode);
  const elsewhere: number[] = [];
  open.forEachElsewhere(1, (_tree, ino) => elsewhere.push(ino));
  expect(elsewhere).toEqual([300]);
  expect(open.closed(1, inode, true)).toBe(false);
  expect(open.closed(2, inode, false)).toBe(false);
  open.forEachElsewhere(3, () => expect.unreachable('only session 3 has it open'));
  expect(open.closed(3, inode, false)).toBe(true);
  expect(open.size).toBe(0);
});

test('one that keeps its name is not dropped', () => {
  const open = new OpenInodes();
  open.opened(2, inode);
  expect(open.isOpen(5, 300)).toBe(true);
  expect(open.closed(2, inode, false)).toBe(false);
  expect(open.isOpen(5, 300)).toBe(false);
});

test('the end of a session closes what it had open, and may have left without a name', () => {
  const open = new OpenInodes();
  open.opened(2, inode);
  open.opened(2, { tree: 5, ino: 301 });
  open.opened(3, { tree: 5, ino: 301 });
  expect(open.endSession(2)).toEqual([inode]);
  expect(open.closed(3, { tree: 5, ino: 301 }, false)).toBe(true);
  expect(open.size).toBe(0);
});
