// SPDX-License-Identifier: GPL-2.0-or-later
//
// What changes make of items: names and references with collisions and overflow, sizes and counts, extents inline and
// regular, xattrs, and the refusals.

import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { applyChange, type ItemLimits } from '../../../ts/item/apply_change.ts';
import { ChangeLog, ChangeReader, FieldMask, InodeFields } from '../../../ts/item/change.ts';
import { entryNameLength } from '../../../ts/item/dir_item.ts';
import { extentLength, extentType } from '../../../ts/item/extent_data.ts';
import { inodeNbytes, inodeNlink, inodeSize } from '../../../ts/item/inode_item.ts';
import { ItemType } from '../../../ts/item/key.ts';
import { extrefHash, nameHash } from '../../../ts/item/name_hash.ts';
import { SortedItemMap } from '../../../ts/item/sorted_item_map.ts';
import { Errno } from '../../../ts/util/errno.ts';

const LIMITS: ItemLimits = { maxInlineBytes: 2048, maxXattrBytes: 4000, maxBucketBytes: 4000 };
const NO_DATA = Buffer.alloc(0);
const DIR = 0o040755;
const FILE = 0o100644;

function newMap(): SortedItemMap {
  const map = new SortedItemMap();
  const result = apply(map, (log) => log.newInode(5, 256, DIR, 0, 0, 0, 1, 0, NO_DATA));
  expect(result).toBe(0);
  map.find(5, 256, ItemType.inodeItem, 0);
  map.view.setUint32(map.start + 40, 1, true);
  return map;
}

function apply(map: SortedItemMap, make: (log: ChangeLog) => void, data: Uint8Array = NO_DATA): number {
  const log = new ChangeLog();
  make(log);
  const change = new ChangeReader(log.bytes.subarray(0, log.length));
  let dataAt = 0;
  while (change.next()) {
    const result = applyChange(map, LIMITS, change, data, dataAt);
    if (result !== 0) return result;
    dataAt += change.length;
  }
  return change.error === null ? 0 : -Errno.EPROTO;
}

function addFile(map: SortedItemMap, ino: number, index: number, name: string): number {
  return apply(map, (log) => {
    log.newInode(5, ino, FILE, 0, 0, 0, 2, 0, NO_DATA);
    log.addName(5, 256, index, ino, 2, 0, Buffer.from(name, 'latin1'));
  });
}

/** `offset:type:length` of each extent. */
function extents(map: SortedItemMap, ino: number): string {
  const list: string[] = [];
  let found = map.seek(5, ino, ItemType.extentData, 0);
  while (found && map.objectid === ino) {
    list.push(`${map.offset}:${extentType(map.view, map.start)}:${extentLength(map.view, map.start)}`);
    found = map.next();
  }
  return list.join(' ');
}

function inode(map: SortedItemMap, ino: number): { size: number; nbytes: number; nlink: number } {
  expect(map.find(5, ino, ItemType.inodeItem, 0)).toBe(true);
  return {
    size: inodeSize(map.view, map.start),
    nbytes: inodeNbytes(map.view, map.start),
    nlink: inodeNlink(map.view, map.start),
  };
}

function setSize(size: number): (log: ChangeLog) => void {
  const fields = new InodeFields();
  fields.mask = FieldMask.size;
  fields.size = size;
  return (log) => log.setFields(5, 257, fields);
}

/** Two names with one hash: a sum does not change when a multiple of its polynomial is added to the message. */
function collision(): [string, string] {
  const polynomial = 0x1_1edc6f41n;
  const one = Buffer.from('AAAAA');
  const two = Buffer.from(one);
  for (let bit = 0; bit < 33; bit++) {
    if (((polynomial >> BigInt(32 - bit)) & 1n) === 1n) two[bit >> 3]! ^= 1 << (bit & 7);
  }
  expect(nameHash(one)).toBe(nameHash(two));
  return [one.toString('latin1'), two.toString('latin1')];
}

