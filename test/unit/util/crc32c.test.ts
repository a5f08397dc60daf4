// SPDX-License-Identifier: GPL-2.0-or-later
// The table crc32c against known values, and its raw form that name hashes use.

import { expect, test } from 'vitest';
import { crc32c, crc32cRaw } from '../../../ts/util/crc32c.ts';
import { Prng } from '../../../ts/util/prng.ts';

test('the vectors of RFC 3720 B.4', () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, n) => n)))).toBe(0x46dd794e);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(crc32c(Buffer.alloc(0))).toBe(0);
});

test('sums chain', () => {
  const prng = new Prng(1);
  for (let run = 0; run < 100; run++) {
    const bytes = prng.bytes(prng.below(200));
    const cut = prng.below(bytes.length + 1);
    expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(crc32c(bytes));
  }
});

test('the raw register is what BTRFS hashes names with', () => {
  // crc32c(~1, "default"), the name of the default subvolume's entry in every root tree.
  const name = Buffer.from('default');
  expect(crc32cRaw(name, 0, name.length, 0xfffffffe)).toBe(2378154706);
});
