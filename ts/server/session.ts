// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the server keeps of one session. The message handlers change it; it does nothing itself but say when its last
// batch has come back from the volume.

import type { Operation } from '../coherency/operation.ts';
import { KEEP_MS } from '../util/limits.ts';
import type { TreeInode } from '../wire/message.ts';
import type { Peer } from '../wire/peer.ts';

export interface SessionOptions {
  readonly id: number;
  readonly number: bigint;
  readonly peer: Peer;
  readonly clientName: string;
  readonly root: TreeInode;
  readonly readOnly: boolean;
  readonly openedMs: number;
}

export class Session {
  /** Short number within this server, for the grant table and logs. */
  readonly id: number;
  /** Number of the session on the wire. */
  readonly number: bigint;
  readonly peer: Peer;
  readonly clientName: string;
  /** The directory that it mounted. */
  readonly root: TreeInode;
  readonly readOnly: boolean;
  /** Number of the last batch that came. */
  received = 0;
  /** Number of the last batch that was answered. */
  applied = 0;
  /** Number of the last batch that survives a power cut. */
  durable = 0;
  /** When it last wanted to write, milliseconds of the clock. */
  wroteMs: number = -Infinity;
  /** For how long it may keep what others want, milliseconds: longer each time that it was too short for a far client. */
  keepMs: number = KEEP_MS;
  /** Its connection is gone; it ends when its last batch is applied. */
  closing = false;
  /** Its acquires that wait for grants. */
  readonly operations: Set<Operation> = new Set();
  /** Trees of the subvolumes that it was told of. */
  readonly toldSubvolumes: Set<number> = new Set();
  /** Number of the last batch that was refused. */
  refused = 0;
  /** When it was opened, milliseconds of the clock: its lease does not begin before, however long its greeting waited. */
  readonly openedMs: number;
  #batches = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #idle: (() => void)[] = [];
  #appliedWaiters: { batch: number; resolve: () => void }[] = [];

  constructor(options: SessionOptions) {
    this.id = options.id;
    this.number = options.number;
    this.peer = options.peer;
    this.clientName = options.clientName;
    this.root = options.root;
    this.readOnly = options.readOnly;
    this.openedMs = options.openedMs;
  }

  /** Batches in the hands of the volume. */
  get batchesInFlight(): number {
    return this.#batches;
  }

  batchBegins(): void {
    this.#batches++;
  }

  /** Runs `work` when that of every batch before has ended. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  batchEnds(number: number): void {
    this.#batches--;
    this.applied = Math.max(this.applied, number);
    const waiters = this.#appliedWaiters;
    this.#appliedWaiters = waiters.filter((waiter) => waiter.batch > this.applied);
    for (const waiter of waiters) if (waiter.batch <= this.applied) waiter.resolve();
    if (this.#batches === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Resolves when batch `batch` has been answered. */
  whenApplied(batch: number): Promise<void> {
    if (batch <= this.applied) return Promise.resolve();
    return new Promise((resolve) => this.#appliedWaiters.push({ batch, resolve }));
  }

  /** Resolves when the volume has none of its batches. */
  whenIdle(): Promise<void> {
    if (this.#batches === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }
}
