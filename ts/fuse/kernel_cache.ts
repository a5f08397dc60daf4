// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the kernel was given with a timeout, and how it is taken back when the client gives a grant back.
//
// The handlers note every name that a reply gives; the client (client/kernel_cache.ts) names ranges. What it asks
// within one turn becomes one batch, in two steps: names, and when the kernel is done with them, inodes. The order
// matters: an INVAL_INODE right behind a LOOKUP reply misses an inode that the caller has not stored yet, and an
// INVAL_ENTRY in the parent waits for that caller. So an inode that was named in the last seconds has its parent
// invalidated first ("barrier").
//
// - A name that only loses its grant is expired: the next use asks again. A drop breaks getcwd inside and unmounts what
//   is mounted there. One given in the last seconds is dropped all the same: an expiry can be undone by a reply
//   that is just being stored.
// - A name waits for its directory's lock, which a request that waits there may hold: such a request is answered ESTALE
//   once, upon which the kernel lets go of the lock and asks again. What cannot be answered so holds the name up for a
//   moment; then INC_EPOCH, which takes no lock, replaces it. So it does when very many names go at once.
// - An inode of which the kernel holds nothing is not told of. Not only for the work: the kernel throws away attributes
//   that come behind such a word, and a read that has asked for them goes on with an older size. One of which it is being
//   told is told of again: who asks must know when that is done.
// - Pages that a parked READ keeps locked are left out, see parked_requests.ts. While a batch is under way the grant is
//   still held, so a READ that arrives then is answered, not parked behind its own invalidation; the client has the
//   bytes forgotten once more if that happened (client/giver.ts).

import type { KernelCache } from '../client/kernel_cache.ts';
import type { AttrOut } from '../client/operations.ts';
import { nameHash } from '../item/name_hash.ts';
import { isPlanted } from '../util/test_faults.ts';
import { S_IFDIR, S_IFMT } from './abi.ts';
import type { DirectoryNodes } from './directory_nodes.ts';
import type { FuseDriver } from './driver.ts';
import { GivenNames } from './given_names.ts';
import {
  GIVEN_NAME_BYTES_MAX,
  GIVEN_NAMES_MAX,
  LOOK_LATER_MS,
  NAME_NOTIFICATION_MS,
  NAMES_AT_ONCE_MAX,
  NOTIFICATIONS_AT_ONCE_MAX,
  OWN_PAGES_MS,
  RECENT_SECONDS,
} from './limits.ts';
import { Holds, type LookupCounts } from './lookup_counts.ts';
import { NameList } from './name_list.ts';
import type { ParkedRequests } from './parked_requests.ts';
import { RecentLinks } from './recent_links.ts';
import { RecentLookups } from './recent_lookups.ts';
import { UnfinishedWrites } from './unfinished_writes.ts';
import { UntakenAnswers } from './untaken_answers.ts';

/** A name that no directory of ours is likely to hold; a barrier only wants the directory's lock. */
const BARRIER_NAME = new Uint8Array([1]);

/** Hashes of names are 32 bits. */
const HASH_END = 0x1_0000_0000;

/** Inodes to forget, packed as the names are. An end may be Infinity; start -1 means attributes only. */
class InodeList {
  readonly nodes: number[] = [];
  readonly starts: number[] = [];
  readonly ends: number[] = [];

  add(node: number, start: number, end: number): void {
    this.nodes.push(node);
    this.starts.push(start);
    this.ends.push(end);
  }
}

interface Batch {
  names: NameList;
  /** There were too many names to tell one by one: all are expired instead. */
  isEveryName: boolean;
  readonly barriers: Set<number>;
  readonly inodes: InodeList;
  /** Called when the names have been told. */
  readonly onNamesTold: (() => void)[];
}

