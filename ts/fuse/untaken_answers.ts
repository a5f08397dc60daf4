// SPDX-License-Identifier: GPL-2.0-or-later
//
// Attributes that were given for the moment only, and that the thread which asked may not have taken yet. The kernel
// throws away attributes that come behind an invalidation of their inode, and a read(2) or lseek(2) that has asked for them
// goes on with the size that it knew before. So pages of a file are not invalidated before such a thread has run.

import { UNTAKEN_MAX, UNTAKEN_MS } from './limits.ts';

interface Untaken {
  readonly node: number;
  readonly timesRun: number;
  readonly untilMs: number;
}

export class UntakenAnswers {
  readonly #timesRun: (thread: number) => number;
  readonly #threads = new Map<number, Untaken>();

  /** @param timesRun - how often a thread has had a processor; NaN if that is not known. */
  constructor(timesRun: (thread: number) => number) {
    this.#timesRun = timesRun;
  }

  /** A thread is about to be given the attributes of a file. */
  note(thread: number, node: number, nowMs: number): void {
    const timesRun = this.#timesRun(thread);
    if (Number.isNaN(timesRun)) return;
    if (this.#threads.size >= UNTAKEN_MAX) this.#threads.clear();
    this.#threads.set(thread, { node, timesRun, untilMs: nowMs + UNTAKEN_MS });
  }

  /** Whether a thread has not taken the attributes of a file yet. */
  has(node: number, nowMs: number): boolean {
    let isFound = false;
    for (const [thread, untaken] of this.#threads) {
      if (untaken.node !== node) {
        if (untaken.untilMs <= nowMs) this.#threads.delete(thread);
      } else if (untaken.untilMs <= nowMs || this.#timesRun(thread) !== untaken.timesRun) {
        this.#threads.delete(thread);
      } else isFound = true;
    }
    return isFound;
  }
}
