// SPDX-License-Identifier: GPL-2.0-or-later
//
// Calls of write(2) that go on in a further request. The kernel sends a write that begins within a page, or is larger than
// a request, in parts; on a local disk nothing changes the file between them. So a file is not given away between two
// parts (client/giver.ts). That there will be another part can only be guessed: it is over with whatever the thread
// asks next, or after a moment; a longer one while the thread wants to run, since it may only lack a processor.

import { THREADS_WRITING_MAX, UNFINISHED_RUNNING_MS, UNFINISHED_WRITE_MS } from './limits.ts';

interface Part {
  readonly node: number;
  readonly untilMs: number;
}

export class UnfinishedWrites {
  readonly #threads = new Map<number, Part>();
  readonly #isRunning: (thread: number) => boolean;

  constructor(isRunning: (thread: number) => boolean) {
    this.#isRunning = isRunning;
  }

  /** A part was written that may not be the last. */
  note(thread: number, node: number, nowMs: number): void {
    if (this.#threads.size >= THREADS_WRITING_MAX) this.#threads.clear();
    this.#threads.set(thread, { node, untilMs: nowMs + UNFINISHED_WRITE_MS });
  }

  /** A thread asks for something: if it is the next part, that will be noted. */
  asks(thread: number): void {
    if (this.#threads.size > 0) this.#threads.delete(thread);
  }

  has(node: number, nowMs: number): boolean {
    for (const [thread, part] of this.#threads) {
      if (part.untilMs <= nowMs && !this.#mayGoOn(thread, part, nowMs)) this.#threads.delete(thread);
      else if (part.node === node) return true;
    }
    return false;
  }

  #mayGoOn(thread: number, part: Part, nowMs: number): boolean {
    return nowMs < part.untilMs + UNFINISHED_RUNNING_MS && this.#isRunning(thread);
  }
}
