// SPDX-License-Identifier: GPL-2.0-or-later
//
// INODE_ITEM: the 160 bytes of an inode, as on disk. Offsets of its fields and accessors over a view.
//
//   0 generation u64     8 transid u64    16 size u64      24 nbytes u64   32 block group u64
//  40 nlink u32         44 uid u32        48 gid u32       52 mode u32     56 rdev u64   64 flags u64
//  72 sequence u64      80 reserved (32 bytes)
// 112 atime            124 ctime         136 mtime        148 otime       (each: seconds i64, nanoseconds u32)
//
// Generation, transid and sequence are the engine's business: a prediction leaves them zero, and nobody on the
// client reads them. `rdev` is major << 20 | minor.

import { getI64, getU64, setI64, setU64 } from './number_fields.ts';

export const INODE_ITEM_BYTES = 160;

/** Offsets of fields in an INODE_ITEM. */
export const InodeField = {
  generation: 0,
  transid: 8,
  size: 16,
  nbytes: 24,
  nlink: 40,
  uid: 44,
  gid: 48,
  mode: 52,
  rdev: 56,
  flags: 64,
  sequence: 72,
  atime: 112,
  ctime: 124,
  mtime: 136,
  otime: 148,
} as const;

/** Bits of mode. */
export const FileMode = {
  typeMask: 0o170000,
  socket: 0o140000,
  symlink: 0o120000,
  regular: 0o100000,
  block: 0o060000,
  directory: 0o040000,
  character: 0o020000,
  fifo: 0o010000,
  setUid: 0o4000,
  setGid: 0o2000,
  groupExecute: 0o010,
} as const;

/** Most names that one inode may have (BTRFS_LINK_MAX). */
export const NLINK_MAX = 65_535;

export function isDirectory(mode: number): boolean {
  return (mode & FileMode.typeMask) === FileMode.directory;
}

export function isRegular(mode: number): boolean {
  return (mode & FileMode.typeMask) === FileMode.regular;
}

export function isSymlink(mode: number): boolean {
  return (mode & FileMode.typeMask) === FileMode.symlink;
}

export function inodeMode(view: DataView, at: number): number {
  return view.getUint32(at + InodeField.mode, true);
}

export function inodeNlink(view: DataView, at: number): number {
  return view.getUint32(at + InodeField.nlink, true);
}

export function inodeSize(view: DataView, at: number): number {
  return getU64(view, at + InodeField.size);
}

export function inodeNbytes(view: DataView, at: number): number {
  return getU64(view, at + InodeField.nbytes);
}

export function setInodeSize(view: DataView, at: number, size: number): void {
  setU64(view, at + InodeField.size, size);
}

export function setInodeNbytes(view: DataView, at: number, nbytes: number): void {
  setU64(view, at + InodeField.nbytes, nbytes);
}

/** Sets one of the four times. @param field - of `InodeField`. */
export function setInodeTime(view: DataView, at: number, field: number, sec: number, nsec: number): void {
  setI64(view, at + field, sec);
  view.setUint32(at + field + 8, nsec, true);
}

/** Seconds of one of the four times. @param field - of `InodeField`. */
export function inodeTimeSec(view: DataView, at: number, field: number): number {
  return getI64(view, at + field);
}

export function inodeTimeNsec(view: DataView, at: number, field: number): number {
  return view.getUint32(at + field + 8, true);
}

/** Sets a time unless that would take it backwards: the rule for directories when names come and go. */
export function advanceInodeTime(view: DataView, at: number, field: number, sec: number, nsec: number): void {
  const oldSec = inodeTimeSec(view, at, field);
  if (sec > oldSec || (sec === oldSec && nsec > inodeTimeNsec(view, at, field))) {
    setInodeTime(view, at, field, sec, nsec);
  }
}

/**
 * The derived part, `[start, end)` each: transid, size and nbytes; nlink; sequence; atime, ctime and mtime. All the rest is
 * identity.
 */
const DERIVED_PARTS: readonly (readonly [number, number])[] = [
  [InodeField.transid, InodeField.nbytes + 8],
  [InodeField.nlink, InodeField.nlink + 4],
  [InodeField.sequence, InodeField.sequence + 8],
  [InodeField.atime, InodeField.otime],
];

/** Copies the derived part from one inode item to another. */
export function copyDerived(target: Uint8Array, source: Uint8Array): void {
  for (const [start, end] of DERIVED_PARTS) target.set(source.subarray(start, end), start);
}

/** Copies what is not the derived part. */
export function copyIdentity(target: Uint8Array, source: Uint8Array): void {
  let at = 0;
  for (const [start, end] of DERIVED_PARTS) {
    target.set(source.subarray(at, start), at);
    at = end;
  }
  target.set(source.subarray(at), at);
}
