// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether a thread runs, or would if it got a processor, rather than waits for something.

import { readFileSync } from 'node:fs';

/** Reads /proc, which is memory. A thread that is gone or cannot be seen does not run. */
export function isRunning(tid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${tid}/stat`, 'latin1');
    // The name before it may hold anything.
    return stat.startsWith(' R ', stat.lastIndexOf(')') + 1);
  } catch {
    return false;
  }
}
