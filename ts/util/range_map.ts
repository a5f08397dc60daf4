// SPDX-License-Identifier: GPL-2.0-or-later
//
// Sorted, disjoint, half-open ranges of keys, each with a value: what the grant table, a session's holdings and the
// client's holder are made of. Neighbours whose values are the same are one range, always.
//
// The ranges lie in blocks of flat arrays (six doubles a range), found by binary search; a change moves at most one
// block's worth of memory, so that 100,000 ranges cost no more per change than a few hundred. `RangeMap` is one tree,
// `RangeForest` one map a tree.
//
// The visiting functions must not change the map that they walk; `update` does that in two steps.

import { assert } from './assert.ts';
import { compareKey, earlierKey, type Key, laterKey, type TreeRange } from './range.ts';

/** Ranges in a block before it is split: 12 KiB, so that a move stays in the L1 cache. */
const BLOCK_RANGES_MAX = 256;
/** Room of a new block, ranges: most maps are small and short-lived. */
const BLOCK_RANGES_FIRST = 4;
/** Doubles of one range: start objectid, type, offset; end objectid, type, offset. */
const STRIDE = 6;
const END = 3;

class Block<V> {
  count = 0;
  keys: Float64Array;
  readonly values: V[] = [];

  /** @param room - ranges that fit at first */
  constructor(room: number) {
    this.keys = new Float64Array(room * STRIDE);
  }

  /** Opens a gap of one range at `slot`. */
  open(slot: number, value: V): void {
    if (this.count * STRIDE === this.keys.length) {
      const larger = new Float64Array(this.keys.length * 2);
      larger.set(this.keys);
      this.keys = larger;
    }
    this.keys.copyWithin((slot + 1) * STRIDE, slot * STRIDE, this.count * STRIDE);
    if (slot === this.count) this.values.push(value);
    else this.values.splice(slot, 0, value);
    this.count++;
  }

  /** Takes out the ranges from `slot` to `slotEnd` - 1. */
  close(slot: number, slotEnd: number): void {
    this.keys.copyWithin(slot * STRIDE, slotEnd * STRIDE, this.count * STRIDE);
    this.values.splice(slot, slotEnd - slot);
    this.count -= slotEnd - slot;
  }

  putKey(at: number, key: Key): void {
    this.keys[at] = key.objectid;
    this.keys[at + 1] = key.type;
    this.keys[at + 2] = key.offset;
  }

  key(at: number): Key {
    return { objectid: this.keys[at]!, type: this.keys[at + 1]!, offset: this.keys[at + 2]! };
  }

  start(slot: number): Key {
    return this.key(slot * STRIDE);
  }

  end(slot: number): Key {
    return this.key(slot * STRIDE + END);
  }

  /** Compares the key at `at` with (objectid, type, offset). */
  compare(at: number, objectid: number, type: number, offset: number): number {
    const keys = this.keys;
    const own = keys[at]!;
    if (own !== objectid) return own < objectid ? -1 : 1;
    const ownType = keys[at + 1]!;
    if (ownType !== type) return ownType - type;
    const ownOffset = keys[at + 2]!;
    return ownOffset === offset ? 0 : ownOffset < offset ? -1 : 1;
  }
}

/** Called with a range, clipped to what was asked for. Returning false ends the walk. */
export type RangeVisitor<V> = (start: Key, end: Key, value: V) => boolean | undefined;

export class RangeMap<V> {
  readonly #blocks: Block<V>[] = [];
  readonly #same: (a: V, b: V) => boolean;
  #size = 0;
  /** Position that `#seek` found. */
  #block = 0;
  #slot = 0;

  /** @param same - whether two values are alike, so that neighbours with them are joined */
  constructor(same: (a: V, b: V) => boolean = Object.is) {
    this.#same = same;
  }

  /** Number of ranges. */
  get size(): number {
    return this.#size;
  }

