// SPDX-License-Identifier: GPL-2.0-or-later
//
// One batch of changes as the client keeps it, from the first change to the server's answer: the records, the sums
// and the data that go with them.
//
// A batch has a place in the client's order of operations from the beginning, and a number on the wire from when it
// is sent. What is left of a refused batch, or its halves, keeps its place and gets a new number.

import { ChangeKind, ChangeLog, ChangeReader } from '../item/change.ts';
import type { PendingRun } from './file_state.ts';
import { GATHER_BUFFER_BYTES, GATHER_BYTES, GATHER_FIRST_BYTES } from './limits.ts';

const SECTOR = 4096;

export class Batch {
  /** Place in the order of operations, from 1. */
  readonly place: number;
  readonly log: ChangeLog;
  /** Bytes of data. */
  dataBytes = 0;
  /** Sums of the sectors of all data, in order. */
  sums: Uint32Array<ArrayBuffer>;
  sumCount = 0;
  /** Bytes of files that are readable here until the batch is applied. */
  pending: PendingRun[] = [];
  /** Counts of changes at which operations ended, rising: where the batch can be cut. */
  borders: number[] = [];
  /** When the first change was added, milliseconds of the clock. */
  sinceMs = 0;
  /** Number on the wire; 0 until sent. */
  number = 0;

  readonly #parts: Uint8Array<ArrayBuffer>[] = [];
  #gather: Uint8Array<ArrayBuffer> | null = null;
  #gathered = 0;
  /** Of the next buffer: a batch that a revoke waits for is mostly small. */
  #gatherBytes = GATHER_FIRST_BYTES;
  #gatherStart = 0;

  constructor(place: number, log: ChangeLog, sums: Uint32Array<ArrayBuffer> = new Uint32Array(256)) {
    this.place = place;
    this.log = log;
    this.sums = sums;
  }

  get bytes(): number {
    return this.log.length + this.sumCount * 4 + this.dataBytes;
  }

  /** Room for the sums of `count` sectors. @returns the place of the first in `sums`. */
  takeSums(count: number): number {
    const first = this.sumCount;
    this.sumCount += count;
    if (this.sumCount > this.sums.length) {
      const larger = new Uint32Array(Math.max(this.sumCount, this.sums.length * 2));
      larger.set(this.sums.subarray(0, first));
      this.sums = larger;
    }
    return first;
  }

  /** Whether the payload would be copied, so that its buffer is free again. */
  static gathers(length: number): boolean {
    return length <= GATHER_BYTES;
  }

  /**
   * Adds the payload of a put data: copied if short, else taken as it is.
   *
   * @returns where the bytes lie now.
   */
  addData(bytes: Uint8Array<ArrayBuffer>, length: number): Uint8Array<ArrayBuffer> {
    this.dataBytes += length;
    if (!Batch.gathers(length)) {
      this.#closeGather();
      const part = bytes.subarray(0, length);
      this.#parts.push(part);
      return part;
    }
    if (this.#gather === null || this.#gathered + length > this.#gather.length) {
      this.#closeGather();
      this.#gather = new Uint8Array(Math.max(length, this.#gatherBytes));
      this.#gatherBytes = Math.min(GATHER_BUFFER_BYTES, this.#gatherBytes * 4);
      this.#gathered = 0;
      this.#gatherStart = 0;
    }
    const start = this.#gathered;
    this.#gather.set(bytes.subarray(0, length), start);
    this.#gathered += length;
    return this.#gather.subarray(start, start + length);
  }

  #closeGather(): void {
    if (this.#gather === null || this.#gathered === this.#gatherStart) return;
    this.#parts.push(this.#gather.subarray(this.#gatherStart, this.#gathered));
    this.#gatherStart = this.#gathered;
  }

  /** The body of the message. */
  body(): Uint8Array[] {
    this.#closeGather();
    const parts: Uint8Array[] = [this.changes()];
    if (this.sumCount > 0) parts.push(new Uint8Array(this.sums.buffer, 0, this.sumCount * 4));
    for (const part of this.#parts) parts.push(part);
    return parts;
  }

  /** A payload by its place in the data section; each lies in one part. */
  dataAt(start: number, length: number): Uint8Array<ArrayBuffer> {
    this.#closeGather();
    let at = start;
    for (const part of this.#parts) {
      if (at < part.length) return part.subarray(at, at + length);
      at -= part.length;
    }
    return new Uint8Array(length);
  }

  /** An operation is complete. */
  markBorder(): void {
    const { count } = this.log;
    if (count > (this.borders.at(-1) ?? 0)) this.borders.push(count);
  }

  /** A batch of the same place with those changes that `keeps` names by their place, and their data. */
  part(keeps: (at: number) => boolean): Batch {
    const part = new Batch(this.place, new ChangeLog(1024));
    part.sinceMs = this.sinceMs;
    const reader = new ChangeReader(this.changes());
    let dataAt = 0;
    let sumAt = 0;
    let border = 0;
    for (let at = 0; reader.next(); at++) {
      const length = reader.kind === ChangeKind.putData ? reader.length : 0;
      const sums = Math.ceil(length / SECTOR);
      if (keeps(at)) {
        part.log.copyRecord(reader.bytes, reader.at, reader.size);
        if (length > 0) {
          const first = part.takeSums(sums);
          part.sums.set(this.sums.subarray(sumAt, sumAt + sums), first);
          part.addData(this.dataAt(dataAt, length), length);
        }
      }
      dataAt += length;
      sumAt += sums;
      if (this.borders[border] !== at + 1) continue;
      border++;
      part.markBorder();
    }
    return part;
  }

  /**
   * Cuts the batch in two where an operation ended; null if it holds only one. What can be read of files stays with
   * the second half: it is needed until both are applied.
   */
  halves(): [Batch, Batch] | null {
    const { count } = this.log;
    const inner = this.borders.filter((border) => border < count);
    if (inner.length === 0) return null;
    const cut = inner.find((border) => border >= count / 2) ?? inner.at(-1)!;
    const second = this.part((at) => at >= cut);
    second.pending = this.pending;
    return [this.part((at) => at < cut), second];
  }

  changes(): Uint8Array {
    return this.log.bytes.subarray(0, this.log.length);
  }
}
