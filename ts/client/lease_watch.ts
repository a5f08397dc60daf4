// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether a session's grants can be trusted. The server counts a lease from when something of ours arrived, which we do
// not know; so we count from when we sent the youngest message that it has answered, and only most of it. Without an
// answer for so long the grants may be gone: nothing may be answered from them until the server is heard of again.
// It may only be slow: its answer waits behind what was asked for before. So the session is given up when nothing
// whatever has come from the server for a lease.

import { countTransition, Transition } from '../coherency/transitions.ts';
import type { Clock, Timer } from '../util/clock.ts';

/**
 * Part of a lease, counted from when the last answered message was sent, for which grants are trusted: everything must have
 * been dropped when the server, which counts from when that message arrived, gives them to others.
 */
const TRUSTED_PART = 0.8;

export interface LeaseWatchOptions {
  readonly clock: Clock;
  readonly leaseMs: number;
  /** What the connection knows of the other end. */
  readonly peer: { readonly answeredSentMs: number; readonly lastReceivedMs: number };
  /** The grants cannot be trusted from now on. */
  readonly onLapse: () => void;
  /** Nothing has come for a lease. */
  readonly onSilence: () => void;
}

export class LeaseWatch {
  isTrusted = true;
  readonly #options: LeaseWatchOptions;
  /** Nothing is held before a message that was sent later has been answered. */
  readonly #begunMs: number;
  #timer: Timer | null = null;
  #waiters: (() => void)[] = [];

  constructor(options: LeaseWatchOptions) {
    this.#options = options;
    this.#begunMs = options.clock.nowMs();
  }

  /** Looks whether the lease has run out, or begun again. Calls itself when the time comes; to be called after answers. */
  look(): void {
    this.#timer?.cancel();
    const { clock, leaseMs, peer, onLapse, onSilence } = this.#options;
    const nowMs = clock.nowMs();
    const trustedMs = Math.max(peer.answeredSentMs, this.#begunMs) + leaseMs * TRUSTED_PART - nowMs;
    const silentMs = Math.max(peer.lastReceivedMs, this.#begunMs) + leaseMs - nowMs;
    if (silentMs <= 0) {
      onSilence();
      return;
    }
    if (trustedMs <= 0 && this.isTrusted) {
      countTransition(Transition.leaseLapsed);
      this.isTrusted = false;
      onLapse();
    } else if (trustedMs > 0 && !this.isTrusted) {
      countTransition(Transition.leaseRenewed);
      this.isTrusted = true;
      this.#wake();
    }
    const nextMs = this.isTrusted ? Math.min(trustedMs, silentMs) : silentMs;
    this.#timer = clock.setTimer(Math.max(1, nextMs), () => this.look());
  }

  /** Resolves when the grants can be trusted again, or when the session is over. */
  trusted(): Promise<void> {
    if (this.isTrusted) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  end(): void {
    this.#timer?.cancel();
    this.isTrusted = true;
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}
