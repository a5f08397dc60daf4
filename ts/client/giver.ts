// SPDX-License-Identifier: GPL-2.0-or-later
//
// Gives grants back: when the server revokes them, when a prediction turned out wrong, at the end of the session.
// (eviction.ts gives back what is clean and cold, for memory.)
//
// In this order: the kernel forgets what the ranges cover, which first makes it write back what was dirtied through
// mmap; the grants are lowered; dirty state is sent; the items are dropped and the release is sent, in one turn. Until
// the grants are lowered operations go on under them, with answers that the kernel may not keep. From then on they wait
// for new grants.
//
// The release leaves right behind the batches that it depends on and counts when they are applied. If one of them is
// refused the release is void, at the server by itself, and is sent again when what is left of them is applied.
//
// INVARIANT: the kernel has no page of a range when its release is sent. A READ that was answered while its range was
// leaving may have filled one behind the invalidation, so the invalidation is repeated until none was. A READ that waits
// for the release would block the very invalidation that the release waits for (its page is locked), so READs are
// answered at once; only when a busy reader makes a second round necessary are they held back, and let go as soon as
// the kernel does not come back.

import { modeSatisfies } from '../coherency/mode.ts';
import { countTransition, Transition } from '../coherency/transitions.ts';
import { inodeMode, inodeSize, isDirectory } from '../item/inode_item.ts';
import { DERIVED, ItemType } from '../item/key.ts';
import type { Clock } from '../util/clock.ts';
import { type DurationReport, Durations } from '../util/durations.ts';
import { OPEN_INODES_MAX, PATIENT_WANTS_MAX, RANGES_MAX } from '../util/limits.ts';
import { compareKey, inodeRange, rangesOverlap, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { isPlanted } from '../util/test_faults.ts';
import { Mode, type ModeChange, type TreeInode, type Want, WantFlags } from '../wire/message.ts';
import type { Peer } from '../wire/peer.ts';
import type { Core } from './core.ts';
import { dropData, dropGone } from './dropping.ts';
import type { FileState } from './file_state.ts';
import { logFile } from './file_writer.ts';
import { forgetContent, forgetRanges } from './kernel_forget.ts';
import { CONTENDED_WHOLE_BYTES, LOOKED_SWEEP_MS, TENURE_MS } from './limits.ts';
import { ROOT_NODE } from './node_id.ts';
import { filesIn } from './range_files.ts';

/** How long the kernel may take to forget pages while READs are held back, milliseconds. */
const HELD_BACK_MS = 5;

/** A range and the mode that may stay. */
export interface Giving extends TreeRange {
  readonly newMode: Mode;
}

/** A release that was sent before its batches are applied. */
interface EarlyRelease {
  readonly afterBatch: number;
  changes: readonly ModeChange[];
  /** A batch on which it depends was refused. */
  isVoid: boolean;
}

export class Giver {
  readonly #core: Core;
  readonly #peer: Peer;
  readonly #durations = new Map<string, Durations>();
  readonly #early = new Set<EarlyRelease>();
  /** Resolves when all that refused batches left wrong has been given back; null when it has. */
  #lossesGiven: Promise<unknown> | null = null;
  /** Inodes that were told to be open because they had been looked up. */
  readonly #looked = new Set<FileState>();
  #isSweeping = false;

  constructor(core: Core, peer: Peer) {
    this.#core = core;
    this.#peer = peer;
  }

  /** How long the givings took, by the mode that stayed. */
  report(): Record<string, DurationReport> {
    const report: Record<string, DurationReport> = {};
    for (const [kind, durations] of this.#durations) report[kind] = durations.report();
    return report;
  }

  /** Answers a revoke. */
  async answer(ranges: readonly Giving[]): Promise<void> {
    const core = this.#core;
    const isInUse = ranges.some(
      (range) => isOneInode(range) && core.contention.isInUse(firstNode(core, range)),
    );
    // What has just come was asked for by a call that will soon be followed by its next request.
    if (isInUse || core.freshGrants !== null) {
      countTransition(Transition.gaveLater);
      await new Promise<void>((resolve) => core.clock.setTimer(TENURE_MS, resolve));
    }
    for (const range of ranges) noteContention(core, range);
    const comesBack = this.#comingBack(ranges);
    const changes = await this.give(ranges);
    if (comesBack.size > 0 && core.ended === 0) this.#wantBack(changes, comesBack);
  }

  /** The inodes, of those that go, that are likely to be looked at here again. */
  #comingBack(ranges: readonly Giving[]): ReadonlySet<number> {
    const core = this.#core;
    const gone = new Set<number>();
    for (const range of ranges) {
      if (range.newMode === Mode.none && isOneInode(range)) gone.add(firstNode(core, range));
    }
    for (const node of gone) if (!core.contention.gone(node)) gone.delete(node);
    return gone;
  }

  /** Wants again, patiently, what was just given away of inodes and could be read. */
  #wantBack(changes: readonly ModeChange[], nodes: ReadonlySet<number>): void {
    const core = this.#core;
    const wants: Want[] = [];
    for (const change of changes) {
      const { tree, start, end, oldMode, newMode } = change;
      if (oldMode !== Mode.read || newMode !== Mode.none || !isOneInode(change)) continue;
      if (!nodes.has(firstNode(core, change))) continue;
      wants.push({ tree, start, end, mode: Mode.read, flags: WantFlags.patient });
    }
    // What lies in many pieces is not worth it.
    if (wants.length > 0 && wants.length <= PATIENT_WANTS_MAX) core.wantBack(wants);
  }

  /** Brings the ranges down to their modes. Resolves when the release is sent. @returns what was given. */
  give(ranges: readonly Giving[]): Promise<readonly ModeChange[]> {
    return this.#timed(ranges, false);
  }

  /**
   * Lowers what is held of inodes to reading before anybody asks (followers.ts): in this turn, with everything sent that it
   * follows, or not at all. The server does not know of it before the release comes.
   */
  giveEarly(nodes: readonly number[]): void {
    const core = this.#core;
    const { writeBack } = core;
    if (core.freshGrants !== null) {
      void core.freshGrants.then(() => this.giveEarly(nodes));
      return;
    }
    if (core.ended !== 0 || this.#lossesGiven !== null) return;
    const ranges = nodes.map((node) => inodeRange(core.treeOf(node), core.inoOf(node)));
    const given = ranges.filter((range) => this.#isReadyForReaders(range));
    if (given.length === 0) return;
    const place = this.#flush(given);
    const isDirty = place > writeBack.appliedPlace;
    if (isDirty && !writeBack.isAllSent) return;
    countTransition(Transition.gaveEarly);
    const changes: ModeChange[] = [];
    for (const range of given) {
      core.contention.givenEarly(firstNode(core, range));
      changes.push(...core.held.lower(range, Mode.read));
    }
    if (isDirty) void this.#releaseBehind(place, changes, given);
    else this.release(changes, given);
  }

  /**
   * Whether an inode can be lowered to reading without asking the kernel, which dirties pages of a file that is open for
   * writing by itself. What is on its way already goes by its own revoke.
   */
  #isReadyForReaders(range: TreeRange): boolean {
    const core = this.#core;
    const node = firstNode(core, range);
    const hasWriters = (core.files.get(node)?.writers ?? 0) > 0;
    if (hasWriters && core.kernel.hasPages(node)) return false;
    return isWritable(core, range) && core.leaving.forEachIn(range, () => false);
  }

  /** Gives back what a refused batch left wrong: before anything of it that is still readable here is to others. */
  async giveLost(ranges: readonly Giving[]): Promise<void> {
    const given = this.#timed(ranges, true);
    const all = Promise.all([this.#lossesGiven, given]).then(() => {
      if (this.#lossesGiven === all) this.#lossesGiven = null;
    });
    this.#lossesGiven = all;
    await given;
  }

  async #timed(ranges: readonly Giving[], isLost: boolean): Promise<readonly ModeChange[]> {
    const startMs = this.#core.clock.nowMs();
    const changes = await this.#give(ranges, isLost);
    const kind = ranges.some((range) => range.newMode === Mode.none) ? 'to none' : 'to read';
    const durations = this.#durations.get(kind) ?? new Durations();
    this.#durations.set(kind, durations);
    durations.add(this.#core.clock.nowMs() - startMs);
    return changes;
  }

  async #give(asked: readonly Giving[], isLost: boolean): Promise<readonly ModeChange[]> {
    const core = this.#core;
    const ranges = this.#withDirtied(asked);
    for (const range of ranges) core.setLeaving(range, 1);
    if (core.freshGrants !== null) await core.freshGrants;
    const gone = ranges.filter((range) => range.newMode === Mode.none);
    await this.#whenBetweenCalls(ranges);
    const timesGiven = core.timesGiven;
    if (!isPlanted('keep-kernel-caches')) {
      forgetRanges(core, gone);
      for (const range of ranges) if (range.newMode === Mode.read) this.#forgetMapped(range);
    }
    await core.kernel.settled();
    const { changes, isHolding } = await this.#lowerForgotten(ranges, timesGiven);
    if (isPlanted('grant-not-split'))
      for (const change of changes) core.held.add({ ...change, mode: change.oldMode });
    if (isPlanted('release-before-flush')) this.release(changes, ranges);
    if (isHolding) core.pageHold.end();
    const { writeBack } = core;
    const place = this.#flush(ranges);
    const isDirty = place > writeBack.appliedPlace;
    countTransition(isDirty ? Transition.gaveDirty : Transition.gave);
    if (isDirty && !writeBack.isAllSent) await writeBack.whenApplied(place);
    if (!isLost && this.#lossesGiven !== null) await this.#lossesGiven;
    if (core.ended === 0) {
      for (const range of gone) dropGone(core, range);
      dropData(core, gone);
      const now = this.#sinceLowered(changes);
      if (place <= writeBack.appliedPlace) this.release(now, ranges);
      else void this.#releaseBehind(place, now, ranges);
    }
    for (const range of ranges) core.setLeaving(range, -1);
    core.dropGivenLeaving();
    return changes;
  }

  /** A batch was judged and refused: releases that named it or a later one are void. */
  batchRefused(number: number): void {
    for (const early of this.#early) early.isVoid ||= number <= early.afterBatch;
  }

  /** Sends a release right behind the batches up to `place`, and once more if one of them is refused. */
  async #releaseBehind(
    place: number,
    changes: readonly ModeChange[],
    ranges: readonly TreeRange[],
  ): Promise<void> {
    const { writeBack } = this.#core;
    const early: EarlyRelease = { afterBatch: writeBack.numberAt(place), changes, isVoid: false };
    const open = this.#openIn(ranges);
    this.#send(changes, open, early.afterBatch);
    this.#early.add(early);
    const isApplied = await writeBack.whenApplied(place);
    if (early.isVoid && isApplied) await this.#lossesGiven;
    // Not before: one that is sent again first takes out of this what it tells.
    this.#early.delete(early);
    if (!early.isVoid || !isApplied) return;
    countTransition(Transition.releasedAgain);
    // It tells what was given up since too. Once more that could meet a newer grant.
    for (const later of this.#early) later.changes = without(later.changes, early.changes);
    this.#send(this.#sinceLowered(early.changes), open, writeBack.applied);
  }

  /**
   * The changes of a release as they must be sent some time after the grants were lowered, or once more. A release of
   * what was given up of the ranges since did not count, as the server still holds them in the old mode: it goes with
   * this.
   */
  #sinceLowered(changes: readonly ModeChange[]): ModeChange[] {
    const now: ModeChange[] = [];
    for (const change of changes) {
      this.#core.held.forEachPiece(change, (start, end, mode) => {
        const isLess = mode === undefined || modeSatisfies(change.newMode, mode);
        now.push({ ...change, start, end, newMode: isLess ? (mode ?? Mode.none) : change.newMode });
      });
    }
    return now;
  }

  /**
   * Lowers the grants, in the very turn in which the kernel is found to have no page of them, nor a name that a rename
   * has taken along: repeats the invalidation of pages until no READ was answered meanwhile.
   *
   * @param timesGiven - how often pages had been given when the first invalidation began.
   * @returns what was lowered, and whether READs are held back, which must end now.
   */
  async #lowerForgotten(
    ranges: readonly Giving[],
    timesGiven: number,
  ): Promise<{ changes: readonly ModeChange[]; isHolding: boolean }> {
    const core = this.#core;
    let since = timesGiven;
    let isHolding = false;
    for (;;) {
      await this.#whenBetweenCalls(ranges);
      const carried = core.kernel.carried();
      if (carried !== null && core.ended === 0) {
        await carried;
        continue;
      }
      const late = this.#latePages(ranges, since);
      if (late.length === 0 || core.ended !== 0 || isPlanted('late-pages')) break;
      since = core.timesGiven;
      if (!isHolding) core.pageHold.begin();
      isHolding = true;
      countTransition(Transition.forgotLatePages);
      for (const node of late) {
        core.kernel.forgetAttributes(node, node + 1);
        for (const range of ranges) forgetContent(core, range, core.inoOf(node));
      }
      const settled = core.kernel.settled();
      if (await isWithin(core.clock, settled, HELD_BACK_MS)) continue;
      // The kernel waits for a READ that is held back.
      core.pageHold.end();
      isHolding = false;
      await settled;
    }
    const changes: ModeChange[] = [];
    for (const range of ranges) changes.push(...core.held.lower(range, range.newMode));
    return { changes, isHolding };
  }

  /** Waits until no call is between two of its steps: the parts of a write(2), or asking for the size and using it. */
  async #whenBetweenCalls(ranges: readonly TreeRange[]): Promise<void> {
    const core = this.#core;
    const isInCall = ({ node, writers }: FileState): boolean =>
      (writers > 0 && core.kernel.isWriting(node)) || core.kernel.isTaking(node);
    while (core.ended === 0 && ranges.some((range) => filesIn(core, range).some(isInCall))) {
      await new Promise<void>((resolve) => core.clock.setTimer(0, resolve));
    }
  }

  /** The files of the ranges of which the kernel was given pages since it had been given so many. */
  #latePages(ranges: readonly TreeRange[], since: number): number[] {
    const core = this.#core;
    const late: number[] = [];
    for (const [node, time] of core.givenLeaving) {
      if (time <= since) continue;
      const prefix = inodeRange(core.treeOf(node), core.inoOf(node));
      if (ranges.some((range) => rangesOverlap(range, prefix))) late.push(node);
    }
    return late;
  }

  /** A range that stays readable: what was written through mmap must come out, and later writes must be asked for. */
  #forgetMapped(range: TreeRange): void {
    for (const file of filesIn(this.#core, range)) forgetContent(this.#core, range, file.ino, true);
  }

  /**
   * The ranges, and the bytes of files that are open for writing and lose the derived part of their inode: what the kernel
   * writes back of them needs it.
   */
  #withDirtied(ranges: readonly Giving[]): readonly Giving[] {
    const core = this.#core;
    const more: Giving[] = [];
    for (const range of ranges) {
      for (const { tree, ino, writers } of filesIn(core, range)) {
        const isDerivedIn =
          compareKey(range.start, { objectid: ino, type: ItemType.inodeItem, offset: DERIVED }) <= 0 &&
          compareKey({ objectid: ino, type: ItemType.inodeItem, offset: DERIVED }, range.end) < 0;
        if (writers === 0 || !isDerivedIn || isPlanted('derived-alone')) continue;
        const start = { objectid: ino, type: ItemType.extentData, offset: 0 };
        const end = { objectid: ino, type: ItemType.extentData + 1, offset: 0 };
        more.push({ tree, start, end, newMode: Mode.read });
      }
    }
    return more.length === 0 ? ranges : [...ranges, ...more];
  }

  /** Sends what is dirty in the ranges. @returns the place of the last batch that concerns them. */
  #flush(ranges: readonly TreeRange[]): number {
    const core = this.#core;
    for (const file of [...core.files.dirty]) {
      const prefix = inodeRange(file.tree, file.ino);
      if (isPlanted('data-after-metadata')) continue;
      if (ranges.some((range) => rangesOverlap(range, prefix))) logFile(core, file);
    }
    let place = 0;
    for (const { tree, start, end } of ranges) {
      const youngest = core.items.youngestBatch(
        tree,
        start.objectid,
        start.type,
        start.offset,
        end.objectid,
        end.type,
        end.offset,
      );
      if (youngest > place) place = youngest;
    }
    if (place <= core.writeBack.appliedPlace) return place;
    // Prefix order: everything before goes with it. A mark of the open batch may stand for bytes that are not in the
    // log; those of the ranges are now.
    return Math.min(place, core.writeBack.flushLog());
  }

  /** Says that an inode is not used any more, when what was changed about it is applied. */
  async closed(file: FileState, isNameless: boolean): Promise<void> {
    const core = this.#core;
    const { tree, ino } = file;
    const place = this.#flush([inodeRange(tree, ino)]);
    if (place > core.writeBack.appliedPlace) await core.writeBack.whenApplied(place);
    // It may have been opened again meanwhile; then it says so when it is closed for good.
    if (core.ended !== 0 || (file.opens > 0 && !isNameless)) return;
    file.isToldOpen = false;
    core.files.settle(file);
    const afterBatch = core.writeBack.applied;
    this.#peer.notify('closed', { inodes: [{ tree, ino, isNameless }], afterBatch });
  }

  /** Sends a release of what is clean already. */
  release(changes: readonly ModeChange[], ranges: readonly TreeRange[]): void {
    this.#send(changes, this.#openIn(ranges), this.#core.writeBack.applied);
  }

  /** The inodes of the ranges that are in use here; from now on the server has been told of them. */
  #openIn(ranges: readonly TreeRange[]): readonly TreeInode[] {
    const core = this.#core;
    const open: TreeInode[] = [];
    this.#noteLooked(ranges);
    for (const range of ranges) {
      for (const node of core.orphans) {
        const tree = core.treeOf(node);
        const ino = core.inoOf(node);
        if (rangesOverlap(range, inodeRange(tree, ino))) core.files.make(node, tree, ino);
      }
      for (const file of filesIn(core, range)) {
        const { tree, ino } = file;
        if (file.opens === 0 && !core.orphans.has(file.node) && !this.#looked.has(file)) continue;
        file.isToldOpen = true;
        open.push({ tree, ino });
      }
    }
    return open;
  }

  /**
   * What a program has just looked up counts as open for a while: it may be between the lookup and the open, or use it
   * without an open. Else another client could take its last name and drop it under the program's hands.
   */
  #noteLooked(ranges: readonly TreeRange[]): void {
    const core = this.#core;
    core.kernel.forEachLooked((node) => {
      const tree = core.treeOf(node);
      const ino = core.inoOf(node);
      const prefix = inodeRange(tree, ino);
      if (node === ROOT_NODE || !ranges.some((range) => rangesOverlap(range, prefix))) return;
      this.#looked.add(core.files.make(node, tree, ino));
    });
    if (this.#looked.size > 0) this.#sweepLater();
  }

  #sweepLater(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#core.clock.setTimer(LOOKED_SWEEP_MS, () => {
      this.#isSweeping = false;
      this.#sweepLooked();
    });
  }

  /** Says of what was looked up some time ago, and is not open, that it is not used any more. */
  #sweepLooked(): void {
    const core = this.#core;
    if (core.ended !== 0) return;
    const recent = new Set<number>();
    core.kernel.forEachLooked((node) => recent.add(node));
    for (const file of [...this.#looked]) {
      if (recent.has(file.node)) continue;
      this.#looked.delete(file);
      if (file.isToldOpen && file.opens === 0 && !core.orphans.has(file.node)) core.sayClosed(file, false);
      else core.files.settle(file);
    }
    if (this.#looked.size > 0) this.#sweepLater();
  }

  #send(changes: readonly ModeChange[], open: readonly TreeInode[], afterBatch: number): void {
    const { refusedSeen } = this.#core.writeBack;
    for (let at = 0; at < changes.length || at < open.length; at += Math.min(RANGES_MAX, OPEN_INODES_MAX)) {
      this.#peer.notify('release', {
        ranges: changes.slice(at, at + RANGES_MAX),
        afterBatch,
        refusedSeen,
        openInodes: open.slice(at, at + OPEN_INODES_MAX),
      });
    }
  }
}

