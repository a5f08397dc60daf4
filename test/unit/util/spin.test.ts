// SPDX-License-Identifier: GPL-2.0-or-later
//
// Looking on before sleeping: as long as something comes of it, and seldom when nothing does.

import { expect, test } from 'vitest';
import { Spin } from '../../../ts/util/spin.ts';

test('it looks on for ever while something comes', () => {
  const spin = new Spin();
  for (let time = 0; time < 1000; time++) {
    expect(spin.begins()).toBe(true);
    if (time % 3 === 0) spin.missed();
    else spin.found();
  }
});

test('what comes to nothing again and again is given up for longer and longer', () => {
  const spin = new Spin();
  let looked = 0;
  for (let time = 0; time < 10_000; time++) {
    if (!spin.begins()) continue;
    looked++;
    spin.missed();
  }
  expect(looked).toBeGreaterThan(20);
  expect(looked).toBeLessThan(100);
});

test('it is taken up again when something comes', () => {
  const spin = new Spin();
  for (let time = 0; time < 10_000; time++) if (spin.begins()) spin.missed();
  while (!spin.begins());
  spin.found();
  for (let time = 0; time < 100; time++) {
    expect(spin.begins()).toBe(true);
    spin.found();
  }
});
