// SPDX-License-Identifier: GPL-2.0-or-later
//
// Write-back: the client's changes in the order of its operations, cut into batches, sent, and forgotten when the
// server has applied them.
//
// Operations append to `open.log` and call `changed` when they are complete, so that a batch never ends inside one.
// Batches leave in order, several at a time; so the server always holds a past state of this client. After a refused
// batch it applies nothing more before it hears that the refusal was seen, so what was sent behind it comes back, and
// the order holds. The refused batch is taken apart (refusal.ts): what is left of it keeps its place and goes out next.
// A batch that needs more space as a whole than there is at once (it changes very many leaves, say) is cut in two.
//
// The data of files joins file by file (file_writer.ts): it is put into the log when the file is closed, when
// something else about the file changes, when it gets old, and when somebody waits for it.
//
// Dirty bytes are bounded by what the link moved in the last 200 ms; beyond it operations wait (`room`).

import { countTransition, Transition } from '../coherency/transitions.ts';
import { ChangeLog, FieldMask, InodeFields } from '../item/change.ts';
import type { Clock, Timer } from '../util/clock.ts';
import type { Crc32c } from '../util/crc32c.ts';
import { Errno } from '../util/errno.ts';
import type { BatchReply, Refusal } from '../wire/message.ts';
import type { Peer } from '../wire/peer.ts';
import { Batch } from './batch.ts';
import type { ItemCache } from './item_cache.ts';
import {
  BATCH_TARGET_BYTES,
  BATCH_TARGET_CHANGES,
  DIRTY_BYTES_MIN,
  DIRTY_WINDOW_MS,
  WRITE_BACK_AGE_MS,
  WRITE_BACK_TICK_MS,
} from './limits.ts';

export interface WriteBackOptions {
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  readonly items: ItemCache;
  /** Most bytes that may be written and not applied. */
  readonly dirtyBytesMax: number;
  /** Puts file data into the log that was written at or before this time; all with Infinity. */
  readonly logData: (writtenBeforeMs: number) => void;
  /** Bytes of files that are not in the log yet. */
  readonly unloggedBytes: () => number;
  /** Whether there are written files that are not in the log. */
  readonly hasUnlogged: () => boolean;
  /** A batch was applied: its data need not be kept. */
  readonly onApplied: (batch: Batch) => void;
  /** The answer came that this batch was judged and refused. */
  readonly onRefusal: (number: number) => void;
  /** A batch was refused, and what was sent behind it has come back: finds out what else must go. */
  readonly onRefused: (batch: Batch, refusal: Refusal) => BatchFilter;
}

/** Takes changes that must not be sent out of batches. */
export interface BatchFilter {
  /** @returns the batch itself, or a new one of the same place with what is left of it. */
  filter(batch: Batch): Batch;
  /** Every unsent batch has been through `filter`. */
  finish(): void;
}

interface Waiter {
  readonly place: number;
  /** Called with true, or with false if the session ended. */
  readonly done: (isApplied: boolean) => void;
}

export class WriteBack {
  /** The batch that operations append to. */
  open: Batch;
  /** Changes sent in batches so far. */
  batchCount = 0;
  /** Wire numbers: of the last batch sent, answered as applied, durable. */
  sent = 0;
  applied = 0;
  durable = 0;

  readonly #options: WriteBackOptions;
  #peer: Peer | null = null;
  #inFlightMax = 1;
  /** Closed and not sent, in order. */
  #closed: Batch[] = [];
  /** Sent and not answered, in order. */
  #inFlight: Batch[] = [];
  /** A batch that was refused, until everything behind it has come back. */
  #refused: { readonly batch: Batch; readonly refusal: Refusal } | null = null;
  /** What was sent behind it and came back, in order. */
  #returned: Batch[] = [];
  /** Wire number of the last refused batch. */
  #refusedSeen = 0;
  #closedBytes = 0;
  #waiters: Waiter[] = [];
  #roomWaiters: (() => void)[] = [];
  #timer: Timer | null = null;
  #isEnded = false;
  /** The last record of the log if it is a set fields. */
  #lastFieldsAt = -1;
  #lastFieldsTree = 0;
  #lastFieldsIno = 0;
  readonly #lastFields: InodeFields = new InodeFields();
  #logs: ChangeLog[] = [];
  /** For the rate of the link. */
  #windowStartMs = 0;
  #windowBytes = 0;
  #dirtyMax: number;

  constructor(options: WriteBackOptions) {
    this.#options = options;
    this.#dirtyMax = Math.min(DIRTY_BYTES_MIN, options.dirtyBytesMax);
    this.open = new Batch(1, new ChangeLog());
    options.items.batch = 1;
  }

  /** Begins to send. */
  start(peer: Peer, batchesInFlight: number): void {
    this.#peer = peer;
    this.#inFlightMax = Math.max(1, batchesInFlight);
  }