export interface KernelCacheParts {
  readonly driver: FuseDriver;
  readonly lookups: LookupCounts;
  readonly directories: DirectoryNodes;
  readonly parked: ParkedRequests;
  /** Whole seconds of a clock that never goes back. */
  readonly seconds: () => number;
  /** Makes requests that wait give up the kernel's lock of a directory, if they can. */
  readonly unlockDirectory: (dir: number) => void;
  /** Whether a thread runs, or would if it got a processor. */
  readonly isRunning: (tid: number) => boolean;
  /** How often a thread has had a processor. */
  readonly timesRun: (tid: number) => number;
}

export class DriverKernelCache implements KernelCache {
  private readonly driver: FuseDriver;
  private readonly lookups: LookupCounts;
  private readonly directories: DirectoryNodes;
  private readonly parked: ParkedRequests;
  private readonly seconds: () => number;
  private readonly unlockDirectory: (dir: number) => void;
  private readonly given: GivenNames;
  private readonly recent = new RecentLookups();
  private readonly recentLinks = new RecentLinks();
  readonly writes: UnfinishedWrites;
  private readonly untaken: UntakenAnswers;
  private batch: Batch = emptyBatch();
  private batchQueued = false;
  private told: Promise<void> | null = null;
  /** Names that renames took along, of which the kernel is being told. */
  private readonly carrying = new Set<Promise<void>>();
  /** Directories in which names are being told of, and how often. */
  private readonly telling = new Map<number, number>();
  private givenUp = 0;
  /** Inodes of which the kernel is being told, and how often. */
  private readonly untold = new Map<number, number>();

  constructor(parts: KernelCacheParts) {
    this.driver = parts.driver;
    this.lookups = parts.lookups;
    this.directories = parts.directories;
    this.parked = parts.parked;
    this.seconds = parts.seconds;
    this.unlockDirectory = parts.unlockDirectory;
    this.writes = new UnfinishedWrites(parts.isRunning);
    this.untaken = new UntakenAnswers(parts.timesRun);
    this.given = new GivenNames(GIVEN_NAMES_MAX, GIVEN_NAME_BYTES_MAX, (dir, name, node) => {
      if (isPlanted('evicted-names-stay')) return;
      if (node === 0 || this.lookups.has(node)) this.queueName(dir, name, node !== 0);
    });
  }

  /** Names that the kernel may hold. */
  get namesGiven(): number {
    return this.given.size;
  }

  // ---- what replies give, called by the handlers ----

  /** The client's node of a directory that the kernel names. */
  ownerOf(node: number): number {
    return this.directories.ownerOf(node);
  }

  /** Whether the kernel may keep nothing about a directory, see directory_nodes.ts. */
  isSplit(node: number): boolean {
    return this.directories.isSplit(node);
  }

  /** Whether an entry in `attr` can be given in `dir` without a further node. */
  canPlace(dir: number, attr: AttrOut): boolean {
    return !isDirectory(attr) || this.directories.find(attr.node, dir) !== 0;
  }

  /**
   * Whether an entry in `attr` may be given in `dir` now. If not, what the kernel keeps about a directory must go before it
   * is split: `takeTold` tells when that is done.
   */
  mayPlace(dir: number, attr: AttrOut): boolean {
    const owner = attr.node;
    if (this.canPlace(dir, attr) || this.directories.isSplit(owner)) return true;
    this.directories.split(owner);
    this.forgetNames(owner, 0, HASH_END);
    this.forgetAttributes(owner, owner + 1);
    this.told = this.settled();
    return false;
  }

  /** Whether the kernel is about to take the lock of a directory to forget names there. */
  isTelling(dir: number): boolean {
    return this.telling.size > 0 && this.telling.has(dir);
  }

  /**
   * Whether names were given up, whose directories are still locked: a call that holds the lock may go on with a name that it
   * looked at before, though no grant covers it any more.
   */
  get hasGivenUpNames(): boolean {
    return this.givenUp > 0;
  }

  /** The request that is being handled shall be handled again in a moment: `takeTold` tells when. */
  lookLater(): void {
    this.told = new Promise((resolve) => setTimeout(resolve, LOOK_LATER_MS));
  }

