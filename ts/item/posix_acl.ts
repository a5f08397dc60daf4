// SPDX-License-Identifier: GPL-2.0-or-later
//
// POSIX ACLs as extended attributes hold them (system.posix_acl_access and _default; include/uapi/linux/posix_acl_xattr.h):
// a version (u32, 2), then entries of 8 bytes: tag u16, permissions u16, id u32, little-endian, sorted by tag.
//
// The kernel checks rights by them; what follows from them for a mode, and from a mode for them, is ours: what is made in
// a directory that has a default ACL, chmod, and setting an access ACL. The algorithms are those of fs/posix_acl.c.
//
// Nothing here trusts the bytes: an image may hold anything. What is no ACL is null.

const VERSION = 2;
const HEAD_BYTES = 4;
const ENTRY_BYTES = 8;

const Tag = { userObj: 0x01, user: 0x02, groupObj: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;

/** Places of the entries that stand for a mode, in bytes; 0 for a mask that is not there. */
interface Entries {
  readonly view: DataView;
  readonly user: number;
  readonly group: number;
  readonly mask: number;
  readonly other: number;
  /** Whether the ACL says more than a mode can. */
  readonly isExtended: boolean;
}

function entriesOf(acl: Uint8Array): Entries | null {
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  if (acl.length < HEAD_BYTES || view.getUint32(0, true) !== VERSION) return null;
  if ((acl.length - HEAD_BYTES) % ENTRY_BYTES !== 0) return null;
  let [user, group, mask, other, named] = [0, 0, 0, 0, 0];
  for (let at = HEAD_BYTES; at < acl.length; at += ENTRY_BYTES) {
    if (view.getUint16(at + 2, true) > 7) return null;
    const tag = view.getUint16(at, true);
    if (tag === Tag.user || tag === Tag.group) named++;
    else if (tag === Tag.userObj && user === 0) user = at;
    else if (tag === Tag.groupObj && group === 0) group = at;
    else if (tag === Tag.mask && mask === 0) mask = at;
    else if (tag === Tag.other && other === 0) other = at;
    else return null;
  }
  if (user === 0 || group === 0 || other === 0 || (named > 0 && mask === 0)) return null;
  return { view, user, group, mask, other, isExtended: mask !== 0 };
}

const permissions = (view: DataView, at: number): number => view.getUint16(at + 2, true);

/** The mode's nine bits that an access ACL stands for, and whether they say all of it; null if it is no ACL. */
export function modeOfAcl(acl: Uint8Array): { readonly bits: number; readonly isAll: boolean } | null {
  const entries = entriesOf(acl);
  if (entries === null) return null;
  const { view, user, group, mask, other, isExtended } = entries;
  const bits =
    (permissions(view, user) << 6) |
    (permissions(view, isExtended ? mask : group) << 3) |
    permissions(view, other);
  return { bits, isAll: !isExtended };
}

/** Brings an access ACL, in place, in line with a mode that was set. @returns false if it is no ACL. */
export function setAclMode(acl: Uint8Array, mode: number): boolean {
  const entries = entriesOf(acl);
  if (entries === null) return false;
  const { view, user, group, mask, other, isExtended } = entries;
  view.setUint16(user + 2, (mode >> 6) & 7, true);
  view.setUint16((isExtended ? mask : group) + 2, (mode >> 3) & 7, true);
  view.setUint16(other + 2, mode & 7, true);
  return true;
}

/** What an inode gets that is made in a directory with a default ACL. */
export interface InheritedAcl {
  /** The mode, with no more rights than the ACL gives. */
  readonly mode: number;
  /** The access ACL; null if the mode says all of it. */
  readonly access: Uint8Array | null;
}

/** @param acl - the directory's default ACL. @param mode - as asked for, without the umask. @returns null if it is no ACL. */
export function inheritAcl(acl: Uint8Array, mode: number): InheritedAcl | null {
  const access = acl.slice();
  const entries = entriesOf(access);
  if (entries === null) return null;
  const { view, user, group, mask, other, isExtended } = entries;
  const restrict = (at: number, shift: number): number => {
    const left = permissions(view, at) & (mode >> shift);
    view.setUint16(at + 2, left, true);
    return left << shift;
  };
  const bits = restrict(user, 6) | restrict(isExtended ? mask : group, 3) | restrict(other, 0);
  return { mode: (mode & ~0o777) | bits, access: isExtended ? access : null };
}
