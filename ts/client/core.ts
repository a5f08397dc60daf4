// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the operations of a mount work on: the caches, what is held, what is missing, the change log. One instance a
// session. The functions here are the questions that every operation asks; each answers from what is held, or notes
// what is missing and says no.

import { Holder } from '../coherency/holder.ts';
import type { ItemLimits } from '../item/apply_change.ts';
import {
  InodeField,
  inodeMode,
  inodeNbytes,
  inodeNlink,
  inodeSize,
  inodeTimeNsec,
  inodeTimeSec,
} from '../item/inode_item.ts';
import { DERIVED, ItemType } from '../item/key.ts';
import { getU64 } from '../item/number_fields.ts';
import type { Clock } from '../util/clock.ts';
import type { Crc32c } from '../util/crc32c.ts';
import { Errno } from '../util/errno.ts';
import { RangeForest } from '../util/range_map.ts';
import { Mode } from '../wire/message.ts';
import { Files } from './files.ts';
import { InodeNumbers } from './inode_numbers.ts';
import { ItemCache } from './item_cache.ts';
import type { KernelCache } from './kernel_cache.ts';
import { EXTENT_LENGTH_MAX, EXTENT_WINDOW_BYTES, NEXT_INDEX_MAX, WHOLE_EXTENTS_BYTES } from './limits.ts';
import { type DataWant, Missing } from './missing.ts';
import { inoOfNode, nodeOf, ROOT_NODE, treeOfNode } from './node_id.ts';
import type { AttrOut } from './operations.ts';
import { SpaceCredit } from './space_credit.ts';
import { Stamp } from './stamp.ts';
import type { WriteBack } from './write_back.ts';

/** Sums of all sectors of `data`, the last one padded with zeros, into `sums` from `at` on. */
export type SectorSums = (data: Uint8Array, sums: Uint32Array, at: number) => void;

export interface CoreOptions {
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  readonly sectorSums: SectorSums;
  readonly kernel: KernelCache;
  readonly limits: ItemLimits;
  readonly rootTree: number;
  readonly rootIno: number;
  readonly readOnly: boolean;
  readonly cacheBytes: number;
}

/** Space of the file system, bytes, as of `atMs` of the clock. */
export interface SpaceReport {
  readonly total: number;
  readonly free: number;
  readonly available: number;
  readonly inodesUsed: number;
  readonly atMs: number;
}

export class Core {
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  readonly sectorSums: SectorSums;
  kernel: KernelCache;
  readonly limits: ItemLimits;
  readonly rootTree: number;
  readonly rootIno: number;
  readonly readOnly: boolean;
  readonly cacheBytes: number;

  readonly items: ItemCache;
  readonly held: Holder = new Holder();
  /** Ranges that are being given back: what they cover is answered, but the kernel may not keep it. */
  readonly leaving: RangeForest<boolean> = new RangeForest();
  readonly files: Files = new Files();
  readonly space: SpaceCredit = new SpaceCredit();
  readonly numbers: InodeNumbers = new InodeNumbers();
  readonly stamp: Stamp;
  missing: Missing = new Missing();
  /** Set by the client right after construction: both need each other. */
  writeBack!: WriteBack;
  /** Errno of every operation, negative, once the session has ended; 0 while it stands. */
  ended = 0;
  /** Errno, positive, of a change that was refused, for the next fsync of anything. */
  lostErrno = 0;
  /** Inodes without a name that are still open or known to the kernel, by node. */
  readonly orphans: Set<number> = new Set();
  /** Next index of directories, by node. */
  readonly nextIndex: Map<number, number> = new Map();

  /** What the server said of its space, and when; null before. */
  statfs: SpaceReport | null = null;
  /** Reads bytes that nobody waits for; set by the client. */
  readAhead: (want: DataWant) => void = () => {};
  /** Asks for space and numbers before they run out; set by the client. */
  topUp: (tree: number) => void = () => {};

  hits = 0;
  misses = 0;

  constructor(options: CoreOptions) {
    this.clock = options.clock;
    this.crc32c = options.crc32c;
    this.sectorSums = options.sectorSums;
    this.kernel = options.kernel;
    this.limits = options.limits;
    this.rootTree = options.rootTree;
    this.rootIno = options.rootIno;
    this.readOnly = options.readOnly;
    this.cacheBytes = options.cacheBytes;
    this.items = new ItemCache(options.cacheBytes);
    this.stamp = new Stamp(options.clock);
  }

  /** Begins an operation. @returns 0, or the errno with which every operation is answered now. */
  begin(): number {
    if (!this.missing.isEmpty) this.missing = new Missing();
    this.hits++;
    return this.ended;
  }

  /** Begins an operation that changes something. */
  beginChange(): number {
    const error = this.begin();
    return error === 0 && this.readOnly ? -Errno.EROFS : error;
  }

  treeOf(node: number): number {
    return node === ROOT_NODE ? this.rootTree : treeOfNode(node);
  }

  inoOf(node: number): number {
    return node === ROOT_NODE ? this.rootIno : inoOfNode(node);
  }

