// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests over names that wait while they hold the kernel's lock of their directory, when something there must be
// invalidated: the invalidation would wait for the lock, the release for the invalidation, another client for the
// release, and perhaps this request for that client.
//
// Answered ESTALE, the kernel gives the lock up and does the whole system call once more, from the path on. A second
// ESTALE in that call, for whatever name, would reach the program: a thread that was answered so is left alone until that
// call is over (kernel_cache.ts then goes without the lock). It is over when the thread is answered something else than a
// step of a path walk, or is found in another call; where neither can be told it counts for a while. Some calls hand on
// what a lookup says: those are not answered so at all (ts/sys/system_call.ts).

import { Errno } from '../util/errno.ts';
import { get64, In, Opcode } from './abi.ts';
import { STALE_RETRIES_MAX, STALE_RETRY_SECONDS } from './limits.ts';
import type { ParkedRequests } from './parked_requests.ts';
import type { RequestView } from './request.ts';

const OVER_NAMES: ReadonlySet<number> = new Set([
  Opcode.LOOKUP,
  Opcode.CREATE,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.SYMLINK,
  Opcode.LINK,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.RENAME2,
]);

/** Steps of a path walk: they may be followed by others of the same call. */
const WALKS: ReadonlySet<number> = new Set([Opcode.LOOKUP, Opcode.GETATTR, Opcode.READLINK]);

/** A request that was answered ESTALE. */
interface Answered {
  readonly unique: number;
  readonly second: number;
  /** The call, as far as it can be told. */
  readonly call: string | null;
}

/** In which system call a thread waits (ts/sys/system_call.ts). */
export type CallOf = (
  tid: number,
) => { readonly text: string; readonly kind: 'make' | 'rename' | 'other' } | null;

/** One of the two names of a rename. */
export interface RenamedName {
  readonly name: Uint8Array;
  /** st_ino of the directory that holds it, null if that cannot be told. */
  readonly directory: () => number | null;
  /** What the path of the call names that directory, null if it does not. */
  readonly directoryName: Uint8Array | null;
}

/** The two names of the rename in which a thread waits; null if they cannot be told (ts/sys/system_call.ts). */
export type NamesOf = (
  tid: number,
  text: string,
) => { readonly source: RenamedName; readonly target: RenamedName } | null;

/** A name in a directory, by the client's number and by the kernel's. */
export interface PlacedName {
  readonly dir: number;
  readonly kernelDir: number;
  readonly name: Uint8Array;
}

/** Whether a name is in the directory of one of a rename's names; null if that cannot be told. */
export type IsIn = (place: PlacedName, renamed: RenamedName) => boolean | null;

/** What to do with a lookup: see `ofRename`. */
export interface LookupInRename {
  readonly answer: 'again' | 'absent' | 'found' | 'unknown';
  /** What the thread found before was the other name of this very call. */
  readonly isCertain: boolean;
}

export class StaleRetries {
  readonly #callOf: CallOf;
  readonly #namesOf: NamesOf;
  readonly #isRunning: (tid: number) => boolean;
  readonly #seconds: () => number;
  /** By thread. */
  readonly #answered = new Map<number, Answered>();

  /**
   * @param isRunning - whether a thread runs, or would if it got a processor.
   * @param seconds - whole seconds of a clock that never goes back.
   */
  constructor(callOf: CallOf, namesOf: NamesOf, isRunning: (tid: number) => boolean, seconds: () => number) {
    this.#callOf = callOf;
    this.#namesOf = namesOf;
    this.#isRunning = isRunning;
    this.#seconds = seconds;
  }

