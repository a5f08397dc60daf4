// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the server needs of storage. native_volume.ts is the engine, memory_volume.ts the model that judges it and
// stands in for it in tests.
//
// Whatever may touch the device is asynchronous. Batches take effect in the order in which `apply` was called; a read
// sees every batch whose `apply` has resolved, and may see more. Failures of the device or damage of the image reject
// with an FsError (EIO, EUCLEAN); what a batch may not do is a value, not an exception.

import type { Key } from '../util/range.ts';
import type { FileExtent, Refusal } from '../wire/message.ts';

/** Facts of an opened image that do not change while it is open. */
export interface VolumeInfo {
  /** 16 bytes. */
  readonly fsid: Uint8Array;
  /** Bytes. */
  readonly sectorSize: number;
  /** Longest file that is kept inline, bytes. */
  readonly maxInline: number;
  /** Longest XATTR_ITEM of one name, its heads included, bytes. */
  readonly maxXattrItem: number;
  /** Longest item that packs several entries (DIR_ITEM, INODE_REF, XATTR_ITEM), bytes. */
  readonly maxHashBucketItem: number;
  /** Bytes of the device. */
  readonly deviceTotal: number;
  /** Nothing may be changed. */
  readonly readOnly: boolean;
}

/** A subvolume of the image. */
export interface VolumeSubvolume {
  readonly tree: number;
  /** Whoever made the image said that nothing in it may change. */
  readonly readOnly: boolean;
  /** Tree and number of the directory in which it has its name; 0 for the top one. */
  readonly parentTree: number;
  readonly parentDir: number;
}

export interface ItemsRead {
  /** An item page (docs/protocol.md). */
  readonly page: Buffer;
  /** The page holds every item of `[start, coveredEnd)`. */
  readonly coveredEnd: Key;
}

export interface DataRead {
  /** The sectors of all extents, one behind the other. What lies behind a file's end, or in a hole, is zero. */
  readonly bytes: Buffer;
  /** crc32c of each sector, u32 little-endian. */
  readonly checksums: Buffer;
}

/** The sections of a batch message, as they came. They must not change until `apply` has resolved. */
export interface BatchParts {
  readonly changeCount: number;
  readonly changes: Uint8Array;
  /** crc32c of each sector of the data, u32 little-endian. */
  readonly checksums: Uint8Array;
  readonly data: Uint8Array;
}

export interface ApplyResult {
  /** The first change that failed; nothing was applied then. */
  readonly refused: Refusal | null;
  /** Bytes of reserved space that the batch used (wire/space.ts); 0 when it was refused. */
  readonly cost: number;
}

/** Bytes. */
export interface SpaceReport {
  readonly total: number;
  readonly free: number;
  readonly available: number;
}

export interface Volume {
  readonly info: VolumeInfo;

  /**
   * Packs the items of `[start, end)` that clients may see, as many as fit into `bytesMax`, at least one.
   *
   * @throws FsError ENOENT - there is no such subvolume
   */
  readItems(tree: number, start: Key, end: Key, bytesMax: number): Promise<ItemsRead>;

  /** Reads whole sectors: offsets are multiples of the sector size, lengths are rounded up to one. */
  readData(extents: readonly FileExtent[]): Promise<DataRead>;

  /**
   * Applies a batch entirely or not at all.
   *
   * @param grants - the sender's write grants, packed (coherency/packed_grants.ts); null stands for the server itself
   * @param promised - bytes that `promise` gave to the sender and that it has not used; the batch's cost is used then
   */
  apply(batch: BatchParts, grants: Uint8Array | null, promised: number): Promise<ApplyResult>;

  /**
   * Promises space for changes of up to `wanted` cost (wire/space.ts): batches that it covers do not fail for want of
   * space, except that one which changes very many leaves may have to be cut in two. May commit for it.
   *
   * @returns how much, perhaps 0
   */
  promise(wanted: number): Promise<number>;

  /** Takes back what was promised and will not be used. */
  withdraw(bytes: number): Promise<void>;

  /**
   * Deletes inodes of `tree` that have no name left, from number `from` on, a bounded piece of work.
   *
   * @param keep - numbers that are still open, rising
   * @returns the number to go on from, or null when nothing is left to do
   */
  finishDeletes(tree: number, from: number, keep: readonly number[]): Promise<number | null>;

  /** Numbers of the inodes of `tree` without a name, rising, from number `from` on; at most `count`. */
  orphans(tree: number, from: number, count: number): Promise<number[]>;

  /**
   * Makes durable what was applied before the call.
   *
   * @returns the generation of the commit
   */
  commit(): Promise<number>;

  /** Memory that only a commit gives back, bytes. */
  dirtyBytes(): number;

  /** Whether so much has gathered that a commit should not wait. */
  wantsCommit(): boolean;

  statfs(): Promise<SpaceReport>;

  /** The highest inode number in use in a tree. */
  highestInode(tree: number): Promise<number>;

  /** The subvolumes, the top one included; they are the same as long as the volume is open. */
  subvolumes(): readonly VolumeSubvolume[];

  /** Trees that batches may change. */
  writableTrees(): readonly number[];

  /** Live counters, by name. */
  stats(): Readonly<Record<string, number>>;

  /** Gives the image back. Nothing else may be under way; nothing is committed. */
  close(): Promise<void>;
}
