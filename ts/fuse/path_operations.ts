// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations of a mount by path and by number of an open file, for a driver that knows no inodes
// (fuse_native_driver.ts).
//
// A path is resolved component by component through the client's lookups, in the very turn of the operation that it is
// for: MISS of either makes both run again, so that they take effect at one moment. Nothing is remembered of a path
// between two calls, and nobody holds a reference on a node but an open file.
//
// Every method is a step as in client/operations.ts: a number >= 0, -errno, or MISS, upon which the caller awaits
// `fetchMissing` and calls the same method again with the same arguments.
//
// libfuse renames a file to .fuse_hidden instead of removing it while it is open here, and before a rename that replaces it.
// Nobody gets to see such a name: the file loses its name at once, as anywhere, and what libfuse calls it from then on
// stands for its inode, which is open. Whether a rename follows the driver has to find out. If it does the name is left to it,
// so that it replaces the file at one moment.
//
// Names come as text, in which bytes that are not UTF-8 have become U+FFFD. They are lost, so a path with that character
// is refused with EILSEQ: it may stand for any other name.

import {
  AttrOut,
  type DirSink,
  MISS,
  OpenFlags,
  type Operations,
  SetAttr,
  SetAttrMask,
  type StatfsOut,
  WriteFlags,
} from '../client/operations.ts';
import { Errno } from '../util/errno.ts';
import { O_ACCMODE, O_APPEND, O_DSYNC, O_RDONLY, O_TRUNC, S_IFMT, S_IFREG } from './abi.ts';
import { OPEN_FILES_MAX } from './limits.ts';

const ROOT_NODE = 1;

/** What stands in a text for bytes that are not UTF-8. */
const LOST = '\ufffd';

/** A name with lost bytes is cut to this many characters, so that it is no longer than a name may be. */
const LOST_NAME_CHARACTERS_MAX = 85;

/** Owner that a chown leaves as it is. */
const NO_ID = 0xffff_ffff;

/** How libfuse calls a file that is open and has no name: the number of a node of its own, and how many it has hidden. */
const HIDDEN = /^\.fuse_hidden[0-9a-f]{8}([0-9a-f]{8})$/;

/** How many numbers libfuse may leave out between two hidden files: those that it tried and found taken. */
const HIDDEN_STEP_MAX = 16;

/** A file that is open and about to be replaced. */
interface Replaced {
  readonly path: string;
  readonly node: number;
  /** The rename has come. */
  isComing: boolean;
}

/** An open regular file. */
interface OpenFile {
  readonly node: number;
  /** Bits of the client's `OpenFlags`. */
  readonly opened: number;
  /** Flags of open(2). */
  readonly flags: number;
  /** The name under which the driver knows it; empty when this mount took that away. */
  path: string;
}

/** A directory's entries, gathered over several runs of the step. */
export class Listing implements DirSink {
  readonly names: string[] = [];
  /** st_ino of each. */
  readonly inos: number[] = [];
  /** DT_* of each. */
  readonly types: number[] = [];
  /** The directory, and how far it has been listed. */
  node = 0;
  end = 0;
  cookie = 0;

  add(
    bytes: Uint8Array,
    start: number,
    length: number,
    _node: number,
    ino: number,
    type: number,
    nextCookie: number,
  ): boolean {
    const name = textOf(bytes.subarray(start, start + length));
    // It is shown, or rm -r would not know why the directory is not empty; a call on it fails with EILSEQ.
    this.names.push(name.includes(LOST) ? name.slice(0, LOST_NAME_CHARACTERS_MAX) : name);
    this.inos.push(ino);
    this.types.push(type);
    this.cookie = nextCookie;
    return true;
  }

