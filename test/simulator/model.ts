// SPDX-License-Identifier: GPL-2.0-or-later
//
// The file system as it must look: a sequential model, to which every operation is applied at the moment at which the
// client says that it takes effect. What the operation returned must be what the model says.
//
// Inodes are known by the numbers that the client gives them; a number is never used twice. Times are learnt from the
// client that changes an inode (it looks at the inode in the same turn) and must then be seen by everybody.
//
// Every change leaves its reverse behind (`undo`), for searches of another order and for clients that crash.

import { Errno } from '../../ts/util/errno.ts';

export const PAGE = 4096;

export interface Attributes {
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  atimeSec: number;
  atimeNsec: number;
  mtimeSec: number;
  mtimeNsec: number;
  ctimeSec: number;
  ctimeNsec: number;
}

const FIELDS = [
  'mode',
  'nlink',
  'uid',
  'gid',
  'size',
  'atimeSec',
  'atimeNsec',
  'mtimeSec',
  'mtimeNsec',
  'ctimeSec',
  'ctimeNsec',
] as const satisfies readonly (keyof Attributes)[];

export function copyAttributes(from: Attributes): Attributes {
  return {
    mode: from.mode,
    nlink: from.nlink,
    uid: from.uid,
    gid: from.gid,
    size: from.size,
    atimeSec: from.atimeSec,
    atimeNsec: from.atimeNsec,
    mtimeSec: from.mtimeSec,
    mtimeNsec: from.mtimeNsec,
    ctimeSec: from.ctimeSec,
    ctimeNsec: from.ctimeNsec,
  };
}

/** How two sets of attributes differ, in words; null when they do not. */
export function attributeDifference(seen: Attributes, right: Attributes): string | null {
  for (const field of FIELDS) {
    if (seen[field] !== right[field]) return `${field} is ${seen[field]}, not ${right[field]}`;
  }
  return null;
}

const TYPE = 0o170000;
export const DIRECTORY = 0o040000;
export const REGULAR = 0o100000;
export const SYMLINK = 0o120000;

export class ModelInode implements Attributes {
  readonly node: number;
  mode: number;
  nlink = 0;
  uid = 0;
  gid = 0;
  size = 0;
  atimeSec = 0;
  atimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
  /** Of a file: page number -> bytes, never changed in place; a missing page is zeros. */
  pages: Map<number, Uint8Array> = new Map();
  /** Of a directory: name -> node. */
  names: Map<string, number> = new Map();
  xattrs: Map<string, string> = new Map();
  target = '';
  /** The client that changed it last did not hold all that tells its times: whoever sees it next does. */
  areTimesOpen = false;
  /** The batch that made it was refused, and nobody else has seen it. */
  isGone = false;
  /** Of a directory: where it is. */
  parent = 0;

  constructor(node: number, mode: number) {
    this.node = node;
    this.mode = mode;
  }

  get isDirectory(): boolean {
    return (this.mode & TYPE) === DIRECTORY;
  }

  get isFile(): boolean {
    return (this.mode & TYPE) === REGULAR;
  }

  get isSymlink(): boolean {
    return (this.mode & TYPE) === SYMLINK;
  }
}

/** User and group of every program. */
export const OWNER = 7;

export const ZERO_PAGE = new Uint8Array(PAGE);

/** Called for every change of a directory's names. */
export type NameListener = (dir: number, name: string, isThere: boolean) => void;

export class Model {
  readonly inodes: Map<number, ModelInode> = new Map();
  /** Reverses of the changes since `begin`, newest last. */
  undo: (() => void)[] = [];
  onName: NameListener = () => {};

  constructor(rootNode: number, rootMode: number) {
    const root = new ModelInode(rootNode, rootMode);
    root.nlink = 1;
    root.parent = rootNode;
    this.inodes.set(rootNode, root);
  }

  get(node: number): ModelInode | undefined {
    return this.inodes.get(node);
  }

