// SPDX-License-Identifier: GPL-2.0-or-later
//
// Answers the requests of one mount: finds the handler, parks what must wait, interrupts what was parked.
//
// The client's operations are synchronous; one that lacks something returns MISS. The request is then copied out of the
// channel's region and waits for `fetchMissing`, after which the same handler runs on the copy. A caller that is killed
// meanwhile is answered EINTR at once: the kernel keeps it blocked until there is an answer.
//
// Made by the mount process: a driver, the client's operations made with `kernel`, then `start`.

import { MISS, type Operations } from '../client/operations.ts';
import { Errno } from '../util/errno.ts';
import { isPlanted } from '../util/test_faults.ts';
import { get64, In, OPCODE_COUNT, Opcode, opcodeName } from './abi.ts';
import { DirectoryNodes } from './directory_nodes.ts';
import type { ClosedHandler, FuseDriver, OperationsServer, RequestCounters } from './driver.ts';
import * as attributes from './handlers/attributes.ts';
import { ANSWERED, type Handler, HandlerContext } from './handlers/context.ts';
import * as data from './handlers/data.ts';
import { DirectoryHandlers } from './handlers/directories.ts';
import * as names from './handlers/names.ts';
import * as xattrs from './handlers/xattrs.ts';
import { DriverKernelCache } from './kernel_cache.ts';
import { INTERRUPTED_LOOK_MS } from './limits.ts';
import { LookupCounts } from './lookup_counts.ts';
import { ParkedRequests } from './parked_requests.ts';
import type { RequestView } from './request.ts';
import { type CallOf, forEachLocked, type NamesOf, StaleRetries } from './stale_retries.ts';

/** Questions about threads, answered by the machine (ts/sys). */
export interface Threads {
  /** Whether it is being killed. */
  readonly isKilled: (tid: number) => boolean;
  /** In which system call it waits. */
  readonly systemCallOf: CallOf;
  /** The names of the rename in which it waits. */
  readonly renamedNames: NamesOf;
  /** Whether it runs, or would if it got a processor. */
  readonly isRunning: (tid: number) => boolean;
  /** How often it has had a processor; NaN if that is not known. */
  readonly timesRun: (tid: number) => number;
}

/** Bytes that hold the header and the fixed part of a WRITE or FSYNC: what a wait for durability needs. */
const FIXED_PARTS_BYTES = 80;

function secondsOfMonotonicClock(): number {
  return Math.floor(performance.now() / 1000);
}

export class RequestServer implements OperationsServer {
  /** For the client: what the kernel holds, and how to take it back. */
  readonly kernel: DriverKernelCache;
  private readonly driver: FuseDriver;
  private readonly lookups: LookupCounts;
  private readonly directories = new DirectoryNodes();
  private readonly parked = new ParkedRequests();
  private readonly staleRetries: StaleRetries;
  private readonly counts = new Float64Array(OPCODE_COUNT);
  private readonly isKilled: (tid: number) => boolean;
  private misses = 0;
  private staled = 0;
  private operations: Operations | null = null;
  private handlers: (Handler | undefined)[] = [];

  /** @param threads - what is to be known about the threads that ask. */
  constructor(driver: FuseDriver, threads: Threads, seconds: () => number = secondsOfMonotonicClock) {
    this.driver = driver;
    this.isKilled = threads.isKilled;
    this.lookups = new LookupCounts((node) => this.forgotten(node));
    this.staleRetries = new StaleRetries(
      threads.systemCallOf,
      threads.renamedNames,
      threads.isRunning,
      seconds,
    );
    this.kernel = new DriverKernelCache({
      driver,
      lookups: this.lookups,
      directories: this.directories,
      parked: this.parked,
      seconds,
      unlockDirectory: (dir) => this.unlockDirectory(dir),
      isRunning: threads.isRunning,
      timesRun: threads.timesRun,
    });
  }

  /** Starts to answer requests by `operations`. */
  start(operations: Operations, onClosed: ClosedHandler): void {
    this.operations = operations;
    const context = new HandlerContext(
      operations,
      this.driver.replies,
      this.kernel,
      (request, outcome) => this.answerLater(request, outcome),
      this.staleRetries,
    );
    this.handlers = this.makeHandlers(context);
    this.driver.start((request) => this.handle(request), onClosed);
  }

  counters(): RequestCounters {
    const requests: Record<string, number> = {};
    this.counts.forEach((count, opcode) => {
      if (count > 0) requests[opcodeName(opcode)] = count;
    });
    return {
      requests,
      parked: this.parked.size,
      parkedBytes: this.parked.sizeBytes,
      misses: this.misses,
      staled: this.staled,
      nodes: this.lookups.size,
      names: this.kernel.namesGiven,
    };
  }

