// SPDX-License-Identifier: GPL-2.0-or-later
//
// Gets what operations found missing: grants with items, space and inode numbers in acquires; file data through
// data_fetcher.ts. What is missing in one turn is asked for together: one acquire, however many requests of a burst
// missed. What is on its way already is waited for, not asked for again.

import { Errno } from '../util/errno.ts';
import { CorruptionError, FsError, ProtocolError } from '../util/errors.ts';
import { PATIENT_MAX, WANTS_MAX } from '../util/limits.ts';
import { compareKey, inodeRange, type TreeRange } from '../util/range.ts';
import { type Acquire, Mode, type ModeChange, type Want, WantFlags } from '../wire/message.ts';
import type { Peer } from '../wire/peer.ts';
import { adoptReply } from './adoption.ts';
import type { Core } from './core.ts';
import type { DataFetcher } from './data_fetcher.ts';
import { CONTENDED_WHOLE_BYTES, DATA_WITH_ITEMS_BYTES, OWN_ACQUIRES_MAX } from './limits.ts';
import type { Missing } from './missing.ts';

/** An acquire on its way. */
interface Flight {
  readonly asked: Acquire;
  readonly done: Promise<number>;
  /** An operation waits for it. */
  isNeeded: boolean;
}

/** An acquire that is being put together. */
interface Gathering {
  readonly wants: Want[];
  space: number;
  inodeTree: number;
  inodes: number;
  wantsData: boolean;
  readonly done: Promise<number>;
  readonly settle: (result: number) => void;
}

export interface FetcherOptions {
  readonly core: Core;
  readonly peer: Peer;
  readonly data: DataFetcher;
  /** Whether data is worth having beside items now. */
  readonly wantsData: () => boolean;
  /** A reply was taken in; `unknown` is what it granted without items, to be given back. */
  readonly onAdopted: (unknown: ModeChange[]) => void;
  /** The server sent what it must not: ends the session. */
  readonly onBroken: (error: Error) => void;
}

export class Fetcher {
  acquires = 0;
  readonly #core: Core;
  readonly #peer: Peer;
  readonly #data: DataFetcher;
  readonly #options: FetcherOptions;
  #gathering: Gathering | null = null;
  readonly #inFlight = new Set<Flight>();
  /** Those that wait patiently, by their number. */
  readonly #patient = new Map<Flight, number>();
  #patiences = 0;

  constructor(options: FetcherOptions) {
    this.#options = options;
    this.#core = options.core;
    this.#peer = options.peer;
    this.#data = options.data;
  }