  /** What a request waits for besides the client, given once. */
  takeTold(): Promise<void> | null {
    const { told } = this;
    this.told = null;
    return told;
  }

  /** To be called before an entry is written: puts the kernel's node and what it may keep into `attr`. */
  place(dir: number, attr: AttrOut): void {
    const { directories } = this;
    if (directories.isSplit(dir)) attr.cacheable = false;
    if (!isDirectory(attr)) return;
    const owner = attr.node;
    attr.node = directories.find(owner, dir) || directories.add(owner);
    if (!directories.isSplit(owner)) return;
    attr.cacheable = false;
    // Nobody waits for this: the lock of the old place may be held by the very call that is being answered.
    directories.takeOldPlaces(owner, dir, (old, name) => void this.driver.invalidateName(old, name, false));
  }

  /** The client's node of the directory that the kernel has at a name; 0 if it has none there. */
  directoryAt(dir: number, bytes: Uint8Array, start: number, length: number): number {
    const { directories } = this;
    return directories.ownerOf(directories.nodeAt(dir, nameHash(bytes, start, length)));
  }

  /** Whether the kernel has a directory by this name, or another name of the same hash; null if it has it by none. */
  isCalled(node: number, name: Uint8Array): boolean | null {
    const hash = this.directories.hashOf(node);
    return hash === null ? null : hash === nameHash(name, 0, name.length);
  }

  /** An entry reply gives the kernel one reference on `attr.node`, and the name of it if it may keep that. */
  giveEntry(dir: number, bytes: Uint8Array, start: number, length: number, attr: AttrOut): void {
    const hash = nameHash(bytes, start, length);
    this.lookups.add(attr.node, isDirectory(attr));
    if (isDirectory(attr)) this.directories.give(attr.node, dir, hash);
    else this.directories.giveOther(dir, hash);
    if (attr.cacheable) {
      this.lookups.mark(attr.node, Holds.attributes);
      this.given.note(dir, hash, bytes, start, length, attr.node, this.seconds());
      return;
    }
    this.untrack(dir, bytes, start, length);
    if (isDirectory(attr)) this.directories.expire(attr.node, bytes.slice(start, start + length));
  }

  /** A reply gives the kernel one reference on a file that has no name. */
  giveNameless(attr: AttrOut): void {
    this.lookups.add(attr.node, false);
    if (attr.cacheable) this.lookups.mark(attr.node, Holds.attributes);
  }

  /** A reply tells the kernel for the moment that a name does not exist. */
  giveAbsent(dir: number, bytes: Uint8Array, start: number, length: number): void {
    this.directories.giveOther(dir, nameHash(bytes, start, length));
    this.untrack(dir, bytes, start, length);
  }

  /**
   * A reply gives a name, found or not, for the moment only. A reply of the last seconds that said otherwise may still be
   * about to be stored, so what it gave is remembered on.
   */
  private untrack(dir: number, bytes: Uint8Array, start: number, length: number): void {
    this.given.removeOlder(dir, bytes, start, length, this.seconds() - RECENT_SECONDS);
  }

  /** LINK, or CREATE of what was there, was answered with a file; see recent_links.ts. */
  linked(dir: number, node: number): void {
    this.recentLinks.note(dir, node, this.seconds());
  }

  /** A lookup found a node, by the client's number. */
  looked(node: number): void {
    this.recent.note(node, this.seconds());
  }

  /** A reply gives a thread the attributes of a node, for as long as the grant stands if they are cacheable. */
  giveAttributes(node: number, attr: AttrOut, thread: number): void {
    if (attr.cacheable) this.lookups.mark(node, Holds.attributes);
    else if (this.lookups.holds(node, Holds.pages)) this.untaken.note(thread, node, performance.now());
  }

  /** A reply gives an ACL, or that there is none, which the kernel keeps until it forgets the attributes. */
  giveAcl(node: number): void {
    this.lookups.mark(node, Holds.attributes);
  }

  /** A reply gives pages of a file or the target of a symbolic link, or the kernel has made whole pages of what it writes. */
  givePages(node: number): void {
    this.lookups.mark(node, Holds.pages);
  }

