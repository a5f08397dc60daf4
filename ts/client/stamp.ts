// SPDX-License-Identifier: GPL-2.0-or-later
//
// The clock that stamps the times of inodes: the server's, by the offset learnt at the greeting and at each ping, and
// never before the previous stamp (docs/architecture.md, "Times").

import type { Clock } from '../util/clock.ts';

export class Stamp {
  /** The last stamp taken. */
  sec = 0;
  nsec = 0;

  readonly #clock: Clock;
  /** Server time at the zero of the monotonic clock, milliseconds. */
  #baseMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.learn(clock.realTimeNs());
  }

  /** Takes over the server's time as of now. */
  learn(serverTimeNs: bigint): void {
    this.#baseMs = Number(serverTimeNs / 1000n) / 1000 - this.#clock.nowMs();
  }

  /** Takes a stamp: `sec` and `nsec` are valid until the next one. */
  take(): void {
    const ms = this.#baseMs + this.#clock.nowMs();
    const sec = Math.floor(ms / 1000);
    const nsec = Math.floor((ms - sec * 1000) * 1e6);
    if (sec > this.sec || (sec === this.sec && nsec > this.nsec)) {
      this.sec = sec;
      this.nsec = nsec;
    }
  }
}
