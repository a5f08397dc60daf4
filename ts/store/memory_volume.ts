// SPDX-License-Identifier: GPL-2.0-or-later
//
// The model of a volume: a sorted map of items and a map of sectors, in memory. Tests and simulations run servers on
// it, and property tests hold the engine to it. It applies changes with the code that clients predict with
// (item/apply_change.ts), so it makes the same items as they do, and real item pages.
//
// It judges batches as the engine does, in what clients can get wrong: grants, form, data, effect. Sectors that fell out of a file stay in
// their map: no extent leads to them any more, and a later put data replaces them whole.

import { Buffer } from 'node:buffer';
import { applyChange, type ItemLimits } from '../item/apply_change.ts';
import { sectorCeil } from '../item/apply_extent.ts';
import { applyDropInode, applyNewInode } from '../item/apply_inode.ts';
import { ChangeKind, ChangeReader } from '../item/change.ts';
import {
  cutExtent,
  EXTENT_HEAD_BYTES,
  ExtentType,
  extentIsHole,
  extentLength,
  extentType,
} from '../item/extent_data.ts';
import { FileMode, InodeField, inodeNbytes, inodeNlink, inodeSize } from '../item/inode_item.ts';
import { REF_HEAD_BYTES, writeRef } from '../item/inode_ref.ts';
import { FS_TREE, ItemType, ROOT_INO } from '../item/key.ts';
import { SortedItemMap } from '../item/sorted_item_map.ts';
import type { Crc32c } from '../util/crc32c.ts';
import { Errno } from '../util/errno.ts';
import { FsError } from '../util/errors.ts';
import { SPACE_KEPT_BYTES } from '../util/limits.ts';
import { compareKey, type Key } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { ItemPageBuilder } from '../wire/item_page.ts';
import type { FileExtent, Refusal } from '../wire/message.ts';
import { changesCost } from '../wire/space.ts';
import { missingGrant, unpackGrants } from './grant_judge.ts';
import type {
  ApplyResult,
  BatchParts,
  DataRead,
  ItemsRead,
  SpaceReport,
  Volume,
  VolumeInfo,
  VolumeSubvolume,
} from './volume.ts';

const SECTOR = 4096;
/** The name by which a root directory refers to itself. */
const REF_NAME: Buffer = Buffer.from('..');
/** Space that an inode with its items is taken to fill, bytes. */
const INODE_SPACE = 2048;

export interface MemoryVolumeOptions {
  readonly crc32c: Crc32c;
  /** Bytes of the device; 1 GiB without it. */
  readonly deviceTotal?: number;
  /** Called before each operation does its work: tests delay it here, or make it fail. */
  readonly before?: (operation: 'read' | 'apply' | 'commit') => Promise<void>;
}

export class MemoryVolume implements Volume {
  readonly info: VolumeInfo;
  /** The items, for tests to look at. */
  readonly items: SortedItemMap = new SortedItemMap();
  /** Batches applied, and how many of them were durable at the last commit. */
  applied = 0;
  durable = 0;
  readonly #crc32c: Crc32c;
  readonly #before: (operation: 'read' | 'apply' | 'commit') => Promise<void>;
  readonly #limits: ItemLimits;
  readonly #trees = new Map<number, VolumeSubvolume>();
  /** `tree:ino` -> sector number -> 4096 bytes. */
  readonly #sectors = new Map<string, Map<number, Buffer>>();
  #generation = 1;
  #packed: Uint8Array | null = null;
  #unpacked = new RangeForest<true>();
  #dirty = 0;
  #promised = 0;
  /** Batches are applied one after the other, in the order of the calls. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: MemoryVolumeOptions) {
    this.#crc32c = options.crc32c;
    this.#before = options.before ?? (() => Promise.resolve());
    this.info = {
      fsid: Buffer.alloc(16, 0xcf),
      sectorSize: SECTOR,
      maxInline: 2048,
      maxXattrItem: 16_258,
      maxHashBucketItem: 16_258,
      deviceTotal: options.deviceTotal ?? 1 << 30,
      readOnly: false,
    };
    this.#limits = {
      maxInlineBytes: this.info.maxInline,
      maxXattrBytes: this.info.maxXattrItem,
      maxBucketBytes: this.info.maxHashBucketItem,
    };
    this.addTree(FS_TREE);
  }

  /** Makes an empty tree with its root directory. @param more - what is said of it */
  addTree(tree: number, more: Partial<VolumeSubvolume> = {}): void {
    this.#trees.set(tree, { readOnly: false, parentTree: 0, parentDir: 0, ...more, tree });
    const items = this.items;
    const none = Buffer.alloc(0);
    applyNewInode(items, tree, ROOT_INO, FileMode.directory | 0o755, 0, 0, 0, 1_700_000_000, 0, none, 0, 0);
    items.find(tree, ROOT_INO, ItemType.inodeItem, 0);
    items.view.setUint32(items.start + InodeField.nlink, 1, true);
    items.insert(tree, ROOT_INO, ItemType.inodeRef, ROOT_INO, REF_HEAD_BYTES + REF_NAME.length);
    writeRef(items.bytes, items.view, items.start, 0, REF_NAME, 0, REF_NAME.length);
  }

