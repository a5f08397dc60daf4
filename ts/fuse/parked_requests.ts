// SPDX-License-Identifier: GPL-2.0-or-later
//
// The requests that wait: for grants, for data, for durability. Each is a copy, known by its unique number.
//
// Bounded by number and bytes; one that does not fit is answered ENOMEM by the caller. An interrupted one leaves the
// table at once (its caller was answered EINTR) and its continuation finds that out by `take`.

import { isPlanted } from '../util/test_faults.ts';
import { get64, In, Opcode, READ_LOCKOWNER, WRITE_CACHE } from './abi.ts';
import { HANDLE_DIRECT } from './file_handle.ts';
import { PARKED_BYTES_MAX, PARKED_MAX } from './limits.ts';
import type { RequestView } from './request.ts';

const PAGE_BYTES = 4096;

export class ParkedRequests {
  private readonly requests = new Map<number, RequestView>();
  private bytes = 0;
  /** READs that wait for a WRITE, by the WRITE's unique number. */
  private readonly behind = new Map<number, (() => void)[]>();

  /** Requests that wait. */
  get size(): number {
    return this.requests.size;
  }

  /** Bytes of their copies. */
  get sizeBytes(): number {
    return this.bytes;
  }

  /**
   * Copies a request and keeps it.
   *
   * @param length - bytes of it that are still needed. @returns the copy, or null when there is no room.
   */
  add(request: RequestView, length: number): RequestView | null {
    if (this.requests.size >= PARKED_MAX || this.bytes + length > PARKED_BYTES_MAX) return null;
    const copy = request.park(length);
    this.put(copy);
    return copy;
  }

  /** Keeps a copy that was taken out and must wait again. */
  put(copy: RequestView): void {
    this.requests.set(copy.unique, copy);
    this.bytes += copy.length;
  }

  /** Takes a request out to go on with it. @returns false when it was answered already. */
  take(copy: RequestView): boolean {
    if (this.requests.get(copy.unique) !== copy) return false;
    this.requests.delete(copy.unique);
    this.bytes -= copy.length;
    return true;
  }

  /**
   * The WRITE that a READ of pages must wait for, or null. The kernel has put the bytes of such a WRITE into its page before it
   * asked. If that page has gone meanwhile, a READ that filled it again before the WRITE takes effect would leave the
   * page without it for good.
   */
  writeUnder(read: RequestView): RequestView | null {
    if (!goesByPages(read)) return null;
    const [start, end] = bytesOf(read);
    for (const request of this.requests.values()) {
      if (request.node !== read.node || request.opcode !== Opcode.WRITE || request.effective) continue;
      if (!goesByPages(request) || isWriteBack(request)) continue;
      const [from, to] = bytesOf(request);
      if (Math.floor(from / PAGE_BYTES) * PAGE_BYTES < end && start < to) return request;
    }
    return null;
  }

  /** Resolves when a WRITE has taken effect, or never will. */
  whenOver(write: RequestView): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.behind.get(write.unique) ?? [];
      waiting.push(resolve);
      this.behind.set(write.unique, waiting);
    });
  }

  /** A request has taken effect, or never will. */
  over(request: RequestView): void {
    if (this.behind.size === 0) return;
    for (const resolve of this.behind.get(request.unique) ?? []) resolve();
    this.behind.delete(request.unique);
  }

  /** The request with that number; null when none waits, or its effect has taken place. */
  find(unique: number): RequestView | null {
    const copy = this.requests.get(unique);
    return copy === undefined || copy.effective ? null : copy;
  }

  /** Calls `visit` with every request that waits. `visit` must not change the table. */
  forEach(visit: (request: RequestView) => void): void {
    for (const request of this.requests.values()) visit(request);
  }

  /** The page that a parked WRITE kept locked, when an invalidation left it out; else null. */
  static pageLeftOut(request: RequestView): { start: number; end: number } | null {
    if (!request.leftOut) return null;
    const { words, body } = request;
    const end = get64(words, body + In.write.offset) + words[body + In.write.size]!;
    const start = Math.floor((end - 1) / PAGE_BYTES) * PAGE_BYTES;
    return { start, end: start + PAGE_BYTES };
  }

  /**
   * Calls `visit` with the page-aligned byte ranges of `node` that the kernel keeps locked for parked requests: those of
   * a READ, and the last page of a WRITE that ends or starts within a page. Locked pages hold nothing that can be
   * read, and an invalidation would wait for them.
   *
   * A page that was cached before its WRITE came is not locked and can be read, so it must go before the release. It was
   * cached under a grant: its WRITE waits for no other client, for room mostly, and an invalidation may wait for it. A
   * WRITE that lacks something else of the inode may still have such a page; `leftOut` has it invalidated before the answer
   * (handlers/data.ts), but others may read it until then.
   */
  forEachLockedRange(node: number, visit: (start: number, end: number) => void): void {
    for (const request of this.requests.values()) {
      if (request.node !== node) continue;
      if (request.opcode !== Opcode.READ && request.opcode !== Opcode.WRITE) continue;
      if (!goesByPages(request) && !isPlanted('direct-requests-lock')) continue;
      const [offset, end] = bytesOf(request);
      const lastPage = Math.floor((end - 1) / PAGE_BYTES) * PAGE_BYTES;
      if (request.opcode === Opcode.READ) {
        visit(Math.floor(offset / PAGE_BYTES) * PAGE_BYTES, lastPage + PAGE_BYTES);
      } else if (
        (offset % PAGE_BYTES !== 0 || end % PAGE_BYTES !== 0) &&
        (request.waitsForOthers || isPlanted('leave-out-all-writes'))
      ) {
        request.leftOut = true;
        visit(lastPage, lastPage + PAGE_BYTES);
      }
    }
  }
}

/** Whether a READ or WRITE goes by the kernel's pages: read(2) and write(2) of a direct handle lock none. */
function goesByPages({ opcode, words, body }: RequestView): boolean {
  if (opcode === Opcode.READ) return (words[body + In.read.readFlags]! & READ_LOCKOWNER) === 0;
  // What was dirtied through mmap is written back with whatever handle there is.
  return (
    (words[body + In.write.writeFlags]! & WRITE_CACHE) !== 0 ||
    (words[body + In.write.fh]! & HANDLE_DIRECT) === 0
  );
}

/** Whether a WRITE writes back what was dirtied through mmap. */
function isWriteBack({ words, body }: RequestView): boolean {
  return (words[body + In.write.writeFlags]! & WRITE_CACHE) !== 0;
}

/** The bytes `[start, end)` of a READ or WRITE, whose fields lie alike. */
function bytesOf({ words, body }: RequestView): [number, number] {
  const offset = get64(words, body + In.read.offset);
  return [offset, offset + words[body + In.read.size]!];
}