  /** Begins anew, with this directory. */
  begin(node: number, end: number): void {
    this.names.length = 0;
    this.inos.length = 0;
    this.types.length = 0;
    this.node = node;
    this.end = end;
    this.cookie = 0;
  }
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

/** The last component of a path. */
function lastOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function nameIn(path: string): Uint8Array {
  return bytesOf(lastOf(path));
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

export class PathOperations {
  /** Attributes that the last step found, if it is one that tells them. */
  readonly attr: AttrOut = new AttrOut();
  readonly #operations: Operations;
  /** Who everything is made for. */
  readonly #uid: number;
  readonly #gid: number;
  readonly #set = new SetAttr();
  readonly #open = new Map<number, OpenFile>();
  #nextNumber = 1;
  /** Nodes of open files that have lost their name, by what libfuse calls them. */
  readonly #hidden = new Map<string, number>();
  /** How many libfuse has hidden. */
  #hiddenSoFar = 0;
  /** What is about to be replaced, by the caller that will do it. */
  readonly #replaced = new Map<object, Replaced>();

  constructor(operations: Operations, uid: number, gid: number) {
    this.#operations = operations;
    this.#uid = uid;
    this.#gid = gid;
  }

  /** Files that are open. */
  get openFiles(): number {
    return this.#open.size;
  }

  /** The node of a path, with its attributes in `attr` unless it is the root. @returns it, MISS or -errno */
  find(path: string): number {
    if (path.includes(LOST)) return -Errno.EILSEQ;
    const hidden = this.#hidden.get(lastOf(path));
    if (hidden !== undefined) return this.#operations.getattr(hidden, this.attr) || hidden;
    let node = ROOT_NODE;
    for (const name of path.split('/')) {
      if (name === '') continue;
      const result = this.#operations.lookup(node, bytesOf(name), this.attr);
      if (result !== 0)
        return result === -Errno.ENOENT && this.#wasHidden(lastOf(path)) ? -Errno.ESTALE : result;
      node = this.attr.node;
    }
    return node;
  }

  /**
   * Whether it was a hidden file's name, which has been closed since: whoever found the file by the name that it had before
   * must look again.
   */
  #wasHidden(name: string): boolean {
    const number = HIDDEN.exec(name)?.[1];
    return number !== undefined && Number.parseInt(number, 16) <= this.#hiddenSoFar;
  }

  /** The node of the directory of a path. @returns it, MISS or -errno */
  #findParent(path: string): number {
    return path.includes(LOST) ? -Errno.EILSEQ : this.find(parentOf(path));
  }

  /** The node of an open file. @returns it, or -EBADF */
  nodeOf(number: number): number {
    return this.#open.get(number)?.node ?? -Errno.EBADF;
  }

