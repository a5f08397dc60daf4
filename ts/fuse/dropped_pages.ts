// SPDX-License-Identifier: GPL-2.0-or-later
//
// Files whose pages were invalidated a moment ago, and whether the kernel has read of them since. That is how a page can
// miss a write that the kernel believes to be in it: the kernel copies a write into a cached page, unlocks the page, and
// only then asks for the WRITE. An invalidation may drop that page before the WRITE is answered, and a READ of another
// program may fill it again, from before the WRITE. So such a WRITE has its pages forgotten before it is answered.

import { DROPPED_FILES_MAX, WRITE_ASKED_MS } from './limits.ts';

interface Dropped {
  readonly atMs: number;
  isRead: boolean;
}

export class DroppedPages {
  /** By node, oldest first. */
  readonly #files = new Map<number, Dropped>();
  /** Until when a file may be missing here. */
  #lostUntilMs = Number.NEGATIVE_INFINITY;

  /** The kernel is told to forget pages. */
  note(node: number, nowMs: number): void {
    const isRead = this.#files.get(node)?.isRead ?? false;
    this.#files.delete(node);
    this.#files.set(node, { atMs: nowMs, isRead });
    if (this.#files.size <= DROPPED_FILES_MAX) return;
    const [oldest, { atMs }] = this.#files.entries().next().value!;
    this.#files.delete(oldest);
    this.#lostUntilMs = Math.max(this.#lostUntilMs, atMs + WRITE_ASKED_MS);
  }

  /** The kernel reads pages. */
  read(node: number): void {
    if (this.#files.size === 0) return;
    const dropped = this.#files.get(node);
    if (dropped !== undefined) dropped.isRead = true;
  }

  /** Whether pages of a file may lack a write that was asked for at `askedMs`. */
  mayLack(node: number, askedMs: number): boolean {
    if (this.#files.size === 0) return false;
    if (askedMs < this.#lostUntilMs) return true;
    const dropped = this.#files.get(node);
    return dropped?.isRead === true && dropped.atMs >= askedMs - WRITE_ASKED_MS;
  }
}
