// SPDX-License-Identifier: GPL-2.0-or-later
//
// Calls of write(2) that go on in a further request. The kernel sends a write that begins within a page, or is larger than
// a request, in parts; on a local disk nothing changes the file between them. So a file is not given away between two
// parts (client/giver.ts). That there will be another part can only be guessed. While the thread has not had a processor
// since the answer it is waited for; when it has, it is over with whatever the thread asks next, or after a moment; a
// longer one while the thread wants to run, since it may only lack a processor again.

import {
  THREADS_WRITING_MAX,
  UNFINISHED_RUNNING_MS,
  UNFINISHED_UNTAKEN_MS,
  UNFINISHED_WRITE_MS,
} from './limits.ts';

interface Part {
  readonly node: number;
  /** How often the thread had been given a processor when this was noted. */
  readonly timesRun: number;
  readonly notedMs: number;
  /** When the thread was found to have run; NaN before. */
  ranMs: number;
}

export class UnfinishedWrites {
  readonly #threads = new Map<number, Part>();
  readonly #isRunning: (thread: number) => boolean;
  readonly #timesRun: (thread: number) => number;

  /**
   * @param isRunning - whether a thread runs, or would if it got a processor.
   * @param timesRun - how often a thread has had a processor; NaN if that is not known.
   */
  constructor(isRunning: (thread: number) => boolean, timesRun: (thread: number) => number) {
    this.#isRunning = isRunning;
    this.#timesRun = timesRun;
  }

  /** A part was written that may not be the last, and will be answered now. */
  note(thread: number, node: number, nowMs: number): void {
    if (this.#threads.size >= THREADS_WRITING_MAX) this.#threads.clear();
    this.#threads.set(thread, {
      node,
      timesRun: this.#timesRun(thread),
      notedMs: nowMs,
      ranMs: Number.NaN,
    });
  }

  /** A thread asks for something: if it is the next part, that will be noted. */
  asks(thread: number): void {
    if (this.#threads.size > 0) this.#threads.delete(thread);
  }

  has(node: number, nowMs: number): boolean {
    for (const [thread, part] of this.#threads) {
      if (!this.#mayGoOn(thread, part, nowMs)) this.#threads.delete(thread);
      else if (part.node === node) return true;
    }
    return false;
  }

  #mayGoOn(thread: number, part: Part, nowMs: number): boolean {
    if (Number.isNaN(part.ranMs)) {
      const isUntaken = this.#timesRun(thread) === part.timesRun;
      if (isUntaken && nowMs < part.notedMs + UNFINISHED_UNTAKEN_MS) return true;
      part.ranMs = nowMs;
    }
    const sinceMs = nowMs - part.ranMs;
    return sinceMs < UNFINISHED_WRITE_MS || (sinceMs < UNFINISHED_RUNNING_MS && this.#isRunning(thread));
  }
}
