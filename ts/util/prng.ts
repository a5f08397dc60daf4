// SPDX-License-Identifier: GPL-2.0-or-later
//
// Seeded random numbers (xoshiro128**). The one source of randomness below `sys`: tests and simulations give a
// seed and get the same run again. Not for secrets.

export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** @param seed - any integer; its low 32 bits count */
  constructor(seed: number) {
    let state = seed >>> 0;
    // splitmix32 spreads the seed, so that neighbouring seeds give unlike runs.
    const spread = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let mixed = state;
      mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return (mixed ^ (mixed >>> 15)) >>> 0;
    };
    this.#a = spread();
    this.#b = spread();
    this.#c = spread();
    this.#d = spread() | 1;
  }

  /** The next 32 random bits. */
  u32(): number {
    const scrambled = Math.imul(rotateLeft(Math.imul(this.#b, 5), 7), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = rotateLeft(this.#d, 11);
    return scrambled;
  }

  /** An integer from 0 to `end` - 1. @param end - 1 to 2^32 */
  below(end: number): number {
    return Math.floor((this.u32() / 0x1_0000_0000) * end);
  }

  /** An integer from `start` to `end` - 1. */
  between(start: number, end: number): number {
    return start + this.below(end - start);
  }

  /** True once in `of` times on average. */
  oneIn(of: number): boolean {
    return this.below(of) === 0;
  }

  /** One of the elements. @param list - not empty */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** Puts the elements into a random order, in place. */
  shuffle<T>(list: T[]): T[] {
    for (let last = list.length - 1; last > 0; last--) {
      const other = this.below(last + 1);
      const kept = list[last]!;
      list[last] = list[other]!;
      list[other] = kept;
    }
    return list;
  }

  /** Fills a byte string. */
  bytes(length: number): Buffer {
    const filled = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; at++) filled[at] = this.u32() >>> 24;
    return filled;
  }
}

function rotateLeft(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}
