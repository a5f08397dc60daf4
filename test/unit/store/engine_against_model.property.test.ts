// SPDX-License-Identifier: GPL-2.0-or-later
//
// The engine against the memory volume: the same random batches, mostly sensible and often not, go to both. Both take
// or refuse each batch alike, with the same errno, and in the end hold the same items and the same bytes.
//
// Not compared: which of several things that are wrong with a change is named, what only the engine knows (generations, transids, sequence numbers), how it cuts bytes into extents,
// and what mkfs gave the root directory.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { native } from '../../../native/index.js';
import { ChangeLog, FieldMask, InodeFields } from '../../../ts/item/change.ts';
import { entryBytes } from '../../../ts/item/dir_item.ts';
import { ExtentType, extentIsHole, extentLength, extentType } from '../../../ts/item/extent_data.ts';
import { InodeField, inodeMode, inodeNlink, isDirectory, isRegular } from '../../../ts/item/inode_item.ts';
import { ItemType, ROOT_INO } from '../../../ts/item/key.ts';
import { MemoryVolume } from '../../../ts/store/memory_volume.ts';
import { NativeVolume } from '../../../ts/store/native_volume.ts';
import type { BatchParts, Volume } from '../../../ts/store/volume.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { Prng } from '../../../ts/util/prng.ts';
import type { Key } from '../../../ts/util/range.ts';
import { readItemPage } from '../../../ts/wire/item_page.ts';

const TREE = 5;
const SECTOR = 4096;
const FIRST_INO = 300;
const INOS = 10;
const NAMES = ['a', 'b', 'long-name'.repeat(20), 'c\xff'].map((name) => Buffer.from(name, 'latin1'));
const XATTRS = ['user.one', 'user.two', 'security.three'].map((name) => Buffer.from(name));
/** Bit of an inode's flags that the engine sets with the first preallocated extent, as Linux does. */
const FLAG_PREALLOCATED = 0x10;
/** Later than mkfs, so that directory times, which only rise, come out alike. */
const LATE_SEC = 4_000_000_000;

let directory = '';
let volume: NativeVolume | null = null;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'crfs-model-'));
});

afterEach(async () => {
  await volume?.close();
  volume = null;
  await rm(directory, { recursive: true, force: true });
});

function openEngine(): NativeVolume {
  const image = join(directory, 'image');
  const options = { label: Buffer.alloc(0), nodesize: 16_384, checksum: 'crc32c', force: true };
  native.makeFileSystem(image, 256 << 20, options);
  return new NativeVolume(image, { readOnly: false, cacheBytes: 16 << 20, punchFreed: false, log: () => {} });
}

/** Makes batches, with an eye on what the model holds. */
class Maker {
  readonly #prng: Prng;
  readonly #model: MemoryVolume;
  #log = new ChangeLog();
  #data: Buffer[] = [];
  #sec = LATE_SEC;

  constructor(prng: Prng, model: MemoryVolume) {
    this.#prng = prng;
    this.#model = model;
  }

  batch(): BatchParts {
    this.#log = new ChangeLog();
    this.#data = [];
    for (let count = this.#prng.between(1, 3); count > 0; count--) this.#change();
    const sums = this.#data.flatMap((payload) => sectorSums(payload));
    const checksums = Buffer.alloc(sums.length * 4);
    sums.forEach((sum, at) => {
      checksums.writeUInt32LE(sum, at * 4);
    });
    return {
      changeCount: this.#log.count,
      changes: Buffer.from(this.#log.bytes.subarray(0, this.#log.length)),
      checksums,
      data: Buffer.concat(this.#data),
    };
  }

  #ino(): number {
    return this.#prng.oneIn(30) ? this.#prng.below(300) : FIRST_INO + this.#prng.below(INOS);
  }

  /** An inode for which `fits` holds, if there is one. */
  #inoWith(fits: (mode: number, nlink: number) => boolean): number {
    const items = this.#model.items;
    const found: number[] = [];
    for (let ino = FIRST_INO; ino < FIRST_INO + INOS; ino++) {
      if (!items.find(TREE, ino, ItemType.inodeItem, 0)) continue;
      if (fits(inodeMode(items.view, items.start), inodeNlink(items.view, items.start))) found.push(ino);
    }
    return found.length === 0 || this.#prng.oneIn(20) ? this.#ino() : this.#prng.pick(found);
  }

  #file(): number {
    return this.#inoWith((mode) => isRegular(mode));
  }