  /** The place before which every batch is applied. */
  get appliedPlace(): number {
    const oldest = this.#refused?.batch ?? this.#inFlight[0] ?? this.#closed[0] ?? this.open;
    return oldest.place - 1;
  }

  /** Bytes that are not applied yet. */
  get dirtyBytes(): number {
    return this.#closedBytes + this.open.bytes + this.#options.unloggedBytes();
  }

  /** Changes that are in the log and were not sent. */
  get unsentChanges(): number {
    return this.#closed.reduce((sum, batch) => sum + batch.log.count, this.open.log.count);
  }

  /** Number of the last refused batch whose answer came; 0 if none. */
  get refusedSeen(): number {
    return this.#refusedSeen;
  }

  /** Whether every closed batch was sent, none of them in vain as far as is known. */
  get isAllSent(): boolean {
    return this.#closed.length === 0 && this.#refused === null;
  }

  /** Wire number of the last batch up to a place, which was sent. */
  numberAt(place: number): number {
    return this.#inFlight.findLast((batch) => batch.place <= place)?.number ?? this.applied;
  }

  /** Batches that were sent and not answered. */
  get batchesInFlight(): number {
    return this.#inFlight.length;
  }

  get isClean(): boolean {
    return (
      this.open.log.count === 0 &&
      this.#closed.length === 0 &&
      this.#inFlight.length === 0 &&
      this.#refused === null &&
      !this.#options.hasUnlogged()
    );
  }

  get hasRoom(): boolean {
    return this.dirtyBytes < this.#dirtyMax;
  }

