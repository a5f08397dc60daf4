// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests about names: find, make, link, remove, rename.
//
// The kernel has checked the caller's rights (default_permissions). Inheritance of the group, of set-group-ID and of ACLs
// from the directory is the client's, which knows the directory; so the umask is the client's to apply.

import { MISS, RenameFlags, UMASK_SHIFT } from '../../client/operations.ts';
import { Errno } from '../../util/errno.ts';
import { isPlanted } from '../../util/test_faults.ts';
import { get64, In, OutBytes, putEntry, S_IFDIR, S_IFMT, S_ISVTX } from '../abi.ts';
import { LOOKS_MAX } from '../limits.ts';
import type { RequestView } from '../request.ts';
import type { PlacedName, RenamedName } from '../stale_retries.ts';
import { ANSWERED, type HandlerContext } from './context.ts';

export function lookup(context: HandlerContext, request: RequestView): number {
  const { attr } = context;
  const { kernel } = context;
  const dir = request.kernelNode;
  const result = context.operations.lookup(request.node, context.name(request), attr);
  if (result === -Errno.ENOENT) {
    if (attr.cacheable && !kernel.isSplit(dir)) return negativeEntry(context, request);
    kernel.giveAbsent(dir, request.bytes, request.nameStart, request.nameLength);
  }
  if (result < 0) return context.status(request, result);
  const { node } = attr;
  const torn = answerTorn(context, request, node);
  if (torn !== null) return torn;
  if (!kernel.mayPlace(dir, attr)) return MISS;
  kernel.looked(node);
  const answered = context.entry(request, result);
  // The entry was made with the kernel's number.
  context.lastFound.note(request, node, (attr.mode & S_IFMT) === S_IFDIR ? attr.node : 0);
  return answered;
}

/**
 * Answers a lookup of a rename that would take one inode for two links of it, see last_found.ts.
 *
 * @returns ANSWERED; MISS while it cannot be told; null if it is none.
 */
function answerTorn(context: HandlerContext, request: RequestView, node: number): number | null {
  const { operations, kernel, lastFound, staleRetries, otherAttr } = context;
  const other = lastFound.otherName(request, node);
  // The kernel may go on with a name of which it was told in vain.
  if (other === null && !kernel.hasGivenUpNames) return null;
  // What cannot be told without waiting counts as gone: to begin anew does no harm.
  const isThere =
    other !== null && operations.lookup(other.dir, other.name, otherAttr) === 0 && otherAttr.node === node;
  if (isThere || isPlanted('torn-renames-pass')) return null;
  const { answer, isCertain } = staleRetries.ofRename(request, other, (place, renamed) => {
    return isIn(context, place, renamed);
  });
  if (answer === 'unknown' && request.looks++ < LOOKS_MAX) {
    kernel.lookLater();
    return MISS;
  }
  if (answer === 'found' || answer === 'unknown') return null;
  // The kernel may ask for this name alone once more: where it has it already it takes ESTALE for "not that one any more".
  if (!isCertain) lastFound.forget(request);
  // In a sticky directory the kernel must know what is replaced, to check the right to it.
  const isAbsent = answer === 'absent' && (request.uid === 0 || !isSticky(context, request.node));
  const errno = isAbsent ? Errno.ENOENT : Errno.ESTALE;
  kernel.giveAbsent(request.kernelNode, request.bytes, request.nameStart, request.nameLength);
  context.replies.status(request.uniqueLow, request.uniqueHigh, -errno);
  return ANSWERED;
}

/** Whether a name is in the directory of one of a rename's names; null if that cannot be told. */
function isIn(
  { operations, kernel, otherAttr }: HandlerContext,
  { dir, kernelDir }: PlacedName,
  { directory, directoryName }: RenamedName,
): boolean | null {
  const ino = directory();
  if (ino !== null) return operations.getattr(dir, otherAttr) === 0 ? otherAttr.ino === ino : null;
  return directoryName === null ? null : kernel.isCalled(kernelDir, directoryName);
}

function isSticky({ operations, otherAttr }: HandlerContext, dir: number): boolean {
  return operations.getattr(dir, otherAttr) !== 0 || (otherAttr.mode & S_ISVTX) !== 0;
}

/** "There is no such name", which the kernel may keep: an entry with node 0. */
function negativeEntry(context: HandlerContext, request: RequestView): number {
  const { attr, replies } = context;
  attr.node = 0;
  const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.entry);
  putEntry(replies.words, at, attr);
  context.kernel.giveNegative(request.kernelNode, request.bytes, request.nameStart, request.nameLength);
  return ANSWERED;
}

export function mknod(context: HandlerContext, request: RequestView): number {
  const { words, body, node, uid, gid } = request;
  const mode = words[body + In.mknod.mode]! | (words[body + In.mknod.umask]! << UMASK_SHIFT);
  const rdev = words[body + In.mknod.rdev]!;
  const name = context.name(request);
  const result = context.operations.mknod(node, name, mode, rdev, uid, gid, context.attr);
  return context.entry(request, result);
}

export function mkdir(context: HandlerContext, request: RequestView): number {
  const { words, body, node, uid, gid } = request;
  const mode = words[body + In.mkdir.mode]! | (words[body + In.mkdir.umask]! << UMASK_SHIFT);
  const result = context.operations.mkdir(node, context.name(request), mode, uid, gid, context.attr);
  return context.entry(request, result);
}

