// SPDX-License-Identifier: GPL-2.0-or-later
//
// When the volume commits: some seconds after the first change, when the engine holds much that only a commit gives
// back, and when somebody waits for durability. Applying goes on while a commit writes; one commit serves everybody
// who waited before it began.
//
// INVARIANT: `sync` resolves only after a commit that began when everything applied before the call was applied.

import type { Clock, Timer } from '../util/clock.ts';
import { errorText } from '../util/errors.ts';
import type { Log } from '../util/log.ts';

export interface CommitPolicyOptions {
  readonly clock: Clock;
  /** Milliseconds from the first change to its commit. */
  readonly intervalMs: number;
  /** Dirty bytes in the engine that start a commit at once. */
  readonly dirtyBytesMax: number;
  readonly volume: {
    commit(): Promise<number>;
    dirtyBytes(): number;
    wantsCommit(): boolean;
  };
  /** Called when a commit begins; what it returns is called when the commit is durable. */
  readonly onBegin: () => () => void;
  readonly log: Log;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (cause: unknown) => void;
}

export class CommitPolicy {
  /** Commits that became durable. */
  commits = 0;
  /** Times that somebody waited for durability. */
  syncs = 0;
  /** Generation of the last durable commit; 0 before the first. */
  generation = 0;
  readonly #options: CommitPolicyOptions;
  /** Something was applied since the last commit began. */
  #dirty = false;
  #running: Promise<void> | null = null;
  /** Those who wait for the commit that is running, and for the next one. */
  #served: Waiter[] = [];
  #waiting: Waiter[] = [];
  #timer: Timer | null = null;
  #stopped = false;

  constructor(options: CommitPolicyOptions) {
    this.#options = options;
  }

  /** Something was applied. */
  noteApplied(): void {
    const { clock, intervalMs, volume, dirtyBytesMax } = this.#options;
    this.#dirty = true;
    if (volume.wantsCommit() || volume.dirtyBytes() >= dirtyBytesMax) this.#begin();
    else if (!this.#stopped) this.#timer ??= clock.setTimer(intervalMs, () => this.#onTimer());
  }

  /**
   * Resolves when everything applied so far is durable.
   *
   * @throws FsError - the commit failed
   */
  sync(): Promise<void> {
    this.syncs++;
    if (!this.#dirty && this.#running === null) return Promise.resolve();
    return new Promise((resolve, reject) => {
      if (!this.#dirty) {
        this.#served.push({ resolve, reject });
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#begin();
    });
  }

  /** Commits what is left and sets no more timers. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer();
    await this.sync();
  }

  #onTimer(): void {
    this.#timer = null;
    if (this.#dirty) this.#begin();
  }

  #cancelTimer(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Begins a commit; one that runs already is followed by the next when it ends. */
  #begin(): void {
    if (this.#running !== null || !this.#dirty) return;
    this.#cancelTimer();
    this.#dirty = false;
    this.#served = this.#waiting;
    this.#waiting = [];
    this.#running = this.#run(this.#options.onBegin());
  }

  async #run(onDurable: () => void): Promise<void> {
    const { volume, log } = this.#options;
    let failure: unknown = null;
    try {
      this.generation = await volume.commit();
      this.commits++;
      onDurable();
    } catch (error) {
      failure = error;
      // What was not committed is still to be.
      this.#dirty = true;
      log(`commit failed: ${errorText(error)}`, 'error');
    }
    const served = this.#served;
    this.#served = [];
    this.#running = null;
    for (const waiter of served) {
      if (failure === null) waiter.resolve();
      else waiter.reject(failure);
    }
    if (this.#waiting.length > 0) this.#begin();
    else if (this.#dirty) this.noteApplied();
  }
}
