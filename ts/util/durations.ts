// SPDX-License-Identifier: GPL-2.0-or-later
//
// How long things took: a histogram with buckets a quarter of a power of two wide, so that a percentile is known to
// within a fifth. Bounded, and cheap to add to.

const BUCKETS_PER_OCTAVE = 4;
/** From 1 us to above 1 hour. */
const BUCKETS = 32 * BUCKETS_PER_OCTAVE;

export interface DurationReport {
  count: number;
  /** Milliseconds. */
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
}

export class Durations {
  readonly #buckets = new Float64Array(BUCKETS);
  #count = 0;
  #maxMs = 0;

  add(ms: number): void {
    const octaves = Math.log2(Math.max(1, ms * 1000));
    const bucket = Math.min(BUCKETS - 1, Math.floor(octaves * BUCKETS_PER_OCTAVE));
    this.#buckets[bucket] = this.#buckets[bucket]! + 1;
    this.#count++;
    this.#maxMs = Math.max(this.#maxMs, ms);
  }

  /** The upper end of the bucket in which that part of all durations ends, milliseconds. */
  percentile(part: number): number {
    let left = this.#count * part;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#buckets[bucket]!;
      if (left <= 0) return Math.min(this.#maxMs, 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE) / 1000);
    }
    return this.#maxMs;
  }

  report(): DurationReport {
    const rounded = (ms: number): number => Math.round(ms * 1000) / 1000;
    return {
      count: this.#count,
      p50Ms: rounded(this.percentile(0.5)),
      p99Ms: rounded(this.percentile(0.99)),
      maxMs: rounded(this.#maxMs),
    };
  }
}
