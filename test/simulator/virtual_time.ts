// SPDX-License-Identifier: GPL-2.0-or-later
//
// The simulator's time: a queue of events, by their moment and then by the order in which they were set. Nothing in a
// simulation waits for real time; a moment ends when every promise that its event settled has been followed to its end.

import type { Clock, Timer } from '../../ts/util/clock.ts';

/** Time of day at the start, nanoseconds. */
const START_NS = 1_700_000_000_000_000_000n;

class Event implements Timer {
  readonly dueMs: number;
  readonly order: number;
  run: (() => void) | null;

  constructor(dueMs: number, order: number, run: () => void) {
    this.dueMs = dueMs;
    this.order = order;
    this.run = run;
  }

  cancel(): void {
    this.run = null;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

export class VirtualTime implements Clock {
  /** Events that ran so far. */
  ran = 0;
  #nowMs = 0;
  #order = 0;
  /** A binary heap. */
  readonly #heap: Event[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  realTimeNs(): bigint {
    return START_NS + BigInt(Math.round(this.#nowMs * 1e6));
  }

  setTimer(delayMs: number, onTime: () => void): Timer {
    const event = new Event(this.#nowMs + Math.max(delayMs, 0), this.#order++, onTime);
    this.#push(event);
    return event;
  }

  /** Sets an event at a moment of its own, not before now. */
  at(dueMs: number, run: () => void): Timer {
    return this.setTimer(dueMs - this.#nowMs, run);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(ms, resolve));
  }

  /** Runs the next event. @returns false when there is none */
  step(): boolean {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return false;
      const { run } = event;
      if (run === null) continue;
      event.run = null;
      this.#nowMs = Math.max(this.#nowMs, event.dueMs);
      this.ran++;
      run();
      return true;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}
