// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether a thread of this machine waits in a rename(2) to a name. Asked by the portable driver, which is told of no thread,
// when a file that is open loses its name: by unlink(2), or to another one that takes the name?
//
// The request may be here before its thread has come to wait for the answer, and of a thread that runs nothing can be
// told. So those are looked at again until they have had a processor once more, after which they wait.

import { readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { isRunning } from './running.ts';
import { renamedNames, systemCallOf } from './system_call.ts';
import { timesRun } from './times_run.ts';

/** How long threads that run are looked at, milliseconds: some turns of others on a busy processor. */
const RUNNING_MS = 200;
const LOOK_MS = 1;

function numbersIn(directory: string): number[] {
  try {
    return readdirSync(directory).map(Number).filter(Number.isInteger);
  } catch {
    return []; // The process has ended.
  }
}

function threadsOfOthers(): number[] {
  const others = numbersIn('/proc').filter((pid) => pid !== process.pid);
  return others.flatMap((pid) => numbersIn(`/proc/${pid}/task`));
}

/** Looks at every thread but those of this process: some milliseconds. @param name - the last part of a path */
export async function isRenamedTo(name: Uint8Array): Promise<boolean> {
  const deadline = performance.now() + RUNNING_MS;
  /** Threads that ran, and how often they had had a processor. */
  const before = new Map<number, number>();
  let threads = threadsOfOthers();
  for (;;) {
    const unsure: number[] = [];
    for (const tid of threads) {
      // One that has just come to wait is looked at once more.
      const call = systemCallOf(tid) ?? (isRunning(tid) ? null : systemCallOf(tid));
      if (call?.kind === 'rename') {
        const names = renamedNames(tid, call.text);
        if (names !== null && Buffer.compare(names.target.name, name) === 0) return true;
      } else if (call === null && isRunning(tid)) {
        const times = timesRun(tid);
        if (!before.has(tid)) before.set(tid, times);
        if (times <= before.get(tid)! + 1) unsure.push(tid);
      }
    }
    if (unsure.length === 0 || performance.now() > deadline) return false;
    await setTimeout(LOOK_MS);
    threads = unsure;
  }
}
