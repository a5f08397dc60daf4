// SPDX-License-Identifier: GPL-2.0-or-later
//
// Gets what operations found missing: grants with items, space, inode numbers in acquires; file data in read-data
// requests. What is missing in one turn is asked for together: one acquire, however many requests of a burst missed.
// What is on its way already is waited for, not asked for again.

import { Errno } from '../util/errno.ts';
import { CorruptionError, FsError, ProtocolError } from '../util/errors.ts';
import { BODY_BYTES_MAX, READ_EXTENTS_MAX, WANTS_MAX } from '../util/limits.ts';
import { compareKey, type TreeRange } from '../util/range.ts';
import {
  type Acquire,
  type FileExtent,
  Mode,
  type ModeChange,
  type ReadDataReply,
  type Want,
} from '../wire/message.ts';
import type { Peer, Reply } from '../wire/peer.ts';
import { adoptBytes, adoptReply } from './adoption.ts';
import type { Core } from './core.ts';
import type { Fetch, FileState } from './file_state.ts';
import { DATA_WITH_ITEMS_BYTES, READ_REQUEST_BYTES } from './limits.ts';
import type { DataWant, Missing } from './missing.ts';

const SECTOR = 4096;

/** An acquire that is being put together. */
interface Gathering {
  readonly wants: Want[];
  space: number;
  inodeTree: number;
  inodes: number;
  readonly done: Promise<number>;
  readonly settle: (result: number) => void;
}

export interface FetcherOptions {
  readonly core: Core;
  readonly peer: Peer;
  /** Whether data is worth having beside items now. */
  readonly wantsData: () => boolean;
  /** A reply was taken in; `unknown` is what it granted without items, to be given back. */
  readonly onAdopted: (unknown: ModeChange[]) => void;
  /** The server sent what it must not: ends the session. */
  readonly onBroken: (error: Error) => void;
}

export class Fetcher {
  acquires = 0;
  readRequests = 0;
  readonly #core: Core;
  readonly #peer: Peer;
  readonly #options: FetcherOptions;
  #gathering: Gathering | null = null;
  readonly #inFlight = new Set<{ readonly asked: Acquire; readonly done: Promise<number> }>();
  #dataQueue: { want: DataWant; file: FileState }[] = [];
  #dataDone: Promise<number> | null = null;

  constructor(options: FetcherOptions) {
    this.#options = options;
    this.#core = options.core;
    this.#peer = options.peer;
  }

