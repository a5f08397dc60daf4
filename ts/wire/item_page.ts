// SPDX-License-Identifier: GPL-2.0-or-later
//
// Item pages: the items of a range, packed as in a BTRFS leaf (docs/protocol.md, "Item page"). `readItemPage` checks
// one and gives access by number without copying; `ItemPageBuilder` packs one, for the memory volume and tests (the
// engine packs its own).
//
// After `readItemPage` accepted a page, every key is exact and greater than the one before, and every item's data
// lies within the page. What the data says is for the readers of items to check.

import { Buffer } from 'node:buffer';
import type { Crc32c } from '../util/crc32c.ts';
import { CorruptionError } from '../util/errors.ts';

export const PAGE_HEADER_BYTES = 16;
export const ITEM_HEADER_BYTES = 25;

const TWO_32 = 0x1_0000_0000;
/** High halves of exact numbers are below this. */
const HIGH_END = 0x20_0000;

export class ItemPage {
  readonly bytes: Buffer;
  readonly count: number;

  constructor(bytes: Buffer, count: number) {
    this.bytes = bytes;
    this.count = count;
  }

  objectid(index: number): number {
    return this.#number(PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES);
  }

  type(index: number): number {
    return this.bytes[PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES + 8]!;
  }

  offset(index: number): number {
    return this.#number(PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES + 9);
  }

  /** Where the item's data begins in `bytes`. */
  dataStart(index: number): number {
    return PAGE_HEADER_BYTES + this.bytes.readUInt32LE(PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES + 17);
  }

  /** Bytes of the item's data. */
  dataSize(index: number): number {
    return this.bytes.readUInt32LE(PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES + 21);
  }

  /** A view of the item's data. */
  data(index: number): Buffer {
    const start = this.dataStart(index);
    return this.bytes.subarray(start, start + this.dataSize(index));
  }

  /** Number of the first item whose key is not before the given one; `count` when all are. */
  lowerBound(objectid: number, type: number, offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compare(middle, objectid, type, offset) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Compares an item's key with the given one. */
  compare(index: number, objectid: number, type: number, offset: number): number {
    const own = this.objectid(index);
    if (own !== objectid) return own < objectid ? -1 : 1;
    const ownType = this.type(index);
    if (ownType !== type) return ownType - type;
    const ownOffset = this.offset(index);
    return ownOffset === offset ? 0 : ownOffset < offset ? -1 : 1;
  }

  #number(at: number): number {
    return this.bytes.readUInt32LE(at + 4) * TWO_32 + this.bytes.readUInt32LE(at);
  }
}

/**
 * Checks a page and opens it.
 *
 * @param bytes - exactly the page; it is kept and must not change
 * @throws CorruptionError - the checksum or the form is wrong
 */
export function readItemPage(bytes: Buffer, crc32c: Crc32c): ItemPage {
  if (bytes.length < PAGE_HEADER_BYTES) throw damaged(`${bytes.length} bytes are too few`);
  if (crc32c(bytes.subarray(4)) !== bytes.readUInt32LE(0)) throw damaged('wrong checksum');
  const count = bytes.readUInt32LE(4);
  if (bytes.readUInt32LE(8) !== bytes.length)
    throw damaged(`length ${bytes.readUInt32LE(8)} of ${bytes.length} bytes`);
  if (bytes.readUInt32LE(12) !== 0) throw damaged('reserved bytes are set');
  const headersEnd = PAGE_HEADER_BYTES + count * ITEM_HEADER_BYTES;
  if (headersEnd > bytes.length) throw damaged(`${count} items in ${bytes.length} bytes`);
  const page = new ItemPage(bytes, count);
  let dataEnd = bytes.length;
  for (let index = 0; index < count; index++) {
    const at = PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES;
    if (bytes.readUInt32LE(at + 4) >= HIGH_END || bytes.readUInt32LE(at + 13) >= HIGH_END) {
      throw damaged(`slot ${index}: key beyond 2^53`);
    }
    if (
      index > 0 &&
      page.compare(index - 1, page.objectid(index), page.type(index), page.offset(index)) >= 0
    ) {
      throw damaged(`slot ${index}: keys out of order`);
    }
    if (page.dataStart(index) + page.dataSize(index) !== dataEnd)
      throw damaged(`slot ${index}: data out of place`);
    dataEnd = page.dataStart(index);
  }
  if (dataEnd !== headersEnd) throw damaged('a gap between headers and data');
  return page;
}

function damaged(text: string): CorruptionError {
  return new CorruptionError(`corrupt item page: ${text}`);
}

/** Packs items, which must come in key order, into a page. */
export class ItemPageBuilder {
  readonly #headers: number[] = [];
  readonly #values: Uint8Array[] = [];
  #length = PAGE_HEADER_BYTES;

  get count(): number {
    return this.#values.length;
  }

  /** Bytes of the page so far. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of the page with one more item of this size. */
  lengthWith(size: number): number {
    return this.#length + ITEM_HEADER_BYTES + size;
  }

  add(objectid: number, type: number, offset: number, data: Uint8Array): void {
    this.#headers.push(objectid, type, offset);
    this.#values.push(data);
    this.#length = this.lengthWith(data.length);
  }

  finish(crc32c: Crc32c): Buffer {
    const bytes = Buffer.alloc(this.#length);
    const count = this.#values.length;
    bytes.writeUInt32LE(count, 4);
    bytes.writeUInt32LE(bytes.length, 8);
    let dataAt = bytes.length;
    for (let index = 0; index < count; index++) {
      const value = this.#values[index]!;
      const at = PAGE_HEADER_BYTES + index * ITEM_HEADER_BYTES;
      dataAt -= value.length;
      writeNumber(bytes, at, this.#headers[index * 3]!);
      bytes[at + 8] = this.#headers[index * 3 + 1]!;
      writeNumber(bytes, at + 9, this.#headers[index * 3 + 2]!);
      bytes.writeUInt32LE(dataAt - PAGE_HEADER_BYTES, at + 17);
      bytes.writeUInt32LE(value.length, at + 21);
      bytes.set(value, dataAt);
    }
    bytes.writeUInt32LE(crc32c(bytes.subarray(4)), 0);
    return bytes;
  }
}

function writeNumber(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32LE(value >>> 0, at);
  bytes.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
}