  /** A directory that can hold names; undefined if it is gone. */
  directory(node: number): ModelInode | undefined {
    const dir = this.inodes.get(node);
    return dir?.isDirectory === true && dir.nlink > 0 ? dir : undefined;
  }

  // ---- what can go wrong, each in words of errnos; an empty list: the operation must succeed ----

  addErrors(dirNode: number, name: string): number[] {
    const dir = this.directory(dirNode);
    if (dir === undefined) return GONE;
    return dir.names.has(name) ? [Errno.EEXIST] : [];
  }

  linkErrors(node: number, dirNode: number, name: string): number[] {
    const errors = [...this.addErrors(dirNode, name)];
    const inode = this.inodes.get(node);
    if (inode === undefined || inode.nlink === 0) errors.push(Errno.ENOENT, Errno.ESTALE);
    else if (inode.isDirectory) errors.push(Errno.EPERM);
    return errors;
  }

  removeErrors(dirNode: number, name: string, isRmdir: boolean): number[] {
    const dir = this.directory(dirNode);
    if (dir === undefined) return GONE;
    const node = dir.names.get(name);
    if (node === undefined) return [Errno.ENOENT];
    const victim = this.inodes.get(node)!;
    if (victim.isDirectory !== isRmdir) return [isRmdir ? Errno.ENOTDIR : Errno.EISDIR];
    return isRmdir && victim.names.size > 0 ? [Errno.ENOTEMPTY] : [];
  }

  renameErrors(
    sourceNode: number,
    sourceName: string,
    targetNode: number,
    targetName: string,
    noReplace: boolean,
  ): number[] {
    const source = this.directory(sourceNode);
    const target = this.directory(targetNode);
    const errors: number[] = [];
    if (source === undefined || target === undefined) errors.push(...GONE);
    const node = source?.names.get(sourceName);
    if (node === undefined) {
      errors.push(Errno.ENOENT);
      return errors;
    }
    const inode = this.inodes.get(node)!;
    const victimNode = target?.names.get(targetName);
    if (victimNode !== undefined && noReplace) errors.push(Errno.EEXIST);
    if (victimNode !== undefined && victimNode !== node) {
      const victim = this.inodes.get(victimNode)!;
      if (inode.isDirectory && !victim.isDirectory) errors.push(Errno.ENOTDIR);
      if (!inode.isDirectory && victim.isDirectory) errors.push(Errno.EISDIR);
      if (inode.isDirectory && victim.isDirectory && victim.names.size > 0) errors.push(Errno.ENOTEMPTY);
    }
    if (inode.isDirectory && target !== undefined && this.isBelow(targetNode, node))
      errors.push(Errno.EINVAL);
    return errors;
  }

  /** Whether `node` is `above` or lies below it. */
  isBelow(node: number, above: number): boolean {
    let at = node;
    for (let depth = 0; depth < 1000; depth++) {
      if (at === above) return true;
      const dir = this.inodes.get(at);
      if (dir === undefined || dir.parent === at) return false;
      at = dir.parent;
    }
    return false;
  }

  // ---- changes ----

  make(dirNode: number, name: string, node: number, mode: number, target: string): ModelInode {
    const inode = new ModelInode(node, mode);
    inode.target = target;
    inode.uid = OWNER;
    inode.gid = OWNER;
    inode.size = target.length;
    if (inode.isDirectory) inode.parent = dirNode;
    this.inodes.set(node, inode);
    this.undo.push(() => this.inodes.delete(node));
    this.addName(dirNode, name, inode);
    return inode;
  }

  addName(dirNode: number, name: string, inode: ModelInode): void {
    this.setName(this.inodes.get(dirNode)!, name, inode.node);
    this.set(inode, 'nlink', inode.nlink + 1);
  }

  removeName(dirNode: number, name: string): ModelInode {
    const dir = this.inodes.get(dirNode)!;
    const inode = this.inodes.get(dir.names.get(name)!)!;
    this.setName(dir, name, undefined);
    this.set(inode, 'nlink', inode.nlink - 1);
    return inode;
  }