  #dir(): number {
    return this.#prng.oneIn(2) ? ROOT_INO : this.#inoWith((mode) => isDirectory(mode));
  }

  /** A name that exists: directory, index, inode, name; a made-up one if there is none. */
  #entry(): { dir: number; index: number; ino: number; name: Buffer } {
    const items = this.#model.items;
    const found: { dir: number; index: number; ino: number; name: Buffer }[] = [];
    for (let there = items.seek(TREE, ROOT_INO, 0, 0); there; there = items.next()) {
      if (items.type !== ItemType.dirIndex) continue;
      const at = items.start;
      const length = items.view.getUint16(at + 27, true);
      const name = Buffer.from(items.bytes.subarray(at + 30, at + 30 + length));
      found.push({ dir: items.objectid, index: items.offset, ino: items.view.getUint32(at, true), name });
    }
    if (found.length === 0 || this.#prng.oneIn(15)) {
      return { dir: this.#dir(), index: this.#index(), ino: this.#ino(), name: this.#prng.pick(NAMES) };
    }
    return this.#prng.pick(found);
  }

  #index(): number {
    return this.#prng.between(2, 60);
  }

  #change(): void {
    const prng = this.#prng;
    const log = this.#log;
    const sec = ++this.#sec;
    const nsec = prng.below(1_000_000_000);
    const offset = prng.below(12) * SECTOR;
    const length = prng.between(1, 5) * SECTOR;
    switch (prng.below(14)) {
      case 0:
      case 1: {
        const type = prng.pick([0o100000, 0o100000, 0o040000, 0o120000, 0o020000, 0o010000]);
        const target = Buffer.from(type === 0o120000 ? 'the/target' : '');
        const rdev = type === 0o020000 ? 0x500003 : 0;
        const ino = this.#ino();
        log.newInode(TREE, ino, type | 0o644, 1000, 2000, rdev, sec, nsec, target);
        if (!prng.oneIn(4)) log.addName(TREE, this.#dir(), this.#index(), ino, sec, nsec, prng.pick(NAMES));
        break;
      }
      case 2:
        log.addName(
          TREE,
          this.#dir(),
          this.#index(),
          this.#inoWith(() => true),
          sec,
          nsec,
          prng.pick(NAMES),
        );
        break;
      case 3:
      case 4: {
        const { dir, index, ino, name } = this.#entry();
        log.removeName(TREE, dir, index, ino, sec, nsec, name);
        break;
      }
      case 5:
      case 6: {
        const { dir, index, ino, name } = this.#entry();
        log.rename(TREE, ino, sec, nsec, dir, index, this.#dir(), this.#index(), name, prng.pick(NAMES));
        break;
      }
      case 7: {
        const value = Buffer.alloc(prng.oneIn(10) ? 16_300 : prng.below(60), 7);
        log.setXattr(
          TREE,
          this.#inoWith(() => true),
          sec,
          nsec,
          prng.below(3),
          prng.pick(XATTRS),
          value,
        );
        break;
      }
      case 8:
        log.removeXattr(
          TREE,
          this.#inoWith(() => true),
          sec,
          nsec,
          prng.pick(XATTRS),
        );
        break;
      case 9:
        log.cut(TREE, this.#file(), offset, length, sec, nsec);
        break;
      case 10:
        log.preallocate(TREE, this.#file(), offset, length, prng.oneIn(2) ? offset + length : 0, sec, nsec);
        break;
      case 11:
        this.#setFields(sec, nsec);
        break;
      case 12:
        log.dropInode(
          TREE,
          this.#inoWith((_mode, nlink) => nlink === 0),
        );
        break;
      default:
        this.#put(sec, nsec);
    }
  }

  #setFields(sec: number, nsec: number): void {
    const prng = this.#prng;
    const fields = new InodeFields();
    fields.mask = prng.between(1, 256);
    const ino = prng.oneIn(3) ? this.#inoWith(() => true) : this.#file();
    const items = this.#model.items;
    const isThere = items.find(TREE, ino, ItemType.inodeItem, 0);
    const type = isThere && !prng.oneIn(8) ? inodeMode(items.view, items.start) & 0o170000 : 0o100000;
    if (isThere && !isRegular(inodeMode(items.view, items.start))) fields.mask &= ~FieldMask.size;
    fields.mode = type | prng.below(0o10000);
    fields.uid = prng.below(100_000);
    fields.gid = prng.below(100_000);
    fields.size = prng.oneIn(2) ? prng.below(3000) : prng.below(70_000);
    fields.atimeSec = fields.mtimeSec = fields.ctimeSec = sec - prng.below(3) * 5_000_000_000;
    fields.atimeNsec = fields.mtimeNsec = fields.ctimeNsec = nsec;
    if (!prng.oneIn(6)) fields.mask &= ~FieldMask.inodeFlags;
    if (fields.mask === 0) fields.mask = FieldMask.ctime;
    this.#log.setFields(TREE, ino, fields);
  }

  #put(sec: number, nsec: number): void {
    const prng = this.#prng;
    const offset = prng.oneIn(2) ? 0 : prng.below(10) * SECTOR;
    const length = prng.oneIn(3)
      ? prng.between(1, 3000)
      : prng.between(1, 4) * SECTOR - prng.below(2) * prng.below(500);
    const payload = prng.oneIn(12) ? Buffer.alloc(length) : prng.bytes(length);
    const newSize = prng.oneIn(6) ? 0 : offset + length;
    this.#log.putData(TREE, this.#file(), offset, length, newSize, sec, nsec);
    this.#data.push(payload);
  }
}