  /** Gets everything; 0, or a negative errno for the operation. */
  async fetch(missing: Missing): Promise<number> {
    const core = this.#core;
    if (core.ended !== 0) return core.ended;
    core.misses++;
    const waits: Promise<number>[] = [];
    if (missing.wants.length > 0 || missing.space > 0 || missing.inodes > 0)
      waits.push(this.#acquire(missing));
    for (const want of missing.data) waits.push(this.#data.read(want));
    if (missing.statfs) waits.push(this.#statfs());
    if (missing.room) await core.writeBack.room();
    if (missing.isHeldBack) await core.pageHold.wait();
    if (missing.isLeaving) await core.nextLeft();
    if (missing.isUntrusted) await core.lease.trusted();
    let result = core.ended;
    for (const wait of waits) {
      const one = await wait;
      if (result === 0) result = one;
    }
    return result;
  }

  /** An operation that may have asked to keep what it got is over. */
  done(): void {
    if (this.#core.ended !== 0) return;
    // Said by each: one that speaks for another cuts that one's keeping short, one that is not said costs all a second.
    this.#peer.notify('done', {});
  }

  /** Makes other clients send what they have changed of an inode. @returns 0 or a negative errno */
  async flushOthers(tree: number, ino: number): Promise<number> {
    const core = this.#core;
    const range = inodeRange(tree, ino);
    // Nobody can write what is held here.
    if (core.ended !== 0 || core.held.covers(range, Mode.read)) return core.ended;
    const gathering = newGathering();
    gathering.wants.push({ ...range, mode: Mode.read, flags: WantFlags.flushOnly });
    this.#send(gathering);
    return gathering.done;
  }

  /** Asks for more space and numbers before they run out. */
  topUp(tree: number): void {
    const core = this.#core;
    const needsNumbers = core.numbers.shouldAsk(tree);
    if (!needsNumbers && !core.space.isLow) return;
    if (this.#gathering !== null || this.#inFlight.size > 0) return;
    const gathering = this.#gather();
    if (needsNumbers) this.#askNumbers(gathering, tree);
    if (core.space.isLow) gathering.space = Math.max(gathering.space, core.space.wanted(0));
  }

  #askNumbers(gathering: Gathering, tree: number): void {
    gathering.inodeTree = tree;
    gathering.inodes = this.#core.numbers.wanted(tree);
    this.#core.numbers.asked(tree, true);
  }

  async #acquire(missing: Missing): Promise<number> {
    const waits: Promise<number>[] = [];
    const coming = missing.isOwn && !missing.keeps ? this.#comingWith(missing.wants) : null;
    if (coming !== null) {
      waits.push(coming);
    } else if (missing.isOwn && (missing.keeps || this.#inFlight.size < OWN_ACQUIRES_MAX)) {
      const gathering = newGathering();
      const keep = missing.keeps ? WantFlags.keep : 0;
      for (const want of missing.wants) gathering.wants.push({ ...want, flags: want.flags | keep });
      gathering.wantsData = missing.wantsData;
      queueMicrotask(() => this.#send(gathering));
      waits.push(gathering.done);
    } else {
      for (const want of missing.wants) waits.push(this.#inFlightWith(want) ?? this.#want(want));
    }
    if (missing.space > 0) waits.push(this.#wantSpace(missing.space));
    if (missing.inodes > 0) waits.push(this.#wantNumbers(missing.inodeTree));
    let result = 0;
    for (const wait of waits) {
      const one = await wait;
      if (result === 0) result = one;
    }
    return result;
  }

  /** Hurries the patient acquire that brings all that is missing of these wants, if there is one. */
  #comingWith(wants: readonly Want[]): Promise<number> | null {
    const { held } = this.#core;
    for (const [flight, patience] of this.#patient) {
      const { asked, done } = flight;
      const bringsAll = wants.every((want) =>
        held
          .missing(want, want.mode)
          .every((piece) =>
            asked.wants.some((other) => other.mode === want.mode && containsRange(other, piece)),
          ),
      );
      if (!bringsAll) continue;
      flight.isNeeded = true;
      this.#peer.notify('hurry', { patience });
      return done;
    }
    return null;
  }

  #gather(): Gathering {
    if (this.#gathering !== null && this.#gathering.wants.length < WANTS_MAX) return this.#gathering;
    const gathering = newGathering();
    this.#gathering = gathering;
    queueMicrotask(() => this.#send(gathering));
    return gathering;
  }

  #want(want: Want): Promise<number> {
    const gathering = this.#gather();
    if (!gathering.wants.some((other) => covers(other, want))) gathering.wants.push(want);
    return gathering.done;
  }

  async #wantSpace(bytes: number): Promise<number> {
    const core = this.#core;
    for (const flight of this.#inFlight) {
      if (flight.asked.spaceWanted >= bytes) return flight.done;
    }
    const gathering = this.#gather();
    gathering.space = Math.max(gathering.space, core.space.wanted(bytes));
    const result = await gathering.done;
    if (core.space.available >= bytes || (result !== 0 && result !== -Errno.ENOSPC)) return result;
    // The server is short. What our own changes hold reserved, mostly more than they need, comes free when they are
    // applied, and the bare need may still fit.
    core.space.shrink();
    await core.writeBack.whenApplied(core.writeBack.flush());
    const retry = this.#gather();
    retry.space = Math.max(retry.space, core.space.wanted(bytes));
    const second = await retry.done;
    if (second !== 0) return second;
    return core.space.available >= bytes ? 0 : -Errno.ENOSPC;
  }

  #wantNumbers(tree: number): Promise<number> {
    for (const flight of this.#inFlight) {
      if (flight.asked.inodesWanted?.tree === tree) return flight.done;
    }
    const gathering = this.#gather();
    if (gathering.inodes > 0 && gathering.inodeTree !== tree) return gathering.done;
    this.#askNumbers(gathering, tree);
    return gathering.done;
  }

  /** An acquire on its way that brings this want. */
  #inFlightWith(want: Want): Promise<number> | null {
    for (const flight of this.#inFlight) {
      if (flight.asked.wants.some((other) => covers(other, want))) return flight.done;
    }
    return null;
  }

  /** Asks for what was just given away, without taking it from anybody. */
  wantBack(wants: readonly Want[]): void {
    // Some may wait for a batch and not be counted by the server yet; it ends the oldest of the others.
    if (this.#patient.size >= 2 * PATIENT_MAX) return;
    const gathering = newGathering();
    gathering.wants.push(...wants);
    gathering.wantsData = true;
    this.#send(gathering, true);
  }

  #send(gathering: Gathering, isPatient = false): void {
    if (this.#gathering === gathering) this.#gathering = null;
    const core = this.#core;
    if (gathering.space === 0 && gathering.inodes > 0 && core.space.isLow)
      gathering.space = core.space.wanted(0);
    const asked: Acquire = {
      wants: gathering.wants,
      spaceWanted: gathering.space,
      inodesWanted: gathering.inodes > 0 ? { tree: gathering.inodeTree, count: gathering.inodes } : null,
      dataBytesWanted: this.#dataWanted(gathering),
    };
    const flight: Flight = { asked, done: gathering.done, isNeeded: !isPatient };
    if (isPatient) this.#patient.set(flight, ++this.#patiences);
    else this.#inFlight.add(flight);
    const end = (): void => {
      this.#inFlight.delete(flight);
      this.#patient.delete(flight);
    };
    this.acquires++;
    this.#peer
      .request('acquire', asked, {
        onReply: (reply) => {
          end();
          // Operations that wait for this run before anything of it is given back.
          if (flight.isNeeded) core.grantsArrived();
          this.#guard(() => {
            this.#options.onAdopted(adoptReply(core, asked, reply.fields, reply.body));
          });
        },
      })
      .then(
        () => gathering.settle(core.ended),
        (error: unknown) => {
          end();
          if (gathering.inodes > 0) core.numbers.asked(gathering.inodeTree, false);
          gathering.settle(this.errnoOf(error));
        },
      );
  }

  #dataWanted({ wants, wantsData }: Gathering): number {
    if (wants.length > 0 && this.#options.wantsData()) return DATA_WITH_ITEMS_BYTES;
    return wantsData ? CONTENDED_WHOLE_BYTES : 0;
  }

  /** Runs what takes in a reply: what the server may not send ends the session. */
  #guard(adopt: () => void): void {
    try {
      adopt();
    } catch (error) {
      if (!(error instanceof CorruptionError) && !(error instanceof ProtocolError)) throw error;
      this.#options.onBroken(error);
    }
  }

  errnoOf(error: unknown): number {
    if (this.#core.ended !== 0) return this.#core.ended;
    return error instanceof FsError ? -error.errno : -Errno.EIO;
  }

  async #statfs(): Promise<number> {
    try {
      const reply = await this.#peer.request('statfs', {});
      this.#core.statfs = { ...reply.fields, atMs: this.#core.clock.nowMs() };
      return 0;
    } catch (error) {
      return this.errnoOf(error);
    }
  }
}

function newGathering(): Gathering {
  let settle: (result: number) => void = () => {};
  const done = new Promise<number>((resolve) => {
    settle = resolve;
  });
  return { wants: [], space: 0, inodeTree: 0, inodes: 0, wantsData: false, done, settle };
}

function covers(outer: Want, inner: Want): boolean {
  return (
    outer.tree === inner.tree &&
    (outer.mode === inner.mode || outer.mode === Mode.write) &&
    containsRange(outer, inner)
  );
}

function containsRange(outer: TreeRange, inner: TreeRange): boolean {
  return compareKey(outer.start, inner.start) <= 0 && compareKey(outer.end, inner.end) >= 0;
}
