// SPDX-License-Identifier: GPL-2.0-or-later
//
// The server's grant table: which session holds which ranges of keys in which mode, who waits for what, and what is
// being revoked. A pure state machine: events go in as calls, messages come out of `take`; it reads no clock and
// awaits nothing. ts/server feeds it and sends what it says.
//
// An operation asks for all its ranges at once (`acquire`) and gets them all in one moment (`granted`), or waits. What
// rests on it:
//
// - Operations are served in order of arrival wherever their wants conflict: an operation waits behind every earlier
//   one of another session that wants one of its keys in a conflicting mode. Operations that wait hold nothing by
//   waiting. Holders answer revokes whatever else they wait for. So there is no deadlock, and nobody starves.
// - A conflicting holder is asked once (`revoke`) for the wanted part of its range, down to the mode that may stand
//   beside the want. Only its `release` (or the end of its session) changes what it holds.
// - A release that names a batch counts when that batch has been answered (`applied`). Acquires that the session sent
//   after such a release wait behind it, as the stream has them.
// - A release that was sent before its sender knew that the batch it names, or one before that, was refused is void: what
//   it gives back is not flushed yet. It comes again.
// - A release counts only for keys still held in the mode that it names as the old one: another mode means that a
//   newer grant is on its way, which the release did not know of.
// - Between `granted` and `announce` the reply is being made (pages are read). Nothing that it contains is revoked
//   before `announce`: the revoke must follow the reply on the stream.
//   Other operations of the session that want it wait too, so that no reply overtakes one that it builds on.
// - `extend` and `trim` widen a granted operation's ranges over keys that nobody else holds or wants, and give back
//   what turned out to be too much; before `announce` only.
//
// - An operation that is held up by others' changes again and again is granted to *keep*: until its session says that it
//   is done, nothing is revoked of the session, and its operations do not wait behind earlier ones. One session at a
//   time, so that two keepers never wait for each other; everybody else answers revokes as always. The caller bounds
//   the time.
//
// - A *patient* operation wants what its session has just given back, in case others give it back by themselves. It asks
//   nobody, nobody waits behind it, and it is granted when nobody holds or wants it in a conflicting mode. Once its session
//   wants a part of the same in earnest it becomes an operation like any other, before that one; or it ends with nothing,
//   if the session wants more than it asks for.
//
// Modes beyond read and write find their place in mode.ts; nothing here knows more than `modesConflict`.

import { assert } from '../util/assert.ts';
import { compareKey, earlierKey, type Key, laterKey, rangesOverlap, type TreeRange } from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import { type GrantRange, Mode, type ModeChange } from '../wire/message.ts';
import { Holder } from './holder.ts';
import { Holders } from './holders.ts';
import { modeBeside, modeSatisfies, modesConflict } from './mode.ts';
import {
  forEachOverlapping,
  lowerBefore,
  type NewGrant,
  normalise,
  type Operation,
  withoutNew,
} from './operation.ts';
import { packWriteGrants } from './packed_grants.ts';
import { Patience } from './patience.ts';
import { countTransition, Transition } from './transitions.ts';
import { Waiters } from './waiters.ts';

/** An operation that waits. */
export interface Wait {
  readonly operation: Operation;
  /** Sessions that hold what it wants. Empty when it waits for others to be served first. */
  readonly heldBy: readonly number[];
}

export type Output =
  /** The operation holds all its wants: read what the reply needs, send it, then `announce`. */
  | { readonly kind: 'granted'; readonly operation: Operation }
  /** The session keeps from now on: the caller sees to it that `done` is called in time. */
  | { readonly kind: 'keeps'; readonly session: number }
  /** To be sent to the session as one revoke. */
  | { readonly kind: 'revoke'; readonly session: number; readonly ranges: readonly ModeChange[] };

