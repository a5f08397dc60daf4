// SPDX-License-Identifier: GPL-2.0-or-later
//
// READs that are held back for a moment, so that pages which the kernel has just forgotten do not come again at once
// (giver.ts says why and when).

export class PageHold {
  #count = 0;
  #waiters: (() => void)[] = [];

  get isOn(): boolean {
    return this.#count > 0;
  }

  begin(): void {
    this.#count++;
  }

  /** Lets those go that wait; they look again. */
  end(): void {
    this.#count--;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  /** Resolves when a hold ends. */
  wait(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }
}