  /** The kernel's number of an inode; 0 if it cannot have one. */
  nodeOf(tree: number, ino: number): number {
    return ino === this.rootIno && tree === this.rootTree ? ROOT_NODE : nodeOf(tree, ino);
  }

  /**
   * Wants all keys of an inode. The server adds the inodes behind it if they are cheap, and of a large inode gives as
   * much as fits into a reply, from its start on.
   */
  #wantPrefix(tree: number, ino: number, mode: Mode): void {
    this.missing.want(tree, ino, 0, 0, ino + 1, 0, 0, mode, true);
  }

  /** About how many names a directory has that is known and large; 0 for others, which are asked for whole. */
  #namesOfLarge(tree: number, dir: number): number {
    if (!this.items.find(tree, dir, ItemType.inodeItem, 0)) return 0;
    const size = inodeSize(this.items.view, this.items.start);
    return size > LARGE_DIRECTORY_BYTES ? size / (2 * NAME_BYTES_USUAL) : 0;
  }

  /** Whether the DIR_ITEM key of a name is held. */
  needName(tree: number, dir: number, hash: number, mode: Mode): boolean {
    const type = ItemType.dirItem;
    if (this.held.holds(tree, dir, type, hash, mode)) return true;
    const names = this.#namesOfLarge(tree, dir);
    if (names === 0) {
      this.#wantPrefix(tree, dir, mode);
    } else {
      const end = hash + 1 + Math.floor((0x1_0000_0000 * NAMES_AT_ONCE) / names);
      this.missing.want(tree, dir, type, hash, dir, type, end, mode, false);
    }
    return false;
  }

  /** Whether the DIR_INDEX key of a name is held. */
  needIndex(tree: number, dir: number, index: number, mode: Mode): boolean {
    const type = ItemType.dirIndex;
    if (this.held.holds(tree, dir, type, index, mode)) return true;
    if (this.#namesOfLarge(tree, dir) === 0) this.#wantPrefix(tree, dir, mode);
    else this.missing.want(tree, dir, type, index, dir, type, index + INDEXES_AT_ONCE, mode, false);
    return false;
  }

  /** Whether all keys of one inode from `(ino, startType, 0)` to `(ino, endType, 0)` are held. */
  needTypes(tree: number, ino: number, startType: number, endType: number, mode: Mode): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, startType, 0);
    setKey(RANGE.end, ino, endType, 0);
    if (this.held.covers(RANGE, mode)) return true;
    this.#wantPrefix(tree, ino, mode);
    return false;
  }

  /** Whether the whole prefix of an inode is held. */
  needPrefix(tree: number, ino: number, mode: Mode): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, 0, 0);
    setKey(RANGE.end, ino + 1, 0, 0);
    if (this.held.covers(RANGE, mode)) return true;
    this.#wantPrefix(tree, ino, mode);
    return false;
  }

  /** Whether identity and derived part of an inode are held. */
  needInode(tree: number, ino: number, identity: Mode, derived: Mode): boolean {
    if (
      this.held.holds(tree, ino, ItemType.inodeItem, 0, identity) &&
      this.held.holds(tree, ino, ItemType.inodeItem, DERIVED, derived)
    ) {
      return true;
    }
    this.#wantPrefix(tree, ino, identity > derived ? identity : derived);
    return false;
  }

  /** Whether `[start, end)` of a file's bytes is held, with every extent that reaches into it. */
  needBytes(tree: number, ino: number, start: number, end: number, size: number, mode: Mode): boolean {
    RANGE.tree = tree;
    const from = Math.max(0, start - EXTENT_LENGTH_MAX);
    setKey(RANGE.start, ino, ItemType.extentData, from);
    setKey(RANGE.end, ino, ItemType.extentData, end);
    if (this.held.covers(RANGE, mode)) return true;
    const isLarge = size > WHOLE_EXTENTS_BYTES || end > WHOLE_EXTENTS_BYTES;
    if (!isLarge) {
      this.missing.want(tree, ino, ItemType.extentData, 0, ino + 1, 0, 0, mode, true);
      return false;
    }
    const first = Math.floor(from / EXTENT_WINDOW_BYTES) * EXTENT_WINDOW_BYTES;
    const last = Math.ceil(end / EXTENT_WINDOW_BYTES) * EXTENT_WINDOW_BYTES;
    this.missing.want(tree, ino, ItemType.extentData, first, ino, ItemType.extentData, last, mode, false);
    return false;
  }

  /** Whether all of a file's bytes from `start` on are held for writing: what a lesser size needs. */
  needBytesFrom(tree: number, ino: number, start: number): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, ItemType.extentData, Math.max(0, start - EXTENT_LENGTH_MAX));
    setKey(RANGE.end, ino, ItemType.extentData + 1, 0);
    if (this.held.covers(RANGE, Mode.write)) return true;
    const from = RANGE.start.offset;
    this.missing.want(tree, ino, ItemType.extentData, from, ino + 1, 0, 0, Mode.write, true);
    return false;
  }

  /** Makes an inode's item the current one. @returns 0, or -ESTALE if there is no such inode. */
  findInode(tree: number, ino: number): number {
    return this.items.find(tree, ino, ItemType.inodeItem, 0) ? 0 : -Errno.ESTALE;
  }

  /** Whether space for a change is reserved; `spend` takes it. */
  needSpace(cost: number): boolean {
    if (this.space.available >= cost) return true;
    this.missing.space = Math.max(this.missing.space, cost);
    return false;
  }

  /** Whether there may be more dirty bytes. */
  needRoom(): boolean {
    if (this.writeBack.hasRoom) return true;
    this.missing.room = true;
    return false;
  }

  /** Whether a free inode number is at hand; `numbers.take` takes it. */
  needNumber(tree: number): boolean {
    if (this.numbers.has(tree)) return true;
    this.missing.inodes = this.numbers.wanted(tree);
    this.missing.inodeTree = tree;
    return false;
  }

  /** Whether the kernel may keep what lies under a key without limit. */
  isLasting(tree: number, objectid: number, type: number, offset: number): boolean {
    return this.leaving.get(tree, objectid, type, offset) === undefined;
  }

  /** Remembers a directory's next index; not while its index is being given back, or others would move it unseen. */
  setNextIndex(node: number, index: number): void {
    if (!this.isLasting(this.treeOf(node), this.inoOf(node), ItemType.dirIndex, index)) {
      this.nextIndex.delete(node);
      return;
    }
    if (this.nextIndex.size >= NEXT_INDEX_MAX) this.nextIndex.clear();
    this.nextIndex.set(node, index);
  }

  /** Fills `out` from an inode's item, whose range must be held. @returns 0 or -ESTALE, -EOVERFLOW. */
  fillAttr(tree: number, ino: number, out: AttrOut): number {
    const items = this.items;
    if (!items.find(tree, ino, ItemType.inodeItem, 0)) return -Errno.ESTALE;
    const node = this.nodeOf(tree, ino);
    if (node === 0) return -Errno.EOVERFLOW;
    const { view, start } = items;
    out.node = node;
    out.ino = nodeOf(tree, ino);
    out.mode = inodeMode(view, start);
    out.nlink = inodeNlink(view, start);
    out.uid = view.getUint32(start + InodeField.uid, true);
    out.gid = view.getUint32(start + InodeField.gid, true);
    out.rdev = encodeRdev(getU64(view, start + InodeField.rdev));
    out.size = inodeSize(view, start);
    out.atimeSec = inodeTimeSec(view, start, InodeField.atime);
    out.atimeNsec = inodeTimeNsec(view, start, InodeField.atime);
    out.mtimeSec = inodeTimeSec(view, start, InodeField.mtime);
    out.mtimeNsec = inodeTimeNsec(view, start, InodeField.mtime);
    out.ctimeSec = inodeTimeSec(view, start, InodeField.ctime);
    out.ctimeNsec = inodeTimeNsec(view, start, InodeField.ctime);
    let bytes = inodeNbytes(view, start);
    if (this.files.unloggedBytes > 0) bytes += this.#unloggedGrowth(node, bytes, out.size);
    out.blocks = Math.ceil(bytes / 4096) * 8;
    out.cacheable =
      this.isLasting(tree, ino, ItemType.inodeItem, 0) &&
      this.isLasting(tree, ino, ItemType.inodeItem, DERIVED);
    return 0;
  }

  /** About how much nbytes will grow by what is written and not in the log: exact for files written once. */
  #unloggedGrowth(node: number, nbytes: number, size: number): number {
    const file = this.files.get(node);
    if (file === undefined || file.runs.length === 0) return 0;
    let bytes = 0;
    for (const run of file.runs) bytes += run.end - run.start;
    return Math.max(0, Math.min(bytes, Math.ceil(size / 4096) * 4096 - nbytes));
  }
}

