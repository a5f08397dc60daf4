// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations of a mount, as the kernel channel (ts/fuse) calls them. This file holds the interface and its
// out-structures; the work is in ops/.
//
// Every operation is a synchronous function over the caches that may be run again. It computes the grants, items
// and bytes that it needs (docs/architecture.md, "What an operation needs"). If all are held, it takes effect at
// that one moment and returns a number >= 0, or -errno. Otherwise it changes nothing, notes what is missing and
// returns MISS; the caller then awaits `fetchMissing()` *in the same turn* and runs the operation again with the
// same arguments:
//
//   for (let tries = 1; ; tries++) {
//     const result = operations.lookup(dir, name, attr);
//     if (result !== MISS) return result;
//     const error = await operations.fetchMissing(tries);
//     if (error < 0) return error;
//   }
//
// and `operations.done(tries)` at the end, however it ends.
//
// Arguments that are views into a request region must be copied before that await. Nothing here throws, and
// nothing here allocates when everything is held.
//
// Nodes are numbers (node_id.ts): 1 is the root of the mount. Names are bytes, never decoded.

/** What an operation returns when something is missing. No errno reaches 4,096. */
export const MISS = -4096;

/** Bits of `SetAttr.mask`; the numbers are those of FUSE_SETATTR's `valid`, so that they need no translation. */
export const SetAttrMask = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  /** Stamp atime with the client's clock instead of `atimeSec`. */
  atimeNow: 128,
  mtimeNow: 256,
  ctime: 1024,
  /** Clear set-user-ID and set-group-ID: the caller may not keep them over a truncate. */
  killSuidgid: 2048,
} as const;

/** Bits of the `flags` of `write`. */
export const WriteFlags = {
  /** Ignore the offset and write at the true end of the file. */
  append: 1,
  killSuidgid: 2,
  /** The kernel writes back pages that were dirtied through mmap: no program waits for it, and nothing else is asked for. */
  pages: 4,
  /** It leaves nothing in the kernel's pages. */
  direct: 8,
} as const;

/** Bits of the `flags` of `rename`; the numbers are those of renameat2(2). */
export const RenameFlags = { noReplace: 1, exchange: 2, whiteout: 4 } as const;

/** Bits of the `flags` of `setxattr`; the first numbers are those of setxattr(2). */
export const XattrFlags = {
  create: 1,
  replace: 2,
  /** An access ACL takes set-group-ID away: the caller is not in the group. */
  killSetGid: 4,
} as const;

/**
 * The `mode` of mknod, create and mkdir holds the caller's umask from this bit on: what is made gets the directory's
 * default ACL instead, if it has one.
 */
export const UMASK_SHIFT = 16;

/** Bits of the `flags` of `open`, `create` and `release`: what of open(2)'s flags matters here. */
export const OpenFlags = {
  /** The handle can write. */
  write: 1,
  /** Cut the file to nothing (O_TRUNC). */
  truncate: 2,
  killSuidgid: 4,
} as const;

/** Bits of what `open` and `create` return: how the kernel may keep the file's pages. */
export const OpenResult = {
  /** Other clients want the file: reads and writes come here one by one, pages are for mmap only. */
  direct: 1,
  /** Pages that the kernel has of the file must go: they could be dirtied without a grant for it. */
  dropPages: 2,
} as const;

/** Bits of the `flags` of `read`. */
export const ReadFlags = {
  /** The bytes become pages of the kernel, not only the answer to read(2). */
  pages: 1,
} as const;

/**
 * Attributes of one inode, filled by the operations; one instance is reused for every request.
 *
 * Seconds are whole and may be negative; nanoseconds are 0 to 999,999,999.
 */