/** The parts of `changes` outside the ranges of others. */
function without(changes: readonly ModeChange[], others: readonly TreeRange[]): readonly ModeChange[] {
  const covered = new RangeForest<boolean>();
  for (const range of others) covered.set(range, true);
  const left: ModeChange[] = [];
  for (const change of changes) {
    covered.forEachPiece(change, (start, end, isCovered) => {
      if (isCovered === undefined) left.push({ ...change, start, end });
    });
  }
  return left;
}

/** Another client wants what lies in the range. A range over many inodes says nothing about a single one. */
function noteContention(core: Core, range: Giving): void {
  if (!isOneInode(range)) return;
  const { tree, start } = range;
  const { items } = core;
  const ino = start.objectid;
  let isLarge = false;
  if (items.find(tree, ino, ItemType.inodeItem, 0)) {
    const isDir = isDirectory(inodeMode(items.view, items.start));
    isLarge = isDir || inodeSize(items.view, items.start) > CONTENDED_WHOLE_BYTES;
  }
  core.contention.note(firstNode(core, range), isLarge, range.newMode === Mode.read);
}

/** Whether something of a range is held for writing. */
function isWritable(core: Core, range: TreeRange): boolean {
  let isFound = false;
  core.held.forEachIn(range, (_start, _end, mode) => {
    isFound = mode === Mode.write;
    return !isFound;
  });
  return isFound;
}

function isOneInode({ start, end }: TreeRange): boolean {
  return end.objectid === start.objectid || (end.objectid === start.objectid + 1 && end.type === 0);
}

function firstNode(core: Core, { tree, start }: TreeRange): number {
  return core.nodeOf(tree, start.objectid);
}

/** Whether `promise` resolves within `ms`. */
function isWithin(clock: Clock, promise: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = clock.setTimer(ms, () => resolve(false));
    void promise.then(() => {
      timer.cancel();
      resolve(true);
    });
  });
}
