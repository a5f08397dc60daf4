// SPDX-License-Identifier: GPL-2.0-or-later
//
// One page of the item cache: the items of a stretch of keys, packed in a frame.
//
// Heads of 24 bytes grow from the front in key order (objectid and offset as doubles, so that a search reads them
// without arithmetic; where the value lies; type and size), values from the back in any order. What a removal leaves
// is garbage until `compact`. A page owns the keys from its `low` key to the `low` of the next page.

import type { Frame, PagePool } from './page_pool.ts';

export const HEAD_BYTES = 24;
const HEAD_DOUBLES = 3;
const HEAD_WORDS = 6;
const SIZE_MASK = 0xff_ffff;

export class CachePage {
  frame: Frame;
  count = 0;
  /** Where the lowest value begins, bytes from the frame's base. */
  valuesStart: number;
  /** Bytes of values that no head names any more. */
  garbage = 0;
  /** The youngest batch with a change of these items or of the absence of items here. */
  batch = 0;
  /** The age (of the cache's count of ages) in which the page was last used. */
  usedAt = 0;
  /** Whether the last insertion was at the end: a full page is then not halved but continued by a new one. */
  isAppending = false;
  lowObjectid: number;
  lowType: number;
  lowOffset: number;

  constructor(frame: Frame, objectid: number, type: number, offset: number) {
    this.frame = frame;
    this.valuesStart = frame.capacity;
    this.lowObjectid = objectid;
    this.lowType = type;
    this.lowOffset = offset;
  }

  objectidAt(slot: number): number {
    return this.frame.doubles[(this.frame.base >>> 3) + slot * HEAD_DOUBLES]!;
  }

  offsetAt(slot: number): number {
    return this.frame.doubles[(this.frame.base >>> 3) + slot * HEAD_DOUBLES + 1]!;
  }

  typeAt(slot: number): number {
    return this.frame.words[(this.frame.base >>> 2) + slot * HEAD_WORDS + 5]! >>> 24;
  }

  sizeAt(slot: number): number {
    return this.frame.words[(this.frame.base >>> 2) + slot * HEAD_WORDS + 5]! & SIZE_MASK;
  }

  /** Where the value of an item begins in the frame's bytes. */
  startAt(slot: number): number {
    return this.frame.base + this.frame.words[(this.frame.base >>> 2) + slot * HEAD_WORDS + 4]!;
  }

  /** The first slot whose key is not less than the given one. */
  lowerBound(objectid: number, type: number, offset: number): number {
    const { doubles, words, base } = this.frame;
    const firstDouble = base >>> 3;
    const firstWord = base >>> 2;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = firstDouble + middle * HEAD_DOUBLES;
      const other = doubles[at]!;
      let isLess = other < objectid;
      if (other === objectid) {
        const otherType = words[firstWord + middle * HEAD_WORDS + 5]! >>> 24;
        isLess = otherType === type ? doubles[at + 1]! < offset : otherType < type;
      }
      if (isLess) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  holds(slot: number, objectid: number, type: number, offset: number): boolean {
    return (
      slot < this.count &&
      this.objectidAt(slot) === objectid &&
      this.offsetAt(slot) === offset &&
      this.typeAt(slot) === type
    );
  }

  /** Bytes that could be had for new items, after compacting. */
  roomBytes(): number {
    return this.valuesStart - this.count * HEAD_BYTES + this.garbage;
  }

  /** Adds an item at its slot; there must be room. Its value is zeroed. */
  insertAt(slot: number, objectid: number, type: number, offset: number, size: number): void {
    if (this.valuesStart - this.count * HEAD_BYTES < HEAD_BYTES + size) this.compact();
    const { bytes, doubles, words, base } = this.frame;
    if (slot < this.count) {
      const from = base + slot * HEAD_BYTES;
      bytes.copyWithin(from + HEAD_BYTES, from, base + this.count * HEAD_BYTES);
    }
    this.isAppending = slot === this.count;
    this.count++;
    this.valuesStart -= size;
    const double = (base >>> 3) + slot * HEAD_DOUBLES;
    doubles[double] = objectid;
    doubles[double + 1] = offset;
    const word = (base >>> 2) + slot * HEAD_WORDS;
    words[word + 4] = this.valuesStart;
    words[word + 5] = (type << 24) | size;
    bytes.fill(0, base + this.valuesStart, base + this.valuesStart + size);
  }

  removeAt(slot: number): void {
    const { bytes, base } = this.frame;
    this.garbage += this.sizeAt(slot);
    const from = base + slot * HEAD_BYTES;
    bytes.copyWithin(from, from + HEAD_BYTES, base + this.count * HEAD_BYTES);
    this.count--;
    this.#resetWhenEmpty();
  }

  #resetWhenEmpty(): void {
    if (this.count > 0) return;
    this.valuesStart = this.frame.capacity;
    this.garbage = 0;
  }

