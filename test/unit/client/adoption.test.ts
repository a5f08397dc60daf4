// SPDX-License-Identifier: GPL-2.0-or-later
// What the reply to an acquire brings of what is held already: nothing that could be older than what is here.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { adoptReply } from '../../../ts/client/adoption.ts';
import { Core } from '../../../ts/client/core.ts';
import { Giver } from '../../../ts/client/giver.ts';
import { NO_KERNEL } from '../../../ts/client/kernel_cache.ts';
import { sectorSumsBy } from '../../../ts/client/sector_sums.ts';
import type { WriteBack } from '../../../ts/client/write_back.ts';
import { FS_TREE } from '../../../ts/item/key.ts';
import { SystemClock } from '../../../ts/sys/system_clock.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { inodeRange } from '../../../ts/util/range.ts';
import { ItemPageBuilder } from '../../../ts/wire/item_page.ts';
import { type AcquireReply, type GrantRange, Mode } from '../../../ts/wire/message.ts';
import type { Peer } from '../../../ts/wire/peer.ts';

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
      subvolumes: [],
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

const ATTRIBUTE = 24;

function itemPage(core: Core, offsets: readonly number[]): { bytes: Buffer; entry: GrantRange } {
  const builder = new ItemPageBuilder();
  for (const offset of offsets) builder.add(INO, ATTRIBUTE, offset, xattrItem());
  return { bytes: builder.finish(core.crc32c), entry: { ...inodeRange(FS_TREE, INO), mode: Mode.read } };
}

/** One extended attribute, `user.a` without a value. */
function xattrItem(): Buffer {
  const name = Buffer.from('user.a');
  const bytes = Buffer.alloc(30 + name.length);
  bytes.writeUInt16LE(name.length, 27);
  bytes[29] = 8;
  name.copy(bytes, 30);
  return bytes;
}

function adoptInode(core: Core, offsets: readonly number[]): void {
  const { bytes, entry } = itemPage(core, offsets);
  const reply: AcquireReply = {
    grants: [entry],
    pages: [{ tree: entry.tree, start: entry.start, end: entry.end, length: bytes.length }],
    space: 0,
    inodeRun: null,
    data: [],
    openElsewhere: [],
    subvolumes: [],
  };
  const asked = { wants: [], spaceWanted: 0, inodesWanted: null, dataBytesWanted: 0 };
  expect(adoptReply(core, asked, reply, bytes)).toEqual([]);
}

function offsetsOf(core: Core): number[] {
  const found: number[] = [];
  for (let isThere = core.items.seek(FS_TREE, INO, 0, 0); isThere; isThere = core.items.next())
    found.push(core.items.offset);
  return found;
}

describe('what is granted anew', () => {
  test('is known as the reply says, whatever is still here of before', () => {
    const core = newCore();
    adoptInode(core, [1, 2, 3]);
    core.held.lower(inodeRange(FS_TREE, INO), Mode.none);
    adoptInode(core, [2, 4]);
    expect(offsetsOf(core)).toEqual([2, 4]);
  });

  test('stays when what was given up before is dropped late', async () => {
    const core = newCore();
    adoptInode(core, [1, 2]);
    // Given up for memory, and then asked back: the two cross.
    core.held.lower(inodeRange(FS_TREE, INO), Mode.none);
    let applied = (_: boolean): void => {};
    const isApplied = new Promise<boolean>((resolve) => {
      applied = resolve;
    });
    // Something that must go first, and is not all sent.
    core.writeBack = {
      appliedPlace: -1,
      isAllSent: false,
      refusedSeen: 0,
      applied: 0,
      flushLog: () => 0,
      numberAt: () => 0,
      whenApplied: () => isApplied,
    } as unknown as WriteBack;
    const sent: unknown[] = [];
    const peer = { notify: (name: string) => sent.push(name) } as unknown as Peer;
    const given = new Giver(core, peer).give([{ ...inodeRange(FS_TREE, INO), newMode: Mode.none }]);
    await new Promise((resolve) => setTimeout(resolve, 10));
    adoptInode(core, [2, 4]);
    applied(true);
    await given;
    expect([offsetsOf(core), core.held.mode(FS_TREE, INO, 0, 0), sent]).toEqual([[2, 4], Mode.read, []]);
  });
});
