// SPDX-License-Identifier: GPL-2.0-or-later
//
// crc32c (Castagnoli, reflected) with tables, for short byte strings: names and frame heads, where a call into the
// addon costs more than the sum. Bulk data (item pages, sectors, change sections) goes through an injected function of
// type `Crc32c`, which `sys` takes from the addon; `crc32c` below has that type too and serves tests.

/**
 * Checksum of `bytes`. `previous` is the checksum of what came before them: sums chain like
 * crc(ab) = f(b, f(a)). 0 starts a new sum.
 */
export type Crc32c = (bytes: Uint8Array, previous?: number) => number;

const POLYNOMIAL = 0x82f63b78;

/** table[k * 256 + b]: the sum of byte b followed by k zero bytes. Four at a time are taken from the data. */
const table: Uint32Array = makeTable();

function makeTable(): Uint32Array {
  const sums = new Uint32Array(1024);
  for (let byte = 0; byte < 256; byte++) {
    let sum = byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ ((sum & 1) === 1 ? POLYNOMIAL : 0);
    sums[byte] = sum;
  }
  for (let at = 256; at < 1024; at++) {
    const shorter = sums[at - 256]!;
    sums[at] = (shorter >>> 8) ^ sums[shorter & 0xff]!;
  }
  return sums;
}

/**
 * The bare register: no inversion before or after. BTRFS hashes names so, with the register set to ~1 at the start.
 *
 * @param register - the state before the first byte
 */
export function crc32cRaw(bytes: Uint8Array, start: number, end: number, register: number): number {
  let sum = register;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    sum ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    sum =
      table[768 + (sum & 0xff)]! ^
      table[512 + ((sum >>> 8) & 0xff)]! ^
      table[256 + ((sum >>> 16) & 0xff)]! ^
      table[sum >>> 24]!;
  }
  for (; at < end; at++) sum = (sum >>> 8) ^ table[(sum ^ bytes[at]!) & 0xff]!;
  return sum >>> 0;
}

/** The usual crc32c of a byte string. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  return ~crc32cRaw(bytes, 0, bytes.length, ~previous) >>> 0;
}