describe('names', () => {
  test('hash as BTRFS does', () => {
    // From an image that Linux made: the DIR_ITEM key of "default" in the root tree.
    expect(nameHash(Buffer.from('default'))).toBe(2378154706);
    expect(extrefHash(256, Buffer.from('x'))).not.toBe(extrefHash(257, Buffer.from('x')));
  });

  test('come, collide, move and go', { timeout: 20_000 }, () => {
    const map = newMap();
    const [one, two] = collision();
    expect(addFile(map, 257, 2, one)).toBe(0);
    expect(addFile(map, 258, 3, two)).toBe(0);
    const hash = nameHash(Buffer.from(one, 'latin1'));
    expect(map.find(5, 256, ItemType.dirItem, hash)).toBe(true);
    expect(map.size).toBe(60 + one.length + two.length);
    expect(inode(map, 256).size).toBe(2 * (one.length + two.length));
    expect(addFile(map, 259, 4, one)).toBe(-Errno.EEXIST);
    const gone = apply(map, (log) => log.removeName(5, 256, 2, 257, 3, 0, Buffer.from(one, 'latin1')));
    expect(gone).toBe(0);
    expect(map.find(5, 256, ItemType.dirItem, hash)).toBe(true);
    expect(entryNameLength(map.view, map.start)).toBe(two.length);
    expect(inode(map, 257).nlink).toBe(0);
    expect(apply(map, (log) => log.dropInode(5, 257))).toBe(0);
    expect(map.seek(5, 257, 0, 0) && map.objectid === 257).toBe(false);
    const moved = apply(map, (log) =>
      log.rename(5, 258, 4, 0, 256, 3, 256, 5, Buffer.from(two, 'latin1'), Buffer.from('new')),
    );
    expect(moved).toBe(0);
    expect(inode(map, 256).size).toBe(6);
    expect(inode(map, 258).nlink).toBe(1);
    expect(apply(map, (log) => log.dropInode(5, 258))).toBe(-Errno.EINVAL);
  });

  test('of one inode overflow into INODE_EXTREF, and leave no trace', () => {
    const map = newMap();
    expect(addFile(map, 257, 2, 'first')).toBe(0);
    const name = (index: number): Buffer => Buffer.from(`link-${index}-${'x'.repeat(200)}`);
    for (let index = 3; index < 60; index++) {
      expect(apply(map, (log) => log.addName(5, 256, index, 257, 3, 0, name(index)))).toBe(0);
    }
    expect(inode(map, 257).nlink).toBe(58);
    expect(map.seek(5, 257, ItemType.inodeExtref, 0) && map.type === ItemType.inodeExtref).toBe(true);
    for (let index = 3; index < 60; index++) {
      expect(apply(map, (log) => log.removeName(5, 256, index, 257, 4, 0, name(index)))).toBe(0);
    }
    expect(map.seek(5, 257, ItemType.inodeExtref, 0) && map.type === ItemType.inodeExtref).toBe(false);
    expect(inode(map, 256).size).toBe(10);
  });

  test('of directories: one each, empty before it goes, never below itself', () => {
    const map = newMap();
    const made = apply(map, (log) => {
      log.newInode(5, 257, DIR, 0, 0, 0, 1, 0, NO_DATA);
      log.addName(5, 256, 2, 257, 1, 0, Buffer.from('a'));
      log.newInode(5, 258, DIR, 0, 0, 0, 1, 0, NO_DATA);
      log.addName(5, 257, 2, 258, 1, 0, Buffer.from('b'));
    });
    expect(made).toBe(0);
    expect(apply(map, (log) => log.addName(5, 256, 3, 257, 1, 0, Buffer.from('c')))).toBe(-Errno.EMLINK);
    expect(apply(map, (log) => log.removeName(5, 256, 2, 257, 1, 0, Buffer.from('a')))).toBe(
      -Errno.ENOTEMPTY,
    );
    const below = apply(map, (log) =>
      log.rename(5, 257, 1, 0, 256, 2, 258, 2, Buffer.from('a'), Buffer.from('x')),
    );
    expect(below).toBe(-Errno.EINVAL);
  });

  test('times of a directory never go backwards', () => {
    const map = newMap();
    expect(apply(map, (log) => log.newInode(5, 257, FILE, 0, 0, 0, 50, 5, NO_DATA))).toBe(0);
    expect(apply(map, (log) => log.addName(5, 256, 2, 257, 50, 5, Buffer.from('a')))).toBe(0);
    expect(apply(map, (log) => log.addName(5, 256, 3, 257, 40, 9, Buffer.from('b')))).toBe(0);
    map.find(5, 256, ItemType.inodeItem, 0);
    expect(Number(map.view.getBigInt64(map.start + 136, true))).toBe(50);
    map.find(5, 257, ItemType.inodeItem, 0);
    expect(Number(map.view.getBigInt64(map.start + 124, true))).toBe(40);
  });
});

