// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keeps the event loop awake for a moment after something was sent, so that an answer which is already on its way does
// not find it asleep (util/spin.ts says why and when that pays). One for the process: sockets tell it of what they send
// and receive, others of what they have given to their threads.

import { Spin } from '../util/spin.ts';

/** An answer over a local connection, a job of the engine's: most take less, milliseconds. */
const LOOK_MS = 0.1;

class LoopSpin {
  readonly #spin = new Spin();
  #isLooking = false;
  #hasFound = false;
  #untilMs = 0;

  /** Something came. */
  readonly received = (): void => {
    this.#hasFound = true;
  };

  /** Something was sent, or given to another thread: its answer may come soon. */
  readonly sent = (): void => {
    this.#untilMs = performance.now() + LOOK_MS;
    if (this.#isLooking || !this.#spin.begins()) return;
    this.#isLooking = true;
    this.#hasFound = false;
    setImmediate(this.#look);
  };

  /** With an immediate waiting, the loop polls without sleeping. */
  readonly #look = (): void => {
    if (performance.now() < this.#untilMs && !this.#hasFound) {
      setImmediate(this.#look);
      return;
    }
    this.#isLooking = false;
    if (this.#hasFound) this.#spin.found();
    else this.#spin.missed();
  };
}

export const loopSpin: LoopSpin = new LoopSpin();
