// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether a thread of this machine waits in a rename(2) to a name. Asked by the portable driver, which is told of no thread,
// when a file that is open loses its name: by unlink(2), or to another one that takes the name?

import { readdirSync } from 'node:fs';
import { renamedNames, systemCallOf } from './system_call.ts';

function numbersIn(directory: string): number[] {
  try {
    return readdirSync(directory).map(Number).filter(Number.isInteger);
  } catch {
    return []; // The process has ended.
  }
}

/** Looks at every thread but those of this process: some milliseconds. @param name - the last part of a path */
export function isRenamedTo(name: Uint8Array): boolean {
  for (const pid of numbersIn('/proc')) {
    if (pid === process.pid) continue;
    for (const tid of numbersIn(`/proc/${pid}/task`)) {
      const call = systemCallOf(tid);
      if (call?.kind !== 'rename') continue;
      const names = renamedNames(tid, call.text);
      if (names !== null && Buffer.compare(names.target.name, name) === 0) return true;
    }
  }
  return false;
}
