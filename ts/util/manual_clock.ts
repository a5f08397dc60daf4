// SPDX-License-Identifier: GPL-2.0-or-later
//
// A clock that stands still until it is told to go on: for tests and the simulator. Timers fire in order of their
// time, those of one moment in the order in which they were set.

import type { Clock, Timer } from './clock.ts';

interface PendingTimer {
  dueMs: number;
  order: number;
  onTime: () => void;
}

export class ManualClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #timers: PendingTimer[] = [];
  readonly #startNs: bigint;

  /** @param startNs - time of day at the start, nanoseconds */
  constructor(startNs = 1_700_000_000_000_000_000n) {
    this.#startNs = startNs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  realTimeNs(): bigint {
    return this.#startNs + BigInt(Math.round(this.#nowMs * 1e6));
  }

  setTimer(delayMs: number, onTime: () => void): Timer {
    const timer: PendingTimer = { dueMs: this.#nowMs + Math.max(delayMs, 0), order: this.#order++, onTime };
    this.#timers.push(timer);
    return {
      cancel: () => {
        const at = this.#timers.indexOf(timer);
        if (at >= 0) this.#timers.splice(at, 1);
      },
    };
  }

  /** When the next timer fires, in milliseconds of this clock; undefined without one. */
  nextMs(): number | undefined {
    return this.#earliest()?.dueMs;
  }

  /** Lets time pass; timers that fall due fire at their own moment, those that they set included. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    for (
      let timer = this.#earliest();
      timer !== undefined && timer.dueMs <= untilMs;
      timer = this.#earliest()
    ) {
      this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      timer.onTime();
    }
    this.#nowMs = untilMs;
  }

  #earliest(): PendingTimer | undefined {
    let earliest: PendingTimer | undefined;
    for (const timer of this.#timers) {
      if (earliest === undefined || timer.dueMs < earliest.dueMs) earliest = timer;
      else if (timer.dueMs === earliest.dueMs && timer.order < earliest.order) earliest = timer;
    }
    return earliest;
  }
}
