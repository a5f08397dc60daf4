// SPDX-License-Identifier: GPL-2.0-or-later
//
// Buffers for written data, in sizes of powers of two from one sector to a whole run, used again and again: a new
// ArrayBuffer is zeroed and costs the collector more than the write that fills it.

import { POOLED_BYTES_MAX, RUN_BYTES } from './limits.ts';

const SMALLEST = 4096;

export class ByteBuffers {
  readonly #free: Uint8Array<ArrayBuffer>[][] = [];
  #freeBytes = 0;

  constructor() {
    for (let size = SMALLEST; size <= RUN_BYTES; size *= 2) this.#free.push([]);
  }

  #classOf(bytes: number): number {
    let size = SMALLEST;
    let place = 0;
    while (size < bytes) {
      size *= 2;
      place++;
    }
    return place;
  }

  /** A buffer of at least `bytes` (at most `RUN_BYTES`); its content is undefined. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    const place = this.#classOf(bytes);
    const buffer = this.#free[place]!.pop();
    if (buffer === undefined) return new Uint8Array(SMALLEST << place);
    this.#freeBytes -= buffer.length;
    return buffer;
  }

  /** Gives a buffer back that nobody reads any more. */
  give(buffer: Uint8Array<ArrayBuffer>): void {
    if (this.#freeBytes + buffer.length > POOLED_BYTES_MAX) return;
    this.#free[this.#classOf(buffer.length)]!.push(buffer);
    this.#freeBytes += buffer.length;
  }
}
