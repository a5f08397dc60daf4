// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests about open files: open, create, read, write, flush, fsync, close, seek, allocate.
//
// The file handle of a regular file says how it was opened (file_handle.ts). Pages that the kernel keeps are always
// covered by a grant, so an open keeps them unless the client says otherwise: pages of a file that is open for writing
// need a grant for that, and a file that other clients want has no pages but those of mmap. What is read for a page comes
// without a lock owner, what read(2) of a direct handle reads with one.
// - Opens for append are direct: the kernel fixes the offset from its own size before it asks, so that offset is
//   ignored and must not name a page. With fcntl(F_SETFL) a handle becomes one later: its pages are then dropped.
// - A handle that cannot write needs no FLUSH (fcntl locks are the kernel's own).
// - Pages dirtied through mmap come as WRITE with WRITE_CACHE, at their true offset, never as an append.

import {
  type AttrOut,
  MISS,
  OpenFlags,
  OpenResult,
  ReadFlags,
  UMASK_SHIFT,
  WriteFlags,
} from '../../client/operations.ts';
import { Errno } from '../../util/errno.ts';
import {
  FOpen,
  get64,
  getSigned64,
  In,
  O_ACCMODE,
  O_APPEND,
  O_DSYNC,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  OPEN_KILL_SUIDGID,
  OutBytes,
  put64,
  putEntry,
  putOpen,
  READ_LOCKOWNER,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IRUSR,
  S_IWUSR,
  WRITE_CACHE,
  WRITE_KILL_SUIDGID,
} from '../abi.ts';
import { HANDLE_APPEND, HANDLE_DIRECT } from '../file_handle.ts';
import { LARGE_REPLY_BYTES } from '../limits.ts';
import type { RequestView } from '../request.ts';
import { ANSWERED, type HandlerContext } from './context.ts';

/** A cached write goes page by page until one is complete; the largest part of a write. */
const PAGE_BYTES = 4096;
const MAX_WRITE_BYTES = LARGE_REPLY_BYTES;
const OPEN_BITS = OpenFlags.write | OpenFlags.truncate | OpenFlags.killSuidgid;

/** The client's view of open(2)'s flags. */
function openFlags(flags: number, fuseFlags: number): number {
  let result = 0;
  if ((flags & O_ACCMODE) !== O_RDONLY) result |= OpenFlags.write;
  if ((flags & O_TRUNC) !== 0) result |= OpenFlags.truncate;
  if ((fuseFlags & OPEN_KILL_SUIDGID) !== 0) result |= OpenFlags.killSuidgid;
  return result;
}

/** Whether writes of this handle go to the true end of the file. */
function isAppend(flags: number): boolean {
  return (flags & O_APPEND) !== 0 && (flags & O_ACCMODE) !== O_RDONLY;
}

/** @param result - bits of the client's `OpenResult` */
function putOpenReply(words: Uint32Array, at: number, opened: number, flags: number, result: number): void {
  const append = isAppend(flags);
  let reply = (result & OpenResult.dropPages) === 0 ? FOpen.keepCache : 0;
  if (append || (result & OpenResult.direct) !== 0) reply |= FOpen.directIo;
  if ((opened & OpenFlags.write) === 0) reply |= FOpen.noFlush;
  const isDirect = (reply & FOpen.directIo) !== 0;
  putOpen(words, at, opened | (append ? HANDLE_APPEND : 0) | (isDirect ? HANDLE_DIRECT : 0), reply);
}

export function open(context: HandlerContext, request: RequestView): number {
  const { words, body } = request;
  const flags = words[body + In.open.flags]!;
  const opened = openFlags(flags, words[body + In.open.openFlags]!);
  const result = context.operations.open(request.node, opened);
  if (result < 0) return context.status(request, result);
  const { replies } = context;
  const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.open);
  putOpenReply(replies.words, at, opened, flags, result);
  return ANSWERED;
}

