// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations of a mount over the caches of one session: each method is one of the functions beside this file.

import { inodeMode, isDirectory } from '../../item/inode_item.ts';
import { ItemType } from '../../item/key.ts';
import type { Core } from '../core.ts';
import type { Fetcher } from '../fetcher.ts';
import type { NeighbourReader } from '../file_reader.ts';
import { logInode } from '../file_writer.ts';
import { TRIES_BEFORE_KEEPING } from '../limits.ts';
import { Missing } from '../missing.ts';
import { isPlaceholderNode, ROOT_NODE } from '../node_id.ts';
import {
  type AttrOut,
  type DirSink,
  MISS,
  type Operations,
  type SetAttr,
  type StatfsOut,
} from '../operations.ts';
import { setattr } from './attributes.ts';
import { create, link, mkdir, mknod, symlink, tmpfile } from './create.ts';
import { fallocate, flush, forget, lseek, open, read, release, write, writtenSize } from './data.ts';
import { directoryEnd, getattr, lookup, readdir, readlink } from './look.ts';
import { rename, rmdir, unlink } from './remove.ts';
import { getxattr, listxattr, removexattr, setxattr } from './xattr.ts';

/** How long the server's word on its space is good for, milliseconds. */
const STATFS_AGE_MS = 1000;

export class ClientOperations implements Operations {
  readonly #core: Core;
  readonly #fetcher: Fetcher;
  readonly #neighbours: NeighbourReader;
  /** Makes everything up to now durable; 0 or a negative errno. */
  readonly #sync: () => Promise<number>;

  constructor(core: Core, fetcher: Fetcher, neighbours: NeighbourReader, sync: () => Promise<number>) {
    this.#core = core;
    this.#fetcher = fetcher;
    this.#neighbours = neighbours;
    this.#sync = sync;
  }

  fetchMissing(tries: number): Promise<number> {
    const core = this.#core;
    const { missing } = core;
    core.missing = new Missing();
    // While it keeps nothing is revoked here, so there is no contention to be seen; but others wait for what it keeps.
    const keeps = tries > TRIES_BEFORE_KEEPING;
    if (missing.wants.length > 0 && (keeps || core.contention.isOn)) {
      missing.wants.push(...core.needs.wants());
      core.recentNeeds.addTo(missing.wants);
      missing.isOwn = true;
      missing.keeps = keeps;
    }
    // Not those of an operation that is complete.
    core.needs.clear();
    return this.#fetcher.fetch(missing);
  }

  waitsForOthers(): boolean {
    return this.#core.missing.waitsForOthers;
  }

  done(tries: number): void {
    if (tries > TRIES_BEFORE_KEEPING) this.#fetcher.done();
  }

  /** Passes the result of an operation on that has changed these inodes if it succeeded. */
  #changed(result: number, node: number, other = node): number {
    if (result !== 0 || this.#core.contention.size === 0) return result;
    this.#core.followers.changed(node);
    if (other !== node) this.#core.followers.changed(other);
    return result;
  }

