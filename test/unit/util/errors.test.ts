// SPDX-License-Identifier: GPL-2.0-or-later
// The error classes: their names, numbers and texts.

import { expect, test } from 'vitest';
import { Errno, errnoName, isErrno, knownErrno } from '../../../ts/util/errno.ts';
import { CorruptionError, FsError } from '../../../ts/util/errors.ts';
import { ManualClock } from '../../../ts/util/manual_clock.ts';
import { Prng } from '../../../ts/util/prng.ts';

test('errno names and numbers go both ways', () => {
  expect(Errno.EUCLEAN).toBe(117);
  expect(Object.keys(Errno)).toHaveLength(131);
  for (const [name, number] of Object.entries(Errno)) expect(errnoName(number)).toBe(name);
  expect(isErrno(0)).toBe(false);
  expect(isErrno(41)).toBe(false);
  expect(knownErrno(9999)).toBe(Errno.EIO);
});

test('an FsError has the fields of a Node error', () => {
  const error = new FsError(Errno.ENOENT, 'no such name');
  expect(error).toMatchObject({
    code: 'ENOENT',
    errno: 2,
    message: 'ENOENT: no such name',
    text: 'no such name',
  });
  expect(new FsError(4096, 'made up')).toMatchObject({ code: 'EIO', errno: 5 });
  expect(new CorruptionError('bad leaf')).toMatchObject({ code: 'EUCLEAN', errno: 117 });
});

test('a manual clock fires timers in order, those set by timers too', () => {
  const clock = new ManualClock();
  const fired: string[] = [];
  clock.setTimer(20, () => fired.push('b'));
  clock.setTimer(10, () => {
    fired.push('a');
    clock.setTimer(10, () => fired.push('c'));
  });
  clock.setTimer(15, () => fired.push('never')).cancel();
  clock.advance(19);
  expect(fired).toEqual(['a']);
  expect(clock.nextMs()).toBe(20);
  clock.advance(1);
  expect(fired).toEqual(['a', 'b', 'c']);
  expect(clock.nowMs()).toBe(20);
});

test('a seed gives the same numbers again, spread over the range', () => {
  const numbers = (seed: number): number[] => {
    const prng = new Prng(seed);
    return Array.from({ length: 1000 }, () => prng.below(10));
  };
  expect(numbers(3)).toEqual(numbers(3));
  expect(numbers(3)).not.toEqual(numbers(4));
  for (let n = 0; n < 10; n++) expect(numbers(3).filter((own) => own === n).length).toBeGreaterThan(60);
});