  /** Gets everything; 0, or a negative errno for the operation. */
  async fetch(missing: Missing): Promise<number> {
    const core = this.#core;
    if (core.ended !== 0) return core.ended;
    core.misses++;
    const waits: Promise<number>[] = [];
    if (missing.wants.length > 0 || missing.space > 0 || missing.inodes > 0)
      waits.push(this.#acquire(missing));
    for (const want of missing.data) waits.push(this.read(want));
    if (missing.statfs) waits.push(this.#statfs());
    if (missing.room) await core.writeBack.room();
    let result = core.ended;
    for (const wait of waits) {
      const one = await wait;
      if (result === 0) result = one;
    }
    return result;
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
    for (const want of missing.wants) waits.push(this.#inFlightWith(want) ?? this.#want(want));
    if (missing.space > 0) waits.push(this.#wantSpace(missing.space));
    if (missing.inodes > 0) waits.push(this.#wantNumbers(missing.inodeTree));
    let result = 0;
    for (const wait of waits) {
      const one = await wait;
      if (result === 0) result = one;
    }
    return result;
  }

  #gather(): Gathering {
    if (this.#gathering !== null && this.#gathering.wants.length < WANTS_MAX) return this.#gathering;
    let settle: (result: number) => void = () => {};
    const done = new Promise<number>((resolve) => {
      settle = resolve;
    });
    const gathering: Gathering = { wants: [], space: 0, inodeTree: 0, inodes: 0, done, settle };
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

  #send(gathering: Gathering): void {
    if (this.#gathering === gathering) this.#gathering = null;
    const core = this.#core;
    if (gathering.space === 0 && gathering.inodes > 0 && core.space.isLow)
      gathering.space = core.space.wanted(0);
    const asked: Acquire = {
      wants: gathering.wants,
      spaceWanted: gathering.space,
      inodesWanted: gathering.inodes > 0 ? { tree: gathering.inodeTree, count: gathering.inodes } : null,
      dataBytesWanted: gathering.wants.length > 0 && this.#options.wantsData() ? DATA_WITH_ITEMS_BYTES : 0,
    };
    const flight = { asked, done: gathering.done };
    this.#inFlight.add(flight);
    this.acquires++;
    this.#peer
      .request('acquire', asked, {
        onReply: (reply) => {
          this.#inFlight.delete(flight);
          this.#guard(() => {
            this.#options.onAdopted(adoptReply(core, asked, reply.fields, reply.body));
          });
        },
      })
      .then(
        () => gathering.settle(core.ended),
        (error: unknown) => {
          this.#inFlight.delete(flight);
          if (gathering.inodes > 0) core.numbers.asked(gathering.inodeTree, false);
          gathering.settle(this.#errnoOf(error));
        },
      );
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

  #errnoOf(error: unknown): number {
    if (this.#core.ended !== 0) return this.#core.ended;
    return error instanceof FsError ? -error.errno : -Errno.EIO;
  }

  async #statfs(): Promise<number> {
    try {
      const reply = await this.#peer.request('statfs', {});
      this.#core.statfs = { ...reply.fields, atMs: this.#core.clock.nowMs() };
      return 0;
    } catch (error) {
      return this.#errnoOf(error);
    }
  }

  /** Gets bytes of a file, or waits for them if they are on their way. */
  async read(want: DataWant): Promise<number> {
    const core = this.#core;
    const node = core.nodeOf(want.tree, want.ino);
    const file = core.files.make(node, want.tree, want.ino);
    const waits: Promise<number>[] = [];
    let at = want.start;
    for (const fetch of [...file.fetches].sort((a, b) => a.start - b.start)) {
      if (fetch.version !== file.version || fetch.end <= at || fetch.start >= want.end) continue;
      waits.push(fetch.done);
      if (fetch.start > at) waits.push(...this.#ask(file, at, fetch.start));
      at = fetch.end;
    }
    if (at < want.end) waits.push(...this.#ask(file, at, want.end));
    let result = 0;
    for (const wait of waits) {
      const one = await wait;
      if (result === 0) result = one;
    }
    return result;
  }

  /**
   * Asks for bytes that nobody waits for, from where they are neither here nor on their way; not before half of them
   * are used up.
   */
  readAhead(want: DataWant): void {
    const core = this.#core;
    const file = core.files.get(core.nodeOf(want.tree, want.ino));
    let at = want.start;
    if (file !== undefined) {
      for (const piece of [...file.clean, ...file.fetches].sort((a, b) => a.start - b.start)) {
        if (piece.start <= at && piece.end > at) at = piece.end;
      }
    }
    if (at >= want.end || (at - want.start) * 2 > want.end - want.start) return;
    void this.read({ ...want, start: at });
  }

  #ask(file: FileState, start: number, end: number): Promise<number>[] {
    const asked: Promise<number>[] = [];
    for (let at = start; at < end; at += READ_REQUEST_BYTES) {
      const to = Math.min(end, at + READ_REQUEST_BYTES);
      this.#dataQueue.push({ want: { tree: file.tree, ino: file.ino, start: at, end: to }, file });
      this.#dataDone ??= Promise.resolve().then(() => this.#sendReads());
      const done = this.#dataDone;
      const fetch: Fetch = { start: at, end: to, version: file.version, done };
      file.fetches.push(fetch);
      asked.push(done);
    }
    return asked;
  }

  async #sendReads(): Promise<number> {
    const queue = this.#dataQueue;
    this.#dataQueue = [];
    const done = this.#dataDone;
    this.#dataDone = null;
    const sends: Promise<number>[] = [];
    for (let at = 0; at < queue.length; ) {
      let bytes = 0;
      let to = at;
      while (to < queue.length && to - at < READ_EXTENTS_MAX) {
        const one = queue[to]!.want;
        if (to > at && bytes + one.end - one.start > READ_REQUEST_BYTES) break;
        bytes += one.end - one.start;
        to++;
      }
      sends.push(this.#sendRead(queue.slice(at, to)));
      at = to;
    }
    let result = 0;
    for (const send of sends) {
      const one = await send;
      if (result === 0) result = one;
    }
    for (const { file } of queue) {
      file.fetches = file.fetches.filter((fetch) => fetch.done !== done);
      this.#core.files.settle(file);
    }
    return result;
  }

  async #sendRead(parts: { want: DataWant; file: FileState }[]): Promise<number> {
    const extents: FileExtent[] = parts.map(({ want }) => ({
      tree: want.tree,
      ino: want.ino,
      offset: want.start,
      length: want.end - want.start,
    }));
    const versions = parts.map(({ file }) => file.version);
    this.readRequests++;
    try {
      await this.#peer.request(
        'readData',
        { extents },
        { onReply: (reply) => this.#guard(() => this.#adoptRead(parts, versions, reply)) },
      );
      return this.#core.ended;
    } catch (error) {
      if (parts.length === 1 || !(error instanceof FsError)) return this.#errnoOf(error);
      // One file that cannot be read must not fail the others that were asked for with it. Who needs it asks again,
      // alone, and gets its errno.
      await Promise.all(parts.map((part) => this.#sendRead([part])));
      return this.#core.ended;
    }
  }

  #adoptRead(
    parts: { want: DataWant; file: FileState }[],
    versions: number[],
    reply: Reply<'readData'>,
  ): void {
    const { lengths }: ReadDataReply = reply.fields;
    if (lengths.length !== parts.length)
      throw new ProtocolError('a read-data reply has the wrong number of lengths');
    let sectors = 0;
    let total = 0;
    for (const [place, length] of lengths.entries()) {
      const { want } = parts[place]!;
      if (length > want.end - want.start) throw new ProtocolError('a read-data reply is longer than asked');
      sectors += Math.ceil(length / SECTOR);
      total += length;
    }
    if (sectors * 4 + total !== reply.body.length || total > BODY_BYTES_MAX) {
      throw new ProtocolError('the body of a read-data reply has the wrong length');
    }
    let sumsAt = 0;
    let bytesAt = sectors * 4;
    for (const [place, length] of lengths.entries()) {
      const { want, file } = parts[place]!;
      if (file.version === versions[place]) {
        const { tree, ino, start, end } = want;
        adoptBytes(this.#core, tree, ino, start, length, reply.body, sumsAt, bytesAt);
        // Behind the end that the server knows an extent holds zeros.
        if (length < end - start) this.#addZeros(file, start + length, end);
      }
      sumsAt += Math.ceil(length / SECTOR) * 4;
      bytesAt += length;
    }
  }

  #addZeros(file: FileState, start: number, end: number): void {
    if (file.pending.some((piece) => piece.start < end && piece.end > start)) return;
    this.#core.files.addClean({ file, start, end, bytes: new Uint8Array(end - start) });
  }
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
