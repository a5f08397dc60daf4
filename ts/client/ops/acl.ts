// SPDX-License-Identifier: GPL-2.0-or-later
//
// POSIX ACLs of inodes: what chmod and a directory's default ACL do to them, and what setting one does to the mode.
// (ts/item/posix_acl.ts has the rules.) The kernel checks rights and who may set them.
//
// As everywhere: the needs first, with MISS when something is not held; then the effect, with the stamp taken.

import { inheritAcl, setAclMode } from '../../item/posix_acl.ts';
import { Errno } from '../../util/errno.ts';
import { Mode } from '../../wire/message.ts';
import { xattrCost } from '../../wire/space.ts';
import type { Core } from '../core.ts';
import { MISS } from '../operations.ts';
import { findXattr, putXattr, type XattrName, xattrName, xattrValue } from './xattr_items.ts';

export const ACCESS_ACL: XattrName = xattrName('system.posix_acl_access');
export const DEFAULT_ACL: XattrName = xattrName('system.posix_acl_default');

export function isAclName(name: Uint8Array): boolean {
  return isName(name, ACCESS_ACL.bytes) || isName(name, DEFAULT_ACL.bytes);
}

export function isName(name: Uint8Array, other: Uint8Array): boolean {
  return name.length === other.length && other.every((byte, at) => name[at] === byte);
}

/** What `needInherited` found for an inode that is about to be made; valid until the next call. */
export const inherited = {
  mode: 0,
  access: null as Uint8Array | null,
  default: null as Uint8Array | null,
  /** Bytes of space that the ACLs cost. */
  cost: 0,
};

/**
 * Finds out, into `inherited`, the mode and the ACLs of what is made in a directory.
 *
 * @param mode - as asked for. @param umask - what is taken away where there is no default ACL.
 * @returns 0; MISS; -EIO if the image has something else than an ACL there.
 */
export function needInherited(
  core: Core,
  tree: number,
  dir: number,
  mode: number,
  umask: number,
  isDirectory: boolean,
): number {
  inherited.access = null;
  inherited.default = null;
  inherited.cost = 0;
  inherited.mode = mode & ~umask;
  if (!core.needXattr(tree, dir, DEFAULT_ACL.hash, Mode.read)) return MISS;
  const at = findXattr(core, tree, dir, DEFAULT_ACL.bytes, DEFAULT_ACL.hash);
  if (at < 0) return 0;
  const acl = xattrValue(core, at);
  const own = inheritAcl(acl, mode);
  if (own === null) return -Errno.EIO;
  inherited.mode = own.mode;
  inherited.access = own.access;
  if (isDirectory) inherited.default = acl.slice();
  for (const each of [inherited.access, inherited.default])
    if (each !== null) inherited.cost += xattrCost(each.length);
  return 0;
}

/** Gives a new inode the ACLs in `inherited`. */
export function putInherited(core: Core, tree: number, ino: number): void {
  const { access } = inherited;
  if (access !== null) putXattr(core, tree, ino, 0, ACCESS_ACL.bytes, ACCESS_ACL.hash, access);
  if (inherited.default !== null)
    putXattr(core, tree, ino, 0, DEFAULT_ACL.bytes, DEFAULT_ACL.hash, inherited.default);
}

/** Whether it is known that a chmod can change the inode's access ACL, if it has one. @returns 0, MISS or -EIO. */
export function needModeInAcl(core: Core, tree: number, ino: number): number {
  if (!core.needXattr(tree, ino, ACCESS_ACL.hash, Mode.read)) return MISS;
  const at = findXattr(core, tree, ino, ACCESS_ACL.bytes, ACCESS_ACL.hash);
  if (at < 0) return 0;
  const acl = xattrValue(core, at).slice();
  if (!setAclMode(acl, 0)) return -Errno.EIO;
  const isHeld = core.needXattr(tree, ino, ACCESS_ACL.hash, Mode.write);
  return core.needSpace(xattrCost(acl.length)) && isHeld ? 0 : MISS;
}

/** A chmod takes its mode into the access ACL, if there is one. */
export function putModeInAcl(core: Core, tree: number, ino: number, mode: number): void {
  const at = findXattr(core, tree, ino, ACCESS_ACL.bytes, ACCESS_ACL.hash);
  if (at < 0) return;
  const acl = xattrValue(core, at).slice();
  setAclMode(acl, mode);
  core.space.spend(xattrCost(acl.length));
  putXattr(core, tree, ino, 0, ACCESS_ACL.bytes, ACCESS_ACL.hash, acl);
}
