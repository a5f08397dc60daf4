// SPDX-License-Identifier: GPL-2.0-or-later
//
// Gets bytes of files from the server in read-data requests. What is missing in one turn is asked for together; what is
// on its way already is waited for, not asked for again.
//
// INVARIANT: bytes that a reply brings are kept only where nothing has changed since they were asked for. The server
// may read them before a batch and answer after it, so "since" ends with the reply: whatever changes bytes of a file
// marks the requests on their way (`FileState.markStale`), and so does the moment when the server takes them over.
//
// A failure belongs to who asked: one file that cannot be read fails neither the others that were asked for with it
// nor an operation that only waited for somebody else's request.

import { CorruptionError, FsError, ProtocolError } from '../util/errors.ts';
import { BODY_BYTES_MAX, READ_EXTENTS_MAX } from '../util/limits.ts';
import type { FileExtent, ReadDataReply } from '../wire/message.ts';
import type { Peer, Reply } from '../wire/peer.ts';
import { adoptBytes, sectorsMatch } from './adoption.ts';
import type { Core } from './core.ts';
import { Fetch, type FileState } from './file_state.ts';
import { READ_REQUEST_BYTES } from './limits.ts';
import type { DataWant } from './missing.ts';

const SECTOR = 4096;

export interface DataFetcherOptions {
  readonly core: Core;
  readonly peer: Peer;
  /** Negative errno that an operation is answered with for a failed request. */
  readonly errnoOf: (error: unknown) => number;
  /** The server sent what it must not: ends the session. */
  readonly onBroken: (error: Error) => void;
}

/** One piece of a request, and whom to tell. */
interface Part {
  readonly file: FileState;
  readonly fetch: Fetch;
  readonly settle: (result: number) => void;
}

export class DataFetcher {
  readRequests = 0;
  readonly #core: Core;
  readonly #options: DataFetcherOptions;
  #queue: Part[] = [];

  constructor(options: DataFetcherOptions) {
    this.#options = options;
    this.#core = options.core;
  }

  /** Gets bytes of a file, or waits for them if they are on their way. @returns 0 or a negative errno */
  async read(want: DataWant): Promise<number> {
    const core = this.#core;
    const file = core.files.make(core.nodeOf(want.tree, want.ino), want.tree, want.ino);
    const own: Promise<number>[] = [];
    const others: Promise<number>[] = [];
    let at = want.start;
    for (const fetch of [...file.fetches].sort((a, b) => a.start - b.start)) {
      if (fetch.end <= at || fetch.start >= want.end) continue;
      if (fetch.isStaleIn(Math.max(at, fetch.start), Math.min(want.end, fetch.end))) continue;
      others.push(fetch.done);
      if (fetch.start > at) own.push(...this.#ask(file, at, fetch.start));
      at = fetch.end;
    }
    if (at < want.end) own.push(...this.#ask(file, at, want.end));
    // What another's request failed to bring the operation misses again, and asks for itself.
    await Promise.all(others);
    const results = await Promise.all(own);
    return results.find((result) => result !== 0) ?? core.ended;
  }

  /**
   * Asks for bytes that nobody waits for, from where they are neither here nor on their way; not before half of them
   * are used up, and not of a file with changes under way, whose items are ahead of what the server would send.
   */
  readAhead(want: DataWant): void {
    const core = this.#core;
    const file = core.files.get(core.nodeOf(want.tree, want.ino));
    let at = want.start;
    if (file !== undefined) {
      if (file.isDirty || file.pending.length > 0) return;
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
      let settle: (result: number) => void = () => {};
      const done = new Promise<number>((resolve) => {
        settle = resolve;
      });
      const fetch = new Fetch(at, Math.min(end, at + READ_REQUEST_BYTES), done);
      file.fetches.push(fetch);
      if (this.#queue.length === 0) queueMicrotask(() => this.#sendQueue());
      this.#queue.push({ file, fetch, settle });
      asked.push(done);
    }
    return asked;
  }

  #sendQueue(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (let at = 0; at < queue.length; ) {
      let bytes = 0;
      let to = at;
      while (to < queue.length && to - at < READ_EXTENTS_MAX) {
        const { start, end } = queue[to]!.fetch;
        if (to > at && bytes + end - start > READ_REQUEST_BYTES) break;
        bytes += end - start;
        to++;
      }
      void this.#send(queue.slice(at, to));
      at = to;
    }
  }

  async #send(parts: readonly Part[]): Promise<void> {
    const extents: FileExtent[] = parts.map(({ file, fetch }) => ({
      tree: file.tree,
      ino: file.ino,
      offset: fetch.start,
      length: fetch.end - fetch.start,
    }));
    this.readRequests++;
    let result = 0;
    try {
      await this.#options.peer.request(
        'readData',
        { extents },
        { onReply: (reply) => this.#guard(() => this.#adopt(parts, reply)) },
      );
    } catch (error) {
      if (parts.length > 1 && error instanceof FsError) {
        await Promise.all(parts.map((part) => this.#send([part])));
        return;
      }
      result = this.#options.errnoOf(error);
    }
    for (const { file, fetch, settle } of parts) {
      file.fetches.splice(file.fetches.indexOf(fetch), 1);
      this.#core.files.settle(file);
      settle(result);
    }
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

  #adopt(parts: readonly Part[], reply: Reply<'readData'>): void {
    const { lengths }: ReadDataReply = reply.fields;
    const { body } = reply;
    if (lengths.length !== parts.length)
      throw new ProtocolError('a read-data reply has the wrong number of lengths');
    let sectors = 0;
    let total = 0;
    for (const [place, length] of lengths.entries()) {
      const { fetch } = parts[place]!;
      if (length > fetch.end - fetch.start) throw new ProtocolError('a read-data reply is longer than asked');
      sectors += Math.ceil(length / SECTOR);
      total += length;
    }
    if (sectors * 4 + total !== body.length || total > BODY_BYTES_MAX) {
      throw new ProtocolError('the body of a read-data reply has the wrong length');
    }
    let sumsAt = 0;
    let bytesAt = sectors * 4;
    for (const [place, length] of lengths.entries()) {
      const { file, fetch } = parts[place]!;
      const bytes = sectorsMatch(this.#core, file.tree, file.ino, fetch.start, length, body, sumsAt, bytesAt);
      adoptBytes(this.#core, file, fetch.start, fetch.end, bytes, fetch.stale);
      sumsAt += Math.ceil(length / SECTOR) * 4;
      bytesAt += length;
    }
  }
}
