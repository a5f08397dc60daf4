// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keeps the event loop awake for a moment after something happened, so that an answer which is already on its way does
// not find it asleep (util/spin.ts says why and when that pays). One for the process: sockets tell it of what they send
// and receive, the engine of what it has finished.

import { Spin } from '../util/spin.ts';

/** An answer over a local connection, a job of the engine's: most take less, milliseconds. */
const LOOK_MS = 0.1;

class LoopSpin {
  readonly #spin = new Spin(LOOK_MS);
  #isLooking = false;

  /** Something came. */
  readonly received = (): void => {
    this.#spin.came(performance.now(), this.#isLooking);
    this.#begin();
  };

  /** Something was sent, or given to another thread: its answer may come soon. */
  readonly sent = (): void => {
    this.#spin.came(performance.now(), false);
    this.#begin();
  };

  #begin(): void {
    if (this.#isLooking || !this.#spin.begins()) return;
    this.#isLooking = true;
    setImmediate(this.#look);
  }

  /** With an immediate waiting, the loop polls without sleeping. */
  readonly #look = (): void => {
    if (this.#spin.goesOn(performance.now())) setImmediate(this.#look);
    else this.#isLooking = false;
  };
}

export const loopSpin: LoopSpin = new LoopSpin();