/** Directories up to this size (twice the bytes of their names) are asked for whole: about 600 KiB of items. */
const LARGE_DIRECTORY_BYTES = 131_072;
/** Bytes of a name, for the estimate of how many there are. */
const NAME_BYTES_USUAL = 12;
/** Names of a large directory asked for with one of them. */
const NAMES_AT_ONCE = 256;
/** Indexes of a large directory asked for with one of them. */
const INDEXES_AT_ONCE = 1024;

interface MutableKey {
  objectid: number;
  type: number;
  offset: number;
}

/** Reused for questions to the holder, which keeps nothing of it. */
const RANGE = {
  tree: 0,
  start: { objectid: 0, type: 0, offset: 0 },
  end: { objectid: 0, type: 0, offset: 0 },
};

function setKey(key: MutableKey, objectid: number, type: number, offset: number): void {
  key.objectid = objectid;
  key.type = type;
  key.offset = offset;
}

/** From major << 20 | minor, as items hold it, to the kernel's 32 bits for user space. */
export function encodeRdev(rdev: number): number {
  const major = Math.floor(rdev / 0x10_0000) & 0xfff;
  const minor = rdev & 0xf_ffff;
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The reverse of `encodeRdev`. */
export function decodeRdev(rdev: number): number {
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return major * 0x10_0000 + minor;
}
