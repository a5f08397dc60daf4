// SPDX-License-Identifier: GPL-2.0-or-later
//
// The files of which the client remembers something (file_state.ts), by node, and the sums over them: bytes written
// but not in the log, bytes read ahead.

import { ByteBuffers } from './byte_buffers.ts';
import { type CleanRun, FileState, type PendingRun, type Run } from './file_state.ts';

export class Files {
  readonly buffers: ByteBuffers = new ByteBuffers();
  /** Files with runs or a pending cut, oldest first. */
  readonly dirty: Set<FileState> = new Set();
  /** Bytes of runs in all files. */
  unloggedBytes = 0;
  /** Bytes read ahead in all files. */
  cleanBytes = 0;

  readonly #byNode = new Map<number, FileState>();
  /** Read-ahead bytes, oldest first. */
  readonly #clean = new Set<CleanRun>();

  get count(): number {
    return this.#byNode.size;
  }

  get(node: number): FileState | undefined {
    return this.#byNode.get(node);
  }

  make(node: number, tree: number, ino: number): FileState {
    let file = this.#byNode.get(node);
    if (file === undefined) {
      file = new FileState(node, tree, ino);
      this.#byNode.set(node, file);
    }
    return file;
  }

  all(): IterableIterator<FileState> {
    return this.#byNode.values();
  }

  /** Forgets the file if there is nothing to remember. */
  settle(file: FileState): void {
    if (file.isIdle) this.#byNode.delete(file.node);
  }

  addClean(run: CleanRun): void {
    run.file.clean.push(run);
    this.#clean.add(run);
    this.cleanBytes += run.end - run.start;
  }

  dropClean(run: CleanRun): void {
    const list = run.file.clean;
    const at = list.indexOf(run);
    if (at >= 0) list.splice(at, 1);
    if (this.#clean.delete(run)) this.cleanBytes -= run.end - run.start;
  }

  /** Drops the oldest bytes read ahead until at most `bytes` are left. */
  trimClean(bytes: number): void {
    for (const run of this.#clean) {
      if (this.cleanBytes <= bytes) return;
      this.dropClean(run);
      this.settle(run.file);
    }
  }

  /** Drops what was read ahead of `[start, end)`, and nothing else: a write may need what lies beside it. */
  dropCleanRange(file: FileState, start: number, end: number): void {
    for (let at = file.clean.length - 1; at >= 0; at--) {
      const run = file.clean[at]!;
      if (run.start >= end || run.end <= start) continue;
      this.dropClean(run);
      const { bytes } = run;
      if (run.start < start) {
        this.addClean({ file, start: run.start, end: start, bytes: bytes.subarray(0, start - run.start) });
      }
      if (run.end > end) {
        this.addClean({ file, start: end, end: run.end, bytes: bytes.subarray(end - run.start) });
      }
    }
  }

  dropRun(file: FileState, run: Run): void {
    const at = file.runs.indexOf(run);
    if (at < 0) return;
    file.runs.splice(at, 1);
    this.unloggedBytes -= run.end - run.start;
    if (!file.isDirty) this.dirty.delete(file);
  }

  /** A put data was applied: its bytes are the server's now. */
  dropPending(pending: PendingRun): void {
    const list = pending.file.pending;
    const at = list.indexOf(pending);
    if (at >= 0) list.splice(at, 1);
    // A reply on its way may have been read before the server had these bytes.
    pending.file.markStale(pending.start, pending.end);
    if (pending.buffer !== null) this.buffers.give(pending.buffer);
    this.settle(pending.file);
  }
}
