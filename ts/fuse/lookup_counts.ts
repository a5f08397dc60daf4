// SPDX-License-Identifier: GPL-2.0-or-later
//
// How many references the kernel holds on each node: one more for each entry that a reply gave it, less by FORGET. And
// what it may hold of the node besides (`Holds`).
//
// An open-addressing table in typed arrays, outside the V8 heap: 12 bytes a slot, at most three quarters full, so one
// million nodes take 24 MiB and no garbage collector's time. A node leaves the table when its count reaches zero,
// and `onZero` tells the client. The root is never in it: the kernel holds it as long as the mount stands.
//
// INVARIANT: for every entry reply with a node that is written to the kernel, `add` was called exactly once.

/** The root of every mount. */
const ROOT_NODE = 1;
const FIRST_CAPACITY = 4096;
/** Top bits of a count. Counts themselves stay far below. */
const DIRECTORY = 0x8000_0000;
const COUNT_MASK = 0x1fff_ffff;

/** What the kernel may hold of a node, once a reply gave it, until it is told to forget it. */
export const Holds = { attributes: 0x4000_0000, pages: 0x2000_0000 } as const;

export class LookupCounts {
  private keys = new Float64Array(FIRST_CAPACITY);
  private values = new Uint32Array(FIRST_CAPACITY);
  private mask: number = FIRST_CAPACITY - 1;
  private used = 0;
  private readonly onZero: (node: number) => void;

  /** @param onZero - called when the kernel has forgotten a node. */
  constructor(onZero: (node: number) => void) {
    this.onZero = onZero;
  }

  /** Nodes that the kernel references, the root not counted. */
  get size(): number {
    return this.used;
  }

  /** Bytes of the table. */
  get bytes(): number {
    return this.keys.byteLength + this.values.byteLength;
  }

  /** Counts one reference more on `node`. */
  add(node: number, isDirectory: boolean): void {
    if (node === ROOT_NODE) return;
    const slot = this.find(node);
    const value = this.values[slot]!;
    if (value !== 0) {
      if ((value & COUNT_MASK) !== COUNT_MASK) this.values[slot] = value + 1;
      return;
    }
    this.keys[slot] = node;
    this.values[slot] = isDirectory ? (DIRECTORY | 1) >>> 0 : 1;
    this.used++;
    if (this.used * 4 > (this.mask + 1) * 3) this.grow();
  }

  /** Counts `count` references less. What the kernel forgets without having it is ignored. */
  subtract(node: number, count: number): void {
    if (node === ROOT_NODE) return;
    const slot = this.find(node);
    const value = this.values[slot]!;
    if (value === 0) return;
    const left = (value & COUNT_MASK) - count;
    if (left > 0) {
      this.values[slot] = ((value & ~COUNT_MASK) | left) >>> 0;
      return;
    }
    this.remove(slot);
    this.onZero(node);
  }

  /** Whether the kernel holds a reference on `node`. */
  has(node: number): boolean {
    return node === ROOT_NODE || this.values[this.find(node)] !== 0;
  }

  /** The kernel is given something to hold. */
  mark(node: number, held: number): void {
    const slot = this.find(node);
    const value = this.values[slot]!;
    if (value !== 0) this.values[slot] = (value | held) >>> 0;
  }

  /** Whether the kernel may hold something of a node. Of the root always. */
  holds(node: number, held: number): boolean {
    return node === ROOT_NODE || (this.values[this.find(node)]! & held) !== 0;
  }

  /** The kernel is told to forget something. @returns whether it may have held it. */
  unmark(node: number, held: number): boolean {
    if (node === ROOT_NODE) return true;
    const slot = this.find(node);
    const value = this.values[slot]!;
    if ((value & held) === 0) return false;
    this.values[slot] = (value & ~held) >>> 0;
    return true;
  }

  /** Whether `node` is a directory that the kernel knows. */
  isDirectory(node: number): boolean {
    return node === ROOT_NODE || (this.values[this.find(node)]! & DIRECTORY) !== 0;
  }

  /** Calls `visit` with every node in `[start, end)` that the kernel knows. `visit` must not change the table. */
  forEachIn(start: number, end: number, visit: (node: number) => void): void {
    if (start <= ROOT_NODE && ROOT_NODE < end) visit(ROOT_NODE);
    if (end - start <= this.used) {
      for (let node = Math.max(start, ROOT_NODE + 1); node < end; node++) if (this.has(node)) visit(node);
      return;
    }
    const { keys, values } = this;
    for (let slot = 0; slot <= this.mask; slot++) {
      const node = keys[slot]!;
      if (values[slot] !== 0 && node >= start && node < end) visit(node);
    }
  }

  /** The slot that holds `node`, or the free one where it belongs. */
  private find(node: number): number {
    const { keys, values, mask } = this;
    let slot = hashNode(node) & mask;
    while (values[slot] !== 0 && keys[slot] !== node) slot = (slot + 1) & mask;
    return slot;
  }

  /** Frees a slot and moves back those behind it that would no longer be found. */
  private remove(freed: number): void {
    const { keys, values, mask } = this;
    let hole = freed;
    let slot = (hole + 1) & mask;
    while (values[slot] !== 0) {
      const home = hashNode(keys[slot]!) & mask;
      // The entry may move into the hole unless its home lies behind the hole (cyclically).
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        keys[hole] = keys[slot]!;
        values[hole] = values[slot]!;
        hole = slot;
      }
      slot = (slot + 1) & mask;
    }
    values[hole] = 0;
    this.used--;
  }

  private grow(): void {
    const { keys, values } = this;
    const capacity = (this.mask + 1) * 2;
    this.keys = new Float64Array(capacity);
    this.values = new Uint32Array(capacity);
    this.mask = capacity - 1;
    for (let slot = 0; slot < values.length; slot++) {
      if (values[slot] === 0) continue;
      const target = this.find(keys[slot]!);
      this.keys[target] = keys[slot]!;
      this.values[target] = values[slot]!;
    }
  }
}

const TWO_32 = 4_294_967_296;

/** Spreads node numbers, which come in runs, over 32 bits. */
export function hashNode(node: number): number {
  const high = node < TWO_32 ? 0 : Math.floor(node / TWO_32);
  const mixed = Math.imul((node ^ Math.imul(high, 0x85eb_ca6b)) | 0, 0x9e37_79b1);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