/** A release that waits for its batch, or an acquire behind one. */
type Queued =
  | {
      readonly kind: 'release';
      readonly ranges: readonly ModeChange[];
      readonly afterBatch: number;
      readonly refusedSeen: number;
    }
  | { readonly kind: 'acquire'; readonly operation: Operation };

class SessionGrants {
  readonly number: number;
  readonly held: Holder = new Holder();
  /** What was asked back, and down to which mode. */
  readonly revoking = new RangeForest<Mode>();
  /** Granted operations whose reply has not been sent. */
  readonly unannounced = new Set<Operation>();
  /** Revokes that wait for an announcement. */
  deferred: GrantRange[] = [];
  /** In the order of the stream. */
  readonly queue: Queued[] = [];
  /** Ranges in its releases. */
  queuedRanges = 0;
  /** How many of its operations were patient. */
  patiences = 0;
  /** Number of the last batch that was answered. */
  applied = 0;
  /** Number of the last batch that was judged and refused. */
  refused = 0;
  /** Where `shed` goes on. */
  shedHand: { tree: number; key: Key } | null = null;
  packed: Buffer | null = null;
  packedVersion = -1;

  constructor(number: number) {
    this.number = number;
  }
}

export class GrantTable {
  readonly #sessions = new Map<number, SessionGrants>();
  readonly #holders = new Holders();
  readonly #waiters = new Waiters<Operation>();
  /** Waiting operations that may have become grantable. */
  readonly #candidates = new Set<Operation>();
  readonly #patience = new Patience();
  #outputs: Output[] = [];
  readonly #revokes = new Map<number, ModeChange[]>();
  /** The session that keeps, and operations that wait to be the next one's. */
  #keeper: number | null = null;
  #nextKeepers: Operation[] = [];
  /** Operations of the keeper that wait: whatever is released may be theirs, before those that came earlier. */
  readonly #keeping = new Set<Operation>();
  #order = 0;

  /** Operations that wait. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Operations that wait patiently. */
  get patient(): number {
    return this.#patience.size;
  }

  /** Ranges in the table, all sessions together. */
  get ranges(): number {
    return this.#holders.size;
  }

  /** The session that keeps what it is given; null if none does. */
  get keeper(): number | null {
    return this.#keeper;
  }

  /** Ranges in releases of a session that wait for their batches. */
  queuedRanges(session: number): number {
    return this.#sessions.get(session)?.queuedRanges ?? 0;
  }

  /** Ranges that a session holds. */
  heldBy(session: number): number {
    return this.#sessions.get(session)?.held.size ?? 0;
  }