/** Gives the root directory times that both know. */
function rootTimes(): BatchParts {
  const log = new ChangeLog();
  const fields = new InodeFields();
  fields.mask = FieldMask.mtime | FieldMask.ctime;
  fields.mtimeSec = fields.ctimeSec = LATE_SEC;
  log.setFields(TREE, ROOT_INO, fields);
  const changes = Buffer.from(log.bytes.subarray(0, log.length));
  return { changeCount: 1, changes, checksums: Buffer.alloc(0), data: Buffer.alloc(0) };
}

function sectorSums(payload: Buffer): number[] {
  const sums: number[] = [];
  for (let at = 0; at < payload.length; at += SECTOR) {
    const sector = Buffer.alloc(SECTOR);
    payload.copy(sector, 0, at);
    sums.push(crc32c(sector));
  }
  return sums;
}

/** Every item of the tree as `key: bytes in hex`, with what is not compared put to zero and extents joined. */
async function dump(store: Volume): Promise<string[]> {
  const lines: string[] = [];
  let extent: { ino: number; start: number; end: number; type: number } | null = null;
  const endExtent = (): void => {
    if (extent !== null) lines.push(`${extent.ino} 108 ${extent.start}..${extent.end} type ${extent.type}`);
    extent = null;
  };
  const end: Key = { objectid: FIRST_INO + INOS, type: 0, offset: 0 };
  for (let start: Key = { objectid: ROOT_INO, type: 0, offset: 0 }; start.objectid < end.objectid; ) {
    const { page: bytes, coveredEnd } = await store.readItems(TREE, start, end, 65_536);
    const page = readItemPage(bytes, crc32c);
    for (let slot = 0; slot < page.count; slot++) {
      const [ino, type, offset] = [page.objectid(slot), page.type(slot), page.offset(slot)];
      const data = Buffer.from(page.data(slot));
      const view = new DataView(data.buffer, data.byteOffset, data.length);
      if (type === ItemType.extentData && extentType(view, 0) !== ExtentType.inline) {
        if (extentIsHole(view, 0)) continue;
        const kind = extentType(view, 0);
        const last = extent as { ino: number; start: number; end: number; type: number } | null;
        if (last !== null && last.ino === ino && last.end === offset && last.type === kind) {
          last.end += extentLength(view, 0);
        } else {
          endExtent();
          extent = { ino, start: offset, end: offset + extentLength(view, 0), type: kind };
        }
        continue;
      }
      endExtent();
      blank(ino, type, data, view);
      lines.push(`${ino} ${type} ${offset}: ${data.toString('hex')}`);
    }
    endExtent();
    start = coveredEnd;
  }
  return lines;
}

