// SPDX-License-Identifier: GPL-2.0-or-later
//
// The nodes for which LINK, or CREATE where somebody else had made the file, was answered last, and in which directory,
// in a ring. The kernel takes the attributes of these answers as the newest whatever it has learnt since, and cuts the
// pages of the file to their size. So the file is not given away before the caller has taken the answer: it holds the
// lock of the directory until then.

import { RECENT_LOOKUPS, RECENT_SECONDS } from './limits.ts';

export class RecentLinks {
  readonly #nodes = new Float64Array(RECENT_LOOKUPS);
  readonly #dirs = new Float64Array(RECENT_LOOKUPS);
  readonly #seconds = new Float64Array(RECENT_LOOKUPS).fill(Number.NEGATIVE_INFINITY);
  #next = 0;
  #lastSecond = Number.NEGATIVE_INFINITY;

  note(dir: number, node: number, second: number): void {
    this.#nodes[this.#next] = node;
    this.#dirs[this.#next] = dir;
    this.#seconds[this.#next] = second;
    this.#next = (this.#next + 1) % RECENT_LOOKUPS;
    this.#lastSecond = second;
  }

  /** The directory in which a node was linked in the last seconds; 0 if in none. */
  directoryOf(node: number, second: number): number {
    if (this.#lastSecond < second - RECENT_SECONDS) return 0;
    for (let age = 1; age <= RECENT_LOOKUPS; age++) {
      const place = (this.#next + RECENT_LOOKUPS - age) % RECENT_LOOKUPS;
      if (this.#seconds[place]! < second - RECENT_SECONDS) return 0;
      if (this.#nodes[place] === node) return this.#dirs[place]!;
    }
    return 0;
  }
}
