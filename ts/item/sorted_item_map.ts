// SPDX-License-Identifier: GPL-2.0-or-later
//
// The plain implementation of `ItemMap`: sorted arrays of objects, one Uint8Array per value. It stands under
// MemoryVolume and is the judge of the packed item cache in tests; the client's own cache is client/item_cache.ts.
//
// Changes since `begin` can be taken back as one: that is how a refused batch leaves nothing behind.

import type { ItemMap } from './item_map.ts';
import { compareKeys } from './key.ts';

interface Entry {
  readonly objectid: number;
  readonly type: number;
  readonly offset: number;
  value: Uint8Array<ArrayBuffer>;
}

interface Undo {
  readonly tree: number;
  readonly objectid: number;
  readonly type: number;
  readonly offset: number;
  /** The value before; null when the item was not there. */
  readonly before: Uint8Array<ArrayBuffer> | null;
}

/** Entries per chunk at which it is cut in two: bounds what an insertion moves. */
const CHUNK_ENTRIES = 512;

const EMPTY_VIEW = new DataView(new ArrayBuffer(0));

class SortedTree {
  readonly chunks: Entry[][] = [[]];

  /** The chunk that holds the key, or would. */
  chunkOf(objectid: number, type: number, offset: number): number {
    let low = 0;
    let high = this.chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const first = this.chunks[middle]![0]!;
      if (compareKeys(first.objectid, first.type, first.offset, objectid, type, offset) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Position of the first entry of a chunk at or after the key. */
function lowerBound(chunk: Entry[], objectid: number, type: number, offset: number): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = chunk[middle]!;
    if (compareKeys(entry.objectid, entry.type, entry.offset, objectid, type, offset) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class SortedItemMap implements ItemMap {
  objectid = 0;
  type = 0;
  offset = 0;
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  view: DataView<ArrayBuffer> = EMPTY_VIEW;
  readonly start = 0;
  size = 0;

  readonly #trees = new Map<number, SortedTree>();
  #tree = 0;
  #chunk = 0;
  #slot = 0;
  #undo: Undo[] | null = null;

  #treeOf(tree: number): SortedTree {
    let sorted = this.#trees.get(tree);
    if (sorted === undefined) {
      sorted = new SortedTree();
      this.#trees.set(tree, sorted);
    }
    return sorted;
  }

  #settle(tree: number, chunk: number, slot: number): boolean {
    const chunks = this.#treeOf(tree).chunks;
    let at = chunk;
    let position = slot;
    while (at < chunks.length && position >= chunks[at]!.length) {
      at++;
      position = 0;
    }
    const entry = chunks[at]?.[position];
    if (entry === undefined) return false;
    this.#tree = tree;
    this.#chunk = at;
    this.#slot = position;
    this.#load(entry);
    return true;
  }

  #load(entry: Entry): void {
    this.objectid = entry.objectid;
    this.type = entry.type;
    this.offset = entry.offset;
    this.bytes = entry.value;
    this.view = new DataView(entry.value.buffer, entry.value.byteOffset, entry.value.byteLength);
    this.size = entry.value.length;
  }

  find(tree: number, objectid: number, type: number, offset: number): boolean {
    return (
      this.seek(tree, objectid, type, offset) &&
      this.objectid === objectid &&
      this.type === type &&
      this.offset === offset
    );
  }

  seek(tree: number, objectid: number, type: number, offset: number): boolean {
    const sorted = this.#treeOf(tree);
    const chunk = sorted.chunkOf(objectid, type, offset);
    return this.#settle(tree, chunk, lowerBound(sorted.chunks[chunk]!, objectid, type, offset));
  }

  seekBefore(tree: number, objectid: number, type: number, offset: number): boolean {
    const sorted = this.#treeOf(tree);
    let chunk = sorted.chunkOf(objectid, type, offset);
    let slot = lowerBound(sorted.chunks[chunk]!, objectid, type, offset) - 1;
    if (slot < 0) {
      if (chunk === 0) return false;
      chunk--;
      slot = sorted.chunks[chunk]!.length - 1;
    }
    return this.#settle(tree, chunk, slot);
  }

  next(): boolean {
    return this.#settle(this.#tree, this.#chunk, this.#slot + 1);
  }

  insert(tree: number, objectid: number, type: number, offset: number, size: number): void {
    this.#note(tree, objectid, type, offset, null);
    this.#put(tree, objectid, type, offset, new Uint8Array(size));
  }

  #put(tree: number, objectid: number, type: number, offset: number, value: Uint8Array<ArrayBuffer>): void {
    const sorted = this.#treeOf(tree);
    let chunk = sorted.chunkOf(objectid, type, offset);
    let entries = sorted.chunks[chunk]!;
    let slot = lowerBound(entries, objectid, type, offset);
    const entry: Entry = { objectid, type, offset, value };
    entries.splice(slot, 0, entry);
    if (entries.length > CHUNK_ENTRIES) {
      sorted.chunks.splice(chunk + 1, 0, entries.splice(CHUNK_ENTRIES >>> 1));
      if (slot >= CHUNK_ENTRIES >>> 1) {
        chunk++;
        slot -= CHUNK_ENTRIES >>> 1;
        entries = sorted.chunks[chunk]!;
      }
    }
    this.#tree = tree;
    this.#chunk = chunk;
    this.#slot = slot;
    this.#load(entry);
  }

  #current(): Entry {
    return this.#treeOf(this.#tree).chunks[this.#chunk]![this.#slot]!;
  }

  touch(): void {
    if (this.#undo !== null) {
      this.#note(this.#tree, this.objectid, this.type, this.offset, this.bytes.slice());
    }
  }

  resize(size: number): void {
    this.touch();
    const value = new Uint8Array(size);
    value.set(this.bytes.subarray(0, Math.min(size, this.size)));
    const entry = this.#current();
    entry.value = value;
    this.#load(entry);
  }

  remove(): void {
    this.touch();
    const chunks = this.#treeOf(this.#tree).chunks;
    const entries = chunks[this.#chunk]!;
    entries.splice(this.#slot, 1);
    if (entries.length === 0 && chunks.length > 1) chunks.splice(this.#chunk, 1);
  }

  #note(
    tree: number,
    objectid: number,
    type: number,
    offset: number,
    before: Uint8Array<ArrayBuffer> | null,
  ): void {
    this.#undo?.push({ tree, objectid, type, offset, before });
  }

  /** From here on changes are remembered until `keep` or `takeBack`. */
  begin(): void {
    this.#undo = [];
  }

  keep(): void {
    this.#undo = null;
  }

  /** Restores the state at `begin`. */
  takeBack(): void {
    const undo = this.#undo ?? [];
    this.#undo = null;
    for (let index = undo.length - 1; index >= 0; index--) {
      const { tree, objectid, type, offset, before } = undo[index]!;
      if (this.find(tree, objectid, type, offset)) this.remove();
      if (before !== null) this.#put(tree, objectid, type, offset, before);
    }
  }
}