  private handle(request: RequestView): void {
    const { opcode } = request;
    request.node = this.directories.ownerOf(request.node);
    this.kernel.writes.asks(request.pid);
    const known = opcode < OPCODE_COUNT ? opcode : 0;
    this.counts[known] = this.counts[known]! + 1;
    const handler = this.handlers[opcode];
    const write = opcode === Opcode.READ && this.parked.size > 0 ? this.parked.writeUnder(request) : null;
    if (write !== null) {
      this.parkBehind(request, handler!, write);
    } else if (handler === undefined) {
      // The kernel remembers ENOSYS per kind of request and does without.
      this.driver.replies.status(request.uniqueLow, request.uniqueHigh, -Errno.ENOSYS);
    } else if (handler(request) === MISS) {
      this.park(request, handler);
    } else {
      this.staleRetries.answered(request);
    }
  }

  private park(request: RequestView, handler: Handler): void {
    this.misses++;
    const copy = this.parked.add(request, request.length);
    if (copy === null) {
      this.answer(request, -Errno.ENOMEM);
      return;
    }
    // In this very turn: the client has noted what this operation lacks, and the next one would overwrite it.
    copy.waitsForOthers = this.operations!.waitsForOthers();
    void this.rerun(copy, handler);
    // One that comes while its directory is being waited for waits there no more than those before it.
    forEachLocked(request, (dir) => {
      if (this.kernel.isTelling(dir)) this.unlockDirectory(dir);
    });
  }

  /** A READ waits until a WRITE has taken effect (parked_requests.ts). */
  private parkBehind(request: RequestView, handler: Handler, write: RequestView): void {
    const copy = this.parked.add(request, request.length);
    if (copy === null) {
      this.answer(request, -Errno.ENOMEM);
      return;
    }
    void this.parked.whenOver(write).then(() => {
      if (!this.parked.take(copy)) return;
      if (handler(copy) === MISS) {
        copy.waitsForOthers = this.operations!.waitsForOthers();
        this.parked.put(copy);
        void this.rerun(copy, handler);
      } else {
        this.staleRetries.answered(copy);
        this.driver.flushSoon();
      }
    });
  }

  private async rerun(copy: RequestView, handler: Handler): Promise<void> {
    await this.rerunUntilAnswered(copy, handler);
    this.parked.over(copy);
  }

  private async rerunUntilAnswered(copy: RequestView, handler: Handler): Promise<void> {
    const operations = this.operations!;
    let tries = 1;
    for (; ; tries++) {
      const told = this.kernel.takeTold();
      const error = await operations.fetchMissing(tries);
      if (told !== null) await told;
      if (!this.parked.take(copy)) break;
      if (error < 0) {
        this.answer(copy, error);
        this.makeUpFor(copy);
        break;
      }
      if (handler(copy) !== MISS) {
        this.staleRetries.answered(copy);
        this.driver.flushSoon();
        this.makeUpFor(copy);
        break;
      }
      copy.waitsForOthers = operations.waitsForOthers();
      this.parked.put(copy);
    }
    operations.done(tries);
  }

  /** Forgets the page that an invalidation had to leave out while this request kept it locked. */
  private makeUpFor(copy: RequestView): void {
    const page = ParkedRequests.pageLeftOut(copy);
    if (page === null) return;
    this.kernel.givePages(copy.node);
    this.kernel.forgetBytes(copy.node, page.start, page.end);
  }

  private answer(request: RequestView, error: number): void {
    this.driver.replies.status(request.uniqueLow, request.uniqueHigh, error);
    this.driver.flushSoon();
  }

  /** Something in a directory is to be invalidated: what waits there lets go of its lock and comes again. */
  private unlockDirectory(dir: number): void {
    if (this.parked.size === 0 || isPlanted('no-stale-answers')) return;
    for (const request of this.staleRetries.take(this.parked, dir)) {
      this.staled++;
      this.answer(request, -Errno.ESTALE);
    }
  }

  /** See `AnswerLater`. */
  private answerLater(request: RequestView, outcome: (copy: RequestView) => Promise<number>): void {
    const copy = this.parked.add(request, Math.min(request.length, FIXED_PARTS_BYTES));
    if (copy === null) {
      this.answer(request, -Errno.ENOMEM);
      return;
    }
    copy.effective = copy.opcode === Opcode.WRITE;
    void this.answerWhen(copy, outcome(copy));
  }

