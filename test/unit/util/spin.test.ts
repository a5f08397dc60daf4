// SPDX-License-Identifier: GPL-2.0-or-later
//
// Looking on before sleeping: as long as something comes of it, and seldom when nothing does.

import { expect, test } from 'vitest';
import { Spin } from '../../../ts/util/spin.ts';

/** Something came at `nowMs`; looks every 10 us. @returns looks until it is time to sleep */
function looks(spin: Spin, nowMs: number): number {
  spin.came(nowMs, false);
  if (!spin.begins()) return 0;
  let count = 0;
  while (spin.goesOn(nowMs + count / 100)) count++;
  return count;
}

test('it looks on for its time, and no longer', () => {
  expect(looks(new Spin(0.095), 5)).toBe(10);
});

test('it goes on for ever while something comes', () => {
  const spin = new Spin(0.1);
  for (let ms = 0; ms < 1000; ms++) {
    spin.came(ms, ms > 0);
    expect(spin.begins()).toBe(true);
    expect(spin.goesOn(ms + 0.05)).toBe(true);
    spin.came(ms + 0.06, true);
    expect(spin.goesOn(ms + 0.2)).toBe(false);
  }
});

test('what comes to nothing again and again is given up for longer and longer', () => {
  const spin = new Spin(0.1);
  let looked = 0;
  for (let ms = 0; ms < 10_000; ms++) if (looks(spin, ms) > 0) looked++;
  expect(looked).toBeGreaterThan(20);
  expect(looked).toBeLessThan(100);
  // And taken up again when something does.
  while (!spin.begins()) spin.came(20_000, false);
  spin.came(20_000, true);
  expect(looks(spin, 20_001)).toBeGreaterThan(0);
});
