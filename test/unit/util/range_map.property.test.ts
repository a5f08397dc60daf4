// SPDX-License-Identifier: GPL-2.0-or-later
//
// The range map against a model that has one value for each of a few hundred keys, and its speed with many ranges.

import { expect, test } from 'vitest';
import { Prng } from '../../../ts/util/prng.ts';
import type { Key } from '../../../ts/util/range.ts';
import { RangeMap } from '../../../ts/util/range_map.ts';

const KEYS = 300;

/** Key number n of the model: all three parts vary. */
function key(n: number): Key {
  return { objectid: 256 + Math.floor(n / 12), type: Math.floor(n / 4) % 3, offset: (n % 4) * 1e12 };
}

function number(at: Key): number {
  return (at.objectid - 256) * 12 + at.type * 4 + at.offset / 1e12;
}

function checkAgainst(
  map: RangeMap<number>,
  model: (number | undefined)[],
  start: number,
  end: number,
): void {
  map.verify();
  for (let n = 0; n < KEYS; n++) {
    const at = key(n);
    expect(map.get(at.objectid, at.type, at.offset)).toBe(model[n]);
    expect(map.find(at)?.value).toBe(model[n]);
  }
  const seen: (number | undefined)[] = model.slice(start, end).fill(undefined);
  let last = start;
  map.forEachIn(key(start), key(end), (from, to, value) => {
    expect(number(from)).toBeGreaterThanOrEqual(last);
    last = number(to);
    seen.fill(value, number(from) - start, last - start);
  });
  expect(last).toBeLessThanOrEqual(Math.max(start, end));
  expect(seen).toEqual(model.slice(start, end));
  let at = start;
  map.forEachPiece(key(start), key(end), (from, to, value) => {
    expect(number(from)).toBe(at);
    for (; at < number(to); at++) expect(model[at]).toBe(value);
  });
  expect(at).toBe(Math.max(start, end));
  for (const value of [0, 1]) {
    const covered = map.covers(key(start), key(end), (own) => own === value);
    expect(covered).toBe(model.slice(start, end).every((own) => own === value));
  }
}

test.each([1, 2, 3, 4, 5, 6])('random changes agree with the model, seed %i', (seed) => {
  const prng = new Prng(seed);
  const map = new RangeMap<number>();
  const model: (number | undefined)[] = new Array<undefined>(KEYS + 1).fill(undefined);
  for (let step = 0; step < 120; step++) {
    const start = prng.below(KEYS);
    const end = Math.min(KEYS, start + prng.below(prng.oneIn(4) ? KEYS : 8));
    const value = prng.below(3);
    const kind = prng.below(4);
    if (kind < 2) {
      map.set(key(start), key(end), value);
      model.fill(value, start, Math.max(start, end));
    } else if (kind === 2) {
      map.cut(key(start), key(end));
      model.fill(undefined, start, Math.max(start, end));
    } else {
      const change = (old: number | undefined): number | undefined =>
        old === undefined ? value : old === value ? undefined : (old + 1) % 3;
      map.update(key(start), key(end), change);
      for (let n = start; n < end; n++) model[n] = change(model[n]);
    }
    checkAgainst(map, model, prng.below(KEYS), KEYS - prng.below(KEYS));
    checkAgainst(map, model, start, end);
  }
});

test('many ranges, in and out of order, over several blocks', () => {
  const prng = new Prng(7);
  const map = new RangeMap<number>();
  const order = prng.shuffle(Array.from({ length: 20_000 }, (_, n) => n));
  for (const n of order) {
    map.set({ objectid: n, type: 1, offset: 0 }, { objectid: n, type: 1, offset: 1 }, n);
  }
  map.verify();
  expect(map.size).toBe(20_000);
  for (const n of order) expect(map.get(n, 1, 0)).toBe(n);
  expect(map.get(5, 1, 1)).toBe(undefined);
  map.cut({ objectid: 100, type: 0, offset: 0 }, { objectid: 19_900, type: 0, offset: 0 });
  map.verify();
  expect(map.size).toBe(200);
  map.set({ objectid: 0, type: 0, offset: 0 }, { objectid: 30_000, type: 0, offset: 0 }, 1);
  expect(map.size).toBe(1);
});

// 40,000 changes; with a linear structure they would not end in the time that a test has.
test('100,000 ranges cost no more per change than a few', () => {
  const prng = new Prng(8);
  const map = new RangeMap<number>();
  for (let n = 0; n < 100_000; n++) {
    map.set({ objectid: n, type: 0, offset: 0 }, { objectid: n, type: 9, offset: 0 }, n & 1);
  }
  for (let step = 0; step < 20_000; step++) {
    const n = prng.below(100_000);
    map.set({ objectid: n, type: 3, offset: 0 }, { objectid: n, type: 5, offset: 0 }, 2);
    map.cut({ objectid: n, type: 2, offset: 0 }, { objectid: n, type: 4, offset: 0 });
  }
  map.verify();
});