  /** Whether the kernel has pages of a file. */
  hasPages(node: number): boolean {
    return this.lookups.holds(node, Holds.pages);
  }

  /**
   * Has the pages of a WRITE forgotten that has taken effect and is not answered. Resolves when they are gone; or after a
   * moment, for one that the WRITE itself keeps locked: that is not readable, and the kernel does not keep it.
   */
  async forgetWritten(node: number, start: number, end: number): Promise<void> {
    this.givePages(node);
    this.queueInode(node, start, end);
    const deadline = new Deadline(OWN_PAGES_MS);
    await deadline.isMetBy(this.settled());
    deadline.cancel();
  }

  /** A reply tells the kernel that a name does not exist, for as long as the directory's grant stands. */
  giveNegative(dir: number, bytes: Uint8Array, start: number, length: number): void {
    const hash = nameHash(bytes, start, length);
    this.directories.giveOther(dir, hash);
    if (isPlanted('forget-absent-names')) return;
    this.given.note(dir, hash, bytes, start, length, 0, this.seconds());
  }

  /** The kernel has no name, or is told that there is none. */
  tookName(dir: number, bytes: Uint8Array, start: number, length: number): void {
    this.given.remove(dir, bytes, start, length);
  }

  /**
   * A reply confirms that a directory was removed: the kernel forgets it by itself.
   *
   * @param removed - the client's node of what had the name. @param seen - the kernel's node that its thread was given
   *   for it, or 0.
   */
  tookDirectory(
    dir: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    removed: number,
    seen: number,
  ): void {
    this.given.remove(dir, bytes, start, length);
    if (isPlanted('removed-directories-stay')) return;
    this.directories.removed(dir, nameHash(bytes, start, length), removed, seen);
  }

  /**
   * A reply confirms a rename: the kernel moves what it holds of the old name to the new one, with its timeout. Where no
   * grant covers the new name, or the old one is just being forgotten, it must be told of the new one, behind the lock.
   *
   * @param replaced - the client's node of what had the new name; 0 if nothing. @param seen - as for `tookDirectory`.
   * @param isLasting - whether the kernel may keep the new name.
   */
  movedName(
    sourceDir: number,
    targetDir: number,
    bytes: Uint8Array,
    sourceStart: number,
    sourceLength: number,
    targetStart: number,
    targetLength: number,
    replaced: number,
    seen: number,
    isLasting: boolean,
  ): void {
    const sourceHash = nameHash(bytes, sourceStart, sourceLength);
    const targetHash = nameHash(bytes, targetStart, targetLength);
    if (!isPlanted('removed-directories-stay')) {
      this.directories.removed(targetDir, targetHash, replaced, seen);
    }
    this.directories.move(sourceDir, sourceHash, targetDir, targetHash);
    const node = this.given.remove(sourceDir, bytes, sourceStart, sourceLength);
    this.given.remove(targetDir, bytes, targetStart, targetLength);
    const isKept = !Number.isNaN(node) && node !== 0;
    if (isKept && isLasting && !this.directories.isSplit(targetDir)) {
      this.given.note(targetDir, targetHash, bytes, targetStart, targetLength, node, this.seconds());
    } else if (isKept || this.isTelling(sourceDir)) {
      this.carry(targetDir, bytes.subarray(targetStart, targetStart + targetLength));
    }
  }

  /** A reply confirms an exchange: the kernel exchanges what it holds of the two names, of which it is told behind the lock. */
  exchangedNames(
    sourceDir: number,
    targetDir: number,
    bytes: Uint8Array,
    sourceStart: number,
    sourceLength: number,
    targetStart: number,
    targetLength: number,
  ): void {
    const sourceHash = nameHash(bytes, sourceStart, sourceLength);
    const targetHash = nameHash(bytes, targetStart, targetLength);
    this.directories.exchange(sourceDir, sourceHash, targetDir, targetHash);
    this.given.remove(sourceDir, bytes, sourceStart, sourceLength);
    this.given.remove(targetDir, bytes, targetStart, targetLength);
    this.carry(sourceDir, bytes.subarray(sourceStart, sourceStart + sourceLength));
    this.carry(targetDir, bytes.subarray(targetStart, targetStart + targetLength));
  }

