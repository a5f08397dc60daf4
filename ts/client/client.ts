// SPDX-License-Identifier: GPL-2.0-or-later
//
// One session with a server, from the greeting to the goodbye: puts the caches, the write-back and the operations
// together, answers revokes, keeps the session alive, and ends it.
//
// Nothing here knows a socket or a kernel: transport, clock and checksums are given, and so is the kernel's cache,
// once there is a mount.
//
// When the connection is lost, every operation that waits and every later one fails with EIO at once: nothing is
// replayed, and nothing hangs.

import type { Clock, Timer } from '../util/clock.ts';
import type { Crc32c } from '../util/crc32c.ts';
import type { DurationReport } from '../util/durations.ts';
import { Errno } from '../util/errno.ts';
import { ConnectionError, errorText, FsError } from '../util/errors.ts';
import type { Log } from '../util/log.ts';
import type { TreeRange } from '../util/range.ts';
import type { MessageCounters } from '../wire/counters.ts';
import { type GreetingReply, Mode, PROTOCOL_VERSION } from '../wire/message.ts';
import { type IncomingNotice, Peer } from '../wire/peer.ts';
import type { Transport } from '../wire/transport.ts';
import type { Batch } from './batch.ts';
import { Core, type SectorSums } from './core.ts';
import { DataFetcher } from './data_fetcher.ts';
import { Evictor } from './eviction.ts';
import { Fetcher } from './fetcher.ts';
import { NeighbourReader } from './file_reader.ts';
import { logFile } from './file_writer.ts';
import { Followers } from './followers.ts';
import { Giver, type Giving } from './giver.ts';
import { type KernelCache, NO_KERNEL } from './kernel_cache.ts';
import { forgetRanges } from './kernel_forget.ts';
import { LeaseWatch } from './lease_watch.ts';
import { CACHE_BYTES_DEFAULT, DIRTY_BYTES_MAX } from './limits.ts';
import type { Operations } from './operations.ts';
import { ClientOperations } from './ops/client_operations.ts';
import { type Losses, lostRanges, RefusalFilter } from './refusal.ts';
import { sectorSumsBy } from './sector_sums.ts';
import { WriteBack } from './write_back.ts';

/** Features that this client knows. None is required of a server yet. */
const FEATURES: readonly string[] = [];

/** Time to wait for the answer to the greeting, milliseconds. */
const GREETING_TIMEOUT_MS = 10_000;

/** Pings in the time of a lease. */
const PINGS_A_LEASE = 3;
export interface ClientOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  /** Sums of many sectors at once; without it `crc32c` is called for each. */
  readonly sectorSums?: SectorSums;
  /** The directory of the image that becomes the root, raw bytes. */
  readonly path: Uint8Array;
  readonly clientName: string;
  readonly readOnly?: boolean;
  /** Bound of cached items and data, bytes. */
  readonly cacheBytes?: number;
  /** Bound of bytes that are written and not applied; what the link moves in a moment without it. */
  readonly dirtyBytesMax?: number;
  /** Changes were refused and are lost; `given` resolves when everything about them has been given back. */
  readonly onLost?: (losses: Losses, given: Promise<void>) => void;
  readonly counters?: MessageCounters;
  /** One line for people. */
  readonly log: Log;
  /** The session ended without `close`: by the connection, the server or a broken rule. */
  readonly onEnded?: (cause: ConnectionError) => void;
}

/** Counters of a session; the units are in the names. */
export interface ClientStats {
  cacheBytes: number;
  cacheBytesMax: number;
  cacheItems: number;
  dataCacheBytes: number;
  dirtyBytes: number;
  heldRanges: number;
  readRanges: number;
  writeRanges: number;
  /** Ranges that are being given back. */
  leavingRanges: number;
  contendedInodes: number;
  dirtyFiles: number;
  unsentChanges: number;
  batchesInFlight: number;
  openFiles: number;
  operations: number;
  misses: number;
  acquires: number;
  readRequests: number;
  batches: number;
  batchesApplied: number;
  batchesDurable: number;
  evictions: number;
  evictedBytes: number;
  spaceReservedBytes: number;
}

