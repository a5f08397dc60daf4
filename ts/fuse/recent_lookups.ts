// SPDX-License-Identifier: GPL-2.0-or-later
//
// The nodes that lookups found last, in a ring. What a program has looked up it is about to use, or does already without
// saying so (O_PATH, a working directory): on a local disk it would find it also after its last name has gone.

import { RECENT_LOOKUPS, RECENT_SECONDS } from './limits.ts';

export class RecentLookups {
  readonly #nodes = new Float64Array(RECENT_LOOKUPS);
  readonly #seconds = new Float64Array(RECENT_LOOKUPS);
  #next = 0;

  note(node: number, second: number): void {
    const last = (this.#next + RECENT_LOOKUPS - 1) % RECENT_LOOKUPS;
    const place = this.#nodes[last] === node ? last : this.#next;
    this.#nodes[place] = node;
    this.#seconds[place] = second;
    this.#next = (place + 1) % RECENT_LOOKUPS;
  }

  /** Calls `visit` with the nodes found in the last seconds, some of them more than once. */
  forEach(second: number, visit: (node: number) => void): void {
    for (let place = 0; place < RECENT_LOOKUPS; place++) {
      const node = this.#nodes[place]!;
      if (node !== 0 && this.#seconds[place]! >= second - RECENT_SECONDS) visit(node);
    }
  }
}
