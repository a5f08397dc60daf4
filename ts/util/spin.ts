// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether it pays to look again for a moment before going to sleep. A processor that sleeps takes tens of microseconds
// to wake up, in a virtual machine more than a request takes to answer; and a program that asks one thing after the
// other wakes us for each. But whoever looks on for nothing takes the time from others. So it is tried, and given up
// for a while when nothing came.
//
// Measured, an untar of 20,000 entries on two virtual processors: 13.1 s without, 4.9 s with, and less CPU time too.

/** Looks that came to nothing, one after the other, before it is given up. */
const MISSES_MAX = 4;
/** Times of going to sleep at once before it is tried again; doubled each time that it comes to nothing again. */
const REST_FIRST = 16;
const REST_MAX = 1024;

export class Spin {
  #misses = 0;
  #rest = 0;
  #nextRest = REST_FIRST;

  /** Whether to look on rather than sleep at once. `found` or `missed` must follow a yes. */
  begins(): boolean {
    if (this.#rest === 0) return true;
    this.#rest--;
    return false;
  }

  /** Something came while looking. */
  found(): void {
    this.#misses = 0;
    this.#nextRest = REST_FIRST;
  }

  /** Nothing came. */
  missed(): void {
    this.#misses++;
    if (this.#misses < MISSES_MAX) return;
    this.#misses = 0;
    this.#rest = this.#nextRest;
    this.#nextRest = Math.min(REST_MAX, this.#nextRest * 2);
  }
}