export class Client {
  readonly operations: Operations;
  /** What the server said of itself and its limits. */
  readonly greeting: GreetingReply;
  readonly peer: Peer;

  readonly #core: Core;
  readonly #fetcher: Fetcher;
  readonly #data: DataFetcher;
  readonly #giver: Giver;
  readonly #evictor: Evictor;
  readonly #options: ClientOptions;
  #pingTimer: Timer | null = null;
  readonly #lease: LeaseWatch;
  #isClosing = false;

  /** Connects and greets. @throws FsError, ConnectionError - why there is no session. */
  static async connect(options: ClientOptions): Promise<Client> {
    const { transport, clock, crc32c, counters } = options;
    const peer = new Peer({ transport, side: 'client', clock, crc32c, ...(counters ? { counters } : {}) });
    let client: Client | null = null;
    peer.start({
      onRequest: (request) => request.fail(Errno.EPROTO, 'a client takes no requests'),
      onNotice: (notice) => client?.onNotice(notice),
      onClosed: (cause) => client?.onClosed(cause),
    });
    await peer.request(
      'greeting',
      {
        versionMin: PROTOCOL_VERSION,
        versionMax: PROTOCOL_VERSION,
        features: FEATURES,
        clientName: options.clientName,
        path: options.path,
        readOnly: options.readOnly === true,
      },
      {
        timeoutMs: GREETING_TIMEOUT_MS,
        // A revoke may follow in the same chunk, so the client must stand before the promise settles.
        onReply: (reply) => {
          client = new Client(options, peer, reply.fields);
        },
      },
    );
    client!.#lease.look();
    return client!;
  }

