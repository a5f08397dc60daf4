// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests about what an inode is: attributes, target of a symbolic link, the file system's space.

import { SetAttrMask } from '../../client/operations.ts';
import { get64, getSigned64, In, OutBytes, putStatfs, putStatx } from '../abi.ts';
import type { RequestView } from '../request.ts';
import { ANSWERED, type HandlerContext } from './context.ts';

/** Longest target of a symbolic link, bytes (PATH_MAX without its NUL). */
const TARGET_MAX = 4095;

/** Bits of FUSE_SETATTR's `valid` that the client knows: all but FATTR_FH and FATTR_LOCKOWNER. */
const KNOWN_BITS = Object.values(SetAttrMask).reduce((mask, bit) => mask | bit, 0);
const OWNER_BITS = SetAttrMask.uid | SetAttrMask.gid;

export function getattr(context: HandlerContext, request: RequestView): number {
  return context.attributes(request, context.operations.getattr(request.node, context.attr));
}

/** STATX: GETATTR with the time of birth, which the kernel asks for only when a program does. */
export function statx(context: HandlerContext, request: RequestView): number {
  const { operations, attr, kernel, replies } = context;
  const result = operations.getattr(request.node, attr);
  if (result < 0) return context.status(request, result);
  if (kernel.isSplit(request.kernelNode)) attr.cacheable = false;
  kernel.giveAttributes(request.kernelNode, attr, request.pid);
  putStatx(replies.words, replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.statx), attr);
  return ANSWERED;
}

export function setattr(context: HandlerContext, request: RequestView): number {
  const { words, body } = request;
  const { set } = context;
  const field = In.setattr;
  let mask = words[body + field.valid]! & KNOWN_BITS;
  // FUSE_HANDLE_KILLPRIV_V2 leaves it to us that a change of owner clears set-user-ID and set-group-ID.
  if ((mask & OWNER_BITS) !== 0 && (mask & SetAttrMask.mode) === 0) mask |= SetAttrMask.killSuidgid;
  set.mask = mask;
  set.mode = words[body + field.mode]!;
  set.uid = words[body + field.uid]!;
  set.gid = words[body + field.gid]!;
  set.size = get64(words, body + field.size);
  set.atimeSec = getSigned64(words, body + field.atime);
  set.mtimeSec = getSigned64(words, body + field.mtime);
  set.ctimeSec = getSigned64(words, body + field.ctime);
  set.atimeNsec = words[body + field.atimeNsec]!;
  set.mtimeNsec = words[body + field.mtimeNsec]!;
  set.ctimeNsec = words[body + field.ctimeNsec]!;
  return context.attributes(request, context.operations.setattr(request.node, set, context.attr));
}

export function readlink(context: HandlerContext, request: RequestView): number {
  const { replies } = context;
  const result = context.operations.readlink(request.node, replies.slot());
  if (result < 0) return context.status(request, result);
  context.kernel.givePages(request.node);
  replies.large(request.uniqueLow, request.uniqueHigh, Math.min(result, TARGET_MAX));
  return ANSWERED;
}

export function statfs(context: HandlerContext, request: RequestView): number {
  const { replies, space } = context;
  const result = context.operations.statfs(space);
  if (result < 0) return context.status(request, result);
  putStatfs(replies.words, replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.statfs), space);
  return ANSWERED;
}
