// SPDX-License-Identifier: GPL-2.0-or-later
//
// Time as the layers below `sys` see it: injected, so that tests and simulations own it. `sys/system_clock.ts` is
// the real one, `manual_clock.ts` the one for tests.

/** A timer that was set; `cancel` after it fired does nothing. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic, milliseconds, with fractions. Says nothing about the time of day. */
  nowMs(): number;
  /** Time of day, nanoseconds since 1970 (above 2^53, therefore a bigint). */
  realTimeNs(): bigint;
  /**
   * Calls `onTime` once, `delayMs` from now, never at once: with 0 in the next turn of the event loop, after everything
   * that this one has queued. A timer does not keep the process alive.
   */
  setTimer(delayMs: number, onTime: () => void): Timer;
}