  private constructor(options: ClientOptions, peer: Peer, greeting: GreetingReply) {
    this.#options = options;
    this.peer = peer;
    this.greeting = greeting;
    const { clock, crc32c } = options;
    const core = new Core({
      clock,
      crc32c,
      sectorSums: options.sectorSums ?? sectorSumsBy(crc32c),
      kernel: NO_KERNEL,
      limits: {
        maxInlineBytes: greeting.maxInline,
        maxXattrBytes: greeting.maxXattrItem,
        maxBucketBytes: greeting.maxHashBucketItem,
      },
      rootTree: greeting.root.tree,
      rootIno: greeting.root.ino,
      readOnly: options.readOnly === true,
      cacheBytes: options.cacheBytes ?? CACHE_BYTES_DEFAULT,
    });
    this.#core = core;
    core.stamp.learn(greeting.serverTimeNs);
    this.#lease = new LeaseWatch({
      clock,
      peer,
      leaseMs: greeting.leaseMs,
      onLapse: () => this.#onLapse(),
      onSilence: () => peer.close(Errno.ETIMEDOUT, 'nothing has come from the server for a lease'),
    });
    core.lease = this.#lease;
    core.writeBack = new WriteBack({
      clock,
      crc32c,
      items: core.items,
      dirtyBytesMax: options.dirtyBytesMax ?? DIRTY_BYTES_MAX,
      logData: (beforeMs) => this.#logData(beforeMs),
      unloggedBytes: () => core.files.unloggedBytes,
      hasUnlogged: () => core.files.dirty.size > 0,
      onApplied: (batch) => this.#onApplied(batch),
      onRefusal: (number) => this.#giver.batchRefused(number),
      onRefused: (batch, refusal) => {
        options.log(
          `the server refused change ${refusal.index} of batch ${batch.number}: ${refusal.text} (errno ${refusal.errno})`,
          'error',
        );
        return new RefusalFilter(
          batch,
          refusal.index,
          (tree, ino) => core.nodeOf(tree, ino),
          (losses) => this.#onLost(losses, refusal.errno),
        );
      },
    });
    core.writeBack.start(peer, greeting.limits.batchesInFlight);
    const neighbours = new NeighbourReader();
    this.#giver = new Giver(core, peer);
    core.followers = new Followers(clock, core.contention, (nodes) => this.#giver.giveEarly(nodes));
    core.sayClosed = (file, isNameless) => void this.#giver.closed(file, isNameless);
    this.#evictor = new Evictor(core, this.#giver);
    const onBroken = (error: Error): void => peer.close(Errno.EPROTO, error.message);
    this.#data = new DataFetcher({ core, peer, errnoOf: (error) => this.#fetcher.errnoOf(error), onBroken });
    this.#fetcher = new Fetcher({
      core,
      peer,
      data: this.#data,
      wantsData: () => neighbours.isOn,
      onAdopted: (unknown) => {
        if (unknown.length > 0) this.#giver.release(unknown, []);
        this.#evictor.check();
      },
      onBroken,
    });
    core.readAhead = (want) => this.#data.readAhead(want);
    core.wantBack = (wants) => this.#fetcher.wantBack(wants);
    core.topUp = (tree) => this.#fetcher.topUp(tree);
    this.operations = new ClientOperations(core, this.#fetcher, neighbours, () => this.sync());
    this.#setPing();
  }

  /** What the session knows and holds: for simulations, which check it. */
  get inner(): Core {
    return this.#core;
  }

  /** Whether other clients wanted what this one holds a moment ago. */
  get isContended(): boolean {
    return this.#core.contention.isOn;
  }

  /** Tells whose caches must follow the grants: from the moment of the mount on. */
  attachKernel(kernel: KernelCache): void {
    this.#core.kernel = kernel;
  }

  onNotice(notice: IncomingNotice): void {
    if (notice.name !== 'revoke') return;
    const givings: Giving[] = notice.fields.ranges.map(({ tree, start, end, newMode }) => ({
      tree,
      start,
      end,
      newMode,
    }));
    for (const { tree, start, end } of givings)
      this.#core.numbers.cut(tree, start.objectid, end.objectid + 1);
    void this.#giver.answer(givings);
  }

  onClosed(cause: ConnectionError): void {
    this.#end();
    if (!this.#isClosing) this.#options.onEnded?.(cause);
  }

  #end(): void {
    if (this.#core.ended === 0) this.#core.ended = -Errno.EIO;
    this.#pingTimer?.cancel();
    this.#lease.end();
    this.#core.writeBack.end();
    this.#core.toldLeft();
  }

  /** The grants may be gone, or soon will be: operations wait, and the kernel must ask. */
  #onLapse(): void {
    const core = this.#core;
    this.#options.log('the server has not answered for most of a lease: operations wait', 'warning');
    const held: TreeRange[] = [];
    core.held.forEach((tree, start, end) => {
      held.push({ tree, start, end });
    });
    forgetRanges(core, held);
    void core.kernel.settled();
  }

  #setPing(): void {
    if (this.#core.ended !== 0) return;
    this.#pingTimer = this.#options.clock.setTimer(this.greeting.leaseMs / PINGS_A_LEASE, () => {
      void this.#ping();
    });
  }

  async #ping(): Promise<void> {
    const { clock } = this.#options;
    const sentMs = clock.nowMs();
    this.#setPing();
    try {
      const reply = await this.peer.request('ping', {});
      this.#lease.look();
      // A quick answer tells the time better than the one before.
      if (clock.nowMs() - sentMs < 100) this.#core.stamp.learn(reply.fields.serverTimeNs);
    } catch (error) {
      if (!(error instanceof ConnectionError) && !(error instanceof FsError)) throw error;
    }
  }

  /** Puts the data of files that were written up to a moment into the log. */
  #logData(beforeMs: number): void {
    const core = this.#core;
    for (const file of [...core.files.dirty]) {
      if (file.dirtySinceMs > beforeMs) continue;
      logFile(core, file);
      core.writeBack.changed();
    }
  }

  #onApplied(batch: Batch): void {
    for (const pending of batch.pending) this.#core.files.dropPending(pending);
    this.#evictor.check();
  }

  /** Changes were lost: tells their files, and asks the server how things are. */
  #onLost(losses: Losses, errno: number): void {
    const core = this.#core;
    core.lostErrno = errno;
    core.space.refund(losses.cost);
    for (const node of losses.inodes) {
      core.files.make(node, core.treeOf(node), core.inoOf(node)).error = errno;
      core.forgetNextIndex(node);
    }
    for (const { tree, dir, name } of losses.names) core.kernel.dropName(core.nodeOf(tree, dir), name);
    this.#options.log(`${losses.changes} changes were lost with it`, 'error');
    const ranges = lostRanges(
      losses,
      (node) => core.treeOf(node),
      (node) => core.inoOf(node),
    );
    const given = this.#giver.giveLost(ranges);
    this.#options.onLost?.(losses, given);
  }

  /** Refuses changes with EROFS from now on, or no more. A session that was opened read-only cannot write. */
  setReadOnly(readOnly: boolean): void {
    this.#core.readOnly = readOnly || this.#options.readOnly === true;
  }

  /** Makes every change up to now durable. @returns 0 or a negative errno. */
  async sync(): Promise<number> {
    const core = this.#core;
    const { writeBack } = core;
    if (!(await writeBack.whenApplied(writeBack.flushLog()))) return core.ended;
    // Asked for even with nothing of our own: what others wrote and we have seen may not be durable yet.
    const number = writeBack.applied;
    try {
      const reply = await this.peer.request('sync', { batch: number });
      writeBack.durable = Math.max(writeBack.durable, reply.fields.durable);
      return 0;
    } catch (error) {
      if (core.ended !== 0) return core.ended;
      this.#options.log(`sync failed: ${errorText(error)}`, 'error');
      return error instanceof FsError ? -error.errno : -Errno.EIO;
    }
  }

  /**
   * Ends the session in order: everything is sent and durable, then the goodbye. The mount must be gone.
   *
   * @returns 0, or the errno of what could not be made durable.
   */
  async close(): Promise<number> {
    const core = this.#core;
    if (core.ended !== 0) return core.ended;
    // No kernel is left that could hold references.
    core.kernel = NO_KERNEL;
    for (const file of [...core.files.all()]) file.opens = 0;
    for (const node of [...core.orphans]) this.operations.forget(node);
    core.writeBack.flush();
    const result = await this.sync();
    this.#isClosing = true;
    this.peer.close(0, 'the mount ended');
    this.#end();
    return result === 0 && core.lostErrno !== 0 ? -core.lostErrno : result;
  }

  /** How long it took to give grants back, by the mode that could stay. */
  revokes(): Record<string, DurationReport> {
    return this.#giver.report();
  }

  stats(): ClientStats {
    const core = this.#core;
    let readRanges = 0;
    let writeRanges = 0;
    core.held.forEach((_tree, _start, _end, mode) => {
      if (mode === Mode.write) writeRanges++;
      else readRanges++;
    });
    return {
      cacheBytes: core.items.usedBytes,
      cacheBytesMax: core.cacheBytes,
      cacheItems: core.items.itemCount,
      dataCacheBytes: core.files.cleanBytes,
      dirtyBytes: core.writeBack.dirtyBytes,
      heldRanges: core.held.size,
      readRanges,
      writeRanges,
      leavingRanges: core.leaving.size,
      contendedInodes: core.contention.size,
      dirtyFiles: core.files.dirty.size,
      unsentChanges: core.writeBack.unsentChanges,
      batchesInFlight: core.writeBack.batchesInFlight,
      openFiles: core.files.count,
      operations: core.hits,
      misses: core.misses,
      acquires: this.#fetcher.acquires,
      readRequests: this.#data.readRequests,
      batches: core.writeBack.batchCount,
      batchesApplied: core.writeBack.applied,
      batchesDurable: core.writeBack.durable,
      evictions: this.#evictor.count,
      evictedBytes: this.#evictor.freedBytes,
      spaceReservedBytes: core.space.available,
    };
  }
}
