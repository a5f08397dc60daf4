// SPDX-License-Identifier: GPL-2.0-or-later
//
// The names, found or not found, that the kernel holds with a timeout: what must be taken back when a grant goes.
//
// The kernel does not say when it lets a name go, and a hash does not give the name back, so every name given is kept
// here, up to a bound. Entries form a ring in the order in which they were given; what falls off its tail while it
// still counts is handed to `onEvict`, which expires it. Two indexes lead to an entry: a hash table by directory and
// name, and a chain per directory. All in typed arrays, outside the V8 heap: 45 bytes an entry, and the names in a
// ring of bytes. Memory that no entry has touched yet costs nothing.
//
// An entry is gone when its `length` is 0. Entry numbers are slots of the ring; -1 is "none".

import { nameHash } from '../item/name_hash.ts';
import { hashNode } from './lookup_counts.ts';

const NONE = -1;

export class GivenNames {
  private readonly capacity: number;
  private readonly dirs: Float64Array;
  private readonly nodes: Float64Array;
  private readonly hashes: Uint32Array;
  private readonly starts: Uint32Array;
  private readonly lengths: Uint8Array;
  private readonly seconds: Uint32Array;
  private readonly following: Int32Array;
  private readonly previous: Int32Array;
  /** Hash table over (dir, hash): entry + 1, or 0. Twice the capacity, so at most half full. */
  private readonly index: Int32Array;
  private readonly indexMask: number;
  private readonly bytes: Uint8Array;
  /** First entry of each directory's chain. */
  private readonly heads = new Map<number, number>();
  private readonly onEvict: (dir: number, name: Uint8Array, node: number) => void;
  /** Ring of entries: the oldest, and how many slots are in use (gone ones included). */
  private tail = 0;
  private slots = 0;
  private live = 0;
  /** Ring of name bytes: where the next name goes. Names do not wrap around. */
  private nextByte = 0;

  /**
   * @param capacity - names; a power of two. @param byteCapacity - bytes of names.
   * @param onEvict - called for a name that leaves the table but not the kernel; `name` is valid during the call.
   */
  constructor(
    capacity: number,
    byteCapacity: number,
    onEvict: (dir: number, name: Uint8Array, node: number) => void,
  ) {
    this.capacity = capacity;
    this.onEvict = onEvict;
    this.dirs = new Float64Array(capacity);
    this.nodes = new Float64Array(capacity);
    this.hashes = new Uint32Array(capacity);
    this.starts = new Uint32Array(capacity);
    this.lengths = new Uint8Array(capacity);
    this.seconds = new Uint32Array(capacity);
    this.following = new Int32Array(capacity);
    this.previous = new Int32Array(capacity);
    this.index = new Int32Array(capacity * 2);
    this.indexMask = capacity * 2 - 1;
    this.bytes = new Uint8Array(byteCapacity);
  }

  /** Names in the table. */
  get size(): number {
    return this.live;
  }

  /**
   * Notes that the kernel was given the name at `[start, start + length)` of `bytes`.
   *
   * @param hash - of the name. @param node - 0 for a name that does not exist. @param second - now, any clock in seconds.
   */
  note(
    dir: number,
    hash: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    node: number,
    second: number,
  ): void {
    const known = this.findSlot(dir, hash, bytes, start, length);
    if (known !== NONE) this.removeAt(known);
    const at = this.takeBytes(length);
    const entry = this.takeEntry();
    // One by one: names are short, and a view for `set` would be garbage.
    for (let index = 0; index < length; index++) this.bytes[at + index] = bytes[start + index]!;
    this.dirs[entry] = dir;
    this.nodes[entry] = node;
    this.hashes[entry] = hash;
    this.starts[entry] = at;
    this.lengths[entry] = length;
    this.seconds[entry] = second;
    this.chain(entry, dir);
    this.enterIndex(entry);
    this.live++;
  }

  /**
   * Takes a name out: the kernel no longer holds it, or is being told.
   *
   * @returns the node it was given with; NaN when it was not in the table.
   */
  remove(dir: number, bytes: Uint8Array, start: number, length: number): number {
    const slot = this.findSlot(dir, nameHash(bytes, start, length), bytes, start, length);
    if (slot === NONE) return Number.NaN;
    const node = this.nodes[this.index[slot]! - 1]!;
    this.removeAt(slot);
    return node;
  }

  /** Takes a name out if it was given before `second`. */
  removeOlder(dir: number, bytes: Uint8Array, start: number, length: number, second: number): void {
    const slot = this.findSlot(dir, nameHash(bytes, start, length), bytes, start, length);
    if (slot !== NONE && this.seconds[this.index[slot]! - 1]! < second) this.removeAt(slot);
  }

  /**
   * Takes out every name of `dir` whose hash is in `[hashStart, hashEnd)` and calls `visit` with each.
   *
   * @param visit - gets the name, valid during the call, its node and the second in which it was given.
   */
  takeRange(
    dir: number,
    hashStart: number,
    hashEnd: number,
    visit: (name: Uint8Array, node: number, second: number) => void,
  ): void {
    let entry = this.heads.get(dir) ?? NONE;
    while (entry !== NONE) {
      const following = this.following[entry]!;
      const hash = this.hashes[entry]!;
      if (hash >= hashStart && hash < hashEnd) {
        const name = this.nameOf(entry);
        const node = this.nodes[entry]!;
        const second = this.seconds[entry]!;
        this.removeAt(this.slotOf(entry));
        visit(name, node, second);
      }
      entry = following;
    }
  }

