// SPDX-License-Identifier: GPL-2.0-or-later
//
// The real clock. Its timers do not keep the process alive: what keeps crfsd and mount.crfs running is a socket or a
// channel.

import type { Clock, Timer } from '../util/clock.ts';

export class SystemClock implements Clock {
  nowMs(): number {
    return performance.now();
  }

  realTimeNs(): bigint {
    // Whole microseconds: a double holds the nanoseconds of today to 256 ns only.
    return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1_000)) * 1_000n;
  }

  setTimer(delayMs: number, onTime: () => void): Timer {
    if (delayMs === 0) {
      const immediate = setImmediate(onTime);
      return { cancel: () => clearImmediate(immediate) };
    }
    const timer = setTimeout(onTime, Math.max(delayMs, 1));
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  }
}
