// SPDX-License-Identifier: GPL-2.0-or-later
// The table of references that the kernel holds, against a plain map, and its size.

import { describe, expect, it } from 'vitest';
import { Holds, LookupCounts } from '../../../ts/fuse/lookup_counts.ts';
import { Prng } from '../../../ts/util/prng.ts';

describe('lookup counts', () => {
  it('agree with a plain map under random use', () => {
    const random = new Prng(7);
    const zeroed: number[] = [];
    const counts = new LookupCounts((node) => zeroed.push(node));
    const model = new Map<number, number>();
    const expectedZeroed: number[] = [];
    for (let step = 0; step < 100_000; step++) {
      const node = 2 + random.below(3000) * (random.below(2) === 0 ? 1 : 2 ** 33);
      if (random.below(2) === 0) {
        counts.add(node, false);
        model.set(node, (model.get(node) ?? 0) + 1);
      } else if (model.has(node)) {
        const count = 1 + random.below(model.get(node)!);
        counts.subtract(node, count);
        model.set(node, model.get(node)! - count);
        if (model.get(node) === 0) {
          model.delete(node);
          expectedZeroed.push(node);
        }
      }
    }
    expect(counts.size).toBe(model.size);
    expect(zeroed).toEqual(expectedZeroed);
    for (let index = 0; index < 3000; index++) {
      expect(counts.has(2 + index)).toBe(model.has(2 + index));
      expect(counts.has(2 + index * 2 ** 33)).toBe(model.has(2 + index * 2 ** 33));
    }
  });

  it('hold a million nodes in less than 40 MB', () => {
    const counts = new LookupCounts(() => {});
    for (let node = 256; node < 1_000_256; node++) counts.add(node, false);
    expect(counts.size).toBe(1_000_000);
    expect(counts.bytes).toBeLessThan(40e6);
  });

  it('never forget the root, and ignore what they do not have', () => {
    const zeroed: number[] = [];
    const counts = new LookupCounts((node) => zeroed.push(node));
    counts.subtract(1, 5);
    counts.subtract(99, 1);
    expect(zeroed).toEqual([]);
    expect(counts.has(1)).toBe(true);
    expect(counts.isDirectory(1)).toBe(true);
  });

  it('remember directories and find nodes by range, both ways', () => {
    const counts = new LookupCounts(() => {});
    for (let node = 10; node < 60; node += 2) counts.add(node, node % 10 === 0);
    counts.add(20, true);
    counts.subtract(20, 1);
    expect([counts.isDirectory(20), counts.isDirectory(22)]).toEqual([true, false]);
    for (const [start, end] of [
      [12, 19],
      [0, 1e9],
    ] as const) {
      const found: number[] = [];
      counts.forEachIn(start, end, (node) => found.push(node));
      const expected = [1, ...Array.from({ length: 25 }, (_, index) => 10 + index * 2)];
      expect(found.sort((a, b) => a - b)).toEqual(expected.filter((node) => node >= start && node < end));
    }
  });

  it('remember what the kernel was given, until it is told or forgets the node', () => {
    const counts = new LookupCounts(() => {});
    counts.mark(9, Holds.pages);
    expect(counts.has(9)).toBe(false);
    counts.add(9, true);
    counts.mark(9, Holds.pages);
    counts.mark(9, Holds.attributes);
    counts.add(9, true);
    counts.subtract(9, 1);
    expect([counts.holds(9, Holds.pages), counts.isDirectory(9)]).toEqual([true, true]);
    expect([counts.unmark(9, Holds.pages), counts.unmark(9, Holds.pages)]).toEqual([true, false]);
    expect([counts.holds(9, Holds.attributes), counts.holds(1, Holds.pages)]).toEqual([true, true]);
    counts.subtract(9, 1);
    counts.add(9, false);
    expect([counts.holds(9, Holds.attributes), counts.isDirectory(9), counts.size]).toEqual([
      false,
      false,
      1,
    ]);
  });
});