  rename(sourceNode: number, sourceName: string, targetNode: number, targetName: string): void {
    const source = this.inodes.get(sourceNode)!;
    const target = this.inodes.get(targetNode)!;
    const node = source.names.get(sourceName)!;
    const victimNode = target.names.get(targetName);
    if (victimNode === node) return;
    if (victimNode !== undefined) {
      const victim = this.inodes.get(victimNode)!;
      this.set(victim, 'nlink', victim.nlink - 1);
    }
    this.setName(source, sourceName, undefined);
    this.setName(target, targetName, node);
    const inode = this.inodes.get(node)!;
    if (inode.isDirectory) this.set(inode, 'parent', targetNode);
  }

  write(inode: ModelInode, offset: number, data: Uint8Array): void {
    const end = offset + data.length;
    for (let index = Math.floor(offset / PAGE); index * PAGE < end; index++) {
      const start = index * PAGE;
      const page = Uint8Array.from(inode.pages.get(index) ?? ZERO_PAGE);
      const from = Math.max(offset, start);
      const to = Math.min(end, start + PAGE);
      page.set(data.subarray(from - offset, to - offset), from - start);
      this.setPage(inode, index, page);
    }
    if (end > inode.size) this.set(inode, 'size', end);
  }

  resize(inode: ModelInode, size: number): void {
    if (size < inode.size) {
      for (const index of [...inode.pages.keys()]) {
        const start = index * PAGE;
        if (start >= size) this.setPage(inode, index, undefined);
        else if (start + PAGE > size) {
          const page = Uint8Array.from(inode.pages.get(index)!);
          page.fill(0, size - start);
          this.setPage(inode, index, page);
        }
      }
    }
    this.set(inode, 'size', size);
  }

  setXattr(inode: ModelInode, name: string, value: string | undefined): void {
    const old = inode.xattrs.get(name);
    const put = (to: string | undefined): void => {
      if (to === undefined) inode.xattrs.delete(name);
      else inode.xattrs.set(name, to);
    };
    this.undo.push(() => put(old));
    put(value);
  }

  /** Takes over what only the client can know: the times of a change that is right otherwise. */
  learnTimes(inode: ModelInode, from: Attributes): void {
    if (inode.areTimesOpen) this.set(inode, 'areTimesOpen', false);
    for (const field of FIELDS) {
      if (field.startsWith('ctime') || field.startsWith('mtime') || field.startsWith('atime'))
        if (inode[field] !== from[field]) this.set(inode, field, from[field]);
    }
  }

  set<Field extends keyof Attributes | 'parent' | 'areTimesOpen'>(
    inode: ModelInode,
    field: Field,
    value: ModelInode[Field],
  ): void {
    const old = inode[field];
    this.undo.push(() => {
      inode[field] = old;
    });
    inode[field] = value;
  }

  private setName(dir: ModelInode, name: string, node: number | undefined): void {
    const old = dir.names.get(name);
    const put = (to: number | undefined): void => {
      if (to === undefined) dir.names.delete(name);
      else dir.names.set(name, to);
      this.onName(dir.node, name, to !== undefined);
    };
    this.undo.push(() => put(old));
    if (old !== undefined && node !== undefined) this.onName(dir.node, name, false);
    // BTRFS counts a directory's names twice.
    let size = dir.size;
    if (old !== undefined) size -= 2 * name.length;
    if (node !== undefined) size += 2 * name.length;
    if (size !== dir.size) this.set(dir, 'size', size);
    put(node);
  }

  private setPage(inode: ModelInode, index: number, page: Uint8Array | undefined): void {
    const old = inode.pages.get(index);
    const put = (to: Uint8Array | undefined): void => {
      if (to === undefined) inode.pages.delete(index);
      else inode.pages.set(index, to);
    };
    this.undo.push(() => put(old));
    put(page);
  }
}

/** What an operation in a directory that was removed may say. */
const GONE: number[] = [Errno.ENOENT, Errno.ESTALE];
