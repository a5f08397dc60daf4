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
import { inodeRange, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { isPlanted } from '../util/test_faults.ts';
import { Mode, type Subvolume, type Want } from '../wire/message.ts';
import { Contention } from './contention.ts';
import type { FileState } from './file_state.ts';
import { Files } from './files.ts';
import type { Followers } from './followers.ts';
import { InodeNumbers } from './inode_numbers.ts';
import { ItemCache } from './item_cache.ts';
import type { KernelCache } from './kernel_cache.ts';
import type { LeaseWatch } from './lease_watch.ts';
import { EXTENT_WINDOW_BYTES, NEXT_INDEX_MAX, WHOLE_EXTENTS_BYTES } from './limits.ts';
import { type DataWant, Missing } from './missing.ts';
import { Needs } from './needs.ts';
import { inoOfNode, isPlaceholderNode, nodeOf, ROOT_NODE, treeOfNode } from './node_id.ts';
import { type AttrOut, MISS } from './operations.ts';
import { PageHold } from './page_hold.ts';
import { RecentNeeds } from './recent_needs.ts';
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
  /** Changes are refused. */
  readOnly: boolean;
  readonly cacheBytes: number;

  readonly items: ItemCache;
  readonly held: Holder = new Holder();
  /** Ranges that are being given back, and how often: what they cover is answered, but the kernel may not keep it. */
  readonly leaving: RangeForest<number> = new RangeForest();
  /** Nodes of which the kernel was given pages while those were leaving, and when: a count of such times. */
  readonly givenLeaving: Map<number, number> = new Map();
  timesGiven = 0;
  readonly pageHold: PageHold = new PageHold();
  readonly contention: Contention;
  readonly recentNeeds: RecentNeeds;
  /** What the operation that runs has asked for so far. */
  readonly needs: Needs = new Needs();
  readonly files: Files = new Files();
  readonly space: SpaceCredit = new SpaceCredit();
  readonly numbers: InodeNumbers = new InodeNumbers();
  readonly stamp: Stamp;
  missing: Missing = new Missing();
  /** Set by the client right after construction: both need each other. */
  writeBack!: WriteBack;
  lease!: LeaseWatch;
  /** Errno of every operation, negative, once the session has ended; 0 while it stands. */
  ended = 0;
  /** Errno, positive, of a change that was refused, for the next fsync of anything. */
  lostErrno = 0;
  /** Inodes without a name that are still open or known to the kernel, by node. */
  readonly orphans: Set<number> = new Set();
  /** Inodes, by node, that other clients had open when this one was granted them: it must not drop them. */
  readonly openElsewhere: Set<number> = new Set();
  /** Next index of directories, by node: as long as the rest of the index is held. */
  readonly nextIndex: Map<number, number> = new Map();
  /** What it was when that was lost: others can only have gone on from there. */
  readonly lastIndex: Map<number, number> = new Map();

  /**
   * What the server said of subvolumes, by tree: of each before anything of it came. At most as many as there are, and no
   * more than have nodes.
   */
  readonly subvolumes: Map<number, Subvolume> = new Map();
  /** The directories of the placeholders (node_id.ts) that the kernel may know, both by node. */
  readonly placeholders: Map<number, number> = new Map();

  /** What the server said of its space, and when; null before. */
  statfs: SpaceReport | null = null;
  /** Reads bytes that nobody waits for; set by the client. */
  readAhead: (want: DataWant) => void = () => {};
  /** Wants patiently what was just given away; set by the client. */
  wantBack: (wants: readonly Want[]) => void = () => {};
  /** Asks for space and numbers before they run out; set by the client. */
  topUp: (tree: number) => void = () => {};

  /** Set by the client right after construction. */
  followers!: Followers;
  /** Tells the server that an inode is not used any more; set by the client. */
  sayClosed: (file: FileState, isNameless: boolean) => void = () => {};

  hits = 0;
  misses = 0;
  #freshGrants: Promise<void> | null = null;
  #leftWaiters: (() => void)[] = [];

  constructor(options: CoreOptions) {
    this.clock = options.clock;
    this.contention = new Contention(options.clock);
    this.recentNeeds = new RecentNeeds(options.clock);
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

  /**
   * Grants have come for operations that wait. They run in this turn of the event loop, and only then is anything
   * given back, however soon a revoke follows: or two clients could take from each other for ever.
   */
  grantsArrived(): void {
    if (this.#freshGrants !== null) return;
    this.#freshGrants = new Promise((resolve) => {
      this.clock.setTimer(0, () => {
        this.#freshGrants = null;
        resolve();
      });
    });
  }

  /** Resolves when the operations for which grants have just come have run; null when there are none. */
  get freshGrants(): Promise<void> | null {
    return this.#freshGrants;
  }

  /**
   * Begins an operation.
   *
   * @returns 0; the errno with which every operation is answered now; MISS while grants cannot be trusted.
   */
  begin(): number {
    if (!this.missing.isEmpty) this.missing = new Missing();
    else if (this.needs.changesNames && this.contention.isOn) this.recentNeeds.note(this.needs);
    this.needs.clear();
    this.hits++;
    if (this.ended !== 0 || this.lease.isTrusted) return this.ended;
    this.missing.isUntrusted = true;
    return MISS;
  }

  /** Begins an operation that changes something of an inode. */
  beginChange(node: number): number {
    const error = this.begin();
    return error === 0 && this.isReadOnly(node) ? -Errno.EROFS : error;
  }

  /** Whether nothing of an inode can be changed, as far as is known: the server judges too. */
  isReadOnly(node: number): boolean {
    if (this.readOnly || isPlaceholderNode(node)) return true;
    return this.subvolumes.get(this.treeOf(node))?.isReadOnly === true;
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
   * Wants what an operation lacks of an inode: all of it, with the inodes behind it if the server finds them cheap (of
   * a large inode it gives as much as fits into a reply, from its start on); where clients contend, no more than needed.
   */
  #wantInode(tree: number, ino: number, mode: Mode, needed: TreeRange): void {
    const node = this.nodeOf(tree, ino);
    if (this.contention.isLarge(node)) {
      const { start, end } = needed;
      const { objectid, type, offset } = end;
      this.missing.want(tree, start.objectid, start.type, start.offset, objectid, type, offset, mode, false);
      return;
    }
    const isContended = this.contention.has(node);
    if (isContended) this.missing.wantsData = true;
    const wanted = this.contention.isWrittenHere(node) ? Mode.write : mode;
    this.missing.want(tree, ino, 0, 0, ino + 1, 0, 0, wanted, !isContended);
  }

  /** About how many names a directory has that is known and large; 0 for others, which are asked for whole. */
  #namesOfLarge(tree: number, dir: number): number {
    if (!this.items.find(tree, dir, ItemType.inodeItem, 0)) return 0;
    const size = inodeSize(this.items.view, this.items.start);
    return size > LARGE_DIRECTORY_BYTES ? size / (2 * NAME_BYTES_USUAL) : 0;
  }

  /** Whether `[start, end)` of the keys of one type is held; notes it as a need, in `RANGE` too. */
  #holdsKeys(tree: number, ino: number, type: number, start: number, end: number, mode: Mode): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, type, start);
    setKey(RANGE.end, ino, type, end);
    this.needs.add(tree, ino, type, start, ino, type, end, mode);
    this.contention.used(this.nodeOf(tree, ino), mode === Mode.write);
    if (end === start + 1) return this.held.holds(tree, ino, type, start, mode);
    return this.held.covers(RANGE, mode);
  }

  /** Whether the DIR_ITEM key of a name is held. */
  needName(tree: number, dir: number, hash: number, mode: Mode): boolean {
    const type = ItemType.dirItem;
    if (this.#holdsKeys(tree, dir, type, hash, hash + 1, mode)) return true;
    const names = this.contention.has(this.nodeOf(tree, dir)) ? 0 : this.#namesOfLarge(tree, dir);
    if (names === 0) {
      this.#wantInode(tree, dir, mode, RANGE);
    } else {
      const end = hash + 1 + Math.floor((0x1_0000_0000 * NAMES_AT_ONCE) / names);
      this.missing.want(tree, dir, type, hash, dir, type, end, mode, false);
    }
    return false;
  }

  /** Whether the DIR_INDEX key of a name is held. */
  needIndex(tree: number, dir: number, index: number, mode: Mode): boolean {
    const type = ItemType.dirIndex;
    if (this.#holdsKeys(tree, dir, type, index, index + 1, mode)) return true;
    const isContended = this.contention.has(this.nodeOf(tree, dir));
    if (isContended && mode === Mode.read) {
      // A listing needs them all, and as they are at one moment.
      setKey(RANGE.end, dir, type + 1, 0);
      this.#wantInode(tree, dir, mode, RANGE);
    } else if (isContended || this.#namesOfLarge(tree, dir) === 0) {
      this.#wantInode(tree, dir, mode, RANGE);
    } else {
      this.missing.want(tree, dir, type, index, dir, type, index + INDEXES_AT_ONCE, mode, false);
    }
    return false;
  }

  /** Whether all keys of one inode from `(ino, startType, 0)` to `(ino, endType, 0)` are held. */
  needTypes(tree: number, ino: number, startType: number, endType: number, mode: Mode): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, startType, 0);
    setKey(RANGE.end, ino, endType, 0);
    this.needs.add(tree, ino, startType, 0, ino, endType, 0, mode);
    if (this.held.covers(RANGE, mode)) return true;
    this.#wantInode(tree, ino, mode, RANGE);
    return false;
  }

  /** Whether the key of an xattr is held; all are asked for: they are few, and programs look at several. */
  needXattr(tree: number, ino: number, hash: number, mode: Mode): boolean {
    const type = ItemType.xattrItem;
    if (this.#holdsKeys(tree, ino, type, hash, hash + 1, mode)) return true;
    return this.needTypes(tree, ino, type, type + 1, mode);
  }

  /** Whether the whole prefix of an inode is held. */
  needPrefix(tree: number, ino: number, mode: Mode): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, 0, 0);
    setKey(RANGE.end, ino + 1, 0, 0);
    this.needs.add(tree, ino, 0, 0, ino + 1, 0, 0, mode);
    if (this.held.covers(RANGE, mode)) return true;
    this.#wantInode(tree, ino, mode, RANGE);
    return false;
  }

  /** Whether identity and derived part of an inode are held. */
  needInode(tree: number, ino: number, identity: Mode, derived: Mode): boolean {
    const hasDerived = this.#holdsKeys(tree, ino, ItemType.inodeItem, DERIVED, DERIVED + 1, derived);
    if (!hasDerived) this.#wantInode(tree, ino, derived, RANGE);
    const hasIdentity = this.#holdsKeys(tree, ino, ItemType.inodeItem, 0, 1, identity);
    if (!hasIdentity) this.#wantInode(tree, ino, identity, RANGE);
    return hasDerived && hasIdentity;
  }

  /** Whether the derived part of an inode is held. */
  needDerived(tree: number, ino: number, mode: Mode): boolean {
    if (this.#holdsKeys(tree, ino, ItemType.inodeItem, DERIVED, DERIVED + 1, mode)) return true;
    this.#wantInode(tree, ino, mode, RANGE);
    return false;
  }

  /**
   * Whether `[start, end)` of a file's bytes is held. The ends of extents that reach over those of what is granted
   * are cut off, so nothing beside it is needed.
   *
   * @param size - of the file; bytes kept inline belong together.
   */
  needBytes(tree: number, ino: number, start: number, end: number, size: number, mode: Mode): boolean {
    const type = ItemType.extentData;
    const from = size <= this.limits.maxInlineBytes ? 0 : start;
    if (this.#holdsKeys(tree, ino, type, from, end, mode)) return true;
    const node = this.nodeOf(tree, ino);
    if (this.contention.has(node)) {
      this.#wantInode(tree, ino, mode, RANGE);
    } else if (size <= WHOLE_EXTENTS_BYTES && end <= WHOLE_EXTENTS_BYTES) {
      this.missing.want(tree, ino, type, 0, ino + 1, 0, 0, mode, true);
    } else {
      const first = Math.floor(from / EXTENT_WINDOW_BYTES) * EXTENT_WINDOW_BYTES;
      const last = Math.ceil(end / EXTENT_WINDOW_BYTES) * EXTENT_WINDOW_BYTES;
      this.missing.want(tree, ino, type, first, ino, type, last, mode, false);
    }
    return false;
  }

  /** Whether all of a file's bytes from `start` on are held for writing: what a lesser size needs. */
  needBytesFrom(tree: number, ino: number, start: number): boolean {
    const type = ItemType.extentData;
    RANGE.tree = tree;
    setKey(RANGE.start, ino, type, start);
    setKey(RANGE.end, ino, type + 1, 0);
    this.needs.add(tree, ino, type, start, ino, type + 1, 0, Mode.write);
    if (this.held.covers(RANGE, Mode.write)) return true;
    if (this.contention.has(this.nodeOf(tree, ino))) this.#wantInode(tree, ino, Mode.write, RANGE);
    else this.missing.want(tree, ino, type, start, ino + 1, 0, 0, Mode.write, true);
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
    if (isPlanted('always-lasting')) return true;
    if (this.contention.has(this.nodeOf(tree, objectid))) return false;
    return this.leaving.get(tree, objectid, type, offset) === undefined;
  }

  /** Whether keys that are being given back lie in `[start, end)` of one type of an inode's. */
  isLeaving(tree: number, ino: number, type: number, start: number, end: number): boolean {
    if (this.leaving.size === 0) return false;
    RANGE.tree = tree;
    setKey(RANGE.start, ino, type, start);
    setKey(RANGE.end, ino, type, end);
    return !this.leaving.forEachIn(RANGE, () => false);
  }

  /** Whether `[start, end)` of a file's bytes is held; notes nothing. */
  holdsBytes(tree: number, ino: number, start: number, end: number, mode: Mode): boolean {
    RANGE.tree = tree;
    setKey(RANGE.start, ino, ItemType.extentData, start);
    setKey(RANGE.end, ino, ItemType.extentData, end);
    return this.held.covers(RANGE, mode);
  }

  /**
   * Whether a file may be opened for writing now. INVARIANT: while a file has writers, the kernel has pages only of bytes
   * that are held for writing, together with the derived part of the inode: it dirties them without asking, and what
   * it writes back must not have to wait for a grant. So bytes that are held only to read, of which it may have pages,
   * must be held for writing first; and nothing of them may be on its way back.
   */
  mayDirtyPages(node: number, tree: number, ino: number): boolean {
    if ((this.files.get(node)?.writers ?? 0) > 0 || isPlanted('dirty-under-read')) return true;
    RANGE.tree = tree;
    setKey(RANGE.start, ino, ItemType.extentData, 0);
    setKey(RANGE.end, ino, ItemType.extentData + 1, 0);
    if (this.leaving.size > 0 && !this.leaving.forEachIn(RANGE, () => false)) {
      this.missing.isLeaving = true;
      return false;
    }
    let isHeld = false;
    let isRead = false;
    this.held.forEachIn(RANGE, (_start, _end, mode) => {
      isHeld = true;
      isRead ||= mode !== Mode.write;
      return !isRead;
    });
    if (isHeld && !this.needDerived(tree, ino, Mode.write)) return false;
    return !isRead || this.needBytesFrom(tree, ino, 0);
  }

  /**
   * Whether the kernel may be given pages of `[start, end)` of a file now. Pages of a range that is being given back are
   * noted, and held back while that is asked for: then what waits is noted as missing.
   */
  mayGivePages(node: number, start: number, end: number): boolean {
    if (!this.isLeaving(this.treeOf(node), this.inoOf(node), ItemType.extentData, start, end)) return true;
    if (this.pageHold.isOn) {
      this.missing.isHeldBack = true;
      return false;
    }
    this.givenLeaving.set(node, ++this.timesGiven);
    return true;
  }

  /** The kernel is given the ACL of a node, which it keeps: while that is being given back it must be told once more. */
  noteAclGiven(node: number): void {
    if (this.isLeaving(this.treeOf(node), this.inoOf(node), ItemType.xattrItem, 0, 0x1_0000_0000))
      this.givenLeaving.set(node, ++this.timesGiven);
  }

  /** Resolves when something that is being given back is gone; at once when nothing is. */
  nextLeft(): Promise<void> {
    if (this.leaving.size === 0 || this.ended !== 0) return Promise.resolve();
    return new Promise((resolve) => this.#leftWaiters.push(resolve));
  }

  /** Tells those who wait for it that something is gone, or that the session has ended. */
  toldLeft(): void {
    for (const resolve of this.#leftWaiters.splice(0)) resolve();
  }

  /** Marks a range as being given back (`by` 1), or as given back (-1). */
  setLeaving(range: TreeRange, by: 1 | -1): void {
    if (by === -1) queueMicrotask(() => this.toldLeft());
    this.leaving.update(range, (old) => {
      const count = (old ?? 0) + by;
      return count > 0 ? count : undefined;
    });
  }

  /** Of what is not leaving any more it does not matter what the kernel was given. */
  dropGivenLeaving(): void {
    for (const node of this.givenLeaving.keys()) {
      const range = inodeRange(this.treeOf(node), this.inoOf(node));
      if (this.leaving.forEachIn(range, () => false)) this.givenLeaving.delete(node);
    }
  }

  /** Remembers a directory's next index; not while any of the rest is being given back, or others would move it unseen. */
  setNextIndex(node: number, index: number): void {
    const end = Number.MAX_SAFE_INTEGER;
    if (this.isLeaving(this.treeOf(node), this.inoOf(node), ItemType.dirIndex, index, end)) {
      this.nextIndex.delete(node);
      return;
    }
    if (this.nextIndex.size >= NEXT_INDEX_MAX) this.nextIndex.clear();
    this.nextIndex.set(node, index);
  }

  /** The rest of a directory's index is not held any more. */
  loseNextIndex(node: number): void {
    const last = this.nextIndex.get(node);
    if (last === undefined) return;
    this.nextIndex.delete(node);
    if (this.lastIndex.size >= NEXT_INDEX_MAX) this.lastIndex.clear();
    this.lastIndex.set(node, last);
  }

  /** The directory is gone, or what is known of it was wrong. */
  forgetNextIndex(node: number): void {
    this.nextIndex.delete(node);
    this.lastIndex.delete(node);
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
    out.btimeSec = inodeTimeSec(view, start, InodeField.otime);
    out.btimeNsec = inodeTimeNsec(view, start, InodeField.otime);
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
