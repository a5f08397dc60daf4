// SPDX-License-Identifier: GPL-2.0-or-later
// The V8 options of the processes that serve: they can only be given when a process starts, so one that lacks them
// starts itself anew in its place, with the same process number, standard input and output.
//
// V8 begins with a limit of some megabytes for objects that live longer and marks the whole heap whenever that is
// reached. With live objects of 10 MB this was twice a second, 5 to 20 ms each: one look in twenty at another mount's
// change waited for it. Beginning at 128 MB there is none; what the heap may grow to stays as it is.
//
// It also interprets a function at first, and compiles it when it is hot. What a revoke runs through is rarely hot, and
// is waited for: compiled at once, without optimisation, a look at another mount's change takes a tenth less.

import { native } from '../../native/index.js';
import type { Log } from '../util/log.ts';

export const V8_OPTIONS: readonly string[] = ['--initial-old-space-size=128', '--always-sparkplug'];

/** Returns when this process has the options. */
export function startWithV8Options(log: Log): void {
  const missing = V8_OPTIONS.filter((option) => !process.execArgv.includes(option));
  if (missing.length === 0) return;
  try {
    native.replaceProcess(process.execPath, [...missing, ...process.execArgv, ...process.argv.slice(1)]);
  } catch (error) {
    log(
      `without V8's options ${missing.join(' ')}: ${error instanceof Error ? error.message : String(error)}`,
      'warning',
    );
  }
}