/** Zeroes what is not compared. */
function blank(ino: number, type: number, data: Buffer, view: DataView): void {
  if (type === ItemType.inodeItem) {
    data.fill(0, 0, InodeField.size);
    data[InodeField.flags]! &= ~FLAG_PREALLOCATED;
    data.fill(0, InodeField.sequence, InodeField.sequence + 8);
    if (ino === ROOT_INO) {
      data.fill(0, InodeField.nbytes, InodeField.nbytes + 8);
      data.fill(0, InodeField.atime, InodeField.atime + 12);
      data.fill(0, InodeField.otime, InodeField.otime + 12);
    }
  } else if (type === ItemType.extentData) data.fill(0, 0, 8);
  else if (type === ItemType.xattrItem || type === ItemType.dirItem || type === ItemType.dirIndex) {
    for (let at = 0; at < data.length; at += entryBytes(view, at)) data.fill(0, at + 17, at + 25);
  }
}

async function dumpFiles(store: Volume, model: MemoryVolume): Promise<string[]> {
  const lines: string[] = [];
  for (let ino = FIRST_INO; ino < FIRST_INO + INOS; ino++) {
    const items = model.items;
    if (!items.find(TREE, ino, ItemType.inodeItem, 0) || !isRegular(inodeMode(items.view, items.start)))
      continue;
    const { bytes, checksums } = await store.readData([{ tree: TREE, ino, offset: 0, length: 24 * SECTOR }]);
    expect(bytes.length).toBe(24 * SECTOR);
    expect(sectorSums(bytes)).toEqual(Array.from({ length: 24 }, (_, at) => checksums.readUInt32LE(at * 4)));
    for (let at = 0; at < 24; at++) lines.push(`${ino} sector ${at}: ${checksums.readUInt32LE(at * 4)}`);
  }
  return lines;
}

test.each([1, 2, 3, 4, 5, 6])('the same batches, the same outcome, seed %i', async (seed) => {
  const prng = new Prng(seed);
  const model = new MemoryVolume({ crc32c });
  volume = openEngine();
  const maker = new Maker(prng, model);
  const first = rootTimes();
  for (const store of [model, volume]) expect((await store.apply(first, null, 0)).refused).toBe(null);
  let taken = 0;
  for (let step = 0; step < 1000; step++) {
    const batch = maker.batch();
    const [expected, actual] = await Promise.all([model.apply(batch, null, 0), volume.apply(batch, null, 0)]);
    const say = (result: typeof expected): string =>
      result.refused === null ? 'taken' : `refused at ${result.refused.index}`;
    expect(`step ${step}: ${say(actual)} ${actual.refused?.text ?? ''}`).toContain(
      `step ${step}: ${say(expected)}`,
    );
    if (expected.refused === null) taken++;
    if (prng.oneIn(40)) {
      await Promise.all([volume.finishDeletes(TREE, 0, []), model.finishDeletes(TREE, 0, [])]);
    }
    if (prng.oneIn(100)) await volume.commit();
    if (step % 20 === 0) {
      expect(await dump(volume)).toEqual(await dump(model));
      expect(await dumpFiles(volume, model)).toEqual(await dumpFiles(model, model));
    }
  }
  expect(taken).toBeGreaterThan(100);
  expect(await dump(volume)).toEqual(await dump(model));
  expect(await dumpFiles(volume, model)).toEqual(await dumpFiles(model, model));
});