  async readItems(tree: number, start: Key, end: Key, bytesMax: number): Promise<ItemsRead> {
    await this.#before('read');
    this.#requireTree(tree);
    const items = this.items;
    const builder = new ItemPageBuilder();
    let coveredEnd = end;
    this.#addExtentOver(builder, tree, start, end);
    let there = items.seek(tree, start.objectid, start.type, start.offset);
    for (; there; there = items.next()) {
      const { objectid, type, offset } = items;
      const key = { objectid, type, offset };
      if (compareKey(key, end) >= 0) break;
      if (builder.count > 0 && builder.lengthWith(items.size) > bytesMax) {
        coveredEnd = key;
        break;
      }
      const isCut = type === ItemType.extentData && extentType(items.view, items.start) !== ExtentType.inline;
      const value = isCut
        ? cutExtent(items.view, items.start, items.size, 0, bytesBefore(key, end))
        : items.bytes.slice(items.start, items.start + items.size);
      builder.add(objectid, type, offset, value);
    }
    return { page: builder.finish(this.#crc32c), coveredEnd };
  }

  /** What of an extent that begins before the byte of `start` lies behind it. */
  #addExtentOver(builder: ItemPageBuilder, tree: number, start: Key, end: Key): void {
    const { items } = this;
    const { objectid, type, offset } = start;
    if (type !== ItemType.extentData || offset === 0 || !items.seekBefore(tree, objectid, type, offset))
      return;
    if (items.objectid !== objectid || items.type !== type) return;
    const skipped = offset - items.offset;
    if (extentType(items.view, items.start) === ExtentType.inline) return;
    if (extentLength(items.view, items.start) <= skipped) return;
    const value = cutExtent(items.view, items.start, items.size, skipped, bytesBefore(start, end));
    builder.add(objectid, type, offset, value);
  }

  async readData(extents: readonly FileExtent[]): Promise<DataRead> {
    await this.#before('read');
    const parts = extents.map(({ tree, ino, offset, length }) => {
      if (offset % SECTOR !== 0) throw new FsError(Errno.EINVAL, `read of ${length} bytes at ${offset}`);
      if (!this.items.find(tree, ino, ItemType.inodeItem, 0)) {
        throw new FsError(Errno.ENOENT, `tree ${tree} has no inode ${ino}`);
      }
      return this.fileBytes(tree, ino, offset, Math.ceil(length / SECTOR) * SECTOR);
    });
    const bytes = Buffer.concat(parts);
    const checksums = Buffer.alloc((bytes.length / SECTOR) * 4);
    for (let sector = 0; sector * SECTOR < bytes.length; sector++) {
      const sum = this.#crc32c(bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR));
      checksums.writeUInt32LE(sum, sector * 4);
    }
    return { bytes, checksums };
  }

  apply(batch: BatchParts, grants: Uint8Array | null, promised: number): Promise<ApplyResult> {
    const done = this.#queue.then(async () => {
      await this.#before('apply');
      const refused = this.#applyBatch(batch, grants === null ? null : this.#unpack(grants));
      if (refused !== null) return { refused, cost: 0 };
      this.applied++;
      this.#dirty += batch.changes.length + batch.data.length;
      const cost = changesCost(batch.changes);
      this.#promised -= Math.min(cost, promised);
      return { refused: null, cost };
    });
    this.#queue = done.catch(() => {});
    return done;
  }

  async promise(wanted: number): Promise<number> {
    const { available } = await this.statfs();
    const given = Math.max(0, Math.min(wanted, Math.floor(available - SPACE_KEPT_BYTES - this.#promised)));
    this.#promised += given;
    return given;
  }

  async withdraw(bytes: number): Promise<void> {
    this.#promised -= bytes;
  }

  async finishDeletes(tree: number, from: number, keep: readonly number[]): Promise<number | null> {
    this.#requireTree(tree);
    const nameless: number[] = [];
    this.#forEachInode(tree, (ino) => {
      const isNameless = inodeNlink(this.items.view, this.items.start) === 0;
      if (isNameless && ino >= from && !keep.includes(ino)) nameless.push(ino);
    });
    for (const ino of nameless) {
      applyDropInode(this.items, tree, ino);
      this.#sectors.delete(`${tree}:${ino}`);
    }
    return null;
  }

  async orphans(tree: number, from: number, count: number): Promise<number[]> {
    await this.#before('read');
    this.#requireTree(tree);
    const nameless: number[] = [];
    this.#forEachInode(tree, (ino) => {
      if (ino >= from && inodeNlink(this.items.view, this.items.start) === 0) nameless.push(ino);
    });
    return nameless.slice(0, count);
  }

  async commit(): Promise<number> {
    const covered = this.applied;
    this.#dirty = 0;
    await this.#before('commit');
    this.durable = Math.max(this.durable, covered);
    return ++this.#generation;
  }

  dirtyBytes(): number {
    return this.#dirty;
  }

  wantsCommit(): boolean {
    return false;
  }

  async statfs(): Promise<SpaceReport> {
    let used = 0;
    for (const tree of this.#trees.keys()) {
      this.#forEachInode(tree, () => {
        used += inodeNbytes(this.items.view, this.items.start) + INODE_SPACE;
      });
    }
    const total = this.info.deviceTotal;
    const free = Math.max(0, total - used);
    return { total, free, available: free };
  }

  async highestInode(tree: number): Promise<number> {
    this.#requireTree(tree);
    let highest = ROOT_INO;
    this.#forEachInode(tree, (ino) => {
      highest = ino;
    });
    return highest;
  }

  subvolumes(): readonly VolumeSubvolume[] {
    return [...this.#trees.values()].sort((a, b) => a.tree - b.tree);
  }

  writableTrees(): readonly number[] {
    return this.subvolumes()
      .filter(({ readOnly }) => !readOnly)
      .map(({ tree }) => tree);
  }

  stats(): Readonly<Record<string, number>> {
    return { batches: this.applied, generation: this.#generation };
  }

  async close(): Promise<void> {
    await this.#queue;
  }

  #requireTree(tree: number): void {
    if (!this.#trees.has(tree)) throw new FsError(Errno.ENOENT, `there is no tree ${tree}`);
  }

  /** Visits the inodes of a tree in order; the inode item is the map's current one. */
  #forEachInode(tree: number, visit: (ino: number) => void): void {
    let there = this.items.seek(tree, 0, 0, 0);
    for (; there; there = this.items.next()) {
      if (this.items.type === ItemType.inodeItem) visit(this.items.objectid);
    }
  }

  /** Reads packed grants; a server hands over the same bytes until they change. */
  #unpack(packed: Uint8Array): RangeForest<true> {
    if (this.#packed !== packed) {
      this.#packed = packed;
      this.#unpacked = unpackGrants(packed);
    }
    return this.#unpacked;
  }

  #applyBatch(batch: BatchParts, grants: RangeForest<true> | null): Refusal | null {
    const change = new ChangeReader(batch.changes);
    const staged: { file: string; sector: number; bytes: Buffer }[] = [];
    let index = 0;
    let dataAt = 0;
    let sectorAt = 0;
    const refuse = (errno: number, text: string): Refusal => {
      this.items.takeBack();
      return { index, errno, text };
    };
    this.items.begin();
    for (; change.next(); index++) {
      const subvolume = this.#trees.get(change.tree);
      if (subvolume?.readOnly !== false) return refuse(Errno.EROFS, `tree ${change.tree} is not writable`);
      const { tree, ino, kind } = change;
      const file = `${tree}:${ino}`;
      const outside = grants === null ? null : missingGrant(grants, change, this.#sizeOf(tree, ino));
      if (outside !== null) return refuse(Errno.EACCES, outside);
      const problem = this.#judge(change, batch, dataAt, sectorAt);
      if (problem !== null) return refuse(Errno.EINVAL, problem);
      const inline = this.#inlineBytes(tree, ino);
      if (inline !== null) staged.push({ file, sector: 0, bytes: inline });
      if (kind === ChangeKind.putData) {
        for (let at = 0; at < change.length; at += SECTOR) {
          const bytes = Buffer.alloc(SECTOR);
          bytes.set(batch.data.subarray(dataAt + at, dataAt + Math.min(at + SECTOR, change.length)));
          staged.push({ file, sector: (change.fileOffset + at) / SECTOR, bytes });
        }
      }
      const result = applyChange(this.items, this.#limits, change, batch.data, dataAt);
      if (result !== 0) return refuse(-result, `change ${index} of kind ${kind} on inode ${ino}`);
      if (kind === ChangeKind.putData) {
        dataAt += change.length;
        sectorAt += Math.ceil(change.length / SECTOR);
      }
    }
    if (change.error !== null) return refuse(Errno.EINVAL, change.error);
    if (index !== batch.changeCount)
      return refuse(Errno.EINVAL, `${index} changes, not ${batch.changeCount}`);
    if (dataAt !== batch.data.length) return refuse(Errno.EINVAL, 'the data section is too long');
    this.items.keep();
    for (const { file, sector, bytes } of staged) {
      let sectors = this.#sectors.get(file);
      if (sectors === undefined) {
        sectors = new Map();
        this.#sectors.set(file, sectors);
      }
      sectors.set(sector, bytes);
    }
    return null;
  }

  /** Bytes of a file; 0 when there is none. */
  #sizeOf(tree: number, ino: number): number {
    const items = this.items;
    return items.find(tree, ino, ItemType.inodeItem, 0) ? inodeSize(items.view, items.start) : 0;
  }

  /** What is wrong with a change that applying it would not show. */
  #judge(change: ChangeReader, batch: BatchParts, dataAt: number, sectorAt: number): string | null {
    const { tree, ino, kind, length, fileOffset } = change;
    if (kind === ChangeKind.newInode && ino <= ROOT_INO) return `${ino} is no number for a new inode`;
    if (kind !== ChangeKind.putData) return null;
    const payload = batch.data.subarray(dataAt, dataAt + length);
    if (payload.length < length) return 'the data section is too short';
    const size = Math.max(this.#sizeOf(tree, ino), change.newSize);
    const end = fileOffset + length;
    if (sectorCeil(end) > sectorCeil(size)) return `put data up to ${end} into a file of ${size} bytes`;
    const beyond = Math.max(0, Math.min(length, end - size));
    if (payload.subarray(length - beyond).some((byte) => byte !== 0))
      return 'data beyond the end is not zero';
    const sums = new DataView(batch.checksums.buffer, batch.checksums.byteOffset, batch.checksums.length);
    for (let at = 0; at < length; at += SECTOR) {
      const sector = Buffer.alloc(SECTOR);
      sector.set(payload.subarray(at, at + SECTOR));
      const place = (sectorAt + at / SECTOR) * 4;
      if (place + 4 > sums.byteLength) return 'the checksum section is too short';
      if (sums.getUint32(place, true) !== this.#crc32c(sector)) return `wrong checksum at ${fileOffset + at}`;
    }
    return null;
  }

  /** The first sector of a file whose bytes are inline; null for others. */
  #inlineBytes(tree: number, ino: number): Buffer | null {
    const items = this.items;
    if (!items.find(tree, ino, ItemType.extentData, 0)) return null;
    if (extentType(items.view, items.start) !== ExtentType.inline) return null;
    const sector = Buffer.alloc(SECTOR);
    sector.set(items.bytes.subarray(items.start + EXTENT_HEAD_BYTES, items.start + items.size));
    return sector;
  }

  /** Bytes of a file, whole sectors: for tests to look at. */
  fileBytes(tree: number, ino: number, offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    const inline = this.#inlineBytes(tree, ino);
    if (inline !== null) {
      if (offset === 0) inline.copy(bytes);
      return bytes;
    }
    const sectors = this.#sectors.get(`${tree}:${ino}`);
    const items = this.items;
    let there = items.seek(tree, ino, ItemType.extentData, 0);
    for (; there && items.objectid === ino && items.type === ItemType.extentData; there = items.next()) {
      const isData =
        extentType(items.view, items.start) === ExtentType.regular && !extentIsHole(items.view, items.start);
      const start = Math.max(offset, items.offset);
      const end = Math.min(offset + length, items.offset + extentLength(items.view, items.start));
      for (let at = start; isData && at < end; at += SECTOR) {
        sectors?.get(at / SECTOR)?.copy(bytes, at - offset);
      }
    }
    return bytes;
  }
}

/** Bytes of the file from an extent's key up to the end of a range; without a bound if that lies in another inode. */
function bytesBefore(key: Key, end: Key): number {
  return end.objectid === key.objectid && end.type === key.type ? end.offset - key.offset : Infinity;
}
