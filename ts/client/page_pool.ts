// SPDX-License-Identifier: GPL-2.0-or-later
//
// Memory of the item cache: frames of 32 KiB cut from slabs of 1 MiB, outside the V8 heap. A page that is given back
// is used again, so the collector never sees pages come and go. Items too large for a frame get memory of their own.

/** Bytes of one frame. Some 90 inodes with their names; an insertion moves 2 KiB on average. */
export const FRAME_BYTES = 32_768;

const SLAB_BYTES = 1_048_576;

/** A stretch of memory with the views that a page needs. */
export interface Frame {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly doubles: Float64Array<ArrayBuffer>;
  /** Where the frame begins in the slab, bytes; a multiple of 8. */
  readonly base: number;
  readonly capacity: number;
}

function frameOf(buffer: ArrayBuffer, base: number, capacity: number): Frame {
  return {
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Uint32Array(buffer),
    doubles: new Float64Array(buffer),
    base,
    capacity,
  };
}

export class PagePool {
  readonly #free: Frame[] = [];
  /** Bytes of frames in use. */
  usedBytes = 0;

  /** Takes a frame of at least `bytes`; its content is undefined. */
  take(bytes: number): Frame {
    if (bytes > FRAME_BYTES) {
      const capacity = Math.ceil(bytes / 8) * 8;
      this.usedBytes += capacity;
      return frameOf(new ArrayBuffer(capacity), 0, capacity);
    }
    this.usedBytes += FRAME_BYTES;
    const frame = this.#free.pop();
    if (frame !== undefined) return frame;
    const first = frameOf(new ArrayBuffer(SLAB_BYTES), 0, FRAME_BYTES);
    for (let base = SLAB_BYTES - FRAME_BYTES; base > 0; base -= FRAME_BYTES) {
      this.#free.push({ ...first, base });
    }
    return first;
  }

  give(frame: Frame): void {
    this.usedBytes -= frame.capacity;
    if (frame.capacity === FRAME_BYTES) this.#free.push(frame);
  }
}