  lookup(dir: number, name: Uint8Array, out: AttrOut): number {
    return lookup(this.#core, dir, name, out);
  }

  getattr(node: number, out: AttrOut): number {
    return getattr(this.#core, node, out);
  }

  setattr(node: number, set: SetAttr, out: AttrOut): number {
    return this.#changed(setattr(this.#core, node, set, out), node);
  }

  readlink(node: number, target: Uint8Array): number {
    return readlink(this.#core, node, target);
  }

  mknod(
    dir: number,
    name: Uint8Array,
    mode: number,
    rdev: number,
    uid: number,
    gid: number,
    out: AttrOut,
  ): number {
    return this.#changed(mknod(this.#core, dir, name, mode, rdev, uid, gid, out), dir);
  }

  create(
    dir: number,
    name: Uint8Array,
    mode: number,
    uid: number,
    gid: number,
    flags: number,
    out: AttrOut,
  ): number {
    return create(this.#core, dir, name, mode, uid, gid, flags, out);
  }

  tmpfile(dir: number, mode: number, uid: number, gid: number, flags: number, out: AttrOut): number {
    return tmpfile(this.#core, dir, mode, uid, gid, flags, out);
  }

  mkdir(dir: number, name: Uint8Array, mode: number, uid: number, gid: number, out: AttrOut): number {
    return this.#changed(mkdir(this.#core, dir, name, mode, uid, gid, out), dir);
  }

  symlink(dir: number, name: Uint8Array, target: Uint8Array, uid: number, gid: number, out: AttrOut): number {
    return this.#changed(symlink(this.#core, dir, name, target, uid, gid, out), dir);
  }

  link(node: number, dir: number, name: Uint8Array, out: AttrOut): number {
    return this.#changed(link(this.#core, node, dir, name, out), dir, node);
  }

  unlink(dir: number, name: Uint8Array): number {
    return this.#changed(unlink(this.#core, dir, name), dir);
  }

  rmdir(dir: number, name: Uint8Array): number {
    return this.#changed(rmdir(this.#core, dir, name), dir);
  }

  rename(
    sourceDir: number,
    sourceName: Uint8Array,
    targetDir: number,
    targetName: Uint8Array,
    flags: number,
  ): number {
    return this.#changed(
      rename(this.#core, sourceDir, sourceName, targetDir, targetName, flags),
      sourceDir,
      targetDir,
    );
  }

  open(node: number, flags: number): number {
    return open(this.#core, node, flags);
  }

  release(node: number, flags: number): void {
    release(this.#core, node, flags);
  }

  forget(node: number): void {
    if (isPlaceholderNode(node)) this.#core.placeholders.delete(node);
    else if (node !== ROOT_NODE) forget(this.#core, node);
  }

  directoryEnd(node: number): number {
    return directoryEnd(this.#core, node);
  }

  readdir(node: number, cookie: number, end: number, sink: DirSink, attr: AttrOut | null): number {
    return readdir(this.#core, node, cookie, end, sink, attr);
  }

  read(node: number, offset: number, length: number, target: Uint8Array, flags: number): number {
    return read(this.#core, this.#neighbours, node, offset, length, target, flags);
  }

  write(node: number, offset: number, data: Uint8Array, flags: number): number {
    return write(this.#core, node, offset, data, flags);
  }

  writtenSize(node: number): number {
    return writtenSize(this.#core, node);
  }

  flush(node: number): number {
    return flush(this.#core, node);
  }

  async fsync(node: number): Promise<number> {
    const core = this.#core;
    if (core.ended !== 0) return core.ended;
    // A directory stands for what was made in it: the data of all files goes with it.
    if (isDirectoryNode(core, node)) core.writeBack.flush();
    else logInode(core, node);
    core.writeBack.changed();
    const flushed = await this.#fetcher.flushOthers(core.treeOf(node), core.inoOf(node));
    const result = (await this.#sync()) || flushed;
    // The node's own error first; one that no open file can tell goes to whoever syncs next.
    const own = flush(core, node);
    if (own !== 0) core.lostErrno = 0;
    const lost = core.lostErrno;
    core.lostErrno = 0;
    if (own !== 0) return own;
    return lost !== 0 ? -lost : result;
  }

  lseek(node: number, offset: number, whence: number): number {
    return lseek(this.#core, node, offset, whence);
  }

  fallocate(node: number, mode: number, offset: number, length: number): number {
    return fallocate(this.#core, node, mode, offset, length);
  }

  getxattr(node: number, name: Uint8Array, target: Uint8Array): number {
    return getxattr(this.#core, node, name, target);
  }

  listxattr(node: number, target: Uint8Array): number {
    return listxattr(this.#core, node, target);
  }

  setxattr(node: number, name: Uint8Array, value: Uint8Array, flags: number): number {
    return this.#changed(setxattr(this.#core, node, name, value, flags), node);
  }

  removexattr(node: number, name: Uint8Array): number {
    return this.#changed(removexattr(this.#core, node, name), node);
  }

  statfs(out: StatfsOut): number {
    const core = this.#core;
    const error = core.begin();
    if (error !== 0) return error;
    const report = core.statfs;
    if (report === null || core.clock.nowMs() - report.atMs > STATFS_AGE_MS) {
      core.missing.statfs = true;
      return MISS;
    }
    out.totalBytes = report.total;
    out.freeBytes = report.free;
    out.availableBytes = report.available;
    out.inodesUsed = report.inodesUsed;
    return 0;
  }
}

function isDirectoryNode(core: Core, node: number): boolean {
  const { items } = core;
  const isFound = items.find(core.treeOf(node), core.inoOf(node), ItemType.inodeItem, 0);
  return isFound && isDirectory(inodeMode(items.view, items.start));
}
