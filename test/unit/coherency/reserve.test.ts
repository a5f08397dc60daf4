// SPDX-License-Identifier: GPL-2.0-or-later
// Reservations: runs of inode numbers and credits of space, given, used and given back.

import { expect, test } from 'vitest';
import { InodeRuns, SpaceCredits } from '../../../ts/coherency/reserve.ts';
import { INODE_GIVEN_MAX, SPACE_KEPT_BYTES } from '../../../ts/util/limits.ts';

test('runs follow each other from the mark, a tree apart from the other', () => {
  const runs = new InodeRuns();
  expect(runs.knows(5)).toBe(false);
  runs.open(5, 300);
  runs.open(256, 256);
  expect(runs.take(1, 5, 100)).toEqual({ tree: 5, first: 301, count: 100 });
  expect(runs.take(2, 5, 10)).toEqual({ tree: 5, first: 401, count: 10 });
  expect(runs.take(1, 256, 10)).toEqual({ tree: 256, first: 257, count: 10 });
  expect(runs.treesOf(1)).toEqual([5, 256]);
  runs.open(5, 1);
  expect(runs.next(5)).toBe(411);
});

test('unused numbers at the top come back, used ones and those of others do not', () => {
  const runs = new InodeRuns();
  runs.open(5, 300);
  runs.take(1, 5, 100);
  runs.take(2, 5, 100);
  runs.giveBack(1, 5, 350);
  expect(runs.next(5)).toBe(501);
  runs.giveBack(2, 5, 420);
  expect(runs.next(5)).toBe(421);
  runs.take(3, 5, 100);
  runs.giveBack(3, 5, 420);
  expect(runs.next(5)).toBe(421);
});

test('numbers that another session may remember are not given again', () => {
  const runs = new InodeRuns();
  runs.open(5, 300);
  runs.take(1, 5, 100);
  runs.granted(2, 5, 310, 311);
  runs.granted(1, 5, 301, 302);
  runs.giveBack(1, 5, 305);
  expect(runs.next(5)).toBe(401);
  runs.take(2, 5, 100);
  runs.granted(2, 5, 410, 411);
  runs.giveBack(2, 5, 305);
  expect(runs.next(5)).toBe(401);
});

test('numbers end below the highest', () => {
  const runs = new InodeRuns();
  runs.open(5, INODE_GIVEN_MAX - 3);
  expect(runs.take(1, 5, 10)).toEqual({ tree: 5, first: INODE_GIVEN_MAX - 2, count: 3 });
  expect(runs.take(1, 5, 10)).toBe(null);
});

test('credits are given once, spent, and freed with the session', () => {
  const credits = new SpaceCredits();
  credits.add(1, 600);
  credits.add(2, 400);
  expect(credits.promisable(SPACE_KEPT_BYTES + 1500)).toBe(500);
  expect(credits.promisable(SPACE_KEPT_BYTES + 900)).toBe(0);
  credits.spend(1, 250);
  expect(credits.of(1)).toBe(350);
  expect(credits.total).toBe(750);
  credits.spend(1, 9999);
  expect(credits.of(1)).toBe(0);
  expect(credits.endSession(2)).toBe(400);
  expect(credits.total).toBe(0);
  expect(credits.endSession(3)).toBe(0);
});
