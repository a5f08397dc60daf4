// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests over names that wait while they hold the kernel's lock of their directory, when something there must be
// invalidated: the invalidation would wait for the lock, the release for the invalidation, another client for the
// release, and perhaps this request for that client.
//
// Answered ESTALE, the kernel gives the lock up and does the whole system call once more, from the path on. A second
// ESTALE would reach the program, so what comes again is left to wait (kernel_cache.ts then goes without the lock).

import { get64, In, Opcode } from './abi.ts';
import { STALE_RETRIES_MAX, STALE_RETRY_SECONDS } from './limits.ts';
import type { ParkedRequests } from './parked_requests.ts';
import type { RequestView } from './request.ts';

const OVER_NAMES: ReadonlySet<number> = new Set([
  Opcode.LOOKUP,
  Opcode.CREATE,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.SYMLINK,
  Opcode.LINK,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.RENAME2,
]);

export class StaleRetries {
  readonly #seconds: () => number;
  /** When a request was answered ESTALE, by what it will look like when it comes again. */
  readonly #answered = new Map<string, number>();

  /** @param seconds - whole seconds of a clock that never goes back. */
  constructor(seconds: () => number) {
    this.#seconds = seconds;
  }

  /** Takes out the waiting requests that hold the lock of `dir` and can be answered ESTALE. */
  take(parked: ParkedRequests, dir: number): RequestView[] {
    const taken: RequestView[] = [];
    parked.forEach((request) => {
      if (!request.effective && locks(request, dir) && this.#isFirst(request)) taken.push(request);
    });
    for (const request of taken) parked.take(request);
    return taken;
  }

  #isFirst(request: RequestView): boolean {
    const second = this.#seconds();
    const identity = identityOf(request);
    const before = this.#answered.get(identity);
    if (before !== undefined && second - before <= STALE_RETRY_SECONDS) return false;
    if (this.#answered.size >= STALE_RETRIES_MAX) this.#answered.clear();
    this.#answered.set(identity, second);
    return true;
  }
}

/** Whether the kernel holds the lock of `dir` for the request. */
function locks(request: RequestView, dir: number): boolean {
  const { opcode, node, words, body } = request;
  if (!OVER_NAMES.has(opcode)) return false;
  if (node === dir) return true;
  if (opcode === Opcode.RENAME) return get64(words, body + In.rename.targetDir) === dir;
  return opcode === Opcode.RENAME2 && get64(words, body + In.rename2.targetDir) === dir;
}

/** The same thread of the same program asks the same: it is the second try, or as good. */
function identityOf({ opcode, node, pid, bytes, nameStart, nameLength }: RequestView): string {
  const name = String.fromCharCode(...bytes.subarray(nameStart, nameStart + nameLength));
  return `${opcode}/${node}/${pid}/${name}`;
}
