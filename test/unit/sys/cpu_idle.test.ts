// SPDX-License-Identifier: GPL-2.0-or-later
// Processors poll while work comes thick and fast, and may sleep again soon after.

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CpuIdle } from '../../../ts/sys/cpu_idle.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function work(idle: CpuIdle, pieces: number, milliseconds: number): void {
  for (let at = 0; at < milliseconds; at++) {
    for (let piece = 0; piece < pieces; piece++) idle.worked();
    vi.advanceTimersByTime(1);
  }
}

test('polls while there is much to do, and no longer', () => {
  const calls: boolean[] = [];
  const idle = new CpuIdle((on) => calls.push(on));
  idle.configure('auto', 2);
  idle.worked();
  vi.advanceTimersByTime(1000);
  expect(calls).toEqual([]);
  work(idle, 5, 100);
  expect(calls).toEqual([true]);
  vi.advanceTimersByTime(100);
  expect(calls).toEqual([true, false]);
  expect(vi.getTimerCount()).toBe(0);
  work(idle, 5, 100);
  expect(calls).toEqual([true, false, true]);
});

test.each([
  ['auto', 64],
  ['sleep', 2],
] as const)('%s on %d processors lets them sleep', (mode, processors) => {
  const calls: boolean[] = [];
  const idle = new CpuIdle((on) => calls.push(on));
  idle.configure(mode, processors);
  work(idle, 100, 100);
  expect(calls).toEqual([]);
});

test('what cannot be had is not asked for again', () => {
  let calls = 0;
  const idle = new CpuIdle(() => {
    calls++;
    throw new Error('EACCES');
  });
  idle.configure('poll');
  work(idle, 100, 200);
  expect(calls).toBe(1);
});