  /** Takes out the waiting requests that hold the lock of `dir` and can be answered ESTALE. */
  take(parked: ParkedRequests, dir: number): RequestView[] {
    const taken: RequestView[] = [];
    parked.forEach((request) => {
      if (!request.effective && locks(request, dir) && this.#isFirst(request)) taken.push(request);
    });
    for (const request of taken) parked.take(request);
    return taken;
  }

  /**
   * The errno for a request about an inode that is gone: ESTALE makes the kernel walk the path anew and find what is there
   * now. Where it has done so for this call already, there is nothing.
   */
  errnoFor(request: RequestView): number {
    return this.#isFirst(request) ? Errno.ESTALE : Errno.ENOENT;
  }

  /** A request is answered, by whatever. */
  answered(request: RequestView): void {
    if (this.#answered.size === 0 || WALKS.has(request.opcode)) return;
    const last = this.#answered.get(request.pid);
    if (last !== undefined && last.unique !== request.unique) this.#answered.delete(request.pid);
  }

  /** The ESTALE that a thread may have been answered in the call in which it waits now. */
  #lastIn(pid: number, call: string | null): Answered | null {
    const last = this.#answered.get(pid);
    if (last === undefined || this.#seconds() - last.second > STALE_RETRY_SECONDS) return null;
    return last.call === null || call === null || last.call === call ? last : null;
  }

  /**
   * What to do with a lookup within a rename that may find what the thread found before under another name that is not there
   * any more: `again` (now answered ESTALE), or `absent` where the call may have begun anew already: the kernel then asks for
   * the rename, whatever it believes of the two names. `found` if it is no rename, or the name is its source. `unknown`
   * while the thread has not come to wait for the answer: then it cannot be told in which call it is.
   *
   * @param other - the other name; null if the thread found none.
   */
  ofRename(request: RequestView, other: PlacedName | null, isIn: IsIn): LookupInRename {
    const call = this.#waitingCallOf(request.pid);
    if (call === 'unknown') return { answer: 'unknown', isCertain: false };
    if (call?.kind !== 'rename') return { answer: 'found', isCertain: false };
    const names = other === null ? null : this.#namesOf(request.pid, call.text);
    const { bytes, nameStart, nameLength } = request;
    const name = bytes.subarray(nameStart, nameStart + nameLength);
    const asked = { dir: request.node, kernelDir: request.kernelNode, name };
    const place = names === null ? 'unknown' : placeOf(asked, names, isIn);
    if (place === 'source' || place === 'neither') return { answer: 'found', isCertain: false };
    const isCertain = place === 'target' && placeOf(other!, names!, isIn) === 'source';
    if (this.#isFirst(request)) return { answer: 'again', isCertain };
    return { answer: other !== null && (isCertain || place === 'unknown') ? 'absent' : 'found', isCertain };
  }

  #waitingCallOf(pid: number): ReturnType<CallOf> | 'unknown' {
    const call = this.#callOf(pid);
    if (call !== null) return call;
    // It may have gone to sleep between the two looks at it.
    return this.#isRunning(pid) ? 'unknown' : this.#callOf(pid);
  }

  #isFirst(request: RequestView): boolean {
    const call = this.#callOf(request.pid);
    if (this.#lastIn(request.pid, call?.text ?? null) !== null) return false;
    if (request.opcode === Opcode.LOOKUP && (call === null || call.kind === 'make')) return false;
    if (this.#answered.size >= STALE_RETRIES_MAX) this.#answered.clear();
    const { pid, unique } = request;
    this.#answered.set(pid, { unique, second: this.#seconds(), call: call?.text ?? null });
    return true;
  }
}

/** Which of the two names of a rename a name is. Its directory counts only where both are called the same. */
function placeOf(
  place: PlacedName,
  { source, target }: NonNullable<ReturnType<NamesOf>>,
  isIn: IsIn,
): 'source' | 'target' | 'neither' | 'unknown' {
  const isSource = isSame(place.name, source.name);
  if (!isSame(place.name, target.name)) return isSource ? 'source' : 'neither';
  if (!isSource) return 'target';
  const isInSource = isIn(place, source) ?? false;
  const isInTarget = isIn(place, target) ?? false;
  if (isInSource === isInTarget) return 'unknown';
  return isInSource ? 'source' : 'target';
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** Visits the directories whose locks the kernel holds for the request. */
export function forEachLocked(request: RequestView, visit: (dir: number) => void): void {
  const { opcode, kernelNode, words, body } = request;
  if (!OVER_NAMES.has(opcode)) return;
  visit(kernelNode);
  if (opcode === Opcode.RENAME) visit(get64(words, body + In.rename.targetDir));
  if (opcode === Opcode.RENAME2) visit(get64(words, body + In.rename2.targetDir));
}

function locks(request: RequestView, dir: number): boolean {
  let isLocked = false;
  forEachLocked(request, (locked) => {
    isLocked ||= locked === dir;
  });
  return isLocked;
}