  openSession(session: number): void {
    assert(!this.#sessions.has(session), 'a session is opened once');
    this.#sessions.set(session, new SessionGrants(session));
  }

  /** The session is over: what it holds is free, what it waits for is forgotten. */
  endSession(session: number): void {
    const own = this.#sessions.get(session);
    if (own === undefined) return;
    this.#sessions.delete(session);
    this.#revokes.delete(session);
    this.#outputs = this.#outputs.filter(
      (output) => (output.kind === 'granted' ? output.operation.session : output.session) !== session,
    );
    const waiting = this.#waiters.ofSession(session);
    countTransition(waiting.length > 0 ? Transition.sessionEndedWaiting : Transition.sessionEnded);
    for (const operation of waiting) this.#forget(operation);
    for (const operation of this.#patience.ofSession(session)) this.#patience.remove(operation);
    this.#nextKeepers = this.#nextKeepers.filter((operation) => operation.session !== session);
    if (this.#keeper === session) this.#handOn();
    own.held.forEach((tree, start, end) => {
      const range = { tree, start, end };
      this.#holders.put(session, range, Mode.none);
      this.#collect(range);
    });
    this.#wake();
  }

  /**
   * A session asks for the ranges of one operation. The answer comes as a `granted` output, now or later.
   *
   * @param wants - in any order; where they overlap the greater mode counts
   * @param keeps - nothing of it may be revoked before `done`
   * @param isPatient - it waits for what others give back by themselves
   */
  acquire(session: number, wants: readonly GrantRange[], keeps = false, isPatient = false): Operation {
    const own = this.#own(session);
    const patience = isPatient ? ++own.patiences : 0;
    const operation: Operation = {
      order: 0,
      session,
      wants: normalise(wants),
      keeps,
      isPatient,
      patience,
      hasAsked: false,
      grants: [],
    };
    if (own.queue.length > 0) own.queue.push({ kind: 'acquire', operation });
    else this.#enter(operation);
    const isQueued = own.queue.length > 0;
    this.#wake();
    if (isPatient) return operation;
    const isWaiting = this.#waiters.has(operation);
    countTransition(
      isQueued ? Transition.acquireQueued : isWaiting ? Transition.waited : Transition.grantedAtOnce,
    );
    return operation;
  }

  /** What a session wanted patiently it needs now. */
  hurry(session: number, patience: number): void {
    const own = this.#own(session);
    for (const queued of own.queue) {
      if (queued.kind === 'acquire' && queued.operation.patience === patience)
        queued.operation.isPatient = false;
    }
    for (const operation of this.#patience.ofSession(session)) {
      if (operation.patience === patience) this.#hurry(operation);
    }
    this.#wake();
  }

  /** A session that keeps has no more need to. */
  done(session: number): void {
    if (this.#keeper !== session) return;
    this.#handOn();
    const own = this.#own(session);
    const deferred = own.deferred;
    own.deferred = [];
    for (const range of deferred) this.#sendRevoke(own, range);
    this.#wake();
  }

  /** The reply of a granted operation was put on the stream: revokes may follow it. */
  announce(operation: Operation): void {
    const own = this.#sessions.get(operation.session);
    if (own === undefined) return;
    assert(own.unannounced.delete(operation), 'a granted operation is announced once');
    const deferred = own.deferred;
    own.deferred = [];
    for (const range of deferred) this.#sendRevoke(own, range);
    for (const grant of operation.grants) this.#collect(grant);
    this.#wake();
  }

  /**
   * Widens a granted operation over `[range.start, x)`: as far as nobody else holds or wants the keys in a
   * conflicting mode and the session itself holds nothing.
   *
   * @returns x, at most `range.end`
   */
  extend(operation: Operation, range: GrantRange): Key {
    const own = this.#sessions.get(operation.session);
    if (own === undefined) return range.start;
    assert(own.unannounced.has(operation), 'only a granted operation is widened');
    let end = this.#waiters.firstConflict(operation.session, range, range.mode);
    own.held.forEachIn(range, (start) => {
      end = earlierKey(end, start);
      return false;
    });
    this.#holders.forEachIn(range, (start, _end, holders) => {
      const conflict = modesConflict(holders.mode, range.mode);
      if (conflict) end = earlierKey(end, start);
      return !conflict;
    });
    if (compareKey(range.start, end) >= 0) return range.start;
    countTransition(Transition.extended);
    this.#give(own, operation, { ...range, end });
    return end;
  }

  /**
   * Raises to the range's mode what the session itself holds in lesser ones from the start of `range` on, up to the first
   * key that another session holds or wants, and `count` ranges at most.
   */
  raise(operation: Operation, range: GrantRange, count: number): void {
    const own = this.#sessions.get(operation.session);
    if (own === undefined) return;
    assert(own.unannounced.has(operation), 'only a granted operation is widened');
    let end = this.#waiters.firstConflict(operation.session, range, range.mode);
    this.#holders.forEachIn(range, (start, _end, { sessions }) => {
      const isOwn = sessions.length === 1 && sessions[0] === operation.session;
      if (!isOwn) end = earlierKey(end, start);
      return isOwn;
    });
    own.revoking.forEachIn(range, (start) => {
      end = earlierKey(end, start);
      return false;
    });
    // This reply may overtake one that is being made, which brings the items of what it grants.
    for (const other of own.unannounced) {
      if (other === operation) continue;
      for (const grant of other.grants) {
        if (rangesOverlap(grant, range)) end = earlierKey(end, laterKey(grant.start, range.start));
      }
    }
    if (compareKey(range.start, end) >= 0) return;
    const lesser: GrantRange[] = [];
    own.held.forEachIn({ ...range, end }, (start, pieceEnd, held) => {
      if (!modeSatisfies(held, range.mode)) lesser.push({ ...range, start, end: pieceEnd });
      return lesser.length < count;
    });
    if (lesser.length > 0) countTransition(Transition.raised);
    for (const piece of lesser) this.#give(own, operation, piece);
  }

  /** Whether no other session holds or wants a key of `range`. */
  isFree(session: number, range: TreeRange): boolean {
    if (compareKey(this.#waiters.firstConflict(session, range, Mode.write), range.end) < 0) return false;
    return this.#holders.forEachIn(range, (_start, _end, { sessions }) =>
      sessions.every((holder) => holder === session),
    );
  }

  /** Gives back a part of what `extend` added, which the reply will not contain. */
  trim(operation: Operation, range: TreeRange): void {
    const own = this.#sessions.get(operation.session);
    if (own === undefined) return;
    assert(own.unannounced.has(operation), 'only before the reply is anything given back quietly');
    countTransition(Transition.trimmed);
    for (let at = operation.grants.length - 1; at >= 0; at--) {
      const grant = operation.grants[at]!;
      if (!rangesOverlap(grant, range)) continue;
      const left: NewGrant[] = [];
      if (compareKey(grant.start, range.start) < 0) left.push({ ...grant, end: range.start });
      if (compareKey(range.end, grant.end) < 0) left.push({ ...grant, start: range.end });
      operation.grants.splice(at, 1, ...left);
      const start = laterKey(grant.start, range.start);
      this.#hold(own, { tree: range.tree, start, end: earlierKey(grant.end, range.end) }, grant.before);
    }
    this.#wake();
  }

  /** The reply could not be made: gives back all that the operation got. */
  abandon(operation: Operation): void {
    countTransition(Transition.abandoned);
    for (const grant of [...operation.grants]) this.trim(operation, grant);
    this.announce(operation);
  }

  /** A session gives ranges back, or answers a revoke. */
  release(session: number, ranges: readonly ModeChange[], afterBatch: number, refusedSeen: number): void {
    const own = this.#own(session);
    if (own.queue.length > 0 || afterBatch > own.applied) {
      countTransition(Transition.releaseQueued);
      own.queue.push({ kind: 'release', ranges, afterBatch, refusedSeen });
      own.queuedRanges += ranges.length;
    } else if (isVoid(own, afterBatch, refusedSeen)) countTransition(Transition.releaseVoid);
    else this.#lower(own, ranges);
    this.#wake();
  }

  /** A batch of the session was answered; `isRefused`: it was judged, and refused. */
  applied(session: number, batch: number, isRefused: boolean): void {
    const own = this.#sessions.get(session);
    if (own === undefined) return;
    own.applied = Math.max(own.applied, batch);
    if (isRefused) own.refused = batch;
    for (let first = own.queue[0]; first !== undefined; first = own.queue[0]) {
      if (first.kind === 'release') {
        if (first.afterBatch > own.applied) break;
        if (isVoid(own, first.afterBatch, first.refusedSeen)) countTransition(Transition.releaseVoid);
        else this.#lower(own, first.ranges);
        own.queuedRanges -= first.ranges.length;
      } else this.#enter(first.operation);
      own.queue.shift();
    }
    this.#wake();
  }

  /** Asks `count` ranges back of a session that holds too many, going round over its ranges. */
  shed(session: number, count: number): void {
    const own = this.#own(session);
    countTransition(Transition.shed);
    const hand = own.shedHand;
    const after: GrantRange[] = [];
    const before: GrantRange[] = [];
    own.held.forEach((tree, start, end, mode) => {
      const passed =
        hand !== null && (tree < hand.tree || (tree === hand.tree && compareKey(start, hand.key) < 0));
      const list = passed ? before : after;
      if (list.length < count) list.push({ tree, start, end, mode });
    });
    const chosen = [...after, ...before].slice(0, count);
    for (const { tree, start, end } of chosen) {
      this.#askBack(own, { tree, start, end, mode: Mode.none });
      own.shedHand = { tree, key: end };
    }
  }

  /** The session's write grants in the engine's form (packed_grants.ts). Made anew only after a change. */
  packedWriteGrants(session: number): Buffer {
    const own = this.#own(session);
    if (own.packed === null || own.packedVersion !== own.held.version) {
      own.packed = packWriteGrants(own.held);
      own.packedVersion = own.held.version;
    }
    return own.packed;
  }

  /** Whether a part of `range` was asked back of the session and is still held in a greater mode. */
  isRevoking(session: number, range: TreeRange): boolean {
    const own = this.#sessions.get(session);
    return own !== undefined && !own.revoking.forEachIn(range, () => false);
  }

  /** Operations that wait, in order of arrival, and who stands in their way; `count` at most. For reports. */
  waits(count: number): Wait[] {
    return this.#waiters.inOrder(count).map((operation) => {
      const heldBy = new Set<number>();
      for (const want of operation.wants) {
        this.#holders.forEachIn(want, (_start, _end, holders) => {
          if (!modesConflict(holders.mode, want.mode)) return true;
          for (const session of holders.sessions) if (session !== operation.session) heldBy.add(session);
          return true;
        });
      }
      return { operation, heldBy: [...heldBy] };
    });
  }

  /** Ranges that a session holds in each mode. */
  heldModes(session: number): Map<Mode, number> {
    const modes = new Map<Mode, number>();
    this.#sessions.get(session)?.held.forEach((_tree, _start, _end, mode) => {
      modes.set(mode, (modes.get(mode) ?? 0) + 1);
    });
    return modes;
  }

  /** Whether the session holds all of `range` in a mode that satisfies `mode`. */
  covers(session: number, range: TreeRange, mode: Mode): boolean {
    return this.#sessions.get(session)?.held.covers(range, mode) ?? false;
  }

  /** What is to be sent, in order; empties it. Revokes of one session are one message. */
  take(): Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    for (const [session, ranges] of this.#revokes) outputs.push({ kind: 'revoke', session, ranges });
    this.#revokes.clear();
    return outputs;
  }

  /** Checks every invariant; for tests and simulations. */
  verify(): void {
    this.#holders.verify();
    this.#waiters.verify();
    this.#patience.verify();
    let pieces = 0;
    for (const own of this.#sessions.values()) {
      own.held.verify();
      own.held.forEach((tree, start, end, mode) => {
        const agreed = this.#holders.forEachIn({ tree, start, end }, (_start, _end, holders) => {
          pieces++;
          return holders.mode === mode && holders.sessions.includes(own.number);
        });
        assert(agreed, 'the table and the session agree on what is held');
      });
      own.revoking.forEach((tree, start, end, newMode) => {
        own.held.forEachIn({ tree, start, end }, (_start, _end, held) => {
          assert(!modeSatisfies(newMode, held), 'what is being revoked is still held in a greater mode');
          return true;
        });
      });
    }
    let holdings = 0;
    this.#holders.forEach((_tree, _start, _end, holders) => {
      holdings += holders.sessions.length;
      for (const session of holders.sessions)
        assert(this.#sessions.has(session), 'a holder is a live session');
    });
    assert(holdings === pieces, 'nothing is held in the table alone');
  }

  #own(session: number): SessionGrants {
    const own = this.#sessions.get(session);
    assert(own !== undefined, 'the session is open');
    return own;
  }

  /** The next one may keep. */
  #handOn(): void {
    this.#keeper = null;
    const next = this.#nextKeepers.shift();
    if (next !== undefined) this.#enter(next);
  }

  /** Puts an operation among the waiters, to be tried at once. */
  #enter(operation: Operation): void {
    const own = this.#own(operation.session);
    if (operation.isPatient) this.#enterPatient(own, operation);
    else this.#enterInEarnest(own, operation);
  }

  #enterPatient(own: SessionGrants, operation: Operation): void {
    const excess = this.#patience.excess(own.number);
    if (excess !== undefined) this.#endWithNothing(own, excess);
    operation.order = ++this.#order;
    this.#patience.add(operation);
  }

  /** A session wants something in earnest: what it waits for patiently with a part of that goes first, or ends. */
  #hurryWith(own: SessionGrants, operation: Operation): void {
    for (const patient of this.#patience.ofSession(own.number)) {
      let isSame = false;
      let isMore = false;
      for (const want of patient.wants) {
        forEachOverlapping(operation.wants, want, (other) => {
          isSame = true;
          isMore = !modeSatisfies(want.mode, other.mode);
          return !isMore;
        });
        if (isMore) break;
      }
      if (isMore) this.#endWithNothing(own, patient);
      else if (isSame) this.#hurry(patient);
    }
  }

  /** A patient operation becomes one like any other. */
  #hurry(operation: Operation): void {
    countTransition(Transition.patientHurried);
    this.#patience.remove(operation);
    operation.isPatient = false;
    this.#add(operation);
  }

  #endWithNothing(own: SessionGrants, operation: Operation): void {
    countTransition(Transition.patientDropped);
    this.#patience.remove(operation);
    own.unannounced.add(operation);
    this.#outputs.push({ kind: 'granted', operation });
  }

  #enterInEarnest(own: SessionGrants, operation: Operation): void {
    this.#hurryWith(own, operation);
    if (operation.keeps && this.#keeper !== operation.session) {
      if (this.#keeper !== null) {
        this.#nextKeepers.push(operation);
        return;
      }
      countTransition(Transition.kept);
      this.#keeper = operation.session;
      this.#outputs.push({ kind: 'keeps', session: operation.session });
    }
    this.#add(operation);
    if (operation.keeps) this.#keeping.add(operation);
  }

  #add(operation: Operation): void {
    operation.order = ++this.#order;
    this.#waiters.add(operation);
    this.#candidates.add(operation);
  }

  /** Whoever waits for keys of the range may be next. */
  #collect(range: TreeRange): void {
    this.#waiters.collect(range, this.#candidates);
    this.#patience.collect(range, this.#waiters);
  }

  /** Takes an operation out of the waiters; those behind it may go on, or must now ask its session. */
  #forget(operation: Operation): void {
    this.#waiters.remove(operation);
    this.#candidates.delete(operation);
    this.#keeping.delete(operation);
    for (const want of operation.wants) this.#collect(want);
  }

  /** Tries the candidates in order of arrival until none is left, and then the patient ones. */
  #wake(): void {
    for (const operation of this.#keeping) this.#candidates.add(operation);
    while (this.#candidates.size > 0) {
      let first: Operation | undefined;
      for (const candidate of this.#candidates) {
        if (first === undefined || candidate.order < first.order) first = candidate;
      }
      this.#candidates.delete(first!);
      this.#try(first!);
    }
    for (const operation of this.#patience.takeCandidates()) this.#tryPatient(operation);
  }

  /** Grants a patient operation if nobody stands in its way. Nothing becomes free by that. */
  #tryPatient(operation: Operation): void {
    const { session, wants } = operation;
    const own = this.#own(session);
    if (wantsUnannounced(own, operation)) return;
    for (const want of wants) {
      const { mode } = want;
      if (compareKey(this.#waiters.firstConflict(session, want, mode), want.end) < 0) return;
      const isFree = this.#holders.forEachIn(want, (_start, _end, { mode: held, sessions }) => {
        return !modesConflict(held, mode) || sessions.every((holder) => holder === session);
      });
      if (!isFree || !own.revoking.forEachIn(want, () => false)) return;
    }
    countTransition(Transition.grantedPatient);
    this.#patience.remove(operation);
    this.#giveAll(own, operation);
  }

  /** Grants a waiting operation, or asks those that stand in its way. */
  #try(operation: Operation): void {
    const own = this.#own(operation.session);
    let blocked = wantsUnannounced(own, operation);
    let isBehind = false;
    for (const want of operation.wants) {
      for (const piece of own.held.missing(want, want.mode)) {
        const stands = this.#clear(operation, { ...piece, mode: want.mode });
        if (stands !== 'free') blocked = true;
        if (stands === 'behind') isBehind = true;
      }
      // What the session is about to lose it must be given anew, behind those who asked for it.
      own.revoking.forEachIn(want, (start, end, newMode) => {
        const isKept = operation.keeps && isDeferred(own, { tree: want.tree, start, end });
        if (!isKept && !modeSatisfies(newMode, want.mode)) blocked = true;
        return !blocked;
      });
    }
    operation.hasAsked ||= !isBehind;
    if (blocked) return;
    this.#giveAll(own, operation);
    this.#forget(operation);
  }

  #giveAll(own: SessionGrants, operation: Operation): void {
    for (const want of operation.wants) {
      for (const piece of own.held.missing(want, want.mode)) {
        this.#give(own, operation, { ...piece, mode: want.mode });
      }
    }
    own.unannounced.add(operation);
    this.#outputs.push({ kind: 'granted', operation });
  }

  /**
   * How an operation stands with a piece that it lacks; asks the holders that are in its way.
   *
   * @returns `behind`: others come first; `asked`: it is held, and its holders know.
   */
  #clear(operation: Operation, piece: GrantRange): 'free' | 'behind' | 'asked' {
    // Those before a keeper may wait for what it keeps.
    const isKeeper = operation.keeps && this.#keeper === operation.session;
    if (!isKeeper && this.#waiters.conflictBefore(operation.order, operation.session, piece, piece.mode))
      return 'behind';
    const { tree } = piece;
    const inTheWay: { session: number; start: Key; end: Key }[] = [];
    const mayWait = this.#holders.forEachIn(piece, (start, end, holders) => {
      if (!modesConflict(holders.mode, piece.mode)) return true;
      for (const session of holders.sessions) {
        if (session === operation.session) continue;
        // With a thousand readers each that gives way would have all others looked at again.
        if (operation.hasAsked && this.#isAsked(session, { tree, start, end, mode: piece.mode }))
          return false;
        inTheWay.push({ session, start, end });
      }
      return true;
    });
    for (const { session, start, end } of inTheWay) {
      const holder = this.#own(session);
      holder.held.forEachIn({ tree, start, end }, (from, to, held) => {
        this.#askBack(holder, { tree, start: from, end: to, mode: modeBeside(held, piece.mode) });
        return true;
      });
    }
    return mayWait && inTheWay.length === 0 ? 'free' : 'asked';
  }

  /** Whether all that stands in the way of `piece` was asked back of a holder. */
  #isAsked(session: number, piece: GrantRange): boolean {
    const { held, revoking } = this.#own(session);
    return held.forEachIn(piece, (start, end, mode) => {
      const left = modeBeside(mode, piece.mode);
      return revoking.forEachPiece({ tree: piece.tree, start, end }, (_from, _to, asked) => {
        return asked !== undefined && modeSatisfies(left, asked);
      });
    });
  }

  /** Notes that `range` is wanted back down to its mode, and sends a revoke for what was not asked back yet. */
  #askBack(holder: SessionGrants, range: GrantRange): void {
    const fresh: GrantRange[] = [];
    holder.revoking.forEachPiece(range, (start, end, asked) => {
      if (asked === undefined || !modeSatisfies(range.mode, asked)) fresh.push({ ...range, start, end });
      return true;
    });
    for (const piece of fresh) {
      holder.revoking.set(piece, piece.mode);
      this.#sendRevoke(holder, piece);
    }
  }

  /** Puts out a revoke of what is held of `range`, unless a reply that grants parts of it must be sent first. */
  #sendRevoke(holder: SessionGrants, range: GrantRange): void {
    if (holder.number === this.#keeper) {
      holder.deferred.push(range);
      return;
    }
    for (const operation of holder.unannounced) {
      if (operation.grants.some((grant) => rangesOverlap(grant, range))) {
        countTransition(Transition.revokeDeferred);
        holder.deferred.push(range);
        return;
      }
    }
    let ranges = this.#revokes.get(holder.number);
    if (ranges === undefined) {
      ranges = [];
      this.#revokes.set(holder.number, ranges);
    }
    const list = ranges;
    holder.held.forEachIn(range, (start, end, oldMode) => {
      if (!modeSatisfies(range.mode, oldMode)) {
        list.push({ tree: range.tree, start, end, oldMode, newMode: range.mode });
      }
      return true;
    });
    if (list.length === 0) this.#revokes.delete(holder.number);
    else countTransition(Transition.revokeSent);
  }

  /** Gives a session a range, noting what it had of it before. */
  #give(own: SessionGrants, operation: Operation, range: GrantRange): void {
    const pieces: NewGrant[] = [];
    let at = range.start;
    own.held.forEachIn(range, (start, end, before) => {
      if (compareKey(at, start) < 0) pieces.push({ ...range, start: at, end: start, before: Mode.none });
      pieces.push({ ...range, start, end, before });
      at = end;
      return true;
    });
    if (compareKey(at, range.end) < 0) pieces.push({ ...range, start: at, before: Mode.none });
    operation.grants.push(...pieces);
    own.held.add(range);
    this.#holders.put(own.number, range, range.mode);
  }

  /** Makes a release count: lowers what is still held in the mode that it names. */
  #lower(own: SessionGrants, ranges: readonly ModeChange[]): void {
    for (const range of ranges) {
      if (range.oldMode === range.newMode) continue;
      let pieces: TreeRange[] = [];
      own.held.forEachIn(range, (start, end, held) => {
        if (held === range.oldMode) pieces.push({ tree: range.tree, start, end });
        return true;
      });
      // Its sender cannot know of what no reply has told yet.
      for (const operation of own.unannounced) pieces = withoutNew(pieces, operation.grants, range.oldMode);
      countTransition(pieces.length > 0 ? Transition.releaseCounted : Transition.releaseStale);
      for (const piece of pieces) this.#hold(own, piece, range.newMode);
      // Should a reply that is being made fail, its session must not fall back to what it has given up meanwhile.
      for (const operation of own.unannounced) lowerBefore(operation.grants, range);
    }
  }

  /** Sets what a session holds of `range` to a lesser mode; wakes those who want it. */
  #hold(own: SessionGrants, range: TreeRange, mode: Mode): void {
    own.held.add({ ...range, mode });
    this.#holders.put(own.number, range, mode);
    own.revoking.update(range, (newMode) =>
      newMode !== undefined && !modeSatisfies(newMode, mode) ? newMode : undefined,
    );
    this.#collect(range);
  }
}

/** Whether a release was sent in ignorance of a refusal on which it depends. */
function isVoid({ refused }: SessionGrants, afterBatch: number, refusedSeen: number): boolean {
  return refused > refusedSeen && refused <= afterBatch;
}

/** Whether a revoke has not been sent yet. */
function isDeferred(own: SessionGrants, range: TreeRange): boolean {
  return own.deferred.some((deferred) => rangesOverlap(deferred, range));
}

/** Whether an operation wants something that a reply on its way will give its session. */
function wantsUnannounced(own: SessionGrants, operation: Operation): boolean {
  for (const other of own.unannounced) {
    for (const grant of other.grants) {
      if (operation.wants.some((want) => rangesOverlap(want, grant))) return true;
    }
  }
  return false;
}
