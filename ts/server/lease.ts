// SPDX-License-Identifier: GPL-2.0-or-later
//
// Leases: a session from which nothing has come for a lease is evicted. Whatever it sends counts, pings included.
//
// A server that did not run itself for a while (a stopped machine, a long pause) cannot tell who was silent: it
// starts all leases anew and judges later.

import { countTransition, Transition } from '../coherency/transitions.ts';
import type { Timer } from '../util/clock.ts';
import { Errno } from '../util/errno.ts';
import type { ServerState } from './state.ts';

/** Looks a lease: an eviction comes at most this part of a lease late. */
const LOOKS_PER_LEASE = 4;

export class LeaseKeeper {
  readonly #state: ServerState;
  readonly #intervalMs: number;
  #lastLookMs: number;
  /** Leases do not begin before this time. */
  #renewedMs = -Infinity;
  #timer: Timer | null = null;

  constructor(state: ServerState) {
    this.#state = state;
    this.#intervalMs = state.leaseMs / LOOKS_PER_LEASE;
    this.#lastLookMs = state.clock.nowMs();
  }

  start(): void {
    this.#timer = this.#state.clock.setTimer(this.#intervalMs, () => this.#look());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #look(): void {
    const { clock, sessions, leaseMs, log } = this.#state;
    const nowMs = clock.nowMs();
    if (nowMs - this.#lastLookMs > 2 * this.#intervalMs) this.#renewedMs = nowMs;
    this.#lastLookMs = nowMs;
    for (const session of sessions.values()) {
      const silentMs = nowMs - Math.max(session.peer.lastReceivedMs, session.openedMs, this.#renewedMs);
      if (session.closing || silentMs <= leaseMs) continue;
      countTransition(Transition.leaseEnded);
      log(`session ${session.id}: evicted after ${Math.round(silentMs)} ms of silence`, 'warning');
      session.peer.close(Errno.ETIMEDOUT, `the lease of ${leaseMs} ms has ended`);
    }
    this.start();
  }
}
