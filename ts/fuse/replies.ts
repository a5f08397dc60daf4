// SPDX-License-Identifier: GPL-2.0-or-later
//
// Where replies are made: memory shared with the channel, and the table of those that are ready.
//
// A handler takes room, fills it and commits it; the driver writes all committed replies in one native call. Small
// replies lie behind one another in one area. Large ones (data, listings) get one of a few fixed slots, whose views
// are made once: a READ allocates nothing. When room is short the driver writes what is queued.
//
// Layout: [small area][slot 0][slot 1]..., each slot with 16 bytes of header before its data.

import { OUT_HEADER_BYTES } from './abi.ts';
import {
  LARGE_REPLY_BYTES,
  LARGE_REPLY_SLOTS,
  QUEUED_REPLIES_MAX,
  SMALL_REPLY_AREA_BYTES,
} from './limits.ts';

/** Bytes from one slot to the next: header and data, rounded to pages so that data of all slots lies alike. */
const SLOT_STRIDE = LARGE_REPLY_BYTES + 4096;

export class Replies {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** Offset and length of each queued reply, for the channel. */
  readonly table: Uint32Array;
  /** Replies queued. */
  count = 0;
  private readonly slots: Uint8Array[] = [];
  private readonly write: () => void;
  private smallUsed = 0;
  private slotsUsed = 0;

  /** @param write - writes the `count` queued replies and calls `clear`. */
  constructor(write: () => void) {
    this.write = write;
    this.bytes = new Uint8Array(SMALL_REPLY_AREA_BYTES + LARGE_REPLY_SLOTS * SLOT_STRIDE);
    this.words = new Uint32Array(this.bytes.buffer);
    this.table = new Uint32Array(QUEUED_REPLIES_MAX * 2);
    for (let index = 0; index < LARGE_REPLY_SLOTS; index++) {
      const data = SMALL_REPLY_AREA_BYTES + index * SLOT_STRIDE + OUT_HEADER_BYTES;
      this.slots.push(this.bytes.subarray(data, data + LARGE_REPLY_BYTES));
    }
  }

  /** Forgets what was queued: it has been written. */
  clear(): void {
    this.count = 0;
    this.smallUsed = 0;
    this.slotsUsed = 0;
  }

  /**
   * Queues a reply of `bodyBytes`, a multiple of 8 up to 512, which the caller fills at once.
   *
   * @returns the word of `words` where the body starts. Its old content is undefined.
   */
  small(uniqueLow: number, uniqueHigh: number, bodyBytes: number): number {
    const length = OUT_HEADER_BYTES + bodyBytes;
    if (this.count === QUEUED_REPLIES_MAX || this.smallUsed + length > SMALL_REPLY_AREA_BYTES) this.write();
    const offset = this.smallUsed;
    this.smallUsed += length;
    this.enqueue(offset, length, 0, uniqueLow, uniqueHigh);
    return (offset + OUT_HEADER_BYTES) >>> 2;
  }

  /** Queues a reply without a body. @param errno - 0 or a negative Linux errno. */
  status(uniqueLow: number, uniqueHigh: number, errno: number): void {
    if (this.count === QUEUED_REPLIES_MAX || this.smallUsed + OUT_HEADER_BYTES > SMALL_REPLY_AREA_BYTES) {
      this.write();
    }
    const offset = this.smallUsed;
    this.smallUsed += OUT_HEADER_BYTES;
    this.enqueue(offset, OUT_HEADER_BYTES, errno, uniqueLow, uniqueHigh);
  }

  /** Returns room for `LARGE_REPLY_BYTES` of data, the same until `large` is called. */
  slot(): Uint8Array {
    if (this.slotsUsed === LARGE_REPLY_SLOTS || this.count === QUEUED_REPLIES_MAX) this.write();
    return this.slots[this.slotsUsed]!;
  }

  /** Word of `words` where the data of the slot that `slot` returned last starts. */
  slotWord(): number {
    return this.slots[this.slotsUsed]!.byteOffset >>> 2;
  }

  /** Queues the first `length` bytes of the slot that `slot` returned last. */
  large(uniqueLow: number, uniqueHigh: number, length: number): void {
    const data = this.slots[this.slotsUsed]!.byteOffset;
    this.slotsUsed++;
    this.enqueue(data - OUT_HEADER_BYTES, OUT_HEADER_BYTES + length, 0, uniqueLow, uniqueHigh);
  }

  private enqueue(
    offset: number,
    length: number,
    errno: number,
    uniqueLow: number,
    uniqueHigh: number,
  ): void {
    const { words, table } = this;
    const word = offset >>> 2;
    words[word] = length;
    words[word + 1] = errno;
    words[word + 2] = uniqueLow;
    words[word + 3] = uniqueHigh;
    const entry = this.count * 2;
    table[entry] = offset;
    table[entry + 1] = length;
    this.count++;
  }
}
