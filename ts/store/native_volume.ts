// SPDX-License-Identifier: GPL-2.0-or-later
//
// The engine (crates/crfs-engine) as a Volume. `crfsd` opens one.
//
// A call becomes a job under a ticket; the engine's threads leave what is finished in a list and wake this thread
// once, and `#collect` settles the promises in the order in which the jobs finished. A job reads its input arrays
// until it is done, so callers must not change them before.
// What is small is tried on this thread first: if everything is in memory and nobody holds a lock, it is done before a
// job would have begun.

import type { Completion, NativeVolume as Engine } from '../../native/binding.js';
import { native } from '../../native/index.js';
import { decodeObjectid, decodeOffset, decodeType, isSafeKey, keyBytes } from '../item/key.ts';
import { assert } from '../util/assert.ts';
import { FsError } from '../util/errors.ts';
import type { Log } from '../util/log.ts';
import { compareKey, type Key } from '../util/range.ts';
import type { FileExtent } from '../wire/message.ts';
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

/** Bytes of a tree block that no item can have: the block's header and one item header. */
const BLOCK_OVERHEAD_BYTES = 101 + 25;

/** Bytes of items or file data that are read on this thread: some microseconds' work. */
const AT_ONCE_READ_BYTES = 32 * 1024;
/** Bytes of changes, and of their data, of a batch that is applied on this thread. */
const AT_ONCE_CHANGES_BYTES = 4096;
const AT_ONCE_DATA_BYTES = 32 * 1024;

/** Items that one piece of deferred deleting may remove: some milliseconds of the engine's time. */
const DELETE_WORK_ITEMS = 4096;

export interface NativeVolumeOptions {
  readonly readOnly: boolean;
  /** Bound of the engine's node cache, bytes. */
  readonly cacheBytes: number;
  /** Give freed space back to the file that holds the image. */
  readonly punchFreed: boolean;
  /** Takes each line that the engine has to say. */
  readonly log: Log;
}

type Settle = (completion: Completion) => void;

/** The addon's errors start with the errno's number. */
function toFsError(error: unknown): unknown {
  const parts = error instanceof Error ? /^(\d+) (.*)$/s.exec(error.message) : null;
  return parts === null ? error : new FsError(Number(parts[1]), parts[2]!, { cause: error });
}

export class NativeVolume implements Volume {
  readonly info: VolumeInfo;
  readonly #engine: Engine;
  readonly #waiting = new Map<number, Settle>();
  #lastTicket = 0;
  /** A weak wake-up alone would let the process end with jobs under way. */
  #keepAlive: NodeJS.Timeout | null = null;