export function create(context: HandlerContext, request: RequestView): number {
  const { words, body, node, uid, gid } = request;
  const { operations, attr } = context;
  const flags = words[body + In.create.flags]!;
  const mode = words[body + In.create.mode]! | (words[body + In.create.umask]! << UMASK_SHIFT);
  const opened = openFlags(flags, words[body + In.create.openFlags]!);
  let result = operations.create(node, context.name(request), mode, uid, gid, opened, attr);
  // Somebody else made it since the kernel looked: without O_EXCL that is as good.
  if (result === -Errno.EEXIST && (flags & O_EXCL) === 0)
    result = openExisting(context, request, flags, opened);
  if (result === LOOK_AGAIN) return context.lookAgain(request);
  if (result < 0) return context.status(request, result);
  const { replies, kernel } = context;
  const dir = request.kernelNode;
  kernel.place(dir, attr);
  const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.create);
  putEntry(replies.words, at, attr);
  putOpenReply(replies.words, at + OutBytes.entry / 4, opened, flags, result);
  kernel.giveEntry(dir, request.bytes, request.nameStart, request.nameLength, attr);
  return ANSWERED;
}

/** O_TMPFILE: the name in the request is the kernel's own. */
export function tmpfile(context: HandlerContext, request: RequestView): number {
  const { words, body, node, uid, gid } = request;
  const { operations, attr, replies, kernel } = context;
  const flags = words[body + In.create.flags]!;
  const mode = words[body + In.create.mode]! | (words[body + In.create.umask]! << UMASK_SHIFT);
  const opened = openFlags(flags, words[body + In.create.openFlags]!);
  const result = operations.tmpfile(node, mode, uid, gid, opened, attr);
  if (result < 0) return context.status(request, result);
  const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.create);
  putEntry(replies.words, at, attr);
  putOpenReply(replies.words, at + OutBytes.entry / 4, opened, flags, result);
  kernel.giveNameless(attr);
  return ANSWERED;
}

/** No errno: the kernel must open what is there by itself. */
const LOOK_AGAIN = -1_000_000;

/** The kernel does not check the rights to what it believes new, so that is done here, or left to it. */
function openExisting(context: HandlerContext, request: RequestView, flags: number, opened: number): number {
  const { operations, attr } = context;
  const found = operations.lookup(request.node, context.name(request), attr);
  if (found === -Errno.ENOENT) return LOOK_AGAIN;
  if (found < 0) return found;
  const type = attr.mode & S_IFMT;
  if (type === S_IFDIR) return -Errno.EISDIR;
  if (type === S_IFLNK && (flags & O_NOFOLLOW) !== 0) return -Errno.ELOOP;
  if (type !== S_IFREG || !mayOpen(attr, request.uid, flags)) return LOOK_AGAIN;
  const result = operations.open(attr.node, opened);
  if (result >= 0) context.kernel.linked(request.kernelNode, attr.node);
  // Opening with O_TRUNC changed what the lookup told: the kernel must ask again.
  if (result >= 0 && (opened & OpenFlags.truncate) !== 0) {
    attr.size = 0;
    attr.blocks = 0;
    attr.cacheable = false;
  }
  return result;
}

/** Whether a user has the right to open a file, as far as that is known without the user's groups. */
function mayOpen(attr: AttrOut, uid: number, flags: number): boolean {
  if (uid === 0) return true;
  const access = flags & O_ACCMODE;
  const wanted =
    (access === O_WRONLY ? 0 : S_IRUSR) | (access === O_RDONLY && (flags & O_TRUNC) === 0 ? 0 : S_IWUSR);
  return uid === attr.uid && (attr.mode & wanted) === wanted;
}

export function release(context: HandlerContext, request: RequestView): number {
  const handle = request.words[request.body + In.release.fh]!;
  context.operations.release(request.node, handle & OPEN_BITS);
  return context.status(request, 0);
}

export function read(context: HandlerContext, request: RequestView): number {
  const { words, body } = request;
  const { replies } = context;
  const offset = get64(words, body + In.read.offset);
  const size = Math.min(words[body + In.read.size]!, LARGE_REPLY_BYTES);
  const isDirect = (words[body + In.read.readFlags]! & READ_LOCKOWNER) !== 0;
  const flags = isDirect ? 0 : ReadFlags.pages;
  const result = context.operations.read(request.node, offset, size, replies.slot(), flags);
  if (result < 0) return context.status(request, result);
  if (!isDirect) context.kernel.givePages(request.node);
  replies.large(request.uniqueLow, request.uniqueHigh, result);
  return ANSWERED;
}

