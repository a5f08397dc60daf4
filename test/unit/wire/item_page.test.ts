// SPDX-License-Identifier: GPL-2.0-or-later
//
// Item pages: what the builder packs the reader gives back; damage is found.

import { expect, test } from 'vitest';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { CorruptionError } from '../../../ts/util/errors.ts';
import { Prng } from '../../../ts/util/prng.ts';
import { ItemPageBuilder, readItemPage } from '../../../ts/wire/item_page.ts';

function samplePage(prng: Prng, count: number) {
  const builder = new ItemPageBuilder();
  const items: { objectid: number; type: number; offset: number; data: Buffer }[] = [];
  let objectid = 256;
  for (let index = 0; index < count; index++) {
    objectid += 1 + prng.below(3);
    items.push({
      objectid,
      type: prng.below(256),
      offset: prng.u32() * 2 ** 21,
      data: prng.bytes(prng.below(200)),
    });
  }
  for (const item of items) builder.add(item.objectid, item.type, item.offset, item.data);
  expect(builder.count).toBe(count);
  return { items, bytes: builder.finish(crc32c) };
}

test('items come out as they went in, and are found', () => {
  const { items, bytes } = samplePage(new Prng(1), 300);
  const page = readItemPage(bytes, crc32c);
  expect(page.count).toBe(300);
  items.forEach((item, index) => {
    expect(page.objectid(index)).toBe(item.objectid);
    expect(page.type(index)).toBe(item.type);
    expect(page.offset(index)).toBe(item.offset);
    expect(page.data(index)).toEqual(item.data);
    expect(page.lowerBound(item.objectid, item.type, item.offset)).toBe(index);
    expect(page.lowerBound(item.objectid, item.type, item.offset + 1)).toBe(index + 1);
  });
  expect(page.lowerBound(0, 0, 0)).toBe(0);
  expect(readItemPage(new ItemPageBuilder().finish(crc32c), crc32c).count).toBe(0);
});

test('every changed byte is found', () => {
  const { bytes } = samplePage(new Prng(2), 5);
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at]! ^= 1;
    expect(() => readItemPage(damaged, crc32c)).toThrow(CorruptionError);
  }
});

test('a bad form under a good checksum is found, and nothing else is thrown', () => {
  const prng = new Prng(3);
  const { bytes } = samplePage(prng, 5);
  let refused = 0;
  for (let run = 0; run < 20_000; run++) {
    const damaged = Buffer.from(bytes.subarray(0, prng.oneIn(10) ? prng.below(bytes.length) : bytes.length));
    for (let count = prng.between(1, 3); count > 0 && damaged.length > 4; count--) {
      damaged[4 + prng.below(Math.min(damaged.length - 4, 140))] = prng.below(256);
    }
    if (damaged.length >= 4) damaged.writeUInt32LE(crc32c(damaged.subarray(4)), 0);
    try {
      readItemPage(damaged, crc32c);
    } catch (error) {
      expect(error).toBeInstanceOf(CorruptionError);
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(15_000);
});