  /**
   * Opens an image.
   *
   * @throws FsError - EBUSY, ENOENT and the like from the device; EOPNOTSUPP or EIO with what is wrong with the image
   */
  constructor(path: string, options: NativeVolumeOptions) {
    const { readOnly, cacheBytes, punchFreed, log } = options;
    try {
      this.#engine = new native.NativeVolume(
        path,
        { readOnly, cacheBytes, punchFreed },
        () => this.#collect(),
        log,
      );
    } catch (error) {
      throw toFsError(error);
    }
    const info = this.#engine.info();
    const maxItem = info.nodesize - BLOCK_OVERHEAD_BYTES;
    this.info = {
      fsid: Buffer.from(info.fsid.replaceAll('-', ''), 'hex'),
      sectorSize: info.sectorsize,
      maxInline: info.maxInline,
      maxXattrItem: maxItem,
      maxHashBucketItem: maxItem,
      deviceTotal: info.deviceBytes,
      readOnly: info.readOnly,
    };
  }

  async readItems(tree: number, start: Key, end: Key, bytesMax: number): Promise<ItemsRead> {
    const from = keyBytes(start.objectid, start.type, start.offset);
    const to = keyBytes(end.objectid, end.type, end.offset);
    const smallMax = Math.min(bytesMax, AT_ONCE_READ_BYTES);
    const small = isOneInode(start, end)
      ? this.#atOnce(() => this.#engine.readItemsAtOnce(tree, from, to, smallMax))
      : null;
    if (small !== null) {
      const read = itemsRead(small);
      if (bytesMax === smallMax || compareKey(read.coveredEnd, end) === 0) return read;
    }
    return itemsRead(await this.#job((ticket) => this.#engine.readItems(ticket, tree, from, to, bytesMax)));
  }

  async readData(extents: readonly FileExtent[]): Promise<DataRead> {
    const packed = new Float64Array(extents.length * 4);
    extents.forEach(({ tree, ino, offset, length }, index) => {
      packed.set([tree, ino, offset, length], index * 4);
    });
    const total = extents.reduce((sum, { length }) => sum + length, 0);
    const { bytes, more } =
      (total <= AT_ONCE_READ_BYTES ? this.#atOnce(() => this.#engine.readDataAtOnce(packed)) : null) ??
      (await this.#job((ticket) => this.#engine.readData(ticket, packed)));
    assert(bytes !== undefined && more !== undefined, 'data comes with its checksums');
    return { bytes, checksums: more };
  }

  async apply(batch: BatchParts, grants: Uint8Array | null, promised: number): Promise<ApplyResult> {
    const { changeCount, changes, checksums, data } = batch;
    const isSmall = changes.length <= AT_ONCE_CHANGES_BYTES && data.length <= AT_ONCE_DATA_BYTES;
    const done =
      (isSmall ? this.#engine.applyAtOnce(changeCount, changes, checksums, data, grants, promised) : null) ??
      (await this.#completion((ticket) =>
        this.#engine.apply(ticket, changeCount, changes, checksums, data, grants, promised),
      ));
    if (done.errno === 0) return { refused: null, cost: done.number ?? 0 };
    // Only the engine's judgement of a change has an index; everything else is a failure of the call.
    if (done.number === undefined) throw failure(done);
    return { refused: { index: done.number, errno: done.errno, text: done.text ?? '' }, cost: 0 };
  }

  async promise(wanted: number): Promise<number> {
    const { number } = await this.#job((ticket) => this.#engine.promise(ticket, wanted));
    assert(number !== undefined, 'a promise is a number');
    return number;
  }

  async withdraw(bytes: number): Promise<void> {
    await this.#job((ticket) => this.#engine.withdraw(ticket, bytes));
  }

  async finishDeletes(tree: number, from: number, keep: readonly number[]): Promise<number | null> {
    const { number } = await this.#job((ticket) =>
      this.#engine.finishDeletes(ticket, tree, from, DELETE_WORK_ITEMS, Float64Array.from(keep)),
    );
    assert(number !== undefined, 'deleting says where to go on');
    return number < 0 ? null : number;
  }

  async orphans(tree: number, from: number, count: number): Promise<number[]> {
    const { bytes } = await this.#job((ticket) => this.#engine.orphans(ticket, tree, from, count));
    assert(bytes !== undefined && bytes.length % 8 === 0, 'inode numbers are numbers');
    return Array.from({ length: bytes.length / 8 }, (_, at) => bytes.readDoubleLE(at * 8));
  }

  async commit(): Promise<number> {
    const { number } = await this.#job((ticket) => this.#engine.commit(ticket));
    assert(number !== undefined, 'a commit has a generation');
    return number;
  }

  async statfs(): Promise<SpaceReport> {
    const { bytes } = await this.#job((ticket) => this.#engine.statfs(ticket));
    assert(bytes !== undefined && bytes.length === 24, 'space is three numbers');
    const [total, free, available] = [0, 8, 16].map((at) => bytes.readDoubleLE(at));
    return { total: total!, free: free!, available: available! };
  }

  dirtyBytes(): number {
    return this.#engine.dirtyBytes();
  }

  wantsCommit(): boolean {
    return this.#engine.wantsCommit();
  }

  async highestInode(tree: number): Promise<number> {
    const { number } = await this.#job((ticket) => this.#engine.highestInode(ticket, tree));
    assert(number !== undefined, 'the highest number is a number');
    return number;
  }

  subvolumes(): readonly VolumeSubvolume[] {
    return this.#engine.subvolumes();
  }

  writableTrees(): readonly number[] {
    return this.#engine.writableTrees();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#engine.stats() };
  }

  async close(): Promise<void> {
    assert(this.#waiting.size === 0, 'a volume is closed when nothing is under way');
    this.#engine.close();
  }

  /** What was done on this thread, or null if it was not. @throws FsError */
  #atOnce(work: () => Completion | null): Completion | null {
    const done = work();
    if (done !== null && done.errno !== 0) throw failure(done);
    return done;
  }

  /** Runs a job that can only succeed or fail. @throws FsError */
  async #job(submit: (ticket: number) => void): Promise<Completion> {
    const done = await this.#completion(submit);
    if (done.errno !== 0) throw failure(done);
    return done;
  }

  #completion(submit: (ticket: number) => void): Promise<Completion> {
    this.#lastTicket = (this.#lastTicket + 1) >>> 0;
    const ticket = this.#lastTicket;
    try {
      submit(ticket);
    } catch (error) {
      return Promise.reject(toFsError(error));
    }
    this.#keepAlive ??= setInterval(() => {}, 0x7fff_ffff);
    return new Promise((resolve) => this.#waiting.set(ticket, resolve));
  }

  #collect(): void {
    for (const completion of this.#engine.completions()) {
      const settle = this.#waiting.get(completion.ticket);
      assert(settle !== undefined, 'a job completes once');
      this.#waiting.delete(completion.ticket);
      settle(completion);
    }
    if (this.#waiting.size === 0 && this.#keepAlive !== null) {
      clearInterval(this.#keepAlive);
      this.#keepAlive = null;
    }
  }
}

function isOneInode(start: Key, end: Key): boolean {
  return end.objectid === start.objectid || (end.objectid === start.objectid + 1 && end.type === 0);
}

function itemsRead({ bytes, more }: Completion): ItemsRead {
  assert(bytes !== undefined && more !== undefined && isSafeKey(more, 0), 'a page comes with its end');
  const coveredEnd = {
    objectid: decodeObjectid(more, 0),
    type: decodeType(more, 0),
    offset: decodeOffset(more, 0),
  };
  return { page: bytes, coveredEnd };
}

function failure(done: Completion): FsError {
  return new FsError(done.errno, done.text ?? 'the engine gave no reason');
}