  /**
   * The node of a path of which something is to be changed. The driver passes fchmod(2) and the like by the name that the
   * file was opened by. If another mount has given that name to another inode, nothing tells which one is meant.
   *
   * @returns it, MISS, -errno; -ESTALE if it is not certain.
   */
  #findToChange(path: string): number {
    const node = this.find(path);
    if (node < 0) return node;
    for (const file of this.#open.values()) {
      if (file.path === path && file.node !== node) return -Errno.ESTALE;
    }
    return node;
  }

  getattr(path: string): number {
    const node = this.find(path);
    if (node < 0) return node;
    return node === ROOT_NODE ? this.#operations.getattr(node, this.attr) : this.#withHidden(path);
  }

  getattrOf(number: number): number {
    const file = this.#open.get(number);
    if (file === undefined) return -Errno.EBADF;
    return this.#operations.getattr(file.node, this.attr) || this.#withHidden(file.path);
  }

  /** libfuse takes a hidden file's name for a link and counts one less. */
  #withHidden(path: string): number {
    if (this.attr.nlink > 0 && this.#hidden.has(lastOf(path))) this.attr.nlink++;
    return 0;
  }

  chmod(path: string, mode: number): number {
    const node = this.#findToChange(path);
    this.#set.mask = SetAttrMask.mode;
    this.#set.mode = mode;
    return this.#change(node);
  }

  /** @param uid - and `gid`: 2^32 - 1 leaves it. */
  chown(path: string, uid: number, gid: number): number {
    const node = this.#findToChange(path);
    this.#set.mask = (uid === NO_ID ? 0 : SetAttrMask.uid) | (gid === NO_ID ? 0 : SetAttrMask.gid);
    this.#set.uid = uid;
    this.#set.gid = gid;
    return this.#change(node);
  }

  /** @param atimeMs - and `mtimeMs`: milliseconds since 1970. */
  utimens(path: string, atimeMs: number, mtimeMs: number): number {
    const node = this.#findToChange(path);
    const set = this.#set;
    set.mask = SetAttrMask.atime | SetAttrMask.mtime;
    set.atimeSec = Math.floor(atimeMs / 1000);
    set.atimeNsec = (atimeMs - set.atimeSec * 1000) * 1_000_000;
    set.mtimeSec = Math.floor(mtimeMs / 1000);
    set.mtimeNsec = (mtimeMs - set.mtimeSec * 1000) * 1_000_000;
    return this.#change(node);
  }

  truncate(path: string, size: number): number {
    return this.#setSize(this.#findToChange(path), size);
  }

  truncateOf(number: number, size: number): number {
    return this.#setSize(this.nodeOf(number), size);
  }

  #setSize(node: number, size: number): number {
    this.#set.mask = SetAttrMask.size;
    this.#set.size = size;
    return this.#change(node);
  }

  #change(node: number): number {
    return node < 0 ? node : this.#operations.setattr(node, this.#set, this.attr);
  }

  readlink(path: string, target: Uint8Array): number {
    const node = this.find(path);
    return node < 0 ? node : this.#operations.readlink(node, target);
  }

  /** ESTALE for what is there already: only the kernel, when it looks again, knows whether that matters (O_EXCL). */
  mknod(path: string, mode: number, rdev: number): number {
    const dir = this.#findParent(path);
    if (dir < 0) return dir;
    const { attr } = this;
    const result = this.#operations.mknod(dir, nameIn(path), mode, rdev, this.#uid, this.#gid, attr);
    return result === -Errno.EEXIST ? -Errno.ESTALE : result;
  }

  mkdir(path: string, mode: number): number {
    const dir = this.#findParent(path);
    if (dir < 0) return dir;
    return this.#operations.mkdir(dir, nameIn(path), mode, this.#uid, this.#gid, this.attr);
  }

  symlink(target: string, path: string): number {
    if (target.includes(LOST)) return -Errno.EILSEQ;
    const dir = this.#findParent(path);
    if (dir < 0) return dir;
    return this.#operations.symlink(dir, nameIn(path), bytesOf(target), this.#uid, this.#gid, this.attr);
  }

  link(path: string, newPath: string): number {
    const dir = this.#findParent(newPath);
    if (dir < 0) return dir;
    const node = this.#findToChange(path);
    return node < 0 ? node : this.#operations.link(node, dir, nameIn(newPath), this.attr);
  }

  unlink(path: string): number {
    // The last handle was closed.
    if (this.#hidden.delete(lastOf(path))) return 0;
    const dir = this.#findParent(path);
    if (dir < 0) return dir;
    const result = this.#operations.unlink(dir, nameIn(path));
    if (result === 0) this.#unnamed(path);
    return result;
  }

  rmdir(path: string): number {
    const dir = this.#findParent(path);
    return dir < 0 ? dir : this.#operations.rmdir(dir, nameIn(path));
  }

  /** The name that libfuse takes away from an open file by a rename; null if the rename is one of a program. */
  hidesName(path: string, newPath: string): Uint8Array | null {
    return this.#hiding(path, newPath) === undefined ? null : nameIn(path);
  }

  /**
   * @param caller - the same object for what one thread of libfuse asks one after the other
   * @param isReplaced - of one that hides a name: another rename follows
   */
  rename(path: string, newPath: string, caller: object, isReplaced = false): number {
    const dir = this.#findParent(path);
    if (dir < 0) return dir;
    const file = this.#hiding(path, newPath);
    if (file !== undefined) return this.#hide(dir, file, newPath, isReplaced ? caller : null);
    const newDir = this.#findParent(newPath);
    if (newDir < 0) return newDir;
    const replaced = this.#replaced.get(caller);
    if (replaced?.path === newPath) replaced.isComing = true;
    const result = this.#operations.rename(dir, nameIn(path), newDir, nameIn(newPath), 0);
    if (result !== MISS) this.#replaced.delete(caller);
    if (result !== 0 || path === newPath) return result;
    this.#unnamed(newPath);
    this.#moved(path, newPath);
    return result;
  }

  /** The open file that libfuse hides by a rename, if it is that. */
  #hiding(path: string, newPath: string): OpenFile | undefined {
    const number = Number.parseInt(HIDDEN.exec(lastOf(newPath))?.[1] ?? '', 16) - this.#hiddenSoFar;
    if (!(number > 0 && number <= HIDDEN_STEP_MAX) || parentOf(path) !== parentOf(newPath)) return undefined;
    return [...this.#open.values()].findLast((file) => file.path === path);
  }

  /** Takes an open file's name away, or leaves that to the rename that follows. */
  #hide(dir: number, file: OpenFile, newPath: string, caller: object | null): number {
    const { path, node } = file;
    if (caller !== null) {
      this.#replaced.set(caller, { path, node, isComing: false });
    } else {
      const result = this.#operations.unlink(dir, nameIn(path));
      if (result !== 0) return result;
    }
    const hidden = lastOf(newPath);
    this.#hidden.set(hidden, node);
    this.#hiddenSoFar = Number.parseInt(HIDDEN.exec(hidden)![1]!, 16);
    this.#moved(path, newPath);
    return 0;
  }

  /** What a caller is about to replace; to be given to `endReplacing` if the rename does not come. */
  replacedBy(caller: object): Replaced | undefined {
    return this.#replaced.get(caller);
  }

  /**
   * Takes the name away for which no program waits to rename any more: it was an unlink, and another rename was taken for
   * that of the caller.
   */
  endReplacing(caller: object, replaced: Replaced): number {
    if (this.#replaced.get(caller) !== replaced || replaced.isComing) return 0;
    const node = this.find(replaced.path);
    if (node === MISS) return MISS;
    const result = node === replaced.node ? this.unlink(replaced.path) : 0;
    if (result !== MISS) this.#replaced.delete(caller);
    return result;
  }

  #moved(path: string, newPath: string): void {
    for (const file of this.#open.values()) {
      if (file.path === path || file.path.startsWith(`${path}/`)) {
        file.path = newPath + file.path.slice(path.length);
      }
    }
  }

  /** The driver forgets a name. */
  #unnamed(path: string): void {
    for (const file of this.#open.values()) if (file.path === path) file.path = '';
  }

  /**
   * @param flags - of open(2). @returns the number of the open file, at least 1; -ESTALE if the name means something else
   *   than when the kernel looked, which then looks again.
   */
  open(path: string, flags: number): number {
    const node = this.find(path);
    if (node === -Errno.ENOENT) return -Errno.ESTALE;
    if (node < 0) return node;
    if (node === ROOT_NODE || (this.attr.mode & S_IFMT) !== S_IFREG) return -Errno.ESTALE;
    if (this.#open.size >= OPEN_FILES_MAX) return -Errno.ENFILE;
    let opened = 0;
    if ((flags & O_ACCMODE) !== O_RDONLY) opened |= OpenFlags.write;
    if ((flags & O_TRUNC) !== 0) opened |= OpenFlags.truncate;
    const result = this.#operations.open(node, opened);
    if (result < 0) return result;
    const number = this.#takeNumber();
    this.#open.set(number, { node, opened, flags, path });
    return number;
  }

  #takeNumber(): number {
    while (this.#open.has(this.#nextNumber)) this.#nextNumber = (this.#nextNumber % OPEN_FILES_MAX) + 1;
    const number = this.#nextNumber;
    this.#nextNumber = (number % OPEN_FILES_MAX) + 1;
    return number;
  }

  /** Never MISS. */
  release(number: number): number {
    const file = this.#open.get(number);
    if (file === undefined) return -Errno.EBADF;
    this.#open.delete(number);
    this.#operations.release(file.node, file.opened);
    return 0;
  }

  /** Ends the use of every open file: the mount is gone. */
  releaseAll(): void {
    for (const number of this.#open.keys()) this.release(number);
  }

  read(number: number, offset: number, target: Uint8Array): number {
    const node = this.nodeOf(number);
    return node < 0 ? node : this.#operations.read(node, offset, target.length, target, 0);
  }

  write(number: number, offset: number, data: Uint8Array): number {
    const file = this.#open.get(number);
    if (file === undefined) return -Errno.EBADF;
    // The offset of an append is from the size that the kernel saw last.
    const append = (file.flags & O_APPEND) !== 0 ? WriteFlags.append : 0;
    return this.#operations.write(file.node, offset, data, WriteFlags.direct | append);
  }

  /** Whether a write to an open file is to be durable when it is answered (O_SYNC, O_DSYNC). */
  isDurable(number: number): boolean {
    return ((this.#open.get(number)?.flags ?? 0) & O_DSYNC) !== 0;
  }

  flush(number: number): number {
    const node = this.nodeOf(number);
    return node < 0 ? node : this.#operations.flush(node);
  }

  /** Lists a directory into `listing`, which keeps what it has when the step must run again. */
  readdir(path: string, listing: Listing): number {
    const node = this.find(path);
    if (node < 0) return node;
    if (listing.node !== node) {
      const end = this.#operations.directoryEnd(node);
      if (end < 0) return end;
      listing.begin(node, end);
    }
    for (;;) {
      const before = listing.names.length;
      const result = this.#operations.readdir(node, listing.cookie, listing.end, listing, null);
      if (result < 0 || listing.names.length === before) return result;
    }
  }

  /** @param value - takes it; with length 0 only the length is told. */
  getxattr(path: string, name: string, value: Uint8Array): number {
    if (name.includes(LOST)) return -Errno.EILSEQ;
    const node = this.find(path);
    return node < 0 ? node : this.#operations.getxattr(node, bytesOf(name), value);
  }

  listxattr(path: string, names: Uint8Array): number {
    const node = this.find(path);
    return node < 0 ? node : this.#operations.listxattr(node, names);
  }

  setxattr(path: string, name: string, value: Uint8Array, flags: number): number {
    if (name.includes(LOST)) return -Errno.EILSEQ;
    const node = this.#findToChange(path);
    return node < 0 ? node : this.#operations.setxattr(node, bytesOf(name), value, flags);
  }

  removexattr(path: string, name: string): number {
    if (name.includes(LOST)) return -Errno.EILSEQ;
    const node = this.#findToChange(path);
    return node < 0 ? node : this.#operations.removexattr(node, bytesOf(name));
  }

  statfs(out: StatfsOut): number {
    return this.#operations.statfs(out);
  }
}
