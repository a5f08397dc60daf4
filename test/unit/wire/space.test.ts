// SPDX-License-Identifier: GPL-2.0-or-later
// What changes cost of a reservation, counted from their records.

import { expect, test } from 'vitest';
import { ChangeLog, InodeFields } from '../../../ts/item/change.ts';
import { Prng } from '../../../ts/util/prng.ts';
import {
  bytesCost,
  CUT_COST,
  changesCost,
  NAME_COST,
  newInodeCost,
  xattrCost,
} from '../../../ts/wire/space.ts';

test('the cost of a batch is the sum of the costs of its changes', () => {
  const log = new ChangeLog();
  const name = Buffer.from('name');
  log.newInode(5, 300, 0o100644, 0, 0, 0, 1, 2, Buffer.alloc(0));
  log.addName(5, 256, 2, 300, 1, 2, name);
  log.rename(5, 300, 1, 2, 256, 2, 256, 3, name, Buffer.from('other'));
  log.setXattr(5, 300, 1, 2, 0, Buffer.from('user.a'), Buffer.alloc(100));
  log.putData(5, 300, 0, 5000, 5000, 1, 2);
  log.preallocate(5, 300, 8192, 2 ** 33, 2 ** 34, 1, 2);
  log.removeName(5, 256, 3, 300, 1, 2, name);
  log.removeXattr(5, 300, 1, 2, Buffer.from('user.a'));
  log.cut(5, 300, 0, 4096, 1, 2);
  log.setFields(5, 300, new InodeFields());
  log.dropInode(5, 300);
  log.newInode(5, 301, 0o120777, 0, 0, 0, 1, 2, Buffer.alloc(1000));
  const inodes = newInodeCost(0) + newInodeCost(1000);
  const expected = inodes + 2 * NAME_COST + xattrCost(100) + 8192 + 2 ** 33 + CUT_COST;
  expect(changesCost(log.bytes.subarray(0, log.length))).toBe(expected);
  expect(bytesCost(1)).toBe(4096);
  expect(bytesCost(4096)).toBe(4096);
});

test('records that break the form end the count without an error', () => {
  const prng = new Prng(1);
  for (let run = 0; run < 2000; run++) {
    const bytes = prng.bytes(prng.below(120));
    if (bytes.length > 4) bytes.writeUInt32LE(prng.below(60), 0);
    expect(changesCost(bytes)).toBeGreaterThanOrEqual(0);
  }
});