  private carry(dir: number, name: Uint8Array): void {
    this.queueName(dir, name, true);
    const told = new Promise<void>((resolve) => this.batch.onNamesTold.push(resolve));
    this.carrying.add(told);
    void told.then(() => this.carrying.delete(told));
  }

  carried(): Promise<void> | null {
    return this.carrying.size === 0 ? null : Promise.all(this.carrying).then(() => {});
  }

  // ---- what the client takes back ----

  isReferenced(node: number): boolean {
    let isReferenced = false;
    this.directories.forEachOf(node, (known) => {
      isReferenced ||= this.lookups.has(known);
    });
    return isReferenced;
  }

  isWriting(node: number): boolean {
    return this.writes.has(node, performance.now());
  }

  isTaking(node: number): boolean {
    return this.untaken.has(node, performance.now());
  }

  forEachLooked(visit: (node: number) => void): void {
    this.recent.forEach(this.seconds(), (node) => {
      if (this.isReferenced(node)) visit(node);
    });
  }

  forgetNames(owner: number, hashStart: number, hashEnd: number): void {
    this.directories.forEachOf(owner, (dir) => this.forgetNamesIn(dir, hashStart, hashEnd));
  }

  private forgetNamesIn(dir: number, hashStart: number, hashEnd: number): void {
    const recent = this.seconds() - RECENT_SECONDS;
    this.given.takeRange(dir, hashStart, hashEnd, (name, node, second) => {
      // An inode that the kernel has forgotten has no name there either.
      if (node !== 0 && !this.lookups.has(node)) return;
      const isOld = second < recent || isPlanted('expire-young-names');
      if (isOld && this.lookups.isDirectory(node)) this.directories.expire(node, name.slice());
      this.queueName(dir, name, node !== 0 && isOld);
    });
  }

  dropName(owner: number, name: Uint8Array): void {
    this.directories.forEachOf(owner, (dir) => {
      const node = this.given.remove(dir, name, 0, name.length);
      // What was not given with a timeout is asked for anyway.
      if (!Number.isNaN(node)) this.queueName(dir, name, false);
    });
  }

  forgetAttributes(start: number, end: number): void {
    const forget = (node: number): void => {
      const isHeld = this.lookups.unmark(node, Holds.attributes);
      if (isHeld || this.untold.has(node)) this.queueInode(node, -1, 0);
      this.waitForLink(node);
    };
    this.lookups.forEachIn(start, end, forget);
    if (this.directories.hasFurther) this.directories.forEachFurtherIn(start, end, forget);
  }

  /** Whoever takes the answer to a link of the node must be done with it. */
  private waitForLink(node: number): void {
    const dir = this.recentLinks.directoryOf(node, this.seconds());
    if (dir === 0) return;
    this.batch.barriers.add(dir);
    this.queueBatch();
  }

  forgetBytes(node: number, start: number, end: number): void {
    if (start >= end || !this.lookups.has(node) || this.lookups.isDirectory(node)) return;
    if (!this.lookups.holds(node, Holds.pages) && !this.untold.has(node)) return;
    const isWhole = (start === 0 && end === Number.POSITIVE_INFINITY) || isPlanted('whole-files');
    if (isWhole) this.lookups.unmark(node, Holds.pages);
    this.queueInode(node, isWhole ? 0 : start, isWhole ? Number.POSITIVE_INFINITY : end);
  }

  settled(): Promise<void> {
    return this.runBatch() ?? Promise.resolve();
  }

