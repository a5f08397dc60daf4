// SPDX-License-Identifier: GPL-2.0-or-later
// Signals that end a command which has something to clean up: the first asks it to stop and clean up, the second ends it as it
// is. Either way the process ends by that signal, as whoever waits for it expects.

import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Why something was not done. */
export class Interrupted extends Error {}

export class Interrupt {
  readonly #controller = new AbortController();
  readonly #leaving: () => string;
  #came: NodeJS.Signals | undefined;

  /** @param leaving - what is said on stderr before the process ends by a signal. */
  constructor(leaving: () => string) {
    this.#leaving = leaving;
    for (const signal of SIGNALS) process.on(signal, this.#on);
  }

  /** Aborted by the first signal, with an `Interrupted` for the reason. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Signals do again what they do by themselves; if one has come this process ends by it. */
  end(): void {
    for (const signal of SIGNALS) process.removeListener(signal, this.#on);
    if (this.#came === undefined) return;
    process.stderr.write(this.#leaving());
    process.kill(process.pid, this.#came);
    // Not reached unless the signal goes to another thread, which may take a moment.
    process.exit(128 + constants.signals[this.#came]);
  }

  readonly #on = (signal: NodeJS.Signals): void => {
    if (this.#came !== undefined) {
      this.end();
    }
    this.#came = signal;
    this.#controller.abort(new Interrupted(signal));
  };
}
