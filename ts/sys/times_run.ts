// SPDX-License-Identifier: GPL-2.0-or-later
//
// How often a thread has been given a processor: whether it has run since a moment.

import { readFileSync } from 'node:fs';

/** Reads /proc, which is memory. NaN where it cannot be told: a thread that is gone, a kernel without the count. */
export function timesRun(tid: number): number {
  try {
    return Number(readFileSync(`/proc/${tid}/schedstat`, 'latin1').split(' ')[2]);
  } catch {
    return Number.NaN;
  }
}
