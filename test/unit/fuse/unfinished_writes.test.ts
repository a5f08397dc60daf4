// SPDX-License-Identifier: GPL-2.0-or-later
// How long a file is kept whose write(2) may go on.

import { expect, test } from 'vitest';
import {
  UNFINISHED_RUNNING_MS,
  UNFINISHED_UNTAKEN_MS,
  UNFINISHED_WRITE_MS,
} from '../../../ts/fuse/limits.ts';
import { UnfinishedWrites } from '../../../ts/fuse/unfinished_writes.ts';

const THREAD = 5;
const FILE = 300;
let isRunning = false;
let timesRun = 7;

function noted(): UnfinishedWrites {
  const writes = new UnfinishedWrites(
    () => isRunning,
    () => timesRun,
  );
  writes.note(THREAD, FILE, 1000);
  expect(writes.has(FILE + 1, 1000)).toBe(false);
  return writes;
}

test('a thread that has not had a processor since the answer is waited for, within bounds', () => {
  const writes = noted();
  expect(writes.has(FILE, 1000 + UNFINISHED_RUNNING_MS * 10)).toBe(true);
  expect(writes.has(FILE, 1000 + UNFINISHED_UNTAKEN_MS)).toBe(true);
  expect(writes.has(FILE, 1000 + UNFINISHED_UNTAKEN_MS + UNFINISHED_WRITE_MS)).toBe(false);
});

test('one that has had one is waited for a moment, and longer while it wants to run', () => {
  for (isRunning of [false, true]) {
    const writes = noted();
    timesRun++;
    expect(writes.has(FILE, 1100)).toBe(true);
    expect(writes.has(FILE, 1100 + UNFINISHED_WRITE_MS)).toBe(isRunning);
    expect(writes.has(FILE, 1100 + UNFINISHED_RUNNING_MS)).toBe(false);
  }
});

test('whatever the thread asks next ends it', () => {
  const writes = noted();
  writes.asks(THREAD);
  expect(writes.has(FILE, 1000)).toBe(false);
});
