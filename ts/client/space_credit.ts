// SPDX-License-Identifier: GPL-2.0-or-later
//
// The client's reservation of space: an operation is accepted only when it covers the operation's cost, so that
// ENOSPC comes from the call that causes it. Bytes, as wire/space.ts counts them.

import { SPACE_FIRST, SPACE_LARGEST, SPACE_LEAST } from './limits.ts';

export class SpaceCredit {
  available = 0;
  #target = SPACE_FIRST;

  spend(cost: number): void {
    this.available -= cost;
  }

  /** What was reserved for a change that will not be sent. */
  refund(cost: number): void {
    this.available += cost;
  }

  /** Takes in what the server granted. @param wanted - what it was asked for; 0 if the acquire was not about space. */
  add(bytes: number, wanted: number): void {
    this.available += bytes;
    if (wanted === 0) return;
    // A server that gives less than asked is short: asking for much would keep others from the rest.
    if (bytes < wanted) this.shrink();
    else this.#target = Math.min(SPACE_LARGEST, Math.max(SPACE_LEAST, this.#target * 2));
  }

  /** The server is short of space: asks for no more than needed, and then for a little more each time. */
  shrink(): void {
    this.#target = 0;
  }

  /** How much to ask for so that `cost` is covered; 0 if there is enough for a while. */
  wanted(cost: number): number {
    if (cost === 0 && this.available >= this.#target / 4) return 0;
    return Math.max(cost - this.available, this.#target);
  }

  /** Whether it is time to ask for more in the background. */
  get isLow(): boolean {
    return this.available < this.#target / 4;
  }
}