  /** Resolves when there is room for more dirty bytes, or when the session has ended. */
  room(): Promise<void> {
    if (this.hasRoom || this.#isEnded) return Promise.resolve();
    countTransition(Transition.waitedForRoom);
    this.flush();
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  /** An operation is complete: closes the batch if it is large enough, and sees to it that it gets sent in time. */
  changed(): void {
    const open = this.open;
    open.markBorder();
    if (open.bytes >= BATCH_TARGET_BYTES || open.log.count >= BATCH_TARGET_CHANGES) {
      this.close();
      this.pump();
    } else if (open.sinceMs === 0 && open.log.count > 0) {
      open.sinceMs = this.#options.clock.nowMs();
    }
    if (this.#timer === null) this.#setTimer();
  }

  /** Sets the time after which a file's first written byte is sent. */
  dataWritten(): void {
    if (this.#timer === null) this.#setTimer();
    if (!this.hasRoom) this.flush();
  }

  #setTimer(): void {
    if (this.#isEnded) return;
    this.#timer = this.#options.clock.setTimer(WRITE_BACK_TICK_MS, () => {
      this.#timer = null;
      this.#tick();
    });
  }

  #tick(): void {
    const oldMs = this.#options.clock.nowMs() - (WRITE_BACK_AGE_MS - WRITE_BACK_TICK_MS);
    this.#options.logData(oldMs);
    if (this.open.log.count > 0 && this.open.sinceMs <= oldMs) this.close();
    this.pump();
    if (this.open.log.count > 0 || this.#options.hasUnlogged()) this.#setTimer();
  }

  /** Appends set fields, joined with the record before if that sets fields of the same inode. */
  setFields(tree: number, ino: number, fields: InodeFields): void {
    const log = this.open.log;
    const last = this.#lastFields;
    if (
      this.#lastFieldsAt >= 0 &&
      this.#lastFieldsTree === tree &&
      this.#lastFieldsIno === ino &&
      log.endsAt(this.#lastFieldsAt) &&
      ((last.mask | fields.mask) & FieldMask.size) === 0
    ) {
      // The record belongs to two operations now: between them the batch cannot be cut.
      if (this.open.borders.at(-1) === log.count) this.open.borders.pop();
      log.cutBack(this.#lastFieldsAt);
    } else {
      last.mask = 0;
    }
    last.mergeFrom(fields);
    this.#lastFieldsAt = log.length;
    this.#lastFieldsTree = tree;
    this.#lastFieldsIno = ino;
    log.setFields(tree, ino, last);
  }

  /** Ends the open batch if it holds anything. */
  close(): void {
    const open = this.open;
    this.#lastFieldsAt = -1;
    if (open.log.count === 0) return;
    this.#closed.push(open);
    this.#closedBytes += open.bytes;
    this.open = new Batch(open.place + 1, this.#logs.pop() ?? new ChangeLog());
    this.#options.items.batch = this.open.place;
  }

  /** Sends what may be sent: nothing while a refusal is dealt with. */
  pump(): void {
    const peer = this.#peer;
    if (peer === null || this.#isEnded || this.#refused !== null) return;
    while (this.#closed.length > 0 && this.#inFlight.length < this.#inFlightMax) {
      const batch = this.#closed.shift()!;
      this.#send(peer, batch);
    }
  }

  #send(peer: Peer, batch: Batch): void {
    batch.number = ++this.sent;
    this.batchCount++;
    countTransition(Transition.batchSent);
    this.#inFlight.push(batch);
    const changes = batch.changes();
    peer
      .request(
        'batch',
        {
          number: batch.number,
          changeCount: batch.log.count,
          changesLength: batch.log.length,
          changesCrc32c: this.#options.crc32c(changes),
          dataLength: batch.dataBytes,
          refusedSeen: this.#refusedSeen,
        },
        { body: batch.body(), onReply: (reply) => this.#onReply(batch, reply.fields) },
      )
      .catch(() => {
        // The session is over, which the peer's onClosed reports to everybody.
      });
  }

  #onReply(batch: Batch, reply: BatchReply): void {
    if (this.#isEnded) return;
    const at = this.#inFlight.indexOf(batch);
    this.#inFlight.splice(at, 1);
    this.applied = Math.max(this.applied, batch.number);
    this.durable = Math.max(this.durable, reply.durable);
    if (reply.refused === null) {
      this.#closedBytes -= batch.bytes;
      this.#measure(batch.bytes);
      this.#options.onApplied(batch);
      this.#recycle(batch.log);
    } else if (this.#refused === null) {
      this.#refused = { batch, refusal: reply.refused };
      this.#refusedSeen = batch.number;
      this.#options.onRefusal(batch.number);
    } else {
      this.#returned.push(batch);
    }
    if (this.#refused !== null && this.#inFlight.length === 0) {
      const { batch: first, refusal } = this.#refused;
      this.#refused = null;
      this.#closed = [...this.#returned.splice(0), ...this.#closed];
      this.#takeApart(first, refusal);
    }
    this.pump();
    this.#wake();
  }

  #takeApart(batch: Batch, refusal: Refusal): void {
    const isWhole = refusal.index >= batch.log.count;
    const halves = isWhole && refusal.errno === Errno.ENOSPC ? batch.halves() : null;
    if (halves !== null) this.#closed.unshift(...halves);
    else this.#drop(batch, refusal);
    this.#closedBytes = 0;
    for (const one of this.#closed) this.#closedBytes += one.bytes;
  }

  /** Drops what was refused and what builds on it; the rest goes first. */
  #drop(batch: Batch, refusal: Refusal): void {
    countTransition(Transition.batchRefused);
    const filter = this.#options.onRefused(batch, refusal);
    const rest = filter.filter(batch);
    this.#closed = [rest, ...this.#closed.map((one) => filter.filter(one))];
    this.open = filter.filter(this.open);
    this.#lastFieldsAt = -1;
    if (rest.log.count === 0) {
      this.#closed.shift();
      this.#options.onApplied(rest);
    }
    filter.finish();
  }

  #recycle(log: ChangeLog): void {
    if (this.#logs.length >= 4 || log.bytes.length > 4 * BATCH_TARGET_BYTES) return;
    log.clear();
    this.#logs.push(log);
  }

  #measure(bytes: number): void {
    const nowMs = this.#options.clock.nowMs();
    this.#windowBytes += bytes;
    const elapsedMs = nowMs - this.#windowStartMs;
    if (elapsedMs < DIRTY_WINDOW_MS) return;
    const moved = (this.#windowBytes * DIRTY_WINDOW_MS) / elapsedMs;
    // Falls slowly, so that a pause between bursts does not close the window.
    const { dirtyBytesMax } = this.#options;
    this.#dirtyMax = Math.min(dirtyBytesMax, Math.max(DIRTY_BYTES_MIN, moved * 2, this.#dirtyMax * 0.9));
    this.#windowStartMs = nowMs;
    this.#windowBytes = 0;
  }

  #wake(): void {
    const applied = this.appliedPlace;
    if (this.#waiters.length > 0) {
      const due = this.#waiters.filter((waiter) => waiter.place <= applied);
      if (due.length > 0) {
        this.#waiters = this.#waiters.filter((waiter) => waiter.place > applied);
        for (const waiter of due) waiter.done(true);
      }
    }
    if (this.#roomWaiters.length > 0 && this.hasRoom) {
      for (const resolve of this.#roomWaiters.splice(0)) resolve();
    }
  }

  /** Sends everything that is dirty now. @returns the place of the last batch of it. */
  flush(): number {
    this.#options.logData(Infinity);
    return this.flushLog();
  }

  /** Sends every change that is in the log, without asking files for their data. */
  flushLog(): number {
    this.close();
    this.pump();
    return this.open.place - 1;
  }

  /** Resolves when every batch up to this place is applied: true; false if the session ended first. */
  whenApplied(place: number): Promise<boolean> {
    if (this.appliedPlace >= place) return Promise.resolve(true);
    if (this.#isEnded) return Promise.resolve(false);
    return new Promise((done) => this.#waiters.push({ place, done }));
  }

  /** The session is over: nothing is sent any more, whoever waits is told. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#timer?.cancel();
    for (const waiter of this.#waiters.splice(0)) waiter.done(false);
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }
}
