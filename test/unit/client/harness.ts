// SPDX-License-Identifier: GPL-2.0-or-later
//
// A client over an in-memory transport, with a plain server for it alone: it grants what is asked, remembers what the
// client holds, and applies batches to a MemoryVolume in order. What several clients need is the real server's
// (test/unit/client/two_clients.test.ts).

import { Buffer } from 'node:buffer';
import { Client } from '../../../ts/client/client.ts';
import { AttrOut, MISS, type Operations } from '../../../ts/client/operations.ts';
import { MemoryVolume } from '../../../ts/store/memory_volume.ts';
import type { Clock, Timer } from '../../../ts/util/clock.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { FsError } from '../../../ts/util/errors.ts';
import { compareKey, type Key, type TreeRange } from '../../../ts/util/range.ts';
import { RangeForest } from '../../../ts/util/range_map.ts';
import { MessageCounters } from '../../../ts/wire/counters.ts';
import { memoryPair } from '../../../ts/wire/memory_transport.ts';
import type { GrantRange, ModeChange, PageEntry, Refusal } from '../../../ts/wire/message.ts';
import { Mode, WantFlags } from '../../../ts/wire/message.ts';
import { Peer, type RequestFrom } from '../../../ts/wire/peer.ts';

export const realClock: Clock = {
  nowMs: () => performance.now(),
  realTimeNs: () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n,
  setTimer(delayMs: number, onTime: () => void): Timer {
    const timer = setTimeout(onTime, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** What a test may change about the server. */
export interface ServerKnobs {
  /** Refuses a batch: called with its number. */
  refuse?: (number: number, changes: Uint8Array) => Refusal | null;
  /** Bytes of space still to be given; without it without end. */
  spaceLeft?: number;
  /** Bytes of items to which a wide want is widened. */
  wideInodes?: number;
}

/** The server's side of one connection. */
export class PlainServer {
  readonly volume: MemoryVolume;
  readonly held: RangeForest<Mode> = new RangeForest();
  readonly knobs: ServerKnobs;
  readonly peer: Peer;
  releases: ModeChange[] = [];
  releaseMessages = 0;
  /** Batches as they came, for tests of their order. */
  batches: { number: number; changes: Uint8Array }[] = [];
  #applied = 0;
  #durable = 0;
  #nextIno = 1000;
  #queue: Promise<void> = Promise.resolve();

  constructor(volume: MemoryVolume, peer: Peer, knobs: ServerKnobs) {
    this.volume = volume;
    this.peer = peer;
    this.knobs = knobs;
    peer.start({
      onRequest: (request) => {
        this.#queue = this.#queue.then(async () => {
          try {
            await this.#onRequest(request as RequestFrom<never>);
          } catch (error) {
            if (!(error instanceof FsError)) throw error;
            (request as RequestFrom<never>).fail(error.errno, error.text);
          }
        });
      },
      onNotice: (notice) => {
        this.#queue = this.#queue.then(() => {
          if (notice.name !== 'release') return;
          this.releaseMessages++;
          for (const change of notice.fields.ranges) {
            this.releases.push(change);
            if (change.newMode === Mode.none) this.held.cut(change);
            else this.held.set(change, change.newMode);
          }
        });
      },
      onClosed: () => {},
    });
  }

  revoke(ranges: ModeChange[]): void {
    this.peer.notify('revoke', { ranges });
  }

  async #onRequest(request: { name: string }): Promise<void> {
    switch (request.name) {
      case 'greeting':
        return this.#greeting(request as RequestFrom<'greeting'>);
      case 'acquire':
        return this.#acquire(request as RequestFrom<'acquire'>);
      case 'batch':
        return this.#batch(request as RequestFrom<'batch'>);
      case 'sync': {
        await this.volume.commit();
        this.#durable = this.#applied;
        return (request as RequestFrom<'sync'>).reply({ durable: this.#durable });
      }
      case 'readData': {
        const read = request as RequestFrom<'readData'>;
        const { extents } = read.fields;
        const data = await this.volume.readData(extents);
        const parts: Uint8Array[] = [data.checksums];
        let at = 0;
        for (const { length } of extents) {
          parts.push(data.bytes.subarray(at, at + length));
          at += Math.ceil(length / 4096) * 4096;
        }
        return read.reply({ lengths: extents.map((extent) => extent.length) }, parts);
      }
      case 'statfs': {
        const space = await this.volume.statfs();
        return (request as RequestFrom<'statfs'>).reply({ ...space, inodesUsed: 1 });
      }
    }
  }

  #greeting(request: RequestFrom<'greeting'>): void {
    const { info } = this.volume;
    request.reply({
      version: 1,
      features: [],
      session: 1n,
      epoch: 1n,
      serverTimeNs: realClock.realTimeNs(),
      leaseMs: 30_000,
      limits: { frameBodyBytes: 16 << 20, batchBytes: 8 << 20, batchesInFlight: 8 },
      root: { tree: 5, ino: 256 },
      fsid: info.fsid,
      sectorSize: info.sectorSize,
      maxInline: info.maxInline,
      maxXattrItem: info.maxXattrItem,
      maxHashBucketItem: info.maxHashBucketItem,
      deviceTotal: info.deviceTotal,
    });
  }

  /** A wide want gets the prefixes of its neighbours too. */
  #widen(want: TreeRange, isWide: boolean): TreeRange {
    if (!isWide) return want;
    const from = want.start.objectid;
    const to = want.end.type === 0 && want.end.offset === 0 ? want.end.objectid : want.end.objectid + 1;
    return {
      tree: want.tree,
      start: { objectid: from, type: 0, offset: 0 },
      end: { objectid: to + (this.knobs.wideInodes ?? 0), type: 0, offset: 0 },
    };
  }

  async #acquire(request: RequestFrom<'acquire'>): Promise<void> {
    const { wants, spaceWanted, inodesWanted } = request.fields;
    const grants: GrantRange[] = [];
    const pages: PageEntry[] = [];
    const bodies: Buffer[] = [];
    for (const want of wants) {
      const range = this.#widen(want, (want.flags & WantFlags.wide) !== 0);
      const gaps: { start: Key; end: Key }[] = [];
      this.held.forEachPiece(range, (start, end, mode) => {
        if (mode === undefined) gaps.push({ start, end });
      });
      for (const gap of gaps) {
        let start = gap.start;
        while (compareKey(start, gap.end) < 0) {
          const read = await this.volume.readItems(range.tree, start, gap.end, 256 << 10);
          pages.push({ tree: range.tree, start, end: read.coveredEnd, length: read.page.length });
          bodies.push(read.page);
          start = read.coveredEnd;
        }
      }
      this.held.set(range, Mode.write);
      grants.push({ ...range, mode: Mode.write });
    }
    let space = spaceWanted;
    if (this.knobs.spaceLeft !== undefined) {
      space = Math.min(space, this.knobs.spaceLeft);
      this.knobs.spaceLeft -= space;
      if (spaceWanted > 0 && space === 0) throw new FsError(28, 'no space');
    }
    let inodeRun = null;
    if (inodesWanted !== null) {
      const { tree, count } = inodesWanted;
      inodeRun = { tree, first: this.#nextIno, count };
      this.held.set(
        {
          tree,
          start: { objectid: this.#nextIno, type: 0, offset: 0 },
          end: { objectid: this.#nextIno + count, type: 0, offset: 0 },
        },
        Mode.write,
      );
      this.#nextIno += count;
    }
    request.reply({ grants, pages, space, inodeRun, data: [] }, bodies);
  }

  async #batch(request: RequestFrom<'batch'>): Promise<void> {
    const { number, changeCount, changesLength, dataLength } = request.fields;
    const changes = request.body.subarray(0, changesLength);
    const data = request.body.subarray(request.body.length - dataLength);
    const checksums = request.body.subarray(changesLength, request.body.length - dataLength);
    this.batches.push({ number, changes });
    let refused = this.knobs.refuse?.(number, changes) ?? null;
    refused ??= (await this.volume.apply({ changeCount, changes, checksums, data }, null)).refused;
    this.#applied = number;
    request.reply({ applied: this.#applied, durable: this.#durable, refused });
  }
}

export interface Session {
  readonly client: Client;
  readonly server: PlainServer;
  readonly ops: Operations;
  readonly counters: MessageCounters;
  readonly log: string[];
  /** Messages in both directions so far. */
  messages(): number;
}

/** A volume large enough for any test here. */
export function newVolume(): MemoryVolume {
  return new MemoryVolume({ crc32c, deviceTotal: 1 << 40 });
}

export async function connect(
  volume: MemoryVolume,
  options: { cacheBytes?: number; knobs?: ServerKnobs } = {},
): Promise<Session> {
  const [clientEnd, serverEnd] = memoryPair({ schedule: (task) => setImmediate(task) });
  const counters = new MessageCounters();
  const log: string[] = [];
  const server = new PlainServer(
    volume,
    new Peer({ transport: serverEnd, side: 'server', clock: realClock, crc32c }),
    options.knobs ?? {},
  );
  const client = await Client.connect({
    transport: clientEnd,
    clock: realClock,
    crc32c,
    path: bytes('/'),
    clientName: 'test',
    counters,
    log: (line) => log.push(line),
    ...(options.cacheBytes === undefined ? {} : { cacheBytes: options.cacheBytes }),
  });
  return {
    client,
    server,
    ops: client.operations,
    counters,
    log,
    messages() {
      const { sent, received } = counters.report().messages;
      const sum = (counts: Record<string, number>): number =>
        Object.values(counts).reduce((a, b) => a + b, 0);
      return sum(sent) + sum(received);
    },
  };
}

export function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

/** Runs an operation until nothing is missing. */
export async function run(ops: Operations, operation: () => number): Promise<number> {
  for (;;) {
    const result = operation();
    if (result !== MISS) return result;
    const error = await ops.fetchMissing();
    if (error < 0) return error;
  }
}

/** As `run`, and fails the test on an errno. */
export async function must(ops: Operations, operation: () => number): Promise<number> {
  const result = await run(ops, operation);
  if (result < 0) throw new Error(`the operation failed with errno ${-result}`);
  return result;
}

export { AttrOut };
