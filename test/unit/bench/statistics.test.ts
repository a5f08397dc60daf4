// SPDX-License-Identifier: GPL-2.0-or-later
// Medians, spreads and ratios of repetitions.

import { expect, test } from 'vitest';
import { ratioOf, spreadOf } from '../../../ts/bench/statistics.ts';

test.each([
  [[7], { median: 7, min: 7, max: 7 }],
  [[3, 1, 2], { median: 2, min: 1, max: 3 }],
  [[10, 9, 100, 1], { median: 9.5, min: 1, max: 100 }],
])('of %j', (values, spread) => {
  const before = [...values];
  expect(spreadOf(values)).toEqual(spread);
  expect(values).toEqual(before);
});

test('a ratio is of the medians, its spread that of the repetitions', () => {
  expect(ratioOf([10, 40, 30], [10, 10, 20])).toEqual({ ofMedians: 3, min: 1, max: 4 });
  expect(ratioOf([5, 6], [5, 6])).toEqual({ ofMedians: 1, min: 1, max: 1 });
});

test('nothing to go by is a mistake', () => {
  expect(() => spreadOf([])).toThrow(RangeError);
  expect(() => ratioOf([1, 2], [1])).toThrow(RangeError);
});
