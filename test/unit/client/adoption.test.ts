// SPDX-License-Identifier: GPL-2.0-or-later
// What the reply to an acquire brings of what is held already: nothing that could be older than what is here.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { adoptReply } from '../../../ts/client/adoption.ts';
import { Core } from '../../../ts/client/core.ts';
import { NO_KERNEL } from '../../../ts/client/kernel_cache.ts';
import { sectorSumsBy } from '../../../ts/client/sector_sums.ts';
import { FS_TREE } from '../../../ts/item/key.ts';
import { SystemClock } from '../../../ts/sys/system_clock.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { inodeRange } from '../../../ts/util/range.ts';
import { type AcquireReply, Mode } from '../../../ts/wire/message.ts';

const INO = 300;
const SECTOR = 4096;

function newCore(): Core {
  return new Core({
    clock: new SystemClock(),
    crc32c,
    sectorSums: sectorSumsBy(crc32c),
    kernel: NO_KERNEL,
    limits: { maxInlineBytes: 2048, maxXattrBytes: 1000, maxBucketBytes: 1000 },
    rootTree: FS_TREE,
    rootIno: 256,
    readOnly: false,
    cacheBytes: 1 << 20,
  });
}

describe('data beside items', () => {
  test('is kept of what was not held, and of nothing else', () => {
    const bytes = Buffer.alloc(SECTOR, 'x');
    const sums = Buffer.alloc(4);
    sums.writeUInt32LE(crc32c(bytes));
    const reply: AcquireReply = {
      grants: [],
      pages: [],
      space: 0,
      inodeRun: null,
      data: [{ tree: FS_TREE, ino: INO, offset: 0, length: SECTOR }],
      openElsewhere: [],
    };
    const asked = { wants: [], spaceWanted: 0, inodesWanted: null, dataBytesWanted: SECTOR };
    for (const isHeld of [false, true]) {
      const core = newCore();
      if (isHeld) core.held.add({ ...inodeRange(FS_TREE, INO), mode: Mode.write });
      adoptReply(core, asked, reply, Buffer.concat([sums, bytes]));
      expect(core.files.get(INO)?.clean.length ?? 0).toBe(isHeld ? 0 : 1);
    }
  });
});