  /** The session is over, and nothing is covered by a grant any more: everything goes. */
  forgetEverything(): Promise<void> {
    if (isPlanted('keep-after-end')) return Promise.resolve();
    this.lookups.forEachIn(1, Number.POSITIVE_INFINITY, (node) => {
      if (this.lookups.isDirectory(node)) this.queueInode(node, -1, 0);
      else this.queueInode(node, 0, Number.POSITIVE_INFINITY);
    });
    const told = this.settled();
    if (this.driver.hasIncEpoch) void this.expireEveryName();
    else this.given.forEachSince(0, (dir, _node, name) => this.queueName(dir, name.slice(), false));
    return told;
  }

  // ---- batches ----

  /** @param name - is copied. */
  private queueName(dir: number, name: Uint8Array, expire: boolean): void {
    const { batch, driver } = this;
    this.queueBatch();
    if (batch.isEveryName) return;
    batch.names.add(dir, name, expire && driver.hasExpireOnly);
    if (batch.names.count <= NAMES_AT_ONCE_MAX || !driver.hasIncEpoch) return;
    batch.names = new NameList();
    batch.isEveryName = true;
  }

  private queueInode(node: number, start: number, end: number): void {
    this.untold.set(node, (this.untold.get(node) ?? 0) + 1);
    this.batch.inodes.add(node, start, end);
    this.queueBatch();
  }

  private queueBatch(): void {
    if (this.batchQueued) return;
    this.batchQueued = true;
    queueMicrotask(() => void this.runBatch());
  }

  private runBatch(): Promise<void> | null {
    this.batchQueued = false;
    const { batch } = this;
    const isEmpty = batch.names.count === 0 && batch.barriers.size === 0 && batch.inodes.nodes.length === 0;
    if (isEmpty && !batch.isEveryName) return null;
    this.batch = emptyBatch();
    this.addBarriers(batch);
    // Replies that were given before go first, or the kernel would keep what it had just been told to forget.
    this.driver.flush();
    return this.tellKernel(batch);
  }

  /** Adds the parents of inodes that were named so recently that their callers may not have stored them. */
  private addBarriers(batch: Batch): void {
    if (batch.inodes.nodes.length === 0) return;
    const nodes = new Set(batch.inodes.nodes);
    this.given.forEachSince(this.seconds() - RECENT_SECONDS, (dir, node) => {
      if (nodes.has(node)) batch.barriers.add(dir);
    });
    // Names taken out of the table by this very batch have been told of by themselves.
  }

  private async tellKernel(batch: Batch): Promise<void> {
    if (isPlanted('inodes-first')) batch.barriers.clear();
    else await this.tellNames(batch);
    await this.tellInodes(batch.inodes);
    for (const node of batch.inodes.nodes) {
      const left = this.untold.get(node)! - 1;
      if (left > 0) this.untold.set(node, left);
      else this.untold.delete(node);
    }
    if (isPlanted('inodes-first')) await this.tellNames(batch);
  }

  private async tellNames(batch: Batch): Promise<void> {
    const { driver } = this;
    const { names } = batch;
    for (const dir of batch.barriers) names.add(dir, BARRIER_NAME, false);
    const directories = names.directories();
    for (const dir of directories) {
      this.telling.set(dir, (this.telling.get(dir) ?? 0) + 1);
      this.unlockDirectory(dir);
    }
    const epoch = batch.isEveryName ? [this.expireEveryName()] : [];
    const deadline = new Deadline(NAME_NOTIFICATION_MS);
    let isGivenUp = false;
    for (let place = 0; place < names.count || epoch.length > 0; ) {
      const told = epoch.splice(0);
      for (const end = place + NOTIFICATIONS_AT_ONCE_MAX; place < names.count && place < end; place++) {
        told.push(driver.invalidateName(names.dirAt(place), names.nameAt(place), names.expiresAt(place)));
      }
      const all = Promise.all(told);
      if (!driver.hasIncEpoch || isPlanted('wait-for-names')) {
        await all;
      } else if (!(await deadline.isMetBy(all))) {
        isGivenUp = true;
        await this.giveUpNames(all, batch, place, directories);
        break;
      }
    }
    deadline.cancel();
    if (!isGivenUp) this.toldNames(directories);
    for (const onTold of batch.onNamesTold) onTold();
  }