describe('bytes', () => {
  const put = (map: SortedItemMap, offset: number, length: number, newSize = offset + length): number =>
    apply(map, (log) => log.putData(5, 257, offset, length, newSize, 9, 0), Buffer.alloc(length, 'd'));

  test('are inline while the file is small, and regular after', () => {
    const map = newMap();
    addFile(map, 257, 2, 'f');
    expect(put(map, 0, 1000)).toBe(0);
    expect(extents(map, 257)).toBe('0:0:1000');
    expect(inode(map, 257)).toMatchObject({ size: 1000, nbytes: 1000 });
    expect(put(map, 8192, 100)).toBe(0);
    expect(extents(map, 257)).toBe('0:1:4096 8192:1:4096');
    expect(inode(map, 257)).toMatchObject({ size: 8292, nbytes: 8192 });
    expect(put(map, 4096, 4096)).toBe(0);
    expect(extents(map, 257)).toBe('0:1:12288');
    expect(apply(map, (log) => log.cut(5, 257, 4096, 4096, 9, 0))).toBe(0);
    expect(extents(map, 257)).toBe('0:1:4096 8192:1:4096');
    expect(inode(map, 257)).toMatchObject({ size: 8292, nbytes: 8192 });
    expect(put(map, 0, 100)).toBe(-Errno.EINVAL);
  });

  test('follow the size', () => {
    const map = newMap();
    addFile(map, 257, 2, 'f');
    put(map, 0, 100);
    expect(apply(map, setSize(500))).toBe(0);
    expect(extents(map, 257)).toBe('0:0:500');
    expect(apply(map, setSize(5000))).toBe(0);
    expect(extents(map, 257)).toBe('0:1:4096');
    expect(inode(map, 257)).toMatchObject({ size: 5000, nbytes: 4096 });
    expect(put(map, 4096, 40_960, 45_056)).toBe(0);
    expect(apply(map, setSize(10_000))).toBe(0);
    expect(extents(map, 257)).toBe('0:1:12288');
    expect(apply(map, setSize(0))).toBe(0);
    expect(extents(map, 257)).toBe('');
    expect(inode(map, 257)).toMatchObject({ size: 0, nbytes: 0 });
  });

  test('are preallocated in holes only', () => {
    const map = newMap();
    addFile(map, 257, 2, 'f');
    put(map, 8192, 4096);
    expect(apply(map, (log) => log.preallocate(5, 257, 0, 20_480, 0, 9, 0))).toBe(0);
    expect(extents(map, 257)).toBe('0:2:8192 8192:1:4096 12288:2:8192');
    expect(inode(map, 257)).toMatchObject({ size: 12_288, nbytes: 20_480 });
    put(map, 4096, 4096);
    expect(extents(map, 257)).toBe('0:2:4096 4096:1:8192 12288:2:8192');
  });

  test('count as what extents they have, whatever is done', { timeout: 30_000 }, () => {
    const step = fc.record({
      op: fc.constantFrom('put', 'put', 'cut', 'allocate', 'size'),
      sector: fc.nat({ max: 30 }),
      count: fc.integer({ min: 1, max: 8 }),
      odd: fc.nat({ max: 4095 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const map = newMap();
        addFile(map, 257, 2, 'f');
        for (const { op, sector, count, odd } of steps) {
          const offset = sector * 4096;
          const { size } = inode(map, 257);
          if (op === 'put') {
            const end = offset + count * 4096 - odd;
            const length = end >= size ? end - offset : count * 4096;
            expect(put(map, offset, length)).toBe(0);
          } else if (op === 'cut') {
            apply(map, (log) => log.cut(5, 257, offset, count * 4096, 9, 0));
          } else if (op === 'allocate') {
            apply(map, (log) => log.preallocate(5, 257, offset, count * 4096, odd, 9, 0));
          } else {
            apply(map, setSize(offset + odd));
          }
          let sum = 0;
          let end = 0;
          for (const one of extents(map, 257).split(' ').filter(Boolean)) {
            const [at, type, length] = one.split(':').map(Number) as [number, number, number];
            expect(at).toBeGreaterThanOrEqual(end);
            if (type === 0) expect(length).toBe(inode(map, 257).size);
            end = at + length;
            sum += length;
          }
          expect(inode(map, 257).nbytes).toBe(sum);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('xattrs', () => {
  test('are set, replaced, bounded and removed', () => {
    const map = newMap();
    addFile(map, 257, 2, 'f');
    const set = (name: string, length: number, flags = 0): number =>
      apply(map, (log) => log.setXattr(5, 257, 3, 0, flags, Buffer.from(name), Buffer.alloc(length, 'v')));
    expect(set('user.a', 100)).toBe(0);
    expect(set('user.a', 10, 1)).toBe(-Errno.EEXIST);
    expect(set('user.b', 10, 2)).toBe(-Errno.ENODATA);
    expect(set('user.a', 3000, 2)).toBe(0);
    expect(set('user.a', 4000)).toBe(-Errno.ENOSPC);
    map.find(5, 257, ItemType.xattrItem, nameHash(Buffer.from('user.a')));
    expect(map.size).toBe(30 + 6 + 3000);
    expect(apply(map, (log) => log.removeXattr(5, 257, 4, 0, Buffer.from('user.a')))).toBe(0);
    expect(apply(map, (log) => log.removeXattr(5, 257, 4, 0, Buffer.from('user.a')))).toBe(-Errno.ENODATA);
  });
});

describe('inodes', () => {
  test('are made of known kinds only', () => {
    const map = newMap();
    const make = (mode: number, rdev: number, target: string): number =>
      apply(map, (log) => log.newInode(5, 300, mode, 0, 0, rdev, 1, 0, Buffer.from(target)));
    expect(make(0o170000, 0, '')).toBe(-Errno.EINVAL);
    expect(make(0o120777, 0, '')).toBe(-Errno.EINVAL);
    expect(make(FILE, 5, '')).toBe(-Errno.EINVAL);
    expect(make(FILE, 0, 'x')).toBe(-Errno.EINVAL);
    expect(make(0o120777, 0, 'target')).toBe(0);
    expect(extents(map, 300)).toBe('0:0:6');
    expect(make(FILE, 0, '')).toBe(-Errno.EEXIST);
  });
});