  /** Makes a value shorter in place. */
  shrinkAt(slot: number, size: number): void {
    const word = (this.frame.base >>> 2) + slot * HEAD_WORDS + 5;
    const old = this.frame.words[word]!;
    this.garbage += (old & SIZE_MASK) - size;
    this.frame.words[word] = (old & ~SIZE_MASK) | size;
  }

  /** Gives an item a longer value: its old bytes and zeros. There must be room for the whole new value. */
  growAt(slot: number, size: number): void {
    if (this.valuesStart - this.count * HEAD_BYTES < size) this.compact();
    const { bytes, words, base } = this.frame;
    const word = (base >>> 2) + slot * HEAD_WORDS;
    const old = words[word + 5]! & SIZE_MASK;
    const oldStart = base + words[word + 4]!;
    this.valuesStart -= size;
    const start = base + this.valuesStart;
    bytes.copyWithin(start, oldStart, oldStart + old);
    bytes.fill(0, start + old, start + size);
    this.garbage += old;
    words[word + 4] = this.valuesStart;
    words[word + 5] = (words[word + 5]! & ~SIZE_MASK) | size;
  }

  /** Squeezes the garbage out. */
  compact(): void {
    if (this.garbage === 0) return;
    const { bytes, words, base, capacity } = this.frame;
    const old = scratchOf(capacity);
    old.set(bytes.subarray(base + this.valuesStart, base + capacity), this.valuesStart);
    let end = capacity;
    for (let slot = 0; slot < this.count; slot++) {
      const word = (base >>> 2) + slot * HEAD_WORDS;
      const size = words[word + 5]! & SIZE_MASK;
      const from = words[word + 4]!;
      end -= size;
      bytes.set(old.subarray(from, from + size), base + end);
      words[word + 4] = end;
    }
    this.valuesStart = end;
    this.garbage = 0;
  }

  /** Moves the items from `slot` on to a new page, which begins at the key of the first of them. */
  splitAt(slot: number, pool: PagePool): CachePage {
    let bytes = 0;
    for (let at = slot; at < this.count; at++) bytes += HEAD_BYTES + this.sizeAt(at);
    const page = new CachePage(
      pool.take(bytes),
      this.objectidAt(slot),
      this.typeAt(slot),
      this.offsetAt(slot),
    );
    page.batch = this.batch;
    page.usedAt = this.usedAt;
    for (let at = slot; at < this.count; at++) {
      const size = this.sizeAt(at);
      const start = this.startAt(at);
      page.insertAt(page.count, this.objectidAt(at), this.typeAt(at), this.offsetAt(at), size);
      const target = page.frame.base + page.valuesStart;
      page.frame.bytes.set(this.frame.bytes.subarray(start, start + size), target);
    }
    this.truncate(slot);
    page.isAppending = false;
    return page;
  }

  /** Takes out the slots `[from, to)`. */
  removeSlots(from: number, to: number): void {
    if (from >= to) return;
    const { bytes, base } = this.frame;
    for (let slot = from; slot < to; slot++) this.garbage += this.sizeAt(slot);
    bytes.copyWithin(base + from * HEAD_BYTES, base + to * HEAD_BYTES, base + this.count * HEAD_BYTES);
    this.count -= to - from;
    this.#resetWhenEmpty();
  }

  truncate(slot: number): void {
    this.removeSlots(slot, this.count);
  }
}

let scratch = new Uint8Array(0);

function scratchOf(bytes: number): Uint8Array {
  if (scratch.length < bytes) scratch = new Uint8Array(bytes);
  return scratch;
}
