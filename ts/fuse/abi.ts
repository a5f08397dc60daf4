// SPDX-License-Identifier: GPL-2.0-or-later
//
// The FUSE kernel interface 7.45 (include/uapi/linux/fuse.h): numbers, places of fields, and writers of replies.
//
// Places are counted in u32 words: of a request from the end of its 40-byte header, of a reply from the start of
// its body. The kernel's byte order is the machine's, and so is that of a Uint32Array. A u64 is two words, low first
// (the addon is built for little-endian machines only); numbers of the file system stay below 2^53.
//
// The writers are called once per request or directory entry and allocate nothing.

import type { AttrOut, StatfsOut } from '../client/operations.ts';
import { UNLIMITED_SECONDS } from './limits.ts';

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** One more than the highest opcode: length of tables indexed by it. A newer kernel's are counted under 0. */
export const OPCODE_COUNT = 64;

/** Name of an opcode in lower case, as counters show it. */
export function opcodeName(opcode: number): string {
  return names[opcode] ?? `opcode_${opcode}`;
}

const names: (string | undefined)[] = [];
for (const [name, opcode] of Object.entries(Opcode)) names[opcode] = name.toLowerCase();

/** Words of `fuse_in_header` from the header's start. */
export const InHeader = {
  length: 0,
  opcode: 1,
  unique: 2,
  node: 4,
  uid: 6,
  gid: 7,
  pid: 8,
  words: 10,
} as const;
/** Bytes of `fuse_out_header`. */
export const OUT_HEADER_BYTES = 16;

/** Places of fields in requests, in words after the header. A pair for a u64 is named by its low word. */
export const In = {
  forget: { lookups: 0 },
  batchForget: { count: 0 },
  getattr: { flags: 0, fh: 2 },
  setattr: {
    valid: 0,
    fh: 2,
    size: 4,
    atime: 8,
    mtime: 10,
    ctime: 12,
    atimeNsec: 14,
    mtimeNsec: 15,
    ctimeNsec: 16,
    mode: 17,
    uid: 19,
    gid: 20,
  },
  mknod: { mode: 0, rdev: 1, umask: 2 },
  mkdir: { mode: 0, umask: 1 },
  rename: { targetDir: 0 },
  rename2: { targetDir: 0, flags: 2 },
  link: { node: 0 },
  open: { flags: 0, openFlags: 1 },
  create: { flags: 0, mode: 1, umask: 2, openFlags: 3 },
  release: { fh: 0, flags: 2, releaseFlags: 3 },
  flush: { fh: 0, lockOwner: 4 },
  /** READ, READDIR and READDIRPLUS. */
  read: { fh: 0, offset: 2, size: 4, readFlags: 5, lockOwner: 6, flags: 8 },
  write: { fh: 0, offset: 2, size: 4, writeFlags: 5, lockOwner: 6, flags: 8 },
  fsync: { fh: 0, flags: 2 },
  setxattr: { size: 0, flags: 1, setxattrFlags: 2 },
  getxattr: { size: 0 },
  interrupt: { unique: 0 },
  fallocate: { fh: 0, offset: 2, length: 4, mode: 6 },
  lseek: { fh: 0, offset: 2, whence: 4 },
} as const;

/** Bytes of reply bodies. */
export const OutBytes = {
  entry: 128,
  attr: 104,
  open: 16,
  create: 144,
  write: 8,
  statfs: 80,
  getxattr: 8,
  lseek: 8,
  statx: 288,
} as const;

/** Flags of the reply to OPEN, CREATE and OPENDIR. */
export const FOpen = { directIo: 1, keepCache: 2, cacheDir: 8, noFlush: 32 } as const;

/** Bits of the fields named after them. */
export const OPEN_KILL_SUIDGID = 1;
export const READ_LOCKOWNER = 2;
export const WRITE_CACHE = 1;
export const WRITE_KILL_SUIDGID = 4;
export const SETXATTR_ACL_KILL_SGID = 1;

/** Flags of open(2) as Linux has them on x86-64 and arm64. */
export const O_ACCMODE = 0o3;
export const O_RDONLY = 0o0;
export const O_EXCL = 0o200;
export const O_WRONLY = 0o1;
export const O_TRUNC = 0o1000;
/** One of the few in which machines differ. */
export const O_NOFOLLOW: number = process.arch === 'arm64' ? 0o100000 : 0o400000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;

/** File type bits of a mode. */
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_ISVTX = 0o1000;
export const S_IRUSR = 0o400;
export const S_IWUSR = 0o200;

const TWO_32 = 4_294_967_296;

/** Writes a whole number of either sign as a u64 or i64. */
export function put64(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = value >= 0 && value < TWO_32 ? 0 : Math.floor(value / TWO_32);
}

/** Reads a u64; exact below 2^53. */
export function get64(words: Uint32Array, at: number): number {
  const high = words[at + 1]!;
  // Small numbers, nearly all, stay integers for the compiler.
  return high === 0 ? words[at]! : words[at]! + high * TWO_32;
}

/** Reads an i64; exact between -2^53 and 2^53. */
export function getSigned64(words: Uint32Array, at: number): number {
  return words[at]! + (words[at + 1]! | 0) * TWO_32;
}