export function symlink(context: HandlerContext, request: RequestView): number {
  const { node, uid, gid } = request;
  const target = context.second(request);
  const result = context.operations.symlink(node, context.name(request), target, uid, gid, context.attr);
  return context.entry(request, result);
}

export function link(context: HandlerContext, request: RequestView): number {
  const linked = get64(request.words, request.body + In.link.node);
  const result = context.operations.link(linked, request.node, context.name(request), context.attr);
  if (result === 0) context.kernel.linked(request.kernelNode, linked);
  return context.entry(request, result);
}

export function unlink(context: HandlerContext, request: RequestView): number {
  const result = context.operations.unlink(request.node, context.name(request));
  if (result >= 0) {
    context.kernel.tookName(request.kernelNode, request.bytes, request.nameStart, request.nameLength);
  }
  return context.status(request, result);
}

export function rmdir(context: HandlerContext, request: RequestView): number {
  const { operations, kernel, lastFound } = context;
  const { node, kernelNode, bytes, nameStart, nameLength } = request;
  const seen = lastFound.directoryAt(request, kernelNode, nameStart, nameLength);
  const believed = [kernel.directoryAt(kernelNode, bytes, nameStart, nameLength), kernel.ownerOf(seen)];
  const victim = nodeAt(context, node, context.name(request));
  if (mustLookAgain(context, request, believed, victim)) return ANSWERED;
  const result = operations.rmdir(node, context.name(request));
  if (result >= 0) {
    kernel.tookDirectory(kernelNode, bytes, nameStart, nameLength, Math.max(0, victim), seen);
  }
  return context.status(request, result);
}

/** The node of what has a name, as far as it is known without waiting: 0 if nothing has, -1 if it is not known. */
function nodeAt({ operations, otherAttr }: HandlerContext, dir: number, name: Uint8Array): number {
  const result = operations.lookup(dir, name, otherAttr);
  if (result === 0) return otherAttr.node;
  return result === -Errno.ENOENT ? 0 : -1;
}

/**
 * Makes the kernel begin a call anew that would take another directory for removed than the one that has the name now: all
 * that is open below the former would be lost to who uses it. A call that has begun anew already goes on
 * (directory_nodes.ts).
 */
function mustLookAgain(
  context: HandlerContext,
  request: RequestView,
  believed: readonly number[],
  victim: number,
): boolean {
  if (victim < 0 || believed.every((node) => node === 0 || node === victim)) return false;
  if (isPlanted('removed-directories-stay')) return false;
  if (context.staleRetries.errnoFor(request) !== Errno.ESTALE) return false;
  context.replies.status(request.uniqueLow, request.uniqueHigh, -Errno.ESTALE);
  return true;
}

export function rename(context: HandlerContext, request: RequestView): number {
  const targetDir = get64(request.words, request.body + In.rename.targetDir);
  return renameWith(context, request, targetDir, 0);
}

export function rename2(context: HandlerContext, request: RequestView): number {
  const targetDir = get64(request.words, request.body + In.rename2.targetDir);
  return renameWith(context, request, targetDir, request.words[request.body + In.rename2.flags]!);
}

/** @param kernelTarget - the target's directory as the kernel numbers it. */
function renameWith(
  context: HandlerContext,
  request: RequestView,
  kernelTarget: number,
  flags: number,
): number {
  const { operations, kernel, lastFound, attr } = context;
  const { node, kernelNode, bytes, nameStart, nameLength, secondStart, secondLength } = request;
  const targetDir = kernel.ownerOf(kernelTarget);
  const seen = lastFound.directoryAt(request, kernelTarget, secondStart, secondLength);
  const believed = [kernel.directoryAt(kernelTarget, bytes, secondStart, secondLength), kernel.ownerOf(seen)];
  const isKnown = believed.some((known) => known !== 0);
  const victim = isKnown ? nodeAt(context, targetDir, context.second(request)) : 0;
  if (mustLookAgain(context, request, believed, victim)) return ANSWERED;
  // What the kernel would move must be what moves, or a program inside it were in another place.
  const moved = kernel.directoryAt(kernelNode, bytes, nameStart, nameLength);
  if (moved !== 0) {
    const source = nodeAt(context, node, context.name(request));
    if (mustLookAgain(context, request, [moved], source)) return ANSWERED;
  }
  const result = operations.rename(node, context.name(request), targetDir, context.second(request), flags);
  // What the thread found under the names as they were says nothing of its next call.
  if (result >= 0) lastFound.forget(request);
  if (result >= 0 && (flags & RenameFlags.exchange) !== 0) {
    kernel.exchangedNames(kernelNode, kernelTarget, bytes, nameStart, nameLength, secondStart, secondLength);
  } else if (result >= 0) {
    const replaced = Math.max(0, victim);
    const isLasting = operations.lookup(targetDir, context.second(request), attr) === 0 && attr.cacheable;
    kernel.movedName(
      kernelNode,
      kernelTarget,
      bytes,
      nameStart,
      nameLength,
      secondStart,
      secondLength,
      replaced,
      seen,
      isLasting,
    );
  }
  return context.status(request, result);
}
