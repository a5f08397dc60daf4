// SPDX-License-Identifier: GPL-2.0-or-later
//
// One run: real clients and the real server in one process, on a model of a volume, in virtual time; programs that work
// on what they share; and everything that is checked. A seed gives the same run again, to the last event.
//
// The main rule: an operation takes effect in the turn in which the client returns its result, and a hit in a kernel's
// cache in the turn of the hit. In the order of these moments every result must be what the model says. That is stronger
// than linearizability, whose order may be any that respects the beginnings and ends; it is what grants promise.

import { Buffer } from 'node:buffer';
import { Client } from '../../ts/client/client.ts';
import { DIRTY_BYTES_MAX, TRIES_BEFORE_KEEPING } from '../../ts/client/limits.ts';
import { AttrOut } from '../../ts/client/operations.ts';
import type { Losses } from '../../ts/client/refusal.ts';
import { type TransitionName, transitionCounts } from '../../ts/coherency/transitions.ts';
import { ItemType } from '../../ts/item/key.ts';
import { Server } from '../../ts/server/server.ts';
import { ConnectionError, errorText, FsError } from '../../ts/util/errors.ts';
import {
  BODY_BYTES_MAX,
  REQUESTS_IN_FLIGHT_MAX,
  SESSION_RANGES_MAX,
  WAITERS_MAX,
} from '../../ts/util/limits.ts';
import { Prng } from '../../ts/util/prng.ts';
import type { Key } from '../../ts/util/range.ts';
import { RangeForest } from '../../ts/util/range_map.ts';
import { decodeControl } from '../../ts/wire/codec.ts';
import { MessageCounters } from '../../ts/wire/counters.ts';
import type { FieldType } from '../../ts/wire/field.ts';
import { Mode, messageName, messages, type Release, type Revoke } from '../../ts/wire/message.ts';
import { breakClient, KERNEL_FAULTS } from './faults.ts';
import { type Step, stepText } from './history.ts';
import { type Listing, SimulatedKernel } from './kernel.ts';
import { Linearizer } from './linearize.ts';
import { LostObjects } from './losses.ts';
import { copyAttributes, Model } from './model.ts';
import { Link } from './network.ts';
import { Process } from './programs.ts';
import { type Scenario, type Settings, scenarioOf } from './scenario.ts';
import { Trace, Violation } from './trace.ts';
import { VirtualTime } from './virtual_time.ts';
import { SimulatedVolume, sum } from './volume.ts';
import { followNode, Journal, type LastChangers, modelText, objectsOf } from './wreck.ts';

const ROOT = 1;
/** A request of a live client may wait so long, milliseconds in which nobody is silent, beside what it waits for others. */
const WAIT_MAX_MS = 60_000;
/** How often it may have to wait for one request of each other program: it may miss something so often, and then keeps. */
const ROUNDS_MAX = TRIES_BEFORE_KEEPING + 1;
/** How often it is looked at, milliseconds. */
const WATCH_MS = 1000;
/** A revoke is answered within this time, milliseconds in which nobody is silent: what is dirty goes out on the slowest link. */
const REVOKE_MAX_MS = 30_000;
/** Bytes on one connection: what a client may have dirty, and some replies. */
const BACKLOG_MAX_BYTES = 4 * BODY_BYTES_MAX;
/** How often what is held is compared, in events. */
const COMPARE_EVENTS = 2000;
/** Operations that wait of which the report of a failure tells. */
const WAITS_TOLD = 10;
const EVERYBODY = -1;
const VIRTUAL_LIMIT_MS = 24 * 3_600_000;

export interface Outcome {
  readonly seed: number;
  readonly violation: Violation | null;
  readonly events: number;
  readonly virtualMs: number;
  readonly digest: number;
  /** The last lines of the trace, if a rule was broken. */
  readonly lines: readonly string[];
  readonly counts: ReadonlyMap<string, number>;
}