/** Preferred size of I/O, bytes: one sector. st_blksize of local file systems, which programs size buffers by. */
const BLOCK_SIZE = 4096;

/** Writes `fuse_attr` (22 words). */
export function putAttr(words: Uint32Array, at: number, attr: AttrOut): void {
  put64(words, at, attr.ino);
  put64(words, at + 2, attr.size);
  put64(words, at + 4, attr.blocks);
  put64(words, at + 6, attr.atimeSec);
  put64(words, at + 8, attr.mtimeSec);
  put64(words, at + 10, attr.ctimeSec);
  words[at + 12] = attr.atimeNsec;
  words[at + 13] = attr.mtimeNsec;
  words[at + 14] = attr.ctimeNsec;
  words[at + 15] = attr.mode;
  words[at + 16] = attr.nlink;
  words[at + 17] = attr.uid;
  words[at + 18] = attr.gid;
  words[at + 19] = attr.rdev;
  words[at + 20] = BLOCK_SIZE;
  words[at + 21] = 0;
}

/** Writes `fuse_entry_out` (32 words). With `attr.node` 0 it is a negative entry, or one that READDIRPLUS skips. */
export function putEntry(words: Uint32Array, at: number, attr: AttrOut): void {
  const seconds = attr.cacheable ? UNLIMITED_SECONDS : 0;
  put64(words, at, attr.node);
  // Generation 0: the client never gives a node number to a second inode.
  words[at + 2] = 0;
  words[at + 3] = 0;
  words[at + 4] = seconds;
  words[at + 5] = 0;
  words[at + 6] = seconds;
  words[at + 7] = 0;
  words[at + 8] = 0;
  words[at + 9] = 0;
  putAttr(words, at + 10, attr);
}

/** Writes `fuse_attr_out` (26 words). */
export function putAttrOut(words: Uint32Array, at: number, attr: AttrOut): void {
  words[at] = attr.cacheable ? UNLIMITED_SECONDS : 0;
  words[at + 1] = 0;
  words[at + 2] = 0;
  words[at + 3] = 0;
  putAttr(words, at + 4, attr);
}

/** What `putStatx` tells: STATX_BASIC_STATS and STATX_BTIME. */
const STATX_MASK = 0xfff;

/** Writes `fuse_statx_out` (72 words). */
export function putStatx(words: Uint32Array, at: number, attr: AttrOut): void {
  words.fill(0, at, at + 72);
  words[at] = attr.cacheable ? UNLIMITED_SECONDS : 0;
  const stat = at + 8;
  words[stat] = STATX_MASK;
  words[stat + 1] = BLOCK_SIZE;
  words[stat + 4] = attr.nlink;
  words[stat + 5] = attr.uid;
  words[stat + 6] = attr.gid;
  words[stat + 7] = attr.mode;
  put64(words, stat + 8, attr.ino);
  put64(words, stat + 10, attr.size);
  put64(words, stat + 12, attr.blocks);
  put64(words, stat + 16, attr.atimeSec);
  words[stat + 18] = attr.atimeNsec;
  put64(words, stat + 20, attr.btimeSec);
  words[stat + 22] = attr.btimeNsec;
  put64(words, stat + 24, attr.ctimeSec);
  words[stat + 26] = attr.ctimeNsec;
  put64(words, stat + 28, attr.mtimeSec);
  words[stat + 30] = attr.mtimeNsec;
  words[stat + 32] = (attr.rdev >>> 8) & 0xfff;
  words[stat + 33] = (attr.rdev & 0xff) | ((attr.rdev >>> 12) & 0xfff00);
}

/** Writes `fuse_open_out` (4 words). */
export function putOpen(words: Uint32Array, at: number, fh: number, flags: number): void {
  put64(words, at, fh);
  words[at + 2] = flags;
  words[at + 3] = 0;
}

/** Longest name, bytes; told by STATFS. */
const NAME_MAX = 255;

/** Writes `fuse_statfs_out` (20 words). Free inodes without limit: BTRFS has no table of them. */
export function putStatfs(words: Uint32Array, at: number, space: StatfsOut): void {
  put64(words, at, Math.floor(space.totalBytes / BLOCK_SIZE));
  put64(words, at + 2, Math.floor(space.freeBytes / BLOCK_SIZE));
  put64(words, at + 4, Math.floor(space.availableBytes / BLOCK_SIZE));
  put64(words, at + 6, 0);
  put64(words, at + 8, 0);
  words[at + 10] = BLOCK_SIZE;
  words[at + 11] = NAME_MAX;
  words[at + 12] = BLOCK_SIZE;
  words.fill(0, at + 13, at + 20);
}

/** Bytes of `fuse_dirent` before the name. */
export const DIRENT_BYTES = 24;

/** Writes the fixed part of `fuse_dirent` (6 words). */
export function putDirent(
  words: Uint32Array,
  at: number,
  ino: number,
  cookie: number,
  nameLength: number,
  type: number,
): void {
  put64(words, at, ino);
  put64(words, at + 2, cookie);
  words[at + 4] = nameLength;
  words[at + 5] = type;
}