  private async answerWhen(copy: RequestView, outcome: Promise<number>): Promise<void> {
    const result = await outcome;
    if (!this.parked.take(copy)) return;
    const { replies } = this.driver;
    if (copy.opcode === Opcode.WRITE && result >= 0) {
      const at = replies.small(copy.uniqueLow, copy.uniqueHigh, 8);
      replies.words[at] = result;
      replies.words[at + 1] = 0;
      this.driver.flushSoon();
    } else {
      this.answer(copy, Math.min(result, 0));
    }
    this.makeUpFor(copy);
  }

  /**
   * INTERRUPT: a signal for a thread whose request waits. One that kills is answered now, or the thread could not die; of
   * any other the kernel would tell but once, so it is looked after until the request is answered.
   */
  private interrupt(request: RequestView): number {
    this.endIfKilled(get64(request.words, request.body + In.interrupt.unique));
    return ANSWERED;
  }

  private endIfKilled(unique: number): void {
    const waiting = this.parked.find(unique);
    if (waiting === null) return;
    if (!this.isKilled(waiting.pid) && !isPlanted('any-signal-ends')) {
      setTimeout(() => this.endIfKilled(unique), INTERRUPTED_LOOK_MS).unref();
      return;
    }
    this.parked.take(waiting);
    this.parked.over(waiting);
    this.driver.replies.status(waiting.uniqueLow, waiting.uniqueHigh, -Errno.EINTR);
    this.driver.flushSoon();
    this.makeUpFor(waiting);
  }

  private forgotten(node: number): void {
    const owner = this.directories.forget(node);
    if (owner !== 0) this.operations?.forget(owner);
  }

  private forget(request: RequestView): number {
    this.lookups.subtract(request.kernelNode, get64(request.words, request.body + In.forget.lookups));
    return ANSWERED;
  }

  private batchForget(request: RequestView): number {
    const { words, body } = request;
    const count = words[body + In.batchForget.count]!;
    let at = request.dataStart >>> 2;
    for (let index = 0; index < count; index++, at += 4) {
      this.lookups.subtract(get64(words, at), get64(words, at + 2));
    }
    return ANSWERED;
  }

  private makeHandlers(context: HandlerContext): (Handler | undefined)[] {
    const directories = new DirectoryHandlers(context);
    const table: (Handler | undefined)[] = new Array(OPCODE_COUNT).fill(undefined);
    const bind = (
      opcode: number,
      handler: (context: HandlerContext, request: RequestView) => number,
    ): void => {
      table[opcode] = (request) => handler(context, request);
    };
    bind(Opcode.LOOKUP, names.lookup);
    bind(Opcode.MKNOD, names.mknod);
    bind(Opcode.MKDIR, names.mkdir);
    bind(Opcode.SYMLINK, names.symlink);
    bind(Opcode.LINK, names.link);
    bind(Opcode.UNLINK, names.unlink);
    bind(Opcode.RMDIR, names.rmdir);
    bind(Opcode.RENAME, names.rename);
    bind(Opcode.RENAME2, names.rename2);
    bind(Opcode.GETATTR, attributes.getattr);
    bind(Opcode.STATX, attributes.statx);
    bind(Opcode.SETATTR, attributes.setattr);
    bind(Opcode.READLINK, attributes.readlink);
    bind(Opcode.STATFS, attributes.statfs);
    bind(Opcode.OPEN, data.open);
    bind(Opcode.CREATE, data.create);
    bind(Opcode.TMPFILE, data.tmpfile);
    bind(Opcode.RELEASE, data.release);
    bind(Opcode.READ, data.read);
    bind(Opcode.WRITE, data.write);
    bind(Opcode.FLUSH, data.flush);
    bind(Opcode.FSYNC, data.fsync);
    bind(Opcode.FSYNCDIR, data.fsync);
    bind(Opcode.LSEEK, data.lseek);
    bind(Opcode.FALLOCATE, data.fallocate);
    bind(Opcode.GETXATTR, xattrs.getxattr);
    bind(Opcode.LISTXATTR, xattrs.listxattr);
    bind(Opcode.SETXATTR, xattrs.setxattr);
    bind(Opcode.REMOVEXATTR, xattrs.removexattr);
    table[Opcode.OPENDIR] = (request) => directories.opendir(request);
    table[Opcode.READDIR] = (request) => directories.readdir(request, false);
    table[Opcode.READDIRPLUS] = (request) => directories.readdir(request, true);
    table[Opcode.RELEASEDIR] = (request) => directories.releasedir(request);
    table[Opcode.INTERRUPT] = (request) => this.interrupt(request);
    table[Opcode.FORGET] = (request) => this.forget(request);
    table[Opcode.BATCH_FORGET] = (request) => this.batchForget(request);
    table[Opcode.DESTROY] = (request) => context.status(request, 0);
    return table;
  }
}
