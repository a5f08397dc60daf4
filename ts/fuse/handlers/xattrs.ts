// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests about extended attributes. GETXATTR is the commonest request that finds nothing: the kernel asks for
// security.capability before the first write to an inode, and ls asks twice per entry.
//
// A size of 0 asks how long the value or list is.

import { Errno } from '../../util/errno.ts';
import { In } from '../abi.ts';
import type { RequestView } from '../request.ts';
import { ANSWERED, type HandlerContext } from './context.ts';

const PROBE = new Uint8Array(0);

export function getxattr(context: HandlerContext, request: RequestView): number {
  const size = request.words[request.body + In.getxattr.size]!;
  const target = size === 0 ? PROBE : context.replies.slot();
  const result = context.operations.getxattr(request.node, context.name(request), target);
  return sized(context, request, size, result);
}

export function listxattr(context: HandlerContext, request: RequestView): number {
  const size = request.words[request.body + In.getxattr.size]!;
  const target = size === 0 ? PROBE : context.replies.slot();
  return sized(context, request, size, context.operations.listxattr(request.node, target));
}

/** Answers with the length, or with what the slot holds if the caller has room for it. */
function sized(context: HandlerContext, request: RequestView, size: number, result: number): number {
  if (result < 0) return context.status(request, result);
  if (size === 0) return context.number(request, result, 0);
  if (result > size) return context.status(request, -Errno.ERANGE);
  context.replies.large(request.uniqueLow, request.uniqueHigh, result);
  return ANSWERED;
}

export function setxattr(context: HandlerContext, request: RequestView): number {
  const { words, body, dataStart, node } = request;
  const value = request.bytes.subarray(dataStart, dataStart + words[body + In.setxattr.size]!);
  const flags = words[body + In.setxattr.flags]!;
  return context.status(request, context.operations.setxattr(node, context.name(request), value, flags));
}

export function removexattr(context: HandlerContext, request: RequestView): number {
  return context.status(request, context.operations.removexattr(request.node, context.name(request)));
}