  /** The value of the range that holds the key; undefined when none does. */
  get(objectid: number, type: number, offset: number): V | undefined {
    this.#seek(objectid, type, offset);
    const block = this.#blocks[this.#block];
    if (block === undefined) return undefined;
    const holds = block.compare(this.#slot * STRIDE, objectid, type, offset) <= 0;
    return holds ? block.values[this.#slot] : undefined;
  }

  /** The range that holds the key, with its bounds. */
  find(key: Key): { start: Key; end: Key; value: V } | undefined {
    this.#seek(key.objectid, key.type, key.offset);
    const block = this.#blocks[this.#block];
    const slot = this.#slot;
    if (block === undefined || block.compare(slot * STRIDE, key.objectid, key.type, key.offset) > 0)
      return undefined;
    return { start: block.start(slot), end: block.end(slot), value: block.values[slot]! };
  }

  /** Whether every key of `[start, end)` has a value that `accept` takes. True for an empty range. */
  covers(start: Key, end: Key, accept: (value: V) => boolean): boolean {
    if (compareKey(start, end) >= 0) return true;
    this.#seek(start.objectid, start.type, start.offset);
    let { objectid, type, offset } = start;
    let slot = this.#slot;
    for (let index = this.#block; index < this.#blocks.length; index++, slot = 0) {
      const block = this.#blocks[index]!;
      for (; slot < block.count; slot++) {
        const at = slot * STRIDE;
        if (block.compare(at, objectid, type, offset) > 0 || !accept(block.values[slot]!)) return false;
        if (block.compare(at + END, end.objectid, end.type, end.offset) >= 0) return true;
        objectid = block.keys[at + END]!;
        type = block.keys[at + END + 1]!;
        offset = block.keys[at + END + 2]!;
      }
    }
    return false;
  }

  /** Visits the ranges that overlap `[start, end)`, clipped to it, in order. @returns false if a visitor ended it */
  forEachIn(start: Key, end: Key, visit: RangeVisitor<V>): boolean {
    if (compareKey(start, end) >= 0) return true;
    this.#seek(start.objectid, start.type, start.offset);
    let slot = this.#slot;
    for (let index = this.#block; index < this.#blocks.length; index++, slot = 0) {
      const block = this.#blocks[index]!;
      for (; slot < block.count; slot++) {
        if (block.compare(slot * STRIDE, end.objectid, end.type, end.offset) >= 0) return true;
        const from = laterKey(block.start(slot), start);
        const to = earlierKey(block.end(slot), end);
        if (visit(from, to, block.values[slot]!) === false) return false;
      }
    }
    return true;
  }

  /** As `forEachIn`, and visits the gaps too, with undefined. */
  forEachPiece(start: Key, end: Key, visit: RangeVisitor<V | undefined>): boolean {
    let from = start;
    const whole = this.forEachIn(start, end, (pieceStart, pieceEnd, value) => {
      if (compareKey(from, pieceStart) < 0 && visit(from, pieceStart, undefined) === false) return false;
      from = pieceEnd;
      return visit(pieceStart, pieceEnd, value);
    });
    if (!whole) return false;
    return compareKey(from, end) >= 0 || visit(from, end, undefined) !== false;
  }

  /** Visits every range in order. @returns false if a visitor ended it */
  forEach(visit: RangeVisitor<V>): boolean {
    for (const block of this.#blocks) {
      for (let slot = 0; slot < block.count; slot++) {
        if (visit(block.start(slot), block.end(slot), block.values[slot]!) === false) return false;
      }
    }
    return true;
  }

  /** Gives every key of `[start, end)` the value, and joins it with neighbours that are alike. */
  set(start: Key, end: Key, value: V): void {
    if (compareKey(start, end) >= 0) return;
    this.cut(start, end);
    this.#seek(start.objectid, start.type, start.offset);
    const next = this.#blocks[this.#block];
    const nextSlot = this.#slot;
    const nextAt = nextSlot * STRIDE;
    const joinsNext =
      next !== undefined &&
      next.compare(nextAt, end.objectid, end.type, end.offset) === 0 &&
      this.#same(next.values[nextSlot]!, value);
    const previous = nextSlot > 0 ? next : this.#blocks[this.#block - 1];
    const previousSlot = nextSlot > 0 ? nextSlot - 1 : (previous?.count ?? 0) - 1;
    const joinsPrevious =
      previous !== undefined &&
      previous.compare(previousSlot * STRIDE + END, start.objectid, start.type, start.offset) === 0 &&
      this.#same(previous.values[previousSlot]!, value);
    if (joinsPrevious && joinsNext) {
      previous.putKey(previousSlot * STRIDE + END, next.end(nextSlot));
      this.#remove(this.#block, nextSlot, nextSlot + 1);
    } else if (joinsPrevious) previous.putKey(previousSlot * STRIDE + END, end);
    else if (joinsNext) next.putKey(nextAt, start);
    else this.#insert(start, end, value);
  }

  /** Takes away every value of `[start, end)`; ranges that reach over its ends are shortened or split. */
  cut(start: Key, end: Key): void {
    if (compareKey(start, end) >= 0) return;
    this.#seek(start.objectid, start.type, start.offset);
    let index = this.#block;
    let slot = this.#slot;
    const first = this.#blocks[index];
    if (first === undefined) return;
    if (first.compare(slot * STRIDE, start.objectid, start.type, start.offset) < 0) {
      const oldEnd = first.end(slot);
      first.putKey(slot * STRIDE + END, start);
      if (compareKey(oldEnd, end) > 0) {
        const value = first.values[slot]!;
        this.#seek(end.objectid, end.type, end.offset);
        this.#insert(end, oldEnd, value);
        return;
      }
      slot++;
    }
    while (index < this.#blocks.length) {
      const block = this.#blocks[index]!;
      let slotEnd = slot;
      while (
        slotEnd < block.count &&
        block.compare(slotEnd * STRIDE + END, end.objectid, end.type, end.offset) <= 0
      ) {
        slotEnd++;
      }
      if (slotEnd < block.count) {
        const at = slotEnd * STRIDE;
        if (block.compare(at, end.objectid, end.type, end.offset) < 0) block.putKey(at, end);
        this.#remove(index, slot, slotEnd);
        return;
      }
      const emptied = slot === 0;
      this.#remove(index, slot, slotEnd);
      if (!emptied) index++;
      slot = 0;
    }
  }

  /** Replaces the value of each piece of `[start, end)`, gaps (undefined) included; undefined takes it away. */
  update(start: Key, end: Key, change: (value: V | undefined, start: Key, end: Key) => V | undefined): void {
    const pieces: { start: Key; end: Key; value: V | undefined }[] = [];
    this.forEachPiece(start, end, (pieceStart, pieceEnd, value) => {
      pieces.push({ start: pieceStart, end: pieceEnd, value });
    });
    for (const piece of pieces) {
      const value = change(piece.value, piece.start, piece.end);
      if (value === undefined) {
        if (piece.value !== undefined) this.cut(piece.start, piece.end);
      } else if (piece.value === undefined || !Object.is(piece.value, value)) {
        this.set(piece.start, piece.end, value);
      }
    }
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#size = 0;
  }

  /** Checks the order, the joining and the counts; for tests. */
  verify(): void {
    let previousEnd: Key | undefined;
    let previousValue: V | undefined;
    let count = 0;
    for (const block of this.#blocks) {
      assert(block.count > 0 && block.count <= BLOCK_RANGES_MAX, 'a block is empty or overfull');
      assert(block.count === block.values.length, 'a block has a value for each range');
    }
    this.forEach((start, end, value) => {
      assert(compareKey(start, end) < 0, 'a range is not empty');
      if (previousEnd !== undefined) {
        const order = compareKey(previousEnd, start);
        assert(order <= 0, 'ranges are disjoint and sorted');
        assert(order < 0 || !this.#same(previousValue!, value), 'like neighbours are joined');
      }
      previousEnd = end;
      previousValue = value;
      count++;
    });
    assert(count === this.#size, 'the count of ranges is right');
  }

  /** Finds the first range whose end lies after the key. */
  #seek(objectid: number, type: number, offset: number): void {
    const blocks = this.#blocks;
    let low = 0;
    let high = blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const block = blocks[middle]!;
      if (block.compare((block.count - 1) * STRIDE + END, objectid, type, offset) > 0) high = middle;
      else low = middle + 1;
    }
    this.#block = low;
    this.#slot = 0;
    const block = blocks[low];
    if (block === undefined) return;
    low = 0;
    high = block.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (block.compare(middle * STRIDE + END, objectid, type, offset) > 0) high = middle;
      else low = middle + 1;
    }
    this.#slot = low;
  }

  /** Puts a range in at the position that `#seek` found. */
  #insert(start: Key, end: Key, value: V): void {
    let index = this.#block;
    let slot = this.#slot;
    let block = this.#blocks[index];
    const before = this.#blocks[index - 1];
    if (slot === 0 && before !== undefined && before.count < BLOCK_RANGES_MAX) {
      // Appending to the block before keeps blocks full when ranges come in rising order.
      index--;
      block = before;
      slot = before.count;
    }
    if (block === undefined) {
      block = new Block<V>(BLOCK_RANGES_FIRST);
      this.#blocks.push(block);
      slot = 0;
    } else if (block.count === BLOCK_RANGES_MAX) {
      const upper = this.#split(index);
      if (slot > block.count) {
        slot -= block.count;
        block = upper;
      }
    }
    block.open(slot, value);
    block.putKey(slot * STRIDE, start);
    block.putKey(slot * STRIDE + END, end);
    this.#size++;
  }