/** One mount and its programs. */
class Mount {
  readonly number: number;
  readonly client: Client;
  readonly kernel: SimulatedKernel;
  readonly link: Link;
  readonly processes: Process[] = [];
  readonly journal: Journal;
  /** What the server has asked back and not got, and since when. */
  readonly asked: RangeForest<number> = new RangeForest();
  /** Its link was silent at times. */
  isTroubled = false;
  /** No program runs on it any more. */
  isDead = false;
  /** The server has ended its session. */
  isEnded = false;
  /** Changes of it were refused. */
  hasLost = false;
  /** Changes were lost, of which nobody was told yet. */
  owesErrno = false;

  constructor(number: number, client: Client, kernel: SimulatedKernel, link: Link, last: LastChangers) {
    this.number = number;
    this.client = client;
    this.kernel = kernel;
    this.link = link;
    this.journal = new Journal(client, last);
  }

  get session(): number {
    return Number(this.client.greeting.session);
  }
}

interface ListingWatch {
  readonly dir: number;
  readonly start: ReadonlyMap<string, number>;
  readonly added: Set<string>;
  readonly removed: Set<string>;
}

export class Simulation {
  readonly settings: Settings;
  readonly scenario: Scenario;
  readonly time: VirtualTime = new VirtualTime();
  readonly trace: Trace;
  readonly counts: Map<string, number> = new Map();
  readonly #random: Prng;
  readonly #model: Model;
  readonly #volume: SimulatedVolume;
  readonly #server: Server;
  readonly #mounts: Mount[] = [];
  readonly #byNumber = new Map<number, Mount>();
  readonly #isTroubled: boolean;
  readonly #lastChangers: LastChangers = new Map();
  /** Which client has come across an inode; EVERYBODY when several have. */
  readonly #seenBy = new Map<number, number>();
  readonly #lost: LostObjects;
  readonly #listings = new Set<ListingWatch>();
  readonly #working = new Set<Promise<void>>();
  readonly #counters = new MessageCounters();
  readonly #linearizer: Linearizer;
  readonly #transitions: Readonly<Record<TransitionName, number>> = transitionCounts();
  #steps = 0;
  #writes = 0;
  #comparedAt = 0;
  #sessions = 0;
  #nextMount = 0;
  #isStopping = false;
  #isDone = false;
  /** How long a request may wait. */
  readonly #waitMaxMs: number;
  /** Time in which somebody was silent, milliseconds. */
  #silentMs = 0;
  #violation: Violation | null = null;

