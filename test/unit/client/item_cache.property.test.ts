// SPDX-License-Identifier: GPL-2.0-or-later
//
// The packed item cache does what a plain sorted map does, whatever is done to both.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ItemCache } from '../../../ts/client/item_cache.ts';
import type { ItemMap } from '../../../ts/item/item_map.ts';
import { SortedItemMap } from '../../../ts/item/sorted_item_map.ts';

interface Step {
  readonly kind: 'put' | 'remove' | 'resize' | 'seek' | 'before' | 'drop';
  readonly ino: number;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

const TYPES = [1, 12, 84, 96, 108];

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('put', 'put', 'put', 'put', 'remove', 'resize', 'seek', 'before', 'drop'),
  ino: fc.integer({ min: 256, max: 400 }),
  type: fc.constantFrom(...TYPES),
  offset: fc.integer({ min: 0, max: 60 }),
  size: fc.oneof(
    { weight: 20, arbitrary: fc.integer({ min: 0, max: 200 }) },
    { weight: 4, arbitrary: fc.integer({ min: 1000, max: 9000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 30_000, max: 70_000 }) },
  ),
});

/** The current item as a line. */
function current(map: ItemMap): string {
  let sum = 0;
  for (let at = map.start; at < map.start + map.size; at++) sum = (sum * 31 + map.bytes[at]!) | 0;
  return `${map.objectid} ${map.type} ${map.offset} ${map.size} ${sum}`;
}

function fill(map: ItemMap, seed: number): void {
  map.touch();
  for (let at = 0; at < map.size; at++) map.bytes[map.start + at] = (seed + at * 7) & 0xff;
}

function dropFrom(map: SortedItemMap, step: Step): void {
  while (map.seek(5, step.ino, step.type, step.offset) && map.objectid < step.ino + 3) map.remove();
}

function run(map: ItemMap, one: Step): string {
  const { ino, type, offset, size } = one;
  switch (one.kind) {
    case 'put':
      if (map.find(5, ino, type, offset)) map.resize(size);
      else map.insert(5, ino, type, offset, size);
      fill(map, ino + offset);
      return current(map);
    case 'remove':
      if (!map.find(5, ino, type, offset)) return 'none';
      map.remove();
      return 'gone';
    case 'resize':
      if (!map.seek(5, ino, type, offset)) return 'none';
      map.resize(size);
      return current(map);
    case 'seek': {
      const lines: string[] = [];
      let found = map.seek(5, ino, type, offset);
      for (let count = 0; found && count < 20; count++) {
        lines.push(current(map));
        found = map.next();
      }
      return lines.join('|');
    }
    case 'before':
      return map.seekBefore(5, ino, type, offset) ? current(map) : 'none';
    case 'drop':
      if (map instanceof SortedItemMap) dropFrom(map, one);
      else (map as ItemCache).dropRange(5, ino, type, offset, ino + 3, 0, 0);
      return 'dropped';
  }
}

function everything(map: ItemMap): string[] {
  const lines: string[] = [];
  let found = map.seek(5, 0, 0, 0);
  while (found) {
    lines.push(current(map));
    found = map.next();
  }
  return lines;
}

describe('the item cache', () => {
  test('equals a sorted map', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600, size: 'max' }), (steps) => {
        const cache = new ItemCache(1 << 20);
        const model = new SortedItemMap();
        for (const one of steps) expect(run(cache, one)).toBe(run(model, one));
        const all = everything(model);
        expect(everything(cache)).toEqual(all);
        expect(cache.itemCount).toBe(all.length);
      }),
      { numRuns: 60 },
    );
  });

  test('holds many items in rising order in few pages', { timeout: 30_000 }, () => {
    const cache = new ItemCache(64 << 20);
    const count = 200_000;
    for (let ino = 256; ino < 256 + count; ino++) {
      cache.insert(5, ino, 1, 0, 160);
      cache.insert(5, ino, 12, 256, 20);
    }
    expect(cache.itemCount).toBe(2 * count);
    expect(cache.usedBytes).toBeLessThan(count * (160 + 20 + 48) * 1.1);
    for (let ino = 256; ino < 256 + count; ino += 97) expect(cache.find(5, ino, 12, 256)).toBe(true);
    cache.dropRange(5, 0, 0, 0, Number.MAX_SAFE_INTEGER, 0, 0);
    expect(cache.itemCount).toBe(0);
    expect(cache.usedBytes).toBeLessThan(100_000);
  });

  test('tells which batch changed a page last, removals included', { timeout: 10_000 }, () => {
    const cache = new ItemCache(1 << 20);
    cache.batch = 3;
    cache.insert(5, 300, 1, 0, 160);
    expect(cache.youngestBatch(5, 300, 0, 0, 301, 0, 0)).toBe(3);
    cache.batch = 4;
    expect(cache.find(5, 300, 1, 0)).toBe(true);
    cache.remove();
    expect(cache.youngestBatch(5, 300, 0, 0, 301, 0, 0)).toBe(4);
  });
});
