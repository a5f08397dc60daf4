// SPDX-License-Identifier: GPL-2.0-or-later
//
// Requests about extended attributes. GETXATTR is the commonest request that finds nothing: the kernel asks for
// security.capability before the first write to an inode, and ls asks twice per entry.
//
// A size of 0 asks how long the value or list is.

import { XattrFlags } from '../../client/operations.ts';
import { Errno } from '../../util/errno.ts';
import { In, SETXATTR_ACL_KILL_SGID } from '../abi.ts';
import type { RequestView } from '../request.ts';
import { ANSWERED, type HandlerContext } from './context.ts';

const PROBE = new Uint8Array(0);

const ACL_PREFIX = Uint8Array.from('system.posix_acl_', (letter) => letter.charCodeAt(0));

function isAclName(name: Uint8Array): boolean {
  return name.length > ACL_PREFIX.length && ACL_PREFIX.every((byte, at) => name[at] === byte);
}

export function getxattr(context: HandlerContext, request: RequestView): number {
  const size = request.words[request.body + In.getxattr.size]!;
  const target = size === 0 ? PROBE : context.replies.slot();
  const name = context.name(request);
  const result = context.operations.getxattr(request.node, name, target);
  // The kernel keeps ACLs, that there is none too.
  if (isAclName(name)) context.kernel.giveAcl(request.kernelNode);
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
  let flags = words[body + In.setxattr.flags]! & (XattrFlags.create | XattrFlags.replace);
  if ((words[body + In.setxattr.setxattrFlags]! & SETXATTR_ACL_KILL_SGID) !== 0)
    flags |= XattrFlags.killSetGid;
  return context.status(request, context.operations.setxattr(node, context.name(request), value, flags));
}

export function removexattr(context: HandlerContext, request: RequestView): number {
  return context.status(request, context.operations.removexattr(request.node, context.name(request)));
}