  /** Calls `visit` with the directory and node of every name given since `second`, newest first. */
  forEachSince(second: number, visit: (dir: number, node: number, name: Uint8Array) => void): void {
    for (let back = 1; back <= this.slots; back++) {
      const entry = (this.tail + this.slots - back) & (this.capacity - 1);
      if (this.lengths[entry] === 0) continue;
      if (this.seconds[entry]! < second) return;
      visit(this.dirs[entry]!, this.nodes[entry]!, this.nameOf(entry));
    }
  }

  /** Forgets what was given before `second`: the kernel was told to ask for every name again. */
  clearOlder(second: number): void {
    if (this.slots === 0) return;
    const youngest = (this.tail + this.slots - 1) & (this.capacity - 1);
    if (this.seconds[youngest]! < second) {
      this.clear();
      return;
    }
    while (this.slots > 0 && this.seconds[this.tail]! < second) {
      if (this.lengths[this.tail] !== 0) this.removeAt(this.slotOf(this.tail));
      this.tail = (this.tail + 1) & (this.capacity - 1);
      this.slots--;
    }
  }

  private clear(): void {
    this.lengths.fill(0);
    this.index.fill(0);
    this.heads.clear();
    this.tail = 0;
    this.slots = 0;
    this.live = 0;
    this.nextByte = 0;
  }

  private nameOf(entry: number): Uint8Array {
    const start = this.starts[entry]!;
    return this.bytes.subarray(start, start + this.lengths[entry]!);
  }

  /** Takes the oldest slot out of the ring; a name in it that still counts is evicted. */
  private dropOldest(): void {
    const entry = this.tail;
    if (this.lengths[entry] !== 0) {
      const name = this.nameOf(entry);
      const dir = this.dirs[entry]!;
      const node = this.nodes[entry]!;
      this.removeAt(this.slotOf(entry));
      this.onEvict(dir, name, node);
    }
    this.tail = (entry + 1) & (this.capacity - 1);
    this.slots--;
  }

  private takeEntry(): number {
    if (this.slots === this.capacity) this.dropOldest();
    const entry = (this.tail + this.slots) & (this.capacity - 1);
    this.slots++;
    return entry;
  }

  /** Finds room for `length` bytes; the oldest entries go until their bytes are not in the way. */
  private takeBytes(length: number): number {
    if (this.nextByte + length > this.bytes.length) {
      // The rest of the ring is left empty. Entries that lie in it are older than those at the front.
      while (this.slots > 0 && this.starts[this.tail]! >= this.nextByte) this.dropOldest();
      this.nextByte = 0;
    }
    const at = this.nextByte;
    const end = at + length;
    while (this.slots > 0 && this.starts[this.tail]! >= at && this.starts[this.tail]! < end)
      this.dropOldest();
    this.nextByte = end;
    return at;
  }

  private chain(entry: number, dir: number): void {
    const head = this.heads.get(dir) ?? NONE;
    this.following[entry] = head;
    this.previous[entry] = NONE;
    if (head !== NONE) this.previous[head] = entry;
    this.heads.set(dir, entry);
  }

  private unchain(entry: number): void {
    const following = this.following[entry]!;
    const previous = this.previous[entry]!;
    if (following !== NONE) this.previous[following] = previous;
    if (previous !== NONE) {
      this.following[previous] = following;
    } else if (following !== NONE) {
      this.heads.set(this.dirs[entry]!, following);
    } else {
      this.heads.delete(this.dirs[entry]!);
    }
  }

  private home(dir: number, hash: number): number {
    return (Math.imul(hashNode(dir) ^ hash, 0x9e37_79b1) >>> 7) & this.indexMask;
  }

  /** The place in the hash table of a name, or NONE. */
  private findSlot(dir: number, hash: number, bytes: Uint8Array, start: number, length: number): number {
    let slot = this.home(dir, hash);
    for (;;) {
      const entry = this.index[slot]! - 1;
      if (entry < 0) return NONE;
      if (
        this.hashes[entry] === hash &&
        this.dirs[entry] === dir &&
        this.isNamed(entry, bytes, start, length)
      ) {
        return slot;
      }
      slot = (slot + 1) & this.indexMask;
    }
  }

  private isNamed(entry: number, bytes: Uint8Array, start: number, length: number): boolean {
    if (this.lengths[entry] !== length) return false;
    const at = this.starts[entry]!;
    for (let index = 0; index < length; index++) {
      if (this.bytes[at + index] !== bytes[start + index]) return false;
    }
    return true;
  }

  /** The place in the hash table of an entry that is in it. */
  private slotOf(entry: number): number {
    let slot = this.home(this.dirs[entry]!, this.hashes[entry]!);
    while (this.index[slot] !== entry + 1) slot = (slot + 1) & this.indexMask;
    return slot;
  }

  private enterIndex(entry: number): void {
    let slot = this.home(this.dirs[entry]!, this.hashes[entry]!);
    while (this.index[slot] !== 0) slot = (slot + 1) & this.indexMask;
    this.index[slot] = entry + 1;
  }

  /** Takes the entry at a place of the hash table out of everything but the ring. */
  private removeAt(freed: number): void {
    const { index, indexMask } = this;
    const gone = index[freed]! - 1;
    this.unchain(gone);
    this.lengths[gone] = 0;
    this.live--;
    let hole = freed;
    let slot = (hole + 1) & indexMask;
    while (index[slot] !== 0) {
      const entry = index[slot]! - 1;
      const home = this.home(this.dirs[entry]!, this.hashes[entry]!);
      if (((slot - home) & indexMask) >= ((slot - hole) & indexMask)) {
        index[hole] = index[slot]!;
        hole = slot;
      }
      slot = (slot + 1) & indexMask;
    }
    index[hole] = 0;
  }
}
