// SPDX-License-Identifier: GPL-2.0-or-later
//
// The ranges that the operation which runs has asked for, held or not. Where clients contend, an operation that misses
// something asks for all of them anew: it gets them together, and what it held before cannot have been lost when the
// rest arrives. Plain numbers, so that an operation which has everything pays next to nothing.

import { ItemType } from '../item/key.ts';
import { Mode, type Want } from '../wire/message.ts';
import { NEEDS_MAX } from './limits.ts';

/** Numbers of one need: tree, start (3), end (3), mode. */
const FIELDS = 8;

export class Needs {
  readonly #numbers = new Float64Array(NEEDS_MAX * FIELDS);
  count = 0;
  /** Whether the operation adds, removes or moves names. */
  changesNames = false;

  clear(): void {
    this.count = 0;
    this.changesNames = false;
  }

  /** What is beyond the bound is asked for only when it is missing. */
  add(
    tree: number,
    startObjectid: number,
    startType: number,
    startOffset: number,
    endObjectid: number,
    endType: number,
    endOffset: number,
    mode: Mode,
  ): void {
    if (this.count === NEEDS_MAX) return;
    if (startType === ItemType.dirItem && mode === Mode.write) this.changesNames = true;
    const numbers = this.#numbers;
    const at = this.count++ * FIELDS;
    numbers[at] = tree;
    numbers[at + 1] = startObjectid;
    numbers[at + 2] = startType;
    numbers[at + 3] = startOffset;
    numbers[at + 4] = endObjectid;
    numbers[at + 5] = endType;
    numbers[at + 6] = endOffset;
    numbers[at + 7] = mode;
  }

  /** The directories whose names the operation changes. */
  changedDirectories(): { tree: number; ino: number }[] {
    const found: { tree: number; ino: number }[] = [];
    for (const { tree, start, mode } of this.wants()) {
      if (start.type === ItemType.dirItem && mode === Mode.write) found.push({ tree, ino: start.objectid });
    }
    return found;
  }

  /** The needs as wants of an acquire. */
  wants(): Want[] {
    const wants: Want[] = [];
    for (let at = 0; at < this.count * FIELDS; at += FIELDS) {
      const [tree, startObjectid, startType, startOffset, endObjectid, endType, endOffset, mode] =
        this.#numbers.subarray(at, at + FIELDS) as unknown as Fields;
      wants.push({
        tree,
        start: { objectid: startObjectid, type: startType, offset: startOffset },
        end: { objectid: endObjectid, type: endType, offset: endOffset },
        mode: mode as Mode,
        flags: 0,
      });
    }
    return wants;
  }
}

type Fields = [number, number, number, number, number, number, number, number];