export class AttrOut {
  /** The number that the kernel shall use for this inode; 0 after a lookup that found nothing. */
  node = 0;
  /** st_ino: stable and distinct over the mount. Equals `node` but for the root. */
  ino = 0;
  mode = 0;
  nlink = 0;
  uid = 0;
  gid = 0;
  /** As in the kernel's `new_encode_dev`: what fuse_attr.rdev wants. */
  rdev = 0;
  size = 0;
  /** In units of 512 bytes. */
  blocks = 0;
  atimeSec = 0;
  atimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
  /** Time of birth. */
  btimeSec = 0;
  btimeNsec = 0;
  /**
   * Whether the kernel may keep the answer without limit. False while what covers it is being given back: then
   * the answer is right now, with timeouts of zero. Also set by a lookup that answers -ENOENT (a negative entry).
   */
  cacheable = false;
}

/** What `setattr` shall set: the fields named by `mask`. One instance is reused for every request. */
export class SetAttr {
  mask = 0;
  mode = 0;
  uid = 0;
  gid = 0;
  size = 0;
  atimeSec = 0;
  atimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
}

/** Space of the file system, in bytes. */
export class StatfsOut {
  totalBytes = 0;
  freeBytes = 0;
  availableBytes = 0;
  inodesUsed = 0;
}

/** Receives the entries of a directory. */
export interface DirSink {
  /**
   * Takes one entry.
   *
   * @param bytes - holds the name at `[start, start + length)`; valid only during the call.
   * @param node - what a lookup of the name would give (for `.` and `..` too).
   * @param ino - st_ino.
   * @param type - DT_* number, as in `struct dirent`.
   * @param nextCookie - where a later call goes on after this entry.
   * @returns false when there was no room; the entry comes again with the next call.
   */
  add(
    bytes: Uint8Array,
    start: number,
    length: number,
    node: number,
    ino: number,
    type: number,
    nextCookie: number,
  ): boolean;
}

/**
 * What the mount's operations are. All paths of failure are a negative Linux errno.
 *
 * Besides what is named, every operation may return MISS, -EIO (the session has ended, or the server failed) and,
 * if it changes something, -EROFS and -ENOSPC.
 */
export interface Operations {
  /**
   * Gets what the operation that just returned MISS noted. To be called before any other operation is run.
   *
   * @param tries - how often the operation has missed something. One that others hold up again and again gets the
   *   right to keep what it was given until `done`.
   * @returns 0: run the operation again; negative: answer the request with it.
   */
  fetchMissing(tries: number): Promise<number>;

  /**
   * Whether what the operation that just returned MISS noted may be with another client, which may be waiting for this
   * one. To be asked before `fetchMissing`.
   */
  waitsForOthers(): boolean;

  /** An operation that had missed something `tries` times is over. */
  done(tries: number): void;

  /**
   * Finds a name. The kernel holds one reference more on `out.node` when 0 is answered.
   *
   * @returns 0; -ENOENT (see `out.cacheable` for a negative entry); -ENOTDIR; -ENAMETOOLONG.
   */
  lookup(dir: number, name: Uint8Array, out: AttrOut): number;

  /** Fills `out` with the attributes of `node`. */
  getattr(node: number, out: AttrOut): number;

  /** Sets attributes and fills `out` with the new ones. ctime follows unless it is set itself. */
  setattr(node: number, set: SetAttr, out: AttrOut): number;

  /** Puts the target of a symbolic link into `target`. @returns its length in bytes; -EINVAL. */
  readlink(node: number, target: Uint8Array): number;

  /**
   * Makes a file of any kind but directory and symbolic link.
   *
   * @param mode - with the umask, see `UMASK_SHIFT`. @param rdev - as `AttrOut.rdev`.
   */
  mknod(
    dir: number,
    name: Uint8Array,
    mode: number,
    rdev: number,
    uid: number,
    gid: number,
    out: AttrOut,
  ): number;

  /**
   * As mknod of a regular file, and opens it: a `release` with the same flags must follow.
   *
   * @returns bits of `OpenResult`; -EEXIST if there.
   */
  create(
    dir: number,
    name: Uint8Array,
    mode: number,
    uid: number,
    gid: number,
    flags: number,
    out: AttrOut,
  ): number;

  /** As `create` of a file that has no name: `link` can give it one until it is closed for the last time (O_TMPFILE). */
  tmpfile(dir: number, mode: number, uid: number, gid: number, flags: number, out: AttrOut): number;