  private toldNames(directories: ReadonlySet<number>): void {
    for (const dir of directories) {
      const left = this.telling.get(dir)! - 1;
      if (left > 0) this.telling.set(dir, left);
      else this.telling.delete(dir);
    }
  }

  /** A name waits for its directory's lock: all are expired instead, those from `place` on without having been told. */
  private async giveUpNames(
    told: Promise<unknown>,
    { names, inodes }: Batch,
    place: number,
    directories: ReadonlySet<number>,
  ): Promise<void> {
    const untold = new Set<number>();
    for (let at = place; at < names.count; at++) untold.add(names.dirAt(at));
    const barriers = [...untold].map((dir) => this.driver.invalidateName(dir, BARRIER_NAME, false));
    this.givenUp++;
    // Behind the lock a caller may be storing an inode: tell of the inodes once more when it is free.
    void Promise.all([told, ...barriers]).then(() => {
      this.givenUp--;
      this.toldNames(directories);
      return this.tellInodes(inodes);
    });
    await this.expireEveryName();
  }

  private async tellInodes({ nodes, starts, ends }: InodeList): Promise<void> {
    let told: Promise<number>[] = [];
    for (let place = 0; place < nodes.length; place++) {
      this.tellInode(nodes[place]!, starts[place]!, ends[place]!, told);
      if (told.length < NOTIFICATIONS_AT_ONCE_MAX) continue;
      await Promise.all(told);
      told = [];
    }
    await Promise.all(told);
  }

  /**
   * The kernel asks for every name again. Those of the last seconds are remembered on: a listing that was just answered
   * may still be about to be stored, and is taken for newer than this.
   */
  private expireEveryName(): Promise<number> {
    this.given.clearOlder(this.seconds() - RECENT_SECONDS);
    return this.driver.incrementEpoch();
  }

  /** Sends the notifications for one inode and pushes their outcomes. */
  private tellInode(node: number, start: number, end: number, told: Promise<number>[]): void {
    const { driver } = this;
    if (start < 0) {
      told.push(driver.invalidateInode(node, -1, 0));
      return;
    }
    for (const [from, to] of this.unlockedRanges(node, start, end)) {
      told.push(driver.invalidateInode(node, from, to === Number.POSITIVE_INFINITY ? 0 : to - from));
    }
  }

  /** `[start, end)` without the pages that parked requests keep locked. */
  private unlockedRanges(node: number, start: number, end: number): [number, number][] {
    let ranges: [number, number][] = [[start, end]];
    if (isPlanted('locked-pages-too')) return ranges;
    this.parked.forEachLockedRange(node, (lockedStart, lockedEnd) => {
      const rest: [number, number][] = [];
      for (const [from, to] of ranges) {
        if (from < Math.min(to, lockedStart)) rest.push([from, Math.min(to, lockedStart)]);
        if (Math.max(from, lockedEnd) < to) rest.push([Math.max(from, lockedEnd), to]);
      }
      ranges = rest;
    });
    return ranges;
  }
}

function isDirectory(attr: AttrOut): boolean {
  return (attr.mode & S_IFMT) === S_IFDIR;
}

function emptyBatch(): Batch {
  return {
    names: new NameList(),
    isEveryName: false,
    barriers: new Set(),
    inodes: new InodeList(),
    onNamesTold: [],
  };
}

/** A moment by which something should be done. */
class Deadline {
  private readonly timer: ReturnType<typeof setTimeout>;
  private readonly late: Promise<boolean>;

  constructor(ms: number) {
    let pass = (_: boolean): void => {};
    this.late = new Promise((resolve) => {
      pass = resolve;
    });
    this.timer = setTimeout(() => pass(false), ms);
  }

  isMetBy(promise: Promise<unknown>): Promise<boolean> {
    return Promise.race([promise.then(() => true), this.late]);
  }

  cancel(): void {
    clearTimeout(this.timer);
  }
}