  constructor(settings: Settings) {
    this.settings = settings;
    this.scenario = scenarioOf(settings);
    this.#random = this.scenario.random;
    this.#isTroubled = this.scenario.crashOneIn + this.scenario.silenceOneIn > 0;
    this.trace = new Trace(() => this.time.nowMs(), settings.lines);
    const { time } = this;

    this.#waitMaxMs = waitMaxMs(this.scenario);
    this.#volume = new SimulatedVolume({
      time,
      random: this.#fork(),
      scenario: this.scenario,
      count: (what) => this.#count(what),
    });
    this.#volume.items.find(5, 256, ItemType.inodeItem, 0);
    this.#model = new Model(ROOT, 0o40755);
    this.#lost = new LostObjects(this.#model, this.#volume, (client, node) => {
      const seenBy = this.#seenBy.get(node);
      return seenBy !== undefined && seenBy !== client;
    });
    this.#linearizer = new Linearizer(this.#model);
    this.#model.onName = (dir, name, isThere) => this.#onName(dir, name, isThere);
    this.#server = new Server({
      volume: this.#volume,
      clock: time,
      crc32c: sum,
      epoch: 1n,
      leaseMs: this.scenario.leaseMs,
      ...(this.scenario.sessionRangesMax === null
        ? {}
        : { sessionRangesMax: this.scenario.sessionRangesMax }),
      log: (line) => this.trace.note('server:', line),
    });
  }

  /** The time, without that in which somebody was silent, milliseconds. */
  get #quietMs(): number {
    return this.time.nowMs() - this.#silentMs;
  }

  /** Events so far: calls of kernels, deliveries, timers. */
  get events(): number {
    return this.time.ran + this.#steps;
  }

  async run(): Promise<Outcome> {
    const onRejection = (error: unknown): void => this.#fail(error);
    process.on('unhandledRejection', onRejection);
    try {
      this.#main().catch((error: unknown) => this.#fail(error));
      await turn();
      while (this.#violation === null && !this.#isDone) {
        try {
          if (!this.time.step()) throw new Violation('progress', 'nothing happens any more');
          await turn();
          if (this.#server.sessions < this.#sessions) this.#settle();
          this.#sessions = this.#server.sessions;
          if (this.events - this.#comparedAt >= COMPARE_EVENTS) this.#compare();
          if (this.time.nowMs() > VIRTUAL_LIMIT_MS) throw new Violation('progress', 'a day has passed');
        } catch (error) {
          this.#fail(error);
        }
      }
      await turn();
    } finally {
      process.off('unhandledRejection', onRejection);
    }
    this.#countMessages();
    return {
      seed: this.settings.seed,
      violation: this.#violation,
      events: this.events,
      virtualMs: this.time.nowMs(),
      digest: this.trace.digest,
      lines: this.#violation === null ? [] : this.trace.last(this.settings.lines),
      counts: this.counts,
    };
  }

  #fork(): Prng {
    return new Prng(this.#random.u32());
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  #fail(error: unknown): void {
    if (this.#violation !== null) return;
    if (error instanceof Violation) this.#violation = error;
    else {
      const stack = error instanceof Error ? (error.stack ?? error.message) : errorText(error);
      this.#violation = new Violation('no exception', stack);
    }
    for (const { session, ms, wants, heldBy } of this.#server.stats().waits.slice(0, WAITS_TOLD)) {
      const holders = heldBy.length === 0 ? 'nobody' : heldBy.join(' ');
      this.trace.note(`session ${session} waits for ${ms} ms: ${wants.join(', ')}, held by ${holders}`);
    }
    this.trace.note('BROKEN', this.#violation.message);
  }

  // ---- the run ----

  async #main(): Promise<void> {
    await this.#server.start();
    const first = await this.#mount();
    await this.#prepare(first);
    const { clients } = this.scenario;
    const joining: Promise<Mount>[] = [];
    while (joining.length + 1 < clients) joining.push(this.#mount());
    await Promise.all(joining);
    this.#watch();
    this.#volume.isPlanting = true;
    for (const mount of [...this.#mounts]) this.#start(mount);
    while (this.#working.size > 0) await Promise.all(this.#working);
    await this.#drain();
    this.#isDone = true;
  }

  #start(mount: Mount): void {
    for (const each of mount.processes) {
      const work = this.#work(mount, each).finally(() => this.#working.delete(work));
      this.#working.add(work);
    }
  }

  async #mount(): Promise<Mount> {
    const number = this.#nextMount++;
    const { time, scenario } = this;
    const random = this.#fork();
    const link = new Link({
      time,
      random: this.#fork(),
      ...random.pick(scenario.links),
      onFrame: (fromServer, isArrival, frame) => this.#onFrame(number, fromServer, isArrival, frame),
    });
    this.#server.accept(link.server);
    const kernel = new SimulatedKernel({
      time,
      random: this.#fork(),
      forgetNothing: KERNEL_FAULTS.get(this.settings.fault) ?? null,
      slownessMs: scenario.kernelSlownessMs,
      pagesMax: scenario.pagesMax,
      inodesMax: scenario.inodesMax,
      judge: (step, begun) => this.#judge(number, step, begun),
      now: () => this.#linearizer.now,
      nodeAt: (dir, name) => this.#nodeAt(number, dir, name),
      count: (what) => this.#count(what),
      quietMs: () => this.#quietMs,
    });
    const client = await Client.connect({
      transport: link.client,
      clock: time,
      crc32c: sum,
      path: Buffer.from('/'),
      clientName: `client ${number}`,
      cacheBytes: scenario.cacheBytes,
      counters: this.#counters,
      ...(scenario.dirtyBytesMax === null ? {} : { dirtyBytesMax: scenario.dirtyBytesMax }),
      onLost: (losses, given) => this.#onLost(number, losses, given),
      onEnded: (cause) => {
        kernel.forgetEverything();
        const own = this.#byNumber.get(number);
        if (own === undefined || own.isDead) return;
        // Slow is not silent.
        if (!own.isTroubled)
          this.#fail(new Violation('a session stands', `client ${number}: ${cause.message}`));
        this.#bury(own);
      },
      log: (line) => {
        this.trace.note(`c${number}:`, line);
        // What was made on what was lost, before that was known, is refused too.
        const mayBe = line.includes(': planted') || this.#byNumber.get(number)?.hasLost === true;
        if (line.startsWith('the server refused') && !mayBe)
          this.#fail(new Violation('no batch is refused', line));
      },
    });
    client.attachKernel(kernel);
    kernel.start(client.operations);
    breakClient(client, this.settings.fault, () => this.#count('fault'));
    const mount = new Mount(number, client, kernel, link, this.#lastChangers);
    for (let at = 0; at < scenario.processes; at++) {
      mount.processes.push(
        new Process({
          kernel,
          random: this.#fork(),
          scenario,
          fresh: (length) => this.#fresh(length),
          watchListing: (node) => this.#watchListing(mount, node),
          watchSync: () => this.#watchSync(mount),
        }),
      );
    }
    this.#mounts.push(mount);
    this.#byNumber.set(number, mount);
    return mount;
  }

  #onFrame(client: number, fromServer: boolean, isArrival: boolean, frame: Buffer): boolean {
    if (this.settings.isVerbose) this.trace.note(`c${client}`, frameText(fromServer, isArrival, frame));
    const kind = frame[5]!;
    if (kind === messages.revoke.kind && !isArrival) {
      const isDropped = this.settings.fault === 'drop-revoke' && this.#random.oneIn(50);
      if (isDropped) this.#count('fault');
      const asked = this.#byNumber.get(client)?.asked;
      const { ranges } = decodeControl<Revoke>(messages.revoke.fields, controlOf(frame), 'revoke');
      for (const range of ranges) asked?.set(range, this.#quietMs);
      return !isDropped;
    }
    if (kind === messages.release.kind && isArrival) {
      const asked = this.#byNumber.get(client)?.asked;
      const { ranges } = decodeControl<Release>(messages.release.fields, controlOf(frame), 'release');
      for (const range of ranges) asked?.cut(range);
    }
    return true;
  }

  /** Some directories and files to begin with. */
  async #prepare(mount: Mount): Promise<void> {
    const out = new AttrOut();
    const error = mount.client.operations.getattr(ROOT, out);
    if (error !== 0) {
      await mount.client.operations.fetchMissing(1);
      mount.client.operations.getattr(ROOT, out);
    }
    const root = this.#model.get(ROOT)!;
    Object.assign(root, copyAttributes(out));
    for (const name of this.scenario.names.slice(0, 2)) {
      await mount.kernel.mkdir(ROOT, name);
    }
    for (let at = 0; at < this.scenario.crowd; at++) await mount.kernel.mknod(ROOT, `z${at}`);
  }

  async #work(mount: Mount, each: Process): Promise<void> {
    const { time, scenario } = this;
    const { random } = each;
    while (!this.#isStopping && !mount.isDead && this.#violation === null) {
      await time.sleep((scenario.thinkMs * random.below(1024)) / 512);
      if (this.events >= this.settings.events) this.#isStopping = true;
      const sinceMs = time.nowMs();
      try {
        const text = await each.act();
        this.trace.note(`c${mount.number}`, `${text}  (since ${sinceMs.toFixed(3)})`);
      } catch (error) {
        this.#fail(error);
      }
      if (random.oneIn(16)) mount.kernel.shrink();
      if (random.oneIn(512)) void mount.client.peer.request('stats', {}).catch(() => {});
      if (!mount.isDead) this.#trouble(mount, random);
    }
    each.closeAll();
  }

  /** Once in a while something happens to a mount. */
  #trouble(mount: Mount, random: Prng): void {
    const { crashOneIn, pauseOneIn, silenceOneIn, leaseMs } = this.scenario;
    const { number } = mount;
    if (crashOneIn > 0 && random.oneIn(crashOneIn)) {
      this.#count('trouble: a client crashes');
      this.trace.note(`c${number}`, 'crashes');
      this.#bury(mount);
      mount.link.break();
    } else if (pauseOneIn > 0 && random.oneIn(pauseOneIn)) {
      this.#count('trouble: a client is silent for a while');
      const ms = (leaseMs * random.below(95)) / 100;
      this.trace.note(`c${number}`, `is silent for ${ms.toFixed(0)} ms`);
      mount.isTroubled = true;
      mount.link.silence(ms);
    } else if (silenceOneIn > 0 && random.oneIn(silenceOneIn)) {
      this.#count('trouble: a client is silent for good');
      this.trace.note(`c${number}`, 'is silent from now on');
      mount.isTroubled = true;
      mount.link.silence(Infinity);
    }
  }

  /** A mount is over; another one takes its place after a while. */
  #bury(mount: Mount): void {
    mount.isDead = true;
    mount.kernel.isDead = true;
    const work = this.#join().finally(() => this.#working.delete(work));
    this.#working.add(work);
  }

  async #join(): Promise<void> {
    await this.time.sleep(this.#random.below(2000));
    if (this.#isStopping) return;
    try {
      this.#start(await this.#mount());
    } catch (error) {
      // The server is full until it has found out who is gone, or its answer was lost in a storm of greetings.
      if (!(error instanceof FsError) && !(error instanceof ConnectionError)) throw error;
      await this.#join();
    }
  }

  /** Sessions have ended: the model follows what is left of those that had no time to say goodbye. */
  #settle(): void {
    const live = new Set(this.#server.stats().sessions.map((session) => session.id));
    for (const mount of this.#mounts) {
      if (mount.isEnded || live.has(mount.session)) continue;
      mount.isEnded = true;
      mount.asked.clear();
      this.trace.note(`c${mount.number}`, 'has no session any more');
      this.#linearizer.forget();
      this.#lost.settle(mount.number);
      const wrong = mount.journal.settle(this.#model, this.#volume, (node) => {
        const seenBy = this.#seenBy.get(node);
        return seenBy !== undefined && seenBy !== mount.number;
      });
      if (wrong !== null)
        throw new Violation('a past state of the client is left', `client ${mount.number}: ${wrong}`);
      this.#settleNameless(mount);
    }
  }

  /**
   * Inodes without a name, of which the journal knows nothing. The number of one that only a client has seen which is gone may
   * be given again; one that it changed last, and that others have open, is as the volume has it.
   */
  #settleNameless({ number, journal }: Mount): void {
    for (const { node, nlink } of [...this.#model.inodes.values()]) {
      if (nlink > 0) continue;
      if (this.#seenBy.get(node) === number) this.#model.inodes.delete(node);
      else if (this.#lastChangers.get(node) === journal) followNode(this.#model, this.#volume, node);
    }
  }

  /** Looks every second whether every request makes progress. */
  #watch(): void {
    this.time.setTimer(WATCH_MS, () => {
      const nowMs = this.time.nowMs();
      if (this.#mounts.some((mount) => !mount.isEnded && mount.link.heldUntilMs > nowMs))
        this.#silentMs += WATCH_MS;
      const revokedMs = this.#quietMs - REVOKE_MAX_MS;
      for (const mount of this.#mounts) {
        if (!mount.isDead) this.#requireBounds(mount);
        mount.asked.forEach((_tree, start, _end, sinceMs) => {
          if (sinceMs < revokedMs)
            throw new Violation(
              'no revoke is lost',
              `client ${mount.number}, inode ${start.objectid}, for ${this.#quietMs - sinceMs} ms`,
            );
        });
        const { waitedMs } = mount.kernel;
        if (!mount.isDead && waitedMs > this.#waitMaxMs)
          throw new Violation('progress', `client ${mount.number} waits for ${waitedMs} ms`);
      }
      if (!this.#isDone) this.#watch();
    });
  }

  // ---- what is checked ----

  /** What a client can make grow stays within its bounds. */
  #requireBounds(mount: Mount): void {
    const { writeBack } = mount.client.inner;
    const bounds: [what: string, value: number, most: number][] = [
      ['ranges of a session', this.#server.table.heldBy(mount.session), 2 * SESSION_RANGES_MAX],
      ['bytes not applied', writeBack.dirtyBytes, DIRTY_BYTES_MAX + BODY_BYTES_MAX],
      ['bytes on a link', mount.link.backlog, BACKLOG_MAX_BYTES],
      ['requests of a client', mount.client.peer.requestsPending, REQUESTS_IN_FLIGHT_MAX],
    ];
    for (const [what, value, most] of bounds) {
      if (value > most)
        throw new Violation('bounds', `client ${mount.number}: ${value} ${what}, more than ${most}`);
    }
    if (this.#server.table.waiting > WAITERS_MAX) throw new Violation('bounds', 'too many operations wait');
  }

  #judge(client: number, step: Step, begun: number): void {
    // Programs of a client that is gone see nothing any more.
    if (this.#byNumber.get(client)?.isDead === true) return;
    this.#steps++;
    this.trace.note(`c${client}`, stepText(step));
    const model = this.#model;
    const { isExcused, hasFollowed } = this.#lost.before(client, step);
    if (hasFollowed) this.#linearizer.forget();
    const objects = this.#isTroubled ? objectsOf(model, step) : null;
    const before = objects?.keys.map((key) => modelText(model, key)) ?? [];
    const { wrong, isMoved, hasChanged } = this.#linearizer.add(step, begun, this.#hasOpen(client, step));
    if (isMoved) this.#count('history: another order was right');
    if ('node' in step && step.node !== 0 && !('result' in step && step.result < 0)) {
      const seenBy = step.kind === 'make' ? client : (this.#seenBy.get(step.node) ?? client);
      this.#seenBy.set(step.node, seenBy === client ? client : EVERYBODY);
    }
    if (wrong === null) {
      if (objects === null || !hasChanged) return;
      const { keys, node, isData } = objects;
      const isLost = (key: string): boolean => this.#lost.has(key);
      this.#byNumber.get(client)?.journal.add(model, step, keys, before, node, isData, isLost);
      return;
    }
    if (isExcused) {
      this.#count('losses: a step not judged');
      if (!('seen' in step) || step.result < 0) return;
      const { writeBack } = this.#byNumber.get(client)!.client.inner;
      this.#lost.addStep(client, step, writeBack.whenApplied(writeBack.open.place));
      return;
    }
    const violation = new Violation(
      'reads see the last write',
      `client ${client}: ${stepText(step)}: ${wrong}`,
    );
    this.#fail(violation);
    throw violation;
  }

  #onLost(client: number, losses: Losses, given: Promise<void>): void {
    const mount = this.#byNumber.get(client);
    if (mount === undefined) return;
    mount.hasLost = true;
    mount.owesErrno = true;
    this.trace.note(`c${client}`, `lost ${losses.changes} changes of`, [...losses.inodes].join(' '));
    this.#lost.add(client, losses, (tree, ino) => mount.client.inner.nodeOf(tree, ino), given);
    mount.journal.forget((key) => this.#lost.has(key));
  }

  /** A loss is told at the next fsync, whichever file it is of. */
  #watchSync(mount: Mount): (result: number) => void {
    const { owesErrno } = mount;
    return (result) => {
      if (mount.isDead) return;
      if (result < 0) mount.owesErrno = false;
      else if (owesErrno && mount.owesErrno)
        throw new Violation('a loss is told', `fsync of client ${mount.number} says nothing of it`);
    };
  }

  /** Whether the client has the inode open that a step is about: then it must outlive its last name. */
  #hasOpen(client: number, step: Step): boolean {
    return 'node' in step && this.#byNumber.get(client)?.kernel.hasOpen(step.node) === true;
  }

  #onName(dir: number, name: string, isThere: boolean): void {
    for (const watch of this.#listings) {
      if (watch.dir === dir) (isThere ? watch.added : watch.removed).add(name);
    }
  }

  #watchListing(mount: Mount, node: number): (listing: Listing) => void {
    const open = this.#lostNames(node);
    const start = new Map(this.#model.directory(node)?.names ?? []);
    const watch: ListingWatch = { dir: node, start, added: new Set(open), removed: new Set(open) };
    this.#listings.add(watch);
    return (listing) => {
      for (const name of this.#lostNames(node)) {
        watch.added.add(name);
        watch.removed.add(name);
      }
      this.#listings.delete(watch);
      if (listing.result < 0) return;
      const wrong = listingFault(watch, listing);
      if (wrong !== null)
        throw new Violation('a listing is complete', `client ${mount.number}, directory ${node}: ${wrong}`);
    };
  }

  /** The inode that a name leads to, for a step of a client that is about it; 0 if there is none. */
  #nodeAt(client: number, dir: number, name: string): number {
    const { hasFollowed } = this.#lost.before(client, { kind: 'cachedName', dir, name, node: 0 });
    if (hasFollowed) this.#linearizer.forget();
    return this.#model.get(dir)?.names.get(name) ?? 0;
  }

  /** Names of a directory that were lost and not given back yet. */
  #lostNames(dir: number): string[] {
    const { open, hasFollowed } = this.#lost.listed(dir);
    if (hasFollowed) this.#linearizer.forget();
    return open;
  }

  /** The table against itself, and what each client believes against the table. */
  #compare(): void {
    this.#comparedAt = this.events;
    const { table } = this.#server;
    try {
      table.verify();
    } catch (error) {
      throw new Violation('one writer', errorText(error));
    }
    for (const mount of this.#mounts) {
      if (mount.client.inner.ended !== 0 || mount.isDead || mount.isEnded) continue;
      mount.client.inner.held.forEach((tree, start, end, mode) => {
        if (table.covers(mount.session, { tree, start, end }, mode)) return;
        const range = `${start.objectid} ${start.type} ${start.offset} to ${end.objectid} ${end.type} ${end.offset}`;
        throw new Violation(
          'one writer',
          `client ${mount.number} believes to hold ${range} for ${mode === Mode.write ? 'writing' : 'reading'}`,
        );
      });
    }
  }

  /** Bytes that no other write has: a number, again and again. */
  #fresh(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const number = ++this.#writes;
    for (let at = 0; at < length; at++) bytes[at] = (number >>> (8 * (at & 1))) + (at & 1) * 128;
    return bytes;
  }

  /** All programs have ended: nothing may be left under way; then the clients go, and the volume is looked at. */
  async #drain(): Promise<void> {
    const { time } = this;
    this.#volume.isPlanting = false;
    const settleMs = 2 * 1000 + 10 * this.scenario.kernelSlownessMs + 20 * slowestWayMs(this.scenario);
    await time.sleep(this.#silenceMs() + settleMs);
    this.#compare();
    for (const mount of this.#mounts) {
      const { kernel } = mount;
      if (mount.isDead) continue;
      if (kernel.waiting > 0) throw new Violation('nothing leaks', `client ${mount.number}: requests wait`);
    }
    if (this.#server.table.waiting > 0) throw new Violation('nothing leaks', 'operations wait in the table');
    for (const mount of this.#mounts) {
      if (mount.isDead) continue;
      const { owesErrno } = mount;
      const result = await mount.client.close();
      if (owesErrno && result === 0)
        throw new Violation('a loss is told', `close of client ${mount.number} says nothing of it`);
      // One that is silent for good finds out that it is over.
      const isCutOff = mount.link.heldUntilMs === Infinity;
      if (result !== 0 && !mount.hasLost && !isCutOff)
        throw new Violation('nothing is lost', `close of client ${mount.number}: ${result}`);
      mount.kernel.isDead = true;
    }
    await time.sleep(60_000);
    if (this.#server.sessions > 0) throw new Violation('nothing leaks', 'sessions are left');
    this.#lost.settle(null);
    await this.#compareVolume();
    await this.#server.stop();
  }

  /** For how long somebody will still be silent, or be waited for, milliseconds. */
  #silenceMs(): number {
    let ms = 0;
    for (const mount of this.#mounts) {
      if (mount.isEnded) continue;
      const leftMs = mount.link.heldUntilMs - this.time.nowMs();
      ms = Math.max(ms, leftMs === Infinity ? 2 * this.scenario.leaseMs : leftMs);
    }
    return ms;
  }

  /** A new client sees on the volume exactly what the model holds. */
  async #compareVolume(): Promise<void> {
    const mount = await this.#mount();
    const { kernel } = mount;
    const visit = async (dir: number): Promise<void> => {
      const names = new Map(this.#model.get(dir)!.names);
      const listing = await kernel.list(dir);
      const watch = { dir, start: names, added: new Set<string>(), removed: new Set<string>() };
      const wrong = listing.result < 0 ? 'it cannot be listed' : listingFault(watch, listing);
      if (wrong !== null) throw new Violation('the volume holds everything', `directory ${dir}: ${wrong}`);
      for (const [name, node] of names) {
        const found = await kernel.lookup(dir, name);
        if (found !== node) throw new Violation('the volume holds everything', `${dir}/${name}: ${found}`);
        await kernel.getattr(node);
        const inode = this.#model.get(node)!;
        if (inode.isDirectory) await visit(node);
        else if (inode.isSymlink) await kernel.readlink(node);
        else {
          const opened = await kernel.openNode(node, { truncate: false, write: false, append: false });
          if (typeof opened === 'number') throw new Violation('the volume holds everything', `open ${node}`);
          await kernel.read(opened, 0, inode.size + 1);
          kernel.close(opened);
        }
        await kernel.listxattr(node);
        for (const xattr of inode.xattrs.keys()) await kernel.getxattr(node, xattr);
      }
    };
    await visit(ROOT);
    await mount.client.close();
  }

  #countMessages(): void {
    for (const [name, count] of Object.entries(transitionCounts())) {
      this.counts.set(`transition: ${name}`, count - this.#transitions[name as TransitionName]);
    }
    const { sent, received } = this.#counters.report().messages;
    for (const [name, count] of Object.entries(sent)) this.counts.set(`message: ${name} from client`, count);
    for (const [name, count] of Object.entries(received))
      this.counts.set(`message: ${name} to client`, count);
  }
}

/** How long a message takes at most one way, milliseconds. */
function slowestWayMs({ links }: Scenario): number {
  return Math.max(...links.map(({ latencyMs, jitterMs }) => latencyMs + jitterMs));
}

/** What many programs want one after the other takes as long as handing it over so often takes on the slowest link. */
function waitMaxMs(scenario: Scenario): number {
  const { clients, processes, kernelSlownessMs, readDelayMs, applyDelayMs } = scenario;
  // The revoke, the release, the grant.
  const turnMs = 3 * slowestWayMs(scenario) + 2 * kernelSlownessMs + readDelayMs + applyDelayMs;
  return WAIT_MAX_MS + ROUNDS_MAX * clients * processes * turnMs;
}

function listingFault(watch: ListingWatch, listing: Listing): string | null {
  for (const [name, node] of watch.start) {
    if (watch.removed.has(name)) continue;
    const seen = listing.names.get(name);
    if (seen === undefined) return `${name} is missing`;
    if (!watch.added.has(name) && seen !== node) return `${name} is inode ${seen}, not ${node}`;
  }
  for (const name of listing.names.keys()) {
    if (!watch.start.has(name) && !watch.added.has(name)) return `${name} was never there`;
  }
  for (const name of listing.twice) if (!watch.added.has(name)) return `${name} came twice`;
  return null;
}

function controlOf(frame: Buffer): Buffer {
  return frame.subarray(24, 24 + frame.readUInt32LE(12));
}

/** A message in words. */
function frameText(fromServer: boolean, isArrival: boolean, frame: Buffer): string {
  const name = messageName(frame[5]!)!;
  const isReply = (frame[6]! & 1) !== 0;
  const way = `${isArrival ? 'gets' : 'sends'}`;
  const who = fromServer === isArrival ? 'client' : 'server';
  const control = controlOf(frame);
  if (isReply && (frame[6]! & 2) !== 0) return `${who} ${way} error to ${name} ${frame.readUInt32LE(8)}`;
  const spec = messages[name];
  const fields = decodeControl<unknown>(
    (isReply ? spec.reply : spec.fields) as FieldType<unknown>,
    control,
    name,
  );
  const text = JSON.stringify(fields, (_key, value: unknown) => {
    if (typeof value === 'bigint') return String(value);
    if (typeof value === 'object' && value !== null && 'objectid' in value) {
      const key = value as Key;
      return `${key.objectid}.${key.type}.${key.offset}`;
    }
    return value;
  });
  return `${who} ${way} ${isReply ? 'reply to ' : ''}${name} ${frame.readUInt32LE(8)}: ${text.replaceAll('"', '').slice(0, 400)}`;
}

/** Lets every promise that is settled be followed to its end. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Runs one seed. */
export function simulate(settings: Settings): Promise<Outcome> {
  return new Simulation(settings).run();
}