  mkdir(dir: number, name: Uint8Array, mode: number, uid: number, gid: number, out: AttrOut): number;

  symlink(dir: number, name: Uint8Array, target: Uint8Array, uid: number, gid: number, out: AttrOut): number;

  /** Gives `node` one name more, and fills `out` with its attributes. */
  link(node: number, dir: number, name: Uint8Array, out: AttrOut): number;

  unlink(dir: number, name: Uint8Array): number;

  rmdir(dir: number, name: Uint8Array): number;

  /**
   * Moves a name, over an existing one unless `RenameFlags.noReplace`; or has two names change places, whatever they lead to
   * (`RenameFlags.exchange`). -EINVAL for other flags.
   */
  rename(
    sourceDir: number,
    sourceName: Uint8Array,
    targetDir: number,
    targetName: Uint8Array,
    flags: number,
  ): number;

  /**
   * Opens a file or directory: a `release` with the same flags must follow. The inode then outlives its last name.
   *
   * @returns bits of `OpenResult`.
   */
  open(node: number, flags: number): number;

  /** Ends what `open` or `create` began. Never MISS, never an error. */
  release(node: number, flags: number): void;

  /** The kernel's reference count of `node` has reached zero. Never MISS. */
  forget(node: number): void;

  /**
   * A bound for `readdir` of a directory opened (or rewound) now, so that a listing ends while names are added.
   *
   * @returns the bound.
   */
  directoryEnd(node: number): number;

  /**
   * Hands out the entries from `cookie` on, `.` and `..` first (cookie 0), until the sink is full or none is left.
   *
   * @param end - from `directoryEnd`.
   * @param attr - if given (FUSE_READDIRPLUS), filled for each entry before `sink.add`; `attr.node` is then 0 for
   *   `.` and `..`, and the kernel holds a reference more for every other entry whose `attr.node` is not 0.
   * @returns 0. MISS only if not a single entry could be handed out; what is missing later ends the call early.
   */
  readdir(node: number, cookie: number, end: number, sink: DirSink, attr: AttrOut | null): number;

  /**
   * Reads into `target` from its beginning on.
   *
   * @param flags - bits of `ReadFlags`. @returns the number of bytes, less than asked only at the end.
   */
  read(node: number, offset: number, length: number, target: Uint8Array, flags: number): number;

  /** Writes all of `data`, which is copied. @returns data.length; -EFBIG. @see WriteFlags */
  write(node: number, offset: number, data: Uint8Array, flags: number): number;

  /** The size of a file to which the operation just before has written, bytes. */
  writtenSize(node: number): number;

  /** FUSE_FLUSH, at each close(2). @returns 0, or the errno of a change of this inode that was refused, once. */
  flush(node: number): number;

  /**
   * Waits until everything that the mount has changed so far is durable (a file's fsync takes the metadata prefix
   * with it, a directory's is the same).
   *
   * @returns 0 or a negative errno: one not yet reported for this inode, or the server's.
   */
  fsync(node: number): Promise<number>;

  /** @param whence - 3 (SEEK_DATA) or 4 (SEEK_HOLE). @returns the offset; -ENXIO; -EINVAL. */
  lseek(node: number, offset: number, whence: number): number;

  /** @param mode - bits of fallocate(2): keep size 1, punch hole 2, zero range 16; others -EOPNOTSUPP. */
  fallocate(node: number, mode: number, offset: number, length: number): number;

  /** @returns the value's length; with an empty `target` nothing is copied. -ENODATA; -ERANGE if too small. */
  getxattr(node: number, name: Uint8Array, target: Uint8Array): number;

  /** Names, each ended by NUL. @returns their length; with an empty `target` nothing is copied. -ERANGE. */
  listxattr(node: number, target: Uint8Array): number;

  /** @see XattrFlags. -EEXIST, -ENODATA by the flags; -E2BIG, -ERANGE, -EOPNOTSUPP (namespace). */
  setxattr(node: number, name: Uint8Array, value: Uint8Array, flags: number): number;

  removexattr(node: number, name: Uint8Array): number;

  statfs(out: StatfsOut): number;
}
