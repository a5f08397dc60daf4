// SPDX-License-Identifier: GPL-2.0-or-later
//
// The name that each thread found last.
//
// A rename looks its two names up one after the other. When both stand for one inode the kernel takes them for links of it
// and does nothing, which is success. But another client may have moved the one name to the other between the two
// lookups: then nothing was renamed, and the name that was to be renamed was not even there. So whoever finds the
// inode that it found last under another name is looked at twice (handlers/names.ts).

import { LAST_FOUND_MAX } from './limits.ts';
import type { RequestView } from './request.ts';

const NAME_MAX = 255;

/** What a thread found. One object a thread, filled anew each time. */
class Found {
  dir = 0;
  /** The directory and what was found as the kernel numbers them; the latter only of a directory, else 0. */
  kernelDir = 0;
  kernelNode = 0;
  node = 0;
  length = 0;
  readonly bytes: Uint8Array = new Uint8Array(NAME_MAX);

  get name(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

export type LastName = Readonly<Pick<Found, 'dir' | 'kernelDir' | 'name'>>;

export class LastFound {
  readonly #threads = new Map<number, Found>();

  /** The other name under which the thread that asks found `node` last; null if it found something else. */
  otherName(request: RequestView, node: number): LastName | null {
    const found = this.#threads.get(request.pid);
    if (found === undefined || found.node !== node) return null;
    const { bytes, nameStart, nameLength } = request;
    if (found.dir !== request.node || found.length !== nameLength) return found;
    for (let index = 0; index < nameLength; index++) {
      if (found.bytes[index] !== bytes[nameStart + index]) return found;
    }
    return null;
  }

  /** The directory, as the kernel numbers it, that the thread which asks was given for a name, if that was the last one. */
  directoryAt(request: RequestView, kernelDir: number, start: number, length: number): number {
    const found = this.#threads.get(request.pid);
    if (found === undefined || found.kernelDir !== kernelDir || found.length !== length) return 0;
    for (let index = 0; index < length; index++) {
      if (found.bytes[index] !== request.bytes[start + index]) return 0;
    }
    return found.kernelNode;
  }

  /** The thread that asks finds `node`. @param kernelNode - of a directory, as the kernel numbers it. */
  note(request: RequestView, node: number, kernelNode: number): void {
    const { pid, bytes, nameStart, nameLength } = request;
    let found = this.#threads.get(pid);
    if (found === undefined) {
      if (this.#threads.size >= LAST_FOUND_MAX) this.#threads.clear();
      found = new Found();
      this.#threads.set(pid, found);
    }
    found.dir = request.node;
    found.kernelDir = request.kernelNode;
    found.kernelNode = kernelNode;
    found.node = node;
    found.length = nameLength;
    // One by one: names are short, and a view for `set` would be garbage.
    for (let index = 0; index < nameLength; index++) found.bytes[index] = bytes[nameStart + index]!;
  }

  /** What the thread found does not count any more: its call begins anew. */
  forget(request: RequestView): void {
    this.#threads.delete(request.pid);
  }
}
