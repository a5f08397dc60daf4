// SPDX-License-Identifier: GPL-2.0-or-later
// What is remembered of inodes and directories that other clients want too.

import { expect, test } from 'vitest';
import { Contention } from '../../../ts/client/contention.ts';
import { CONTENDED_MS, IN_USE_MS, RECENT_NEEDS_MS } from '../../../ts/client/limits.ts';
import { Needs } from '../../../ts/client/needs.ts';
import { RecentNeeds } from '../../../ts/client/recent_needs.ts';
import { ItemType } from '../../../ts/item/key.ts';
import { ManualClock } from '../../../ts/util/manual_clock.ts';
import { Mode, type Want } from '../../../ts/wire/message.ts';

test('an inode is in use for a moment after it was needed, and written here for as long as it is contended', () => {
  const clock = new ManualClock();
  const contention = new Contention(clock);
  contention.used(7, true);
  expect([contention.isInUse(7), contention.isWrittenHere(7)]).toEqual([false, false]);
  contention.note(7, false, false);
  expect([contention.isInUse(7), contention.isWrittenHere(7)]).toEqual([false, false]);
  contention.used(7, true);
  expect([contention.isInUse(7), contention.isWrittenHere(7)]).toEqual([true, true]);
  clock.advance(IN_USE_MS * 2);
  expect([contention.isInUse(7), contention.isWrittenHere(7)]).toEqual([false, true]);
  clock.advance(CONTENDED_MS);
  expect(contention.isWrittenHere(7)).toBe(false);
});

test('a directory is not asked for whole for writing', () => {
  const contention = new Contention(new ManualClock());
  contention.note(7, true, false);
  contention.used(7, true);
  expect(contention.isWrittenHere(7)).toBe(false);
});

test('a reader follows when it came for each of the last changes', () => {
  const contention = new Contention(new ManualClock());
  expect(contention.changed(7)).toBe(false);
  contention.note(7, false, true);
  for (let round = 0; round < 2; round++) {
    expect(contention.changed(7)).toBe(false);
    contention.note(7, false, true);
  }
  expect(contention.changed(7)).toBe(true);
  contention.givenEarly(7);
  // A revoke that had been on its way says nothing.
  contention.note(7, false, true);
  expect(contention.changed(7)).toBe(true);
  contention.changed(7);
  contention.note(7, false, true);
  expect(contention.changed(7)).toBe(false);
  for (let round = 0; round < 3; round++) {
    contention.note(7, false, true);
    contention.changed(7);
  }
  expect(contention.changed(7)).toBe(true);
  contention.note(7, false, false);
  expect(contention.changed(7)).toBe(false);
});

function name(dir: number, hash: number): Want {
  const start = { objectid: dir, type: ItemType.dirItem, offset: hash };
  return { tree: 5, start, end: { ...start, offset: hash + 1 }, mode: Mode.read, flags: 0 };
}

test('an operation asks for what the last one on names of its directory needed, for a while', () => {
  const clock = new ManualClock();
  const recent = new RecentNeeds(clock);
  const needs = new Needs();
  needs.add(5, 300, ItemType.dirItem, 11, 300, ItemType.dirItem, 12, Mode.write);
  needs.add(5, 400, ItemType.inodeItem, 0, 400, ItemType.inodeItem, 1, Mode.write);
  recent.note(needs);
  needs.clear();
  needs.add(5, 301, ItemType.dirItem, 11, 301, ItemType.dirItem, 12, Mode.read);
  recent.note(needs);
  const elsewhere = [name(301, 11)];
  recent.addTo(elsewhere);
  expect(elsewhere).toHaveLength(1);
  const wants = [name(300, 99)];
  recent.addTo(wants);
  expect(wants.map(({ start, mode }) => [start.objectid, start.offset, mode])).toEqual([
    [300, 99, Mode.read],
    [300, 11, Mode.write],
    [400, 0, Mode.write],
  ]);
  clock.advance(RECENT_NEEDS_MS + 1);
  const later = [name(300, 99)];
  recent.addTo(later);
  expect(later).toHaveLength(1);
});
