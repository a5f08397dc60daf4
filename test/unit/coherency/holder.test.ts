// SPDX-License-Identifier: GPL-2.0-or-later
// What one side holds: adding, lowering and asking for ranges and their modes.

import { expect, test } from 'vitest';
import { Holder } from '../../../ts/coherency/holder.ts';
import { modeBeside, modeSatisfies, modesConflict } from '../../../ts/coherency/mode.ts';
import { PACKED_GRANT_BYTES, packWriteGrants } from '../../../ts/coherency/packed_grants.ts';
import { inodeRange, type TreeRange } from '../../../ts/util/range.ts';
import { Mode } from '../../../ts/wire/message.ts';

function inodes(first: number, end: number): TreeRange {
  return { tree: 5, start: inodeRange(5, first).start, end: inodeRange(5, end).start };
}

test('what the modes allow', () => {
  expect(modeSatisfies(Mode.write, Mode.read)).toBe(true);
  expect(modeSatisfies(Mode.read, Mode.write)).toBe(false);
  expect(modeSatisfies(Mode.none, Mode.read)).toBe(false);
  expect(modesConflict(Mode.read, Mode.read)).toBe(false);
  expect(modesConflict(Mode.write, Mode.write)).toBe(true);
  expect(modesConflict(Mode.merge, Mode.merge)).toBe(false);
  expect(modesConflict(Mode.merge, Mode.read)).toBe(true);
  expect(modesConflict(Mode.none, Mode.write)).toBe(false);
  expect(modeBeside(Mode.write, Mode.read)).toBe(Mode.read);
  expect(modeBeside(Mode.write, Mode.write)).toBe(Mode.none);
  expect(modeBeside(Mode.read, Mode.write)).toBe(Mode.none);
  expect(modeBeside(Mode.read, Mode.read)).toBe(Mode.read);
});

test('what is missing for an operation', () => {
  const holder = new Holder();
  holder.add({ ...inodes(300, 310), mode: Mode.read });
  holder.add({ ...inodes(310, 320), mode: Mode.write });
  expect(holder.size).toBe(2);
  expect(holder.covers(inodes(305, 315), Mode.read)).toBe(true);
  expect(holder.covers(inodes(305, 315), Mode.write)).toBe(false);
  expect(holder.missing(inodes(305, 330), Mode.write)).toEqual([inodes(305, 310), inodes(320, 330)]);
  expect(holder.missing(inodes(290, 330), Mode.read)).toEqual([inodes(290, 300), inodes(320, 330)]);
  expect(holder.missing(inodes(400, 410), Mode.read)).toEqual([inodes(400, 410)]);
  expect(holder.mode(5, 312, 1, 0)).toBe(Mode.write);
  expect(holder.mode(6, 312, 1, 0)).toBe(Mode.none);
  expect(holder.holds(5, 305, 1, 1, Mode.read)).toBe(true);
  expect(holder.find(5, { objectid: 311, type: 0, offset: 0 })).toEqual({
    ...inodes(310, 320),
    mode: Mode.write,
  });
});

test('lowering says what changed', () => {
  const holder = new Holder();
  holder.add({ ...inodes(300, 310), mode: Mode.read });
  holder.add({ ...inodes(310, 320), mode: Mode.write });
  const version = holder.version;
  expect(holder.lower(inodes(305, 315), Mode.read)).toEqual([
    { ...inodes(310, 315), oldMode: Mode.write, newMode: Mode.read },
  ]);
  expect(holder.version).toBeGreaterThan(version);
  expect(holder.find(5, inodes(300, 301).start)).toEqual({ ...inodes(300, 315), mode: Mode.read });
  expect(holder.lower(inodes(0, 1000), Mode.none).map((change) => change.oldMode)).toEqual([
    Mode.read,
    Mode.write,
  ]);
  expect(holder.size).toBe(0);
});

test('write grants are packed in order, 48 bytes each', () => {
  const holder = new Holder();
  holder.add({ ...inodes(300, 310), mode: Mode.read });
  holder.add({ ...inodes(400, 401), tree: 2 ** 32 + 7, mode: Mode.write });
  holder.add({ ...inodes(310, 0x1_0000_0000), mode: Mode.write });
  const packed = packWriteGrants(holder);
  expect(packed.length).toBe(2 * PACKED_GRANT_BYTES);
  expect(packed.subarray(0, 48).toString('hex')).toBe(
    `0500000000000000${'0000000000000136'}00${'0'.repeat(16)}${'0000000100000000'}00${'0'.repeat(16)}030000000000`,
  );
  expect(packed.readBigUInt64LE(48)).toBe(2n ** 32n + 7n);
});
