// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the client keeps about a file that is open, written, in flight or read ahead. Everything else about files is
// in items; a file that is none of these has no object.
//
// A file's bytes, from the newest to the oldest layer:
//   runs     written, not in the change log yet; whole sectors, at most one run in each window of 1 MiB
//   pending  in the change log or in flight, in that order; until the server has applied them
//   clean    read from the server and not yet asked for by the kernel
//   items    inline bytes, holes, preallocated extents; a regular extent's bytes are at the server

/** Written bytes `[start, end)`, whole sectors; what lies beyond the file's end is zero. */
export interface Run {
  start: number;
  end: number;
  /** Holds `start` at 0. */
  bytes: Uint8Array<ArrayBuffer>;
}

/** Bytes `[start, end)` of a put data, or of a cut, that is not applied yet. */
export interface PendingRun {
  readonly file: FileState;
  readonly start: number;
  /** May be Infinity. */
  readonly end: number;
  /** Holds `start` at 0; what is not in it is zero. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** A buffer to give back when applied; null if the bytes are gathered with others. */
  readonly buffer: Uint8Array<ArrayBuffer> | null;
}

/** Bytes `[start, end)` as the server has them. */
export interface CleanRun {
  readonly file: FileState;
  readonly start: number;
  readonly end: number;
  /** Holds `start` at 0. */
  readonly bytes: Uint8Array;
}

/** Bytes `[start, end)`; `end` may be Infinity. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Parts of one request that are told apart; more become one that covers them all. */
const STALE_PARTS_MAX = 32;

/** A read-data request on its way, for `[start, end)`. */
export class Fetch {
  readonly start: number;
  readonly end: number;
  /** Resolves to 0 or a negative errno when the reply has been taken in. */
  readonly done: Promise<number>;
  /** Parts that changed since it was sent: what the reply says of them is out of date. */
  stale: ByteRange[] = [];

  constructor(start: number, end: number, done: Promise<number>) {
    this.start = start;
    this.end = end;
    this.done = done;
  }

  markStale(start: number, end: number): void {
    if (start >= this.end || end <= this.start) return;
    this.stale.push({ start, end });
    if (this.stale.length <= STALE_PARTS_MAX) return;
    const first = Math.min(...this.stale.map((part) => part.start));
    this.stale = [{ start: first, end: Math.max(...this.stale.map((part) => part.end)) }];
  }

  isStaleIn(start: number, end: number): boolean {
    return this.stale.some((part) => part.start < end && part.end > start);
  }
}

export class FileState {
  readonly node: number;
  readonly tree: number;
  readonly ino: number;
  /** Open handles, and how many of them can write. */
  opens = 0;
  writers = 0;

  /** The directory that shall be given to readers with this new file when that is closed; 0 for none. */
  createdIn = 0;

  /** The server was told that it is open: it must be told when it is closed. */
  isToldOpen = false;

  runs: Run[] = [];
  /** When the oldest byte in `runs` was written, milliseconds of the clock. */
  dirtySinceMs = 0;
  /** Time of the last write in `runs`. */
  writtenSec = 0;
  writtenNsec = 0;
  /** The file was cut to nothing, which is not in the change log yet: its new content shall go with it. */
  isCutPending = false;

  pending: PendingRun[] = [];
  clean: CleanRun[] = [];
  fetches: Fetch[] = [];

  /** Where the last read ended, and how far ahead of it to read. */
  readEnd = -1;
  readAhead = 0;
  /** It was made without a name, and may be given one. */
  isLinkable = false;
  /** Whether the file was found to have no security.capability since it was opened. */
  hasNoCapability = false;
  /** Errno of a refused change, positive, to be told once; 0 for none. */
  error = 0;

  constructor(node: number, tree: number, ino: number) {
    this.node = node;
    this.tree = tree;
    this.ino = ino;
  }

  /** Bytes change, or the server takes them over: what requests on their way will say of them does not count. */
  markStale(start: number, end: number): void {
    for (const fetch of this.fetches) fetch.markStale(start, end);
  }

  get isDirty(): boolean {
    return this.runs.length > 0 || this.isCutPending;
  }

  /** Whether nothing is left to remember. */
  get isIdle(): boolean {
    return (
      this.opens === 0 &&
      !this.isToldOpen &&
      this.runs.length === 0 &&
      !this.isCutPending &&
      this.pending.length === 0 &&
      this.clean.length === 0 &&
      this.fetches.length === 0 &&
      this.error === 0
    );
  }
}