  /** Moves the upper half of a full block into a new one. @returns the new one */
  #split(index: number): Block<V> {
    const lower = this.#blocks[index]!;
    const upper = new Block<V>(BLOCK_RANGES_MAX);
    const kept = lower.count >>> 1;
    upper.keys.set(lower.keys.subarray(kept * STRIDE, lower.count * STRIDE));
    for (const value of lower.values.splice(kept)) upper.values.push(value);
    upper.count = lower.count - kept;
    lower.count = kept;
    this.#blocks.splice(index + 1, 0, upper);
    return upper;
  }

  #remove(index: number, slot: number, slotEnd: number): void {
    if (slot === slotEnd) return;
    const block = this.#blocks[index]!;
    block.close(slot, slotEnd);
    this.#size -= slotEnd - slot;
    if (block.count === 0) this.#blocks.splice(index, 1);
  }
}

/** One `RangeMap` a tree. */
export class RangeForest<V> {
  readonly #trees = new Map<number, RangeMap<V>>();
  readonly #same: (a: V, b: V) => boolean;

  constructor(same: (a: V, b: V) => boolean = Object.is) {
    this.#same = same;
  }

  /** Number of ranges in all trees. */
  get size(): number {
    let size = 0;
    for (const map of this.#trees.values()) size += map.size;
    return size;
  }

  /** The map of a tree, to read. */
  tree(tree: number): RangeMap<V> | undefined {
    return this.#trees.get(tree);
  }

  /** Trees that have had ranges, in rising order. */
  trees(): number[] {
    return [...this.#trees.keys()].sort((a, b) => a - b);
  }

  get(tree: number, objectid: number, type: number, offset: number): V | undefined {
    return this.#trees.get(tree)?.get(objectid, type, offset);
  }

  covers(range: TreeRange, accept: (value: V) => boolean): boolean {
    const map = this.#trees.get(range.tree);
    if (map === undefined) return compareKey(range.start, range.end) >= 0;
    return map.covers(range.start, range.end, accept);
  }

  forEachIn(range: TreeRange, visit: RangeVisitor<V>): boolean {
    return this.#trees.get(range.tree)?.forEachIn(range.start, range.end, visit) ?? true;
  }

  forEachPiece(range: TreeRange, visit: RangeVisitor<V | undefined>): boolean {
    return this.#own(range.tree).forEachPiece(range.start, range.end, visit);
  }

  /** Visits every range, trees in rising order. */
  forEach(visit: (tree: number, start: Key, end: Key, value: V) => void): void {
    for (const tree of this.trees()) {
      this.#trees.get(tree)?.forEach((start, end, value) => {
        visit(tree, start, end, value);
      });
    }
  }

  set(range: TreeRange, value: V): void {
    this.#own(range.tree).set(range.start, range.end, value);
  }

  cut(range: TreeRange): void {
    const map = this.#trees.get(range.tree);
    if (map === undefined) return;
    map.cut(range.start, range.end);
    if (map.size === 0) this.#trees.delete(range.tree);
  }

  update(range: TreeRange, change: (value: V | undefined, start: Key, end: Key) => V | undefined): void {
    this.#own(range.tree).update(range.start, range.end, change);
  }

  clear(): void {
    this.#trees.clear();
  }

  verify(): void {
    for (const map of this.#trees.values()) map.verify();
  }

  #own(tree: number): RangeMap<V> {
    let map = this.#trees.get(tree);
    if (map === undefined) {
      map = new RangeMap<V>(this.#same);
      this.#trees.set(tree, map);
    }
    return map;
  }
}
