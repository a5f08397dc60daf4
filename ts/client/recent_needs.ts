// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the last operation on the names of a contended directory needed. The next operation that misses something there
// asks for all of it, since programs do alike things in a row: where two clients rename the same names, say, each would
// else come upon one key after the other, and they would take them from each other one by one. What is asked for in
// vain is the names of one operation.

import type { Clock } from '../util/clock.ts';
import type { Want } from '../wire/message.ts';
import { RECENT_DIRECTORIES_MAX, RECENT_NEEDS_MS } from './limits.ts';
import type { Needs } from './needs.ts';

interface Recent {
  readonly wants: readonly Want[];
  readonly untilMs: number;
}

export class RecentNeeds {
  readonly #clock: Clock;
  /** By tree and directory. */
  readonly #directories = new Map<string, Recent>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** An operation is complete that had these needs. */
  note(needs: Needs): void {
    if (!needs.changesNames) return;
    const recent = { wants: needs.wants(), untilMs: this.#clock.nowMs() + RECENT_NEEDS_MS };
    for (const { tree, ino } of needs.changedDirectories()) {
      if (this.#directories.size >= RECENT_DIRECTORIES_MAX) this.#directories.clear();
      this.#directories.set(`${tree}/${ino}`, recent);
    }
  }

  /** Adds to what an operation wants what the last one needed in the same directories. */
  addTo(wants: Want[]): void {
    if (this.#directories.size === 0) return;
    const nowMs = this.#clock.nowMs();
    const found = new Set<Recent>();
    for (const { tree, start } of wants) {
      const recent = this.#directories.get(`${tree}/${start.objectid}`);
      if (recent !== undefined && nowMs < recent.untilMs) found.add(recent);
    }
    for (const recent of found) wants.push(...recent.wants);
  }
}
