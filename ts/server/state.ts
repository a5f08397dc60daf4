// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the message handlers share: the volume, the grant table, reservations, sessions, the commit policy. Also the
// pump that turns the table's outputs into messages: every handler that gave the table an event calls `deliver`.

import { GrantTable } from '../coherency/grant_table.ts';
import { OpenInodes } from '../coherency/open_inodes.ts';
import type { Operation } from '../coherency/operation.ts';
import { InodeRuns, SpaceCredits } from '../coherency/reserve.ts';
import { countTransition, Transition } from '../coherency/transitions.ts';
import type { Volume, VolumeSubvolume } from '../store/volume.ts';
import type { Clock, Timer } from '../util/clock.ts';
import type { Crc32c } from '../util/crc32c.ts';
import { Durations } from '../util/durations.ts';
import {
  COMMIT_DIRTY_BYTES,
  COMMIT_INTERVAL_MS,
  KEEP_LONGEST_MS,
  KEEP_MS,
  LEASE_MS,
  RANGES_MAX,
  SESSION_RANGES_MAX,
  SESSIONS_MAX,
} from '../util/limits.ts';
import type { Log } from '../util/log.ts';
import type { TreeRange } from '../util/range.ts';
import { MessageCounters } from '../wire/counters.ts';
import { Mode, type ModeChange } from '../wire/message.ts';
import { CommitPolicy } from './commit.ts';
import { RevokeLog } from './revoke_log.ts';
import type { Session } from './session.ts';

export interface ServerOptions {
  readonly volume: Volume;
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  /** Number of this incarnation, greater than those before. */
  readonly epoch: bigint;
  /** Takes one line, without a newline. */
  readonly log: Log;
  /** Sessions at a time; SESSIONS_MAX without it. */
  readonly sessionsMax?: number;
  /** Ranges that a session may hold; SESSION_RANGES_MAX without it. */
  readonly sessionRangesMax?: number;
  /** Milliseconds after which a silent session loses its grants. */
  readonly leaseMs?: number;
  readonly commitIntervalMs?: number;
  readonly commitDirtyBytes?: number;
}

/** The server's own number in the grant table; sessions have greater ones. */
const SERVER_ITSELF = 0;

export class ServerState {
  readonly volume: Volume;
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  readonly epoch: bigint;
  readonly log: Log;
  readonly sessionsMax: number;
  readonly sessionRangesMax: number;
  readonly leaseMs: number;
  readonly startedMs: number;
  readonly counters: MessageCounters = new MessageCounters();
  readonly table: GrantTable = new GrantTable();
  readonly runs: InodeRuns = new InodeRuns();
  readonly openInodes: OpenInodes = new OpenInodes();
  readonly credits: SpaceCredits = new SpaceCredits();
  readonly commit: CommitPolicy;
  /** By tree. They are the same as long as the volume is open. */
  readonly subvolumes: ReadonlyMap<number, VolumeSubvolume>;
  /** Trees that batches may change. They are the same as long as the volume is open. */
  readonly writableTrees: ReadonlySet<number>;
  /** By `Session.id`. */
  readonly sessions: Map<number, Session> = new Map();
  /** Sessions whose last batches, or last of all deletes, are with the volume: nobody joins meanwhile. */
  readonly leaving: Set<Promise<unknown>> = new Set();
  /** Sessions that are being wound up. */
  readonly ending: Set<Promise<void>> = new Set();
  /** The server takes no more sessions. */
  stopping = false;
  batchesApplied = 0;
  batchesRefused = 0;
  readonly revokes: RevokeLog;
  /** How long operations waited for their grants. */
  readonly grantWaits: Durations = new Durations();
  /** When operations that wait for grants came, milliseconds of the clock. */
  readonly #waitingSince = new Map<Operation, number>();
  revokesSent = 0;
  /** Times that an operation was granted to keep what it got. */
  keepings = 0;
  readonly #granted = new Map<Operation, () => void>();
  #keepTimer: Timer | null = null;
  #delivering = false;
  #lastSession = 0;

  constructor(options: ServerOptions) {
    this.volume = options.volume;
    this.clock = options.clock;
    this.crc32c = options.crc32c;
    this.epoch = options.epoch;
    this.log = options.log;
    this.sessionsMax = options.sessionsMax ?? SESSIONS_MAX;
    this.sessionRangesMax = options.sessionRangesMax ?? SESSION_RANGES_MAX;
    this.leaseMs = options.leaseMs ?? LEASE_MS;
    this.startedMs = options.clock.nowMs();
    this.subvolumes = new Map(options.volume.subvolumes().map((subvolume) => [subvolume.tree, subvolume]));
    this.writableTrees = new Set(options.volume.writableTrees());
    this.table.openSession(SERVER_ITSELF);
    this.revokes = new RevokeLog(options.clock, this.table);
    this.commit = new CommitPolicy({
      clock: options.clock,
      intervalMs: options.commitIntervalMs ?? COMMIT_INTERVAL_MS,
      dirtyBytesMax: options.commitDirtyBytes ?? COMMIT_DIRTY_BYTES,
      volume: options.volume,
      onBegin: () => this.#markDurable(),
      log: options.log,
    });
  }

