// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests about open directories: open, list, list with attributes, close.
//
// Cookies are the client's: the number of an entry in its directory, stable while names come and go. A listing ends at
// the bound that the directory had when it was begun, or a program that makes names while it lists would never end;
// the bound is kept per handle. The kernel keeps no listings: the caller stores one under the directory's lock some time
// after it was answered, so that a name could come back which was taken back meanwhile. The items are at hand here.

import { type AttrOut, type DirSink, MISS } from '../../client/operations.ts';
import { isPlanted } from '../../util/test_faults.ts';
import { DIRENT_BYTES, FOpen, get64, In, OutBytes, putDirent, putEntry, putOpen } from '../abi.ts';
import type { DriverKernelCache } from '../kernel_cache.ts';
import { LARGE_REPLY_BYTES } from '../limits.ts';
import type { RequestView } from '../request.ts';
import { ANSWERED, type HandlerContext } from './context.ts';

/** The bounds of open directories, by handle. */
class OpenDirectories {
  private readonly ends: number[] = [];
  private readonly free: number[] = [];

  /** Makes a handle; its listing has no bound yet. */
  add(): number {
    const handle = this.free.pop() ?? this.ends.length;
    this.ends[handle] = 0;
    return handle;
  }

  end(handle: number): number {
    return this.ends[handle] ?? 0;
  }

  setEnd(handle: number, end: number): void {
    this.ends[handle] = end;
  }

  remove(handle: number): void {
    this.free.push(handle);
  }
}

/** Writes entries into the reply slot as `fuse_dirent` or `fuse_direntplus`. */
class ListingSink implements DirSink {
  private readonly words: Uint32Array;
  private readonly kernel: DriverKernelCache;
  private bytes: Uint8Array = new Uint8Array(0);
  private firstWord = 0;
  private limit = 0;
  private dir = 0;
  private attr: AttrOut | null = null;
  /** Bytes of entries so far. */
  used = 0;

  constructor(words: Uint32Array, kernel: DriverKernelCache) {
    this.words = words;
    this.kernel = kernel;
  }

  /** @param attr - given for READDIRPLUS: filled by the client before each `add`. */
  begin(slot: Uint8Array, size: number, dir: number, attr: AttrOut | null): void {
    this.bytes = slot;
    this.firstWord = slot.byteOffset >>> 2;
    this.limit = Math.min(size, slot.length);
    this.dir = dir;
    this.attr = attr;
    this.used = 0;
  }

  add(
    bytes: Uint8Array,
    start: number,
    length: number,
    _node: number,
    ino: number,
    type: number,
    nextCookie: number,
  ): boolean {
    const { attr } = this;
    const prefix = attr === null ? 0 : OutBytes.entry;
    const end = this.used + prefix + DIRENT_BYTES + length;
    const padded = (end + 7) & ~7;
    if (padded > this.limit) return false;
    const word = this.firstWord + (this.used >>> 2);
    if (attr !== null) this.addEntry(word, bytes, start, length, attr);
    putDirent(this.words, word + (prefix >>> 2), ino, nextCookie, length, type);
    const name = this.used + prefix + DIRENT_BYTES;
    for (let index = 0; index < length; index++) this.bytes[name + index] = bytes[start + index]!;
    this.bytes.fill(0, end, padded);
    this.used = padded;
    return true;
  }

  private addEntry(word: number, bytes: Uint8Array, start: number, length: number, attr: AttrOut): void {
    if (attr.node !== 0 && !this.kernel.canPlace(this.dir, attr)) attr.node = 0;
    if (attr.node === 0) {
      // No attributes: the kernel takes the name alone.
      this.words.fill(0, word, word + OutBytes.entry / 4);
      return;
    }
    this.kernel.place(this.dir, attr);
    putEntry(this.words, word, attr);
    this.kernel.giveEntry(this.dir, bytes, start, length, attr);
  }
}

/** The handlers of one mount's directories; they share the table of handles. */
export class DirectoryHandlers {
  private readonly context: HandlerContext;
  private readonly open = new OpenDirectories();
  private readonly sink: ListingSink;

  constructor(context: HandlerContext) {
    this.context = context;
    this.sink = new ListingSink(context.replies.words, context.kernel);
  }

  opendir(request: RequestView): number {
    const { context } = this;
    const result = context.operations.open(request.node, 0);
    if (result < 0) return context.status(request, result);
    const { replies } = context;
    const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.open);
    const keeps = isPlanted('keep-listings') ? FOpen.keepCache | FOpen.cacheDir : 0;
    putOpen(replies.words, at, this.open.add(), keeps);
    return ANSWERED;
  }

  releasedir(request: RequestView): number {
    this.context.operations.release(request.node, 0);
    this.open.remove(request.words[request.body + In.release.fh]!);
    return this.context.status(request, 0);
  }

  /** READDIR, and READDIRPLUS with `plus`. */
  readdir(request: RequestView, plus: boolean): number {
    const { context, sink } = this;
    const { words, body, node } = request;
    const { operations, replies } = context;
    const handle = words[body + In.read.fh]!;
    const cookie = get64(words, body + In.read.offset);
    let end = this.open.end(handle);
    if (cookie === 0 || end === 0) {
      end = operations.directoryEnd(node);
      if (end === MISS || end < 0) return context.status(request, end);
      this.open.setEnd(handle, end);
    }
    const attr = plus ? context.attr : null;
    const size = Math.min(words[body + In.read.size]!, LARGE_REPLY_BYTES);
    sink.begin(replies.slot(), size, request.kernelNode, attr);
    const result = operations.readdir(node, cookie, end, sink, attr);
    if (result < 0) return context.status(request, result);
    replies.large(request.uniqueLow, request.uniqueHigh, sink.used);
    return ANSWERED;
  }
}