export function write(context: HandlerContext, request: RequestView): number {
  const { words, body, node, dataStart } = request;
  const size = words[body + In.write.size]!;
  const writeFlags = words[body + In.write.writeFlags]!;
  const fromPageCache = (writeFlags & WRITE_CACHE) !== 0;
  const fileFlags = fromPageCache ? 0 : words[body + In.write.flags]!;
  const append = (fileFlags & O_APPEND) !== 0;
  let flags = append ? WriteFlags.append : 0;
  if (fromPageCache) flags |= WriteFlags.pages;
  if ((writeFlags & WRITE_KILL_SUIDGID) !== 0) flags |= WriteFlags.killSuidgid;
  const data = request.bytes.subarray(dataStart, dataStart + size);
  const offset = get64(words, body + In.write.offset);
  const isDirect = (words[body + In.write.fh]! & HANDLE_DIRECT) !== 0;
  // Whole pages of it can be read as soon as the kernel asks, before it takes effect. Parts of pages are kept only in
  // pages that were read before.
  const hasPage = Math.ceil(offset / PAGE_BYTES) < Math.floor((offset + size) / PAGE_BYTES);
  if (isDirect) flags |= WriteFlags.direct;
  else if (hasPage) context.kernel.givePages(node);
  const result = context.operations.write(node, offset, data, flags);
  if (result < 0) return context.status(request, result);
  const isCut = !isDirect && offset % PAGE_BYTES !== 0 && (offset + size) % PAGE_BYTES === 0;
  if (!fromPageCache && (isCut || size >= MAX_WRITE_BYTES)) {
    context.kernel.writes.note(request.pid, node, performance.now());
  }
  if (append && (words[body + In.write.fh]! & HANDLE_APPEND) === 0) {
    // Became an append by fcntl: the kernel has put the bytes into pages by an offset of its own.
    context.kernel.forgetBytes(node, 0, Number.POSITIVE_INFINITY);
  }
  // A page that seemed to be locked by it, and was not, may be older than what others have written.
  const isOld = request.leftOut;
  request.leftOut = false;
  const isDurable = (fileFlags & O_DSYNC) !== 0;
  if (!isOld && !isDurable) return context.number(request, result, 0);
  const start = append ? context.operations.writtenSize(node) - size : offset;
  const forget = async (copy: RequestView): Promise<void> => {
    // An invalidation may wait for it: it waits for nobody else.
    copy.waitsForOthers = false;
    copy.leftOut = false;
    const first = Math.floor(start / PAGE_BYTES) * PAGE_BYTES;
    await context.kernel.forgetWritten(node, first, Math.ceil((start + size) / PAGE_BYTES) * PAGE_BYTES);
  };
  context.answerLater(request, async (copy) => {
    if (isOld) await forget(copy);
    if (!isDurable) return result;
    // O_SYNC and O_DSYNC: answered when it is durable, for which others may have to send what they wrote.
    copy.waitsForOthers = true;
    const error = await context.operations.fsync(node);
    if (copy.leftOut) await forget(copy);
    return error < 0 ? error : result;
  });
  return ANSWERED;
}

export function flush(context: HandlerContext, request: RequestView): number {
  return context.status(request, context.operations.flush(request.node));
}

/** FSYNC and FSYNCDIR: answered when everything is durable. */
export function fsync(context: HandlerContext, request: RequestView): number {
  context.answerLater(request, () => context.operations.fsync(request.node));
  return ANSWERED;
}

export function lseek(context: HandlerContext, request: RequestView): number {
  const { words, body } = request;
  const offset = getSigned64(words, body + In.lseek.offset);
  const result = context.operations.lseek(request.node, offset, words[body + In.lseek.whence]!);
  if (result < 0) return context.status(request, result);
  const { replies } = context;
  put64(replies.words, replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.lseek), result);
  return ANSWERED;
}

export function fallocate(context: HandlerContext, request: RequestView): number {
  const { words, body } = request;
  const mode = words[body + In.fallocate.mode]!;
  const offset = get64(words, body + In.fallocate.offset);
  const length = get64(words, body + In.fallocate.length);
  const result = context.operations.fallocate(request.node, mode, offset, length);
  return result === MISS ? MISS : context.status(request, result);
}