  /** Takes a range for the server itself: resolves when no session holds any of it. `giveFromServer` ends it. */
  takeForServer(range: TreeRange): Promise<void> {
    return new Promise((resolve) => {
      const operation = this.table.acquire(SERVER_ITSELF, [{ ...range, mode: Mode.write }]);
      this.whenGranted(operation, () => {
        this.table.announce(operation);
        resolve();
      });
      this.deliver();
    });
  }

  giveFromServer(range: TreeRange): void {
    this.table.release(SERVER_ITSELF, [{ ...range, oldMode: Mode.write, newMode: Mode.none }], 0, 0);
    this.deliver();
  }

  newSessionId(): number {
    return ++this.#lastSession;
  }

  /** Calls `onGranted` when the operation is granted; never if its session ends first. */
  whenGranted(operation: Operation, onGranted: () => void): void {
    this.#granted.set(operation, onGranted);
    this.#waitingSince.set(operation, this.clock.nowMs());
  }

  /** For how long an operation has waited for its grants, milliseconds. */
  waitedMs(operation: Operation): number {
    return this.clock.nowMs() - (this.#waitingSince.get(operation) ?? this.clock.nowMs());
  }

  /** An operation's session is over. */
  forget(operations: Iterable<Operation>): void {
    for (const operation of operations) {
      this.#granted.delete(operation);
      this.#waitingSince.delete(operation);
    }
  }

  /** Sends what the table has to say. */
  deliver(): void {
    // What is granted may give the table new events, whose outputs the loop takes.
    if (this.#delivering) return;
    this.#delivering = true;
    for (let outputs = this.table.take(); outputs.length > 0; outputs = this.table.take()) {
      for (const output of outputs) {
        if (output.kind === 'granted') {
          const onGranted = this.#granted.get(output.operation);
          this.#granted.delete(output.operation);
          if (output.operation.patience === 0) this.grantWaits.add(this.waitedMs(output.operation));
          this.#waitingSince.delete(output.operation);
          onGranted?.();
        } else if (output.kind === 'keeps') {
          this.#boundKeeping(output.session);
        } else {
          this.#sendRevoke(output.session, output.ranges);
        }
      }
    }
    this.#delivering = false;
  }

  /** A session that keeps what it was given has so much time to say that it is done. */
  #boundKeeping(id: number): void {
    this.keepings++;
    this.#keepTimer?.cancel();
    const session = this.sessions.get(id);
    const keepMs = session?.keepMs ?? KEEP_MS;
    this.#keepTimer = this.clock.setTimer(keepMs, () => {
      if (this.table.keeper !== id) return;
      countTransition(Transition.keptTooLong);
      this.log(`session ${id}: kept its grants for ${keepMs} ms and is not done`, 'warning');
      if (session !== undefined) session.keepMs = Math.min(2 * keepMs, KEEP_LONGEST_MS);
      this.table.done(id);
      this.deliver();
    });
  }

  /** A session says that it is done with what it kept. */
  endKeeping(id: number): void {
    if (this.table.keeper !== id) return;
    this.#keepTimer?.cancel();
    const session = this.sessions.get(id);
    if (session !== undefined) session.keepMs = Math.max(KEEP_MS, session.keepMs / 2);
    this.table.done(id);
    this.deliver();
  }

  #sendRevoke(id: number, ranges: readonly ModeChange[]): void {
    const peer = this.sessions.get(id)?.peer;
    for (let at = 0; at < ranges.length; at += RANGES_MAX) {
      const part = ranges.slice(at, at + RANGES_MAX);
      this.revokesSent++;
      this.revokes.sent(id, part);
      peer?.notify('revoke', { ranges: part });
    }
  }

  /** Whether anything may be changed through the session. */
  mayWrite(session: Session): boolean {
    return !session.readOnly && !this.volume.info.readOnly;
  }

  /** Whether anything of a tree may be changed through the session. */
  mayWriteTree(session: Session, tree: number): boolean {
    return this.mayWrite(session) && this.writableTrees.has(tree);
  }

  #markDurable(): () => void {
    const applied = [...this.sessions.values()].map((session) => ({ session, applied: session.applied }));
    return () => {
      for (const { session, applied: number } of applied) session.durable = Math.max(session.durable, number);
    };
  }
}
