// SPDX-License-Identifier: GPL-2.0-or-later
//
// Percentiles of durations are right to within the width of a bucket.

import { expect, test } from 'vitest';
import { Durations } from '../../../ts/util/durations.ts';

test('percentiles lie within a fifth above the true ones', () => {
  const durations = new Durations();
  for (let ms = 1; ms <= 1000; ms++) durations.add(ms);
  const { count, p50Ms, p99Ms, maxMs } = durations.report();
  expect(count).toBe(1000);
  expect(maxMs).toBe(1000);
  expect(p50Ms).toBeGreaterThanOrEqual(500);
  expect(p50Ms).toBeLessThan(600);
  expect(p99Ms).toBeGreaterThanOrEqual(990);
  expect(p99Ms).toBeLessThanOrEqual(1000);
});

test('the shortest and the longest durations have a place', () => {
  const durations = new Durations();
  expect(durations.report()).toEqual({ count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 });
  durations.add(0);
  durations.add(1e9);
  expect(durations.report().maxMs).toBe(1e9);
  expect(durations.percentile(0.5)).toBeLessThan(0.01);
});
