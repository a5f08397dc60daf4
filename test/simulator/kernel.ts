// SPDX-License-Identifier: GPL-2.0-or-later
//
// The kernel of one mount, as far as its caches go: names found and not found, attributes, pages. It keeps
// what replies allow it to keep, in the way of ts/fuse (request_server.ts, kernel_cache.ts, handlers/) and of Linux's
// fs/fuse, answers programs from it, and takes things out only some time after it was told.
//
// As there: an entry or attributes with a timeout of zero are asked for again; an exclusive create and a rename's target
// never trust a cached name; WRITE goes through and updates pages that it covers or that are there; a change of size
// drops pages; opens keep pages unless the client says otherwise; appends, and files that others want, pass them by;
// listings are not kept.
//
// Not as there: a reply's content is stored at once, and a name's invalidation does not wait for its directory's lock.

import { Buffer } from 'node:buffer';
import type { KernelCache } from '../../ts/client/kernel_cache.ts';
import {
  AttrOut,
  type DirSink,
  MISS,
  OpenFlags,
  OpenResult,
  type Operations,
  ReadFlags,
  SetAttr,
  SetAttrMask,
  StatfsOut,
  WriteFlags,
} from '../../ts/client/operations.ts';
import { nameHash } from '../../ts/item/name_hash.ts';
import { Errno } from '../../ts/util/errno.ts';
import type { Prng } from '../../ts/util/prng.ts';
import type { Seen, Step } from './history.ts';
import { type Attributes, copyAttributes, DIRECTORY, OWNER, PAGE, REGULAR } from './model.ts';
import { Violation } from './trace.ts';
import type { VirtualTime } from './virtual_time.ts';

const ROOT = 1;
const TYPE = 0o170000;
const MODE_BITS = 0o7777;

interface Name {
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly hash: number;
}

const names = new Map<string, Name>();

export function nameOf(text: string): Name {
  let name = names.get(text);
  if (name === undefined) {
    const bytes = Buffer.from(text, 'latin1');
    name = { text, bytes, hash: nameHash(bytes) };
    names.set(text, name);
  }
  return name;
}

interface Dentry {
  readonly name: Name;
  /** 0: there is no such name. */
  readonly node: number;
  isValid: boolean;
}

class Inode {
  readonly node: number;
  readonly isDirectory: boolean;
  attr: Attributes | null = null;
  isAttrValid = false;
  size = 0;
  /** Names that lead here, and handles. */
  uses = 0;
  handles = 0;
  readonly pages: Map<number, Uint8Array> = new Map();
  readonly dentries: Map<string, Dentry> = new Map();

  constructor(node: number, isDirectory: boolean) {
    this.node = node;
    this.isDirectory = isDirectory;
  }
}

export interface KernelOptions {
  readonly time: VirtualTime;
  readonly random: Prng;
  /** Invalidations that do nothing: a fault that must be found. */
  readonly forgetNothing: 'names' | 'attributes' | 'bytes' | null;
  /** How long an invalidation takes at most, milliseconds. */
  readonly slownessMs: number;
  /** Pages and inodes that are kept at most. */
  readonly pagesMax: number;
  readonly inodesMax: number;
  /** Holds a step against the model. */
  readonly judge: (step: Step, begun: number) => void;
  /** The number of steps done so far. */
  readonly now: () => number;
  /** The inode that a name leads to at this moment, in the model; 0 if there is none. */
  readonly nodeAt: (dir: number, name: string) => number;
  readonly count: (what: string) => void;
  /** Milliseconds in which nobody was silent: only such time counts against a request that waits. */
  readonly quietMs: () => number;
}

/** A request that waits, since a moment of `quietMs`. */
interface Parked {
  readonly sinceMs: number;
}

interface Invalidations {
  names: { dir: number; name: Name; expire: boolean }[];
  inodes: { node: number; start: number; end: number }[];
}

/** What a listing reports: `.` and `..` left out. */
export interface Listing {
  readonly names: Map<string, number>;
  /** Names that came twice. */
  readonly twice: readonly string[];
  readonly result: number;
}

/** A regular file or directory that a program has open. */
export interface Handle {
  readonly node: number;
  readonly flags: number;
  readonly isAppend: boolean;
  /** Reads and writes pass the pages by. */
  readonly isDirect: boolean;
}

export class SimulatedKernel implements KernelCache {
  /** Requests that wait for the client, oldest first. */
  readonly #parked = new Set<Parked>();
  /** Requests that had to wait so far. */
  misses = 0;
  isDead = false;
  readonly #options: KernelOptions;
  #ops!: Operations;
  readonly #inodes = new Map<number, Inode>();
  /** References by replies: node -> count. The client's side of the channel. */
  readonly #lookups = new Map<number, number>();
  #batch: Invalidations = { names: [], inodes: [] };
  #isBatchQueued = false;
  #pages = 0;
  readonly #out = new AttrOut();
  readonly #set = new SetAttr();
  readonly #page = new Uint8Array(PAGE);
  /** Steps that were done when the request began whose operation is running. */
  #begun: number | null = null;

  constructor(options: KernelOptions) {
    this.#options = options;
    this.#inodes.set(ROOT, new Inode(ROOT, true));
  }

  start(ops: Operations): void {
    this.#ops = ops;
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#parked.size;
  }

  /** For how long the oldest request has waited, milliseconds. */
  get waitedMs(): number {
    for (const { sinceMs } of this.#parked) return this.#options.quietMs() - sinceMs;
    return 0;
  }

  // ---- what the client asks ----

  isWriting(): boolean {
    return false;
  }

  isTaking(): boolean {
    return false;
  }

  hasPages(node: number): boolean {
    return (this.#inodes.get(node)?.pages.size ?? 0) > 0;
  }

  forEachLooked(): void {}

  isReferenced(node: number): boolean {
    return node === ROOT || this.#lookups.has(node);
  }

  forgetNames(dir: number, hashStart: number, hashEnd: number): void {
    const inode = this.#inodes.get(dir);
    if (inode === undefined || this.#options.forgetNothing === 'names') return;
    for (const { name, isValid } of inode.dentries.values()) {
      if (!isValid || name.hash < hashStart || name.hash >= hashEnd) continue;
      this.#batch.names.push({ dir, name, expire: true });
      this.#queue();
    }
  }

  dropName(dir: number, name: Uint8Array): void {
    this.#batch.names.push({ dir, name: nameOf(Buffer.from(name).toString('latin1')), expire: false });
    this.#queue();
  }

  forgetAttributes(start: number, end: number): void {
    if (end - start <= this.#inodes.size) {
      for (let node = start; node < end; node++) if (this.#inodes.has(node)) this.#queueInode(node, -1, 0);
      return;
    }
    for (const node of this.#inodes.keys()) if (node >= start && node < end) this.#queueInode(node, -1, 0);
  }

  forgetBytes(node: number, start: number, end: number): void {
    if (start >= end || !this.#inodes.has(node) || this.#options.forgetNothing === 'bytes') return;
    this.#queueInode(node, start, end);
  }

  carried(): null {
    return null;
  }

  settled(): Promise<void> {
    return this.#runBatch() ?? Promise.resolve();
  }

  #queueInode(node: number, start: number, end: number): void {
    this.#batch.inodes.push({ node, start, end });
    this.#queue();
  }

  #queue(): void {
    if (this.#isBatchQueued) return;
    this.#isBatchQueued = true;
    queueMicrotask(() => void this.#runBatch());
  }

  #runBatch(): Promise<void> | null {
    this.#isBatchQueued = false;
    const batch = this.#batch;
    if (batch.names.length === 0 && batch.inodes.length === 0) return null;
    this.#batch = { names: [], inodes: [] };
    return this.#act(batch);
  }

  async #act(batch: Invalidations): Promise<void> {
    if (batch.names.length > 0) {
      await this.#delay();
      for (const { dir, name, expire } of batch.names) this.#invalidateName(dir, name, expire);
    }
    if (batch.inodes.length === 0) return;
    await this.#delay();
    for (const { node, start, end } of batch.inodes) this.#invalidateInode(node, start, end);
  }

  #delay(): Promise<void> {
    const { time, random, slownessMs } = this.#options;
    const rarely = random.oneIn(16) ? 1 : 0.05;
    return time.sleep((rarely * slownessMs * random.below(1024)) / 1024);
  }

  #invalidateName(dir: number, name: Name, expire: boolean): void {
    const inode = this.#inodes.get(dir);
    const dentry = inode?.dentries.get(name.text);
    if (inode === undefined || dentry === undefined) return;
    if (expire && dentry.node !== 0) dentry.isValid = false;
    else this.#dropDentry(inode, dentry);
  }

  #invalidateInode(node: number, start: number, end: number): void {
    const inode = this.#inodes.get(node);
    if (inode === undefined) return;
    if (this.#options.forgetNothing !== 'attributes') inode.isAttrValid = false;
    if (start < 0) return;
    for (const index of [...inode.pages.keys()]) {
      if (index * PAGE < end && (index + 1) * PAGE > start) this.#dropPage(inode, index);
    }
  }

  // ---- what replies give ----

  /** An entry reply: one reference, the inode's attributes, the name. */
  #giveEntry(dir: number, name: Name, out: AttrOut): Inode {
    const inode = this.#reference(out);
    const parent = this.#inode(dir, true);
    const old = parent.dentries.get(name.text);
    if (old !== undefined && old.node !== out.node) this.#dropDentry(parent, old);
    if (old !== undefined && old.node === out.node) old.isValid = out.cacheable;
    else {
      parent.dentries.set(name.text, { name, node: out.node, isValid: out.cacheable });
      inode.uses++;
    }
    return inode;
  }

  #reference(out: AttrOut): Inode {
    const isDirectory = (out.mode & TYPE) === DIRECTORY;
    if (out.node !== ROOT) this.#lookups.set(out.node, (this.#lookups.get(out.node) ?? 0) + 1);
    const inode = this.#inode(out.node, isDirectory);
    this.#giveAttributes(inode, out);
    return inode;
  }

  #giveAttributes(inode: Inode, out: AttrOut): void {
    if (out.size !== inode.size) this.#truncatePages(inode, out.size);
    inode.size = out.size;
    inode.attr = copyAttributes(out);
    inode.isAttrValid = out.cacheable;
  }

  #inode(node: number, isDirectory: boolean): Inode {
    let inode = this.#inodes.get(node);
    if (inode === undefined) {
      inode = new Inode(node, isDirectory);
      this.#inodes.set(node, inode);
    }
    return inode;
  }

  #truncatePages(inode: Inode, size: number): void {
    for (const [index, page] of [...inode.pages]) {
      if (index * PAGE >= size) this.#dropPage(inode, index);
      else if ((index + 1) * PAGE > size) {
        const cut = Uint8Array.from(page);
        cut.fill(0, size - index * PAGE);
        inode.pages.set(index, cut);
      }
    }
  }

  #dropPage(inode: Inode, index: number): void {
    if (inode.pages.delete(index)) this.#pages--;
  }

  #dropDentry(parent: Inode, dentry: Dentry): void {
    parent.dentries.delete(dentry.name.text);
    if (dentry.node !== 0) this.#unuse(dentry.node);
    if (parent.dentries.size === 0 && parent.uses <= 0 && parent.node !== ROOT) {
      if (this.#inodes.get(parent.node) === parent) this.#evict(parent);
    }
  }

  /** One use less; an inode without any leaves the cache, and FORGET goes out a little later. */
  #unuse(node: number): void {
    const inode = this.#inodes.get(node);
    if (inode === undefined) return;
    inode.uses--;
    if (inode.uses > 0 || node === ROOT || inode.dentries.size > 0) return;
    this.#evict(inode);
  }

  #evict(inode: Inode): void {
    const { node } = inode;
    for (const index of [...inode.pages.keys()]) this.#dropPage(inode, index);
    this.#inodes.delete(node);
    const count = this.#lookups.get(node) ?? 0;
    const { time, random } = this.#options;
    const forget = (): void => {
      const left = (this.#lookups.get(node) ?? 0) - count;
      if (left > 0) this.#lookups.set(node, left);
      else if (this.#lookups.delete(node) && !this.isDead) this.#ops.forget(node);
    };
    time.setTimer(random.below(8) / 8, forget);
  }

  /** Whether a handle of the inode is open here. */
  hasOpen(node: number): boolean {
    return (this.#inodes.get(node)?.handles ?? 0) > 0;
  }

  /** The session is over: nothing is covered by a grant any more. */
  forgetEverything(): void {
    for (const inode of this.#inodes.values()) {
      inode.isAttrValid = false;
      for (const dentry of inode.dentries.values()) dentry.isValid = false;
      for (const index of [...inode.pages.keys()]) this.#dropPage(inode, index);
    }
  }

  /** Memory gets short: drops names that nobody uses, and with them inodes. */
  shrink(): void {
    const { random, inodesMax, pagesMax } = this.#options;
    if (this.#inodes.size > inodesMax || random.oneIn(64)) {
      const parents = [...this.#inodes.values()].filter((inode) => inode.dentries.size > 0);
      if (parents.length === 0) return;
      const parent = random.pick(parents);
      for (const dentry of [...parent.dentries.values()]) {
        const child = this.#inodes.get(dentry.node);
        if ((child === undefined || child.dentries.size === 0) && random.oneIn(2))
          this.#dropDentry(parent, dentry);
      }
    }
    if (this.#pages <= pagesMax) return;
    for (const inode of this.#inodes.values()) {
      for (const index of [...inode.pages.keys()]) if (random.oneIn(2)) this.#dropPage(inode, index);
    }
  }

  #directoryChanged(dir: number): void {
    const inode = this.#inodes.get(dir);
    if (inode === undefined) return;
    inode.isAttrValid = false;
  }

  // ---- requests ----

  /** Runs an operation until nothing is missing; `run` judges it in the turn in which it takes effect. */
  async #request(effect: () => number): Promise<number> {
    const begun = this.#options.now();
    const run = (): number => {
      this.#begun = begun;
      const result = effect();
      this.#begun = null;
      return result;
    };
    let result = run();
    if (result !== MISS) return result;
    this.misses++;
    const own = { sinceMs: this.#options.quietMs() };
    this.#parked.add(own);
    let tries = 0;
    try {
      do {
        const error = await this.#ops.fetchMissing(++tries);
        if (error < 0) return error;
        result = run();
      } while (result === MISS);
      return result;
    } finally {
      this.#parked.delete(own);
      this.#ops.done(tries);
    }
  }

  /** Holds a step against the model; it began when its request came, or now if the cache answers. */
  #judge(step: Step): void {
    this.#options.judge(step, this.#begun ?? this.#options.now());
  }

  /** What this client sees of inodes that it has just changed: it holds them, so nothing is missing. */
  #seen(...nodes: number[]): Seen[] {
    const seen: Seen[] = [];
    for (const node of nodes) {
      if (node === 0) continue;
      const out = new AttrOut();
      if (this.#ops.getattr(node, out) === 0) seen.push({ node, attr: copyAttributes(out) });
    }
    return seen;
  }

  #isLost(result: number): boolean {
    return result === -Errno.EIO && this.isDead;
  }

  /** The cached name, if it can be trusted; judged. */
  #cachedName(dir: number, name: Name): Dentry | undefined {
    const dentry = this.#inodes.get(dir)?.dentries.get(name.text);
    if (dentry === undefined || !dentry.isValid) return undefined;
    this.#options.count('kernel: cached name');
    this.#judge({ kind: 'cachedName', dir, name: name.text, node: dentry.node });
    return dentry;
  }

  /**
   * Finds a name.
   *
   * @param held - gets the node, which the caller must `unhold`. @returns the node or a negative errno
   */
  async lookup(dir: number, text: string, isFresh = false, held: number[] | null = null): Promise<number> {
    const name = nameOf(text);
    if (!isFresh) {
      const dentry = this.#cachedName(dir, name);
      if (dentry !== undefined) {
        if (dentry.node === 0) return -Errno.ENOENT;
        this.#hold(dentry.node, held);
        return dentry.node;
      }
    }
    const out = this.#out;
    let node = 0;
    const result = await this.#request(() => {
      const result = this.#ops.lookup(dir, name.bytes, out);
      if (result === MISS || this.#isLost(result)) return result;
      this.#judge({ kind: 'lookup', dir, name: text, result, node: out.node, attr: out });
      const parent = this.#inode(dir, true);
      if (result === 0) {
        node = out.node;
        this.#giveEntry(dir, name, out);
        this.#hold(node, held);
      } else {
        const old = parent.dentries.get(text);
        if (old !== undefined) this.#dropDentry(parent, old);
        if (result === -Errno.ENOENT && out.cacheable)
          parent.dentries.set(text, { name, node: 0, isValid: true });
      }
      return result;
    });
    return result === 0 ? node : result;
  }

  #hold(node: number, held: number[] | null): void {
    if (held === null) return;
    const inode = this.#inodes.get(node);
    if (inode === undefined) return;
    inode.uses++;
    held.push(node);
  }

  /** Ends what `lookup` began: a path walk lets its inodes go. */
  unhold(held: number[]): void {
    for (const node of held.splice(0)) this.#unuse(node);
  }

  /** stat of an inode. */
  async getattr(node: number): Promise<number> {
    const inode = this.#inodes.get(node);
    if (inode?.isAttrValid === true && inode.attr !== null) {
      this.#options.count('kernel: cached attributes');
      this.#judge({ kind: 'cachedAttr', node, attr: inode.attr });
      return 0;
    }
    const out = this.#out;
    return this.#request(() => {
      const result = this.#ops.getattr(node, out);
      if (result === MISS || this.#isLost(result)) return result;
      this.#judge({ kind: 'getattr', node, result, attr: out });
      const inode = this.#inodes.get(node);
      if (result === 0 && inode !== undefined) this.#giveAttributes(inode, out);
      return result;
    });
  }

  async mkdir(dir: number, text: string): Promise<number> {
    return this.#make(dir, text, DIRECTORY | 0o755, '');
  }

  async symlink(dir: number, text: string, target: string): Promise<number> {
    return this.#make(dir, text, 0o120777, target);
  }

  async mknod(dir: number, text: string): Promise<number> {
    return this.#make(dir, text, REGULAR | 0o644, '');
  }

  async #make(dir: number, text: string, mode: number, target: string): Promise<number> {
    const found = await this.lookup(dir, text, true);
    if (found > 0) return -Errno.EEXIST;
    if (found !== -Errno.ENOENT) return found;
    const name = nameOf(text);
    const out = this.#out;
    return this.#request(() => {
      const type = mode & TYPE;
      let result: number;
      if (type === DIRECTORY) result = this.#ops.mkdir(dir, name.bytes, mode & MODE_BITS, OWNER, OWNER, out);
      else if (type === REGULAR) result = this.#ops.mknod(dir, name.bytes, mode, 0, OWNER, OWNER, out);
      else result = this.#ops.symlink(dir, name.bytes, nameOf(target).bytes, OWNER, OWNER, out);
      if (result === MISS || this.#isLost(result)) return result;
      this.#made(dir, name, mode, target, result, out);
      return result;
    });
  }

  #made(dir: number, name: Name, mode: number, target: string, result: number, out: AttrOut): void {
    const { node } = out;
    const own = { node, attr: copyAttributes(out) };
    const seen = result >= 0 ? [own, ...this.#seen(dir)] : [];
    this.#judge({ kind: 'make', dir, name: name.text, mode, target, result, node, seen });
    if (result < 0) return;
    this.#giveEntry(dir, name, out);
    this.#directoryChanged(dir);
  }

  /** open(2) of a name. @returns a handle or a negative errno */
  async open(
    dir: number,
    text: string,
    how: { create: boolean; exclusive: boolean; truncate: boolean; write: boolean; append: boolean },
    held: number[],
  ): Promise<Handle | number> {
    const found = await this.lookup(dir, text, how.create && how.exclusive, held);
    if (found < 0 && (found !== -Errno.ENOENT || !how.create)) return found;
    if (found > 0) {
      if (how.create && how.exclusive) return -Errno.EEXIST;
      if (this.#inodes.get(found)?.attr?.mode === undefined) return -Errno.ESTALE;
      if ((this.#inodes.get(found)!.attr!.mode & TYPE) !== REGULAR) return -Errno.EISDIR;
      return this.openNode(found, how);
    }
    const name = nameOf(text);
    const flags = openFlags(how);
    const out = this.#out;
    let node = 0;
    let openResult = 0;
    const result = await this.#request(() => {
      const result = this.#ops.create(dir, name.bytes, 0o644, 7, 7, flags, out);
      if (result === MISS || this.#isLost(result)) return result;
      if (result === -Errno.EEXIST && !how.exclusive) {
        // As handlers/data.ts does: somebody else made it.
        const there = this.#ops.lookup(dir, name.bytes, out);
        if (there === MISS || this.#isLost(there)) return there;
        this.#judge({ kind: 'lookup', dir, name: text, result: there, node: out.node, attr: out });
        if (there < 0 || (out.mode & TYPE) !== REGULAR) return -Errno.ESTALE;
        const opened = this.#ops.open(out.node, flags);
        if (opened === MISS || this.#isLost(opened)) return opened;
        const seen = opened >= 0 && how.truncate ? this.#seen(out.node) : [];
        this.#judge({ kind: 'open', node: out.node, truncate: how.truncate, result: opened, seen });
        if (opened < 0) return opened;
        openResult = opened;
        if (how.truncate) {
          out.size = 0;
          out.cacheable = false;
        }
        this.#giveEntry(dir, name, out).uses++;
        node = out.node;
        return 0;
      }
      this.#made(dir, name, REGULAR | 0o644, '', result, out);
      if (result >= 0) {
        openResult = result;
        node = out.node;
        this.#inodes.get(node)!.uses++;
      }
      return result;
    });
    return result < 0 ? result : this.#opened(node, flags, how.append, openResult);
  }

  async openNode(
    node: number,
    how: { truncate: boolean; write: boolean; append: boolean },
  ): Promise<Handle | number> {
    const flags = openFlags(how);
    // The caller's path walk holds the inode.
    const held = this.#inodes.get(node);
    if (held === undefined) return -Errno.ESTALE;
    held.uses++;
    const result = await this.#request(() => {
      const result = this.#ops.open(node, flags);
      if (result === MISS || this.#isLost(result)) return result;
      const seen = result >= 0 && how.truncate ? this.#seen(node) : [];
      this.#judge({ kind: 'open', node, truncate: how.truncate, result, seen });
      const inode = this.#inodes.get(node);
      if (result >= 0 && how.truncate && inode !== undefined) {
        this.#truncatePages(inode, 0);
        inode.size = 0;
        inode.isAttrValid = false;
      }
      return result;
    });
    if (result >= 0) return this.#opened(node, flags, how.append, result);
    this.#unuse(node);
    return result;
  }

  /** @param result - what the client said of the pages */
  #opened(node: number, flags: number, isAppend: boolean, result: number): Handle {
    const inode = this.#inodes.get(node);
    if (inode !== undefined) inode.handles++;
    if (inode !== undefined && (result & OpenResult.dropPages) !== 0) {
      for (const index of [...inode.pages.keys()]) this.#dropPage(inode, index);
    }
    return { node, flags, isAppend, isDirect: isAppend || (result & OpenResult.direct) !== 0 };
  }

  close(handle: Handle): void {
    if (!this.isDead) this.#ops.release(handle.node, handle.flags);
    const inode = this.#inodes.get(handle.node);
    if (inode !== undefined) inode.handles--;
    this.#unuse(handle.node);
  }

  async link(node: number, dir: number, text: string): Promise<number> {
    const found = await this.lookup(dir, text, true);
    if (found > 0) return -Errno.EEXIST;
    if (found !== -Errno.ENOENT) return found;
    const name = nameOf(text);
    const out = this.#out;
    return this.#request(() => {
      const result = this.#ops.link(node, dir, name.bytes, out);
      if (result === MISS || this.#isLost(result)) return result;
      const seen = result >= 0 ? this.#seen(node, dir) : [];
      this.#judge({ kind: 'link', node, dir, name: text, result, seen });
      if (result < 0) return result;
      this.#giveEntry(dir, name, out);
      this.#directoryChanged(dir);
      return result;
    });
  }

  async remove(dir: number, text: string, isRmdir: boolean): Promise<number> {
    const found = await this.lookup(dir, text);
    if (found < 0) return found;
    const name = nameOf(text);
    return this.#request(() => {
      const result = isRmdir ? this.#ops.rmdir(dir, name.bytes) : this.#ops.unlink(dir, name.bytes);
      if (result === MISS || this.#isLost(result)) return result;
      const victim = this.#options.nodeAt(dir, text);
      const seen = result >= 0 ? this.#seen(dir, victim) : [];
      this.#judge({ kind: 'remove', dir, name: text, isRmdir, result, seen });
      if (result < 0) return result;
      this.#victimGone(victim, isRmdir);
      this.#gone(dir, text);
      return result;
    });
  }

  /** A name of the inode went: its attributes changed; a directory loses the names that were cached below it. */
  #victimGone(node: number, isDirectory: boolean): void {
    const victim = this.#inodes.get(node);
    if (victim === undefined) return;
    victim.isAttrValid = false;
    if (isDirectory) for (const child of [...victim.dentries.values()]) this.#dropDentry(victim, child);
  }

  #gone(dir: number, text: string): void {
    const parent = this.#inodes.get(dir);
    const dentry = parent?.dentries.get(text);
    if (parent !== undefined && dentry !== undefined) this.#dropDentry(parent, dentry);
    this.#directoryChanged(dir);
  }

  async rename(
    sourceDir: number,
    sourceText: string,
    targetDir: number,
    targetText: string,
    noReplace: boolean,
  ): Promise<number> {
    const found = await this.lookup(sourceDir, sourceText);
    if (found < 0) return found;
    const there = await this.lookup(targetDir, targetText, true);
    if (there < 0 && there !== -Errno.ENOENT) return there;
    if (there > 0 && noReplace) return -Errno.EEXIST;
    const source = nameOf(sourceText);
    const target = nameOf(targetText);
    return this.#request(() => {
      const flags = noReplace ? 1 : 0;
      const result = this.#ops.rename(sourceDir, source.bytes, targetDir, target.bytes, flags);
      if (result === MISS || this.#isLost(result)) return result;
      const { nodeAt } = this.#options;
      const moved = nodeAt(sourceDir, sourceText);
      const victim = nodeAt(targetDir, targetText);
      const seen = result >= 0 ? this.#seen(sourceDir, targetDir, moved, victim) : [];
      this.#judge({
        kind: 'rename',
        sourceDir,
        sourceName: sourceText,
        targetDir,
        targetName: targetText,
        noReplace,
        result,
        seen,
      });
      if (result < 0) return result;
      if (victim !== moved) this.#victimGone(victim, this.isDirectory(victim));
      this.#moved(sourceDir, source, targetDir, target);
      return result;
    });
  }

  #moved(sourceDir: number, source: Name, targetDir: number, target: Name): void {
    const from = this.#inodes.get(sourceDir);
    const to = this.#inodes.get(targetDir);
    const dentry = from?.dentries.get(source.text);
    const old = to?.dentries.get(target.text);
    const isSame = dentry !== undefined && old !== undefined && dentry.node === old.node;
    // Two names of one inode: nothing happened, and Linux moves nothing.
    if (isSame && sourceDir === targetDir && source.text === target.text) return;
    if (isSame) {
      if (from !== undefined) this.#dropDentry(from, dentry);
      if (to !== undefined) this.#dropDentry(to, old);
    } else {
      if (to !== undefined && old !== undefined) {
        const victim = this.#inodes.get(old.node);
        if (victim !== undefined) victim.isAttrValid = false;
        this.#dropDentry(to, old);
      }
      if (from !== undefined && dentry !== undefined) {
        from.dentries.delete(source.text);
        if (to !== undefined && dentry.node !== 0) {
          to.dentries.set(target.text, { name: target, node: dentry.node, isValid: dentry.isValid });
          const moved = this.#inodes.get(dentry.node);
          if (moved !== undefined) moved.isAttrValid = false;
        } else if (dentry.node !== 0) this.#unuse(dentry.node);
      }
    }
    this.#directoryChanged(sourceDir);
    this.#directoryChanged(targetDir);
  }

  /** read(2): page by page, each from the cache or by a READ. @returns bytes read or a negative errno */
  async read(handle: Handle, offset: number, length: number): Promise<number> {
    const { node } = handle;
    if (handle.isDirect) return this.#readRequest(node, offset, length, false);
    const inode = this.#inodes.get(node);
    if (inode === undefined) return -Errno.ESTALE;
    if (offset + length > inode.size) {
      const error = await this.getattr(node);
      if (error < 0) return error;
    }
    let done = 0;
    while (done < length) {
      const at = offset + done;
      if (at >= inode.size) break;
      const index = Math.floor(at / PAGE);
      const page = inode.pages.get(index);
      if (page !== undefined) {
        this.#options.count('kernel: cached page');
        this.#judge({ kind: 'cachedPage', node, index, bytes: page });
      } else {
        const result = await this.#readRequest(node, index * PAGE, PAGE, true);
        if (result < 0) return result;
        if (result === 0) break;
      }
      done = Math.min(length, Math.min((index + 1) * PAGE, inode.size) - offset);
    }
    return done;
  }

  #readRequest(node: number, offset: number, length: number, isForPage: boolean): Promise<number> {
    return this.#request(() => {
      const target = length <= PAGE ? this.#page.subarray(0, length) : new Uint8Array(length);
      const result = this.#ops.read(node, offset, length, target, isForPage ? ReadFlags.pages : 0);
      if (result === MISS || this.#isLost(result)) return result;
      const bytes = target.subarray(0, Math.max(0, result));
      this.#judge({ kind: 'read', node, offset, length, isPage: isForPage, result, bytes });
      const inode = this.#inodes.get(node);
      if (!isForPage || result < 0 || inode === undefined) return result;
      if (result < PAGE && offset + result < inode.size) {
        // A short read: the file ends earlier than the kernel thought.
        inode.size = offset + result;
        inode.isAttrValid = false;
        this.#truncatePages(inode, inode.size);
      }
      if (result > 0) this.#keepPage(inode, offset / PAGE, bytes);
      return result;
    });
  }

  #keepPage(inode: Inode, index: number, bytes: Uint8Array): void {
    const page = new Uint8Array(PAGE);
    page.set(bytes);
    if (!inode.pages.has(index)) this.#pages++;
    inode.pages.set(index, page);
  }

  /** write(2). */
  async write(handle: Handle, offset: number, data: Uint8Array): Promise<number> {
    const { node, isAppend, isDirect } = handle;
    return this.#request(() => {
      const result = this.#ops.write(node, offset, data, isAppend ? WriteFlags.append : 0);
      if (result === MISS || this.#isLost(result)) return result;
      const seen = result >= 0 ? this.#seen(node) : [];
      this.#judge({ kind: 'write', node, offset, isAppend, data, result, seen });
      const inode = this.#inodes.get(node);
      if (result < 0 || inode === undefined) return result;
      inode.isAttrValid = false;
      const at = isAppend ? inode.size : offset;
      const end = at + data.length;
      inode.size = Math.max(inode.size, end);
      this.#writePages(inode, at, data, isDirect);
      return result;
    });
  }

  #writePages(inode: Inode, offset: number, data: Uint8Array, isDirect: boolean): void {
    const end = offset + data.length;
    for (let index = Math.floor(offset / PAGE); index * PAGE < end; index++) {
      const start = index * PAGE;
      const page = inode.pages.get(index);
      const isWhole = offset <= start && end >= start + PAGE;
      if (isDirect) {
        this.#dropPage(inode, index);
      } else if (page !== undefined || isWhole) {
        const bytes = page === undefined ? new Uint8Array(PAGE) : Uint8Array.from(page);
        const from = Math.max(offset, start);
        const to = Math.min(end, start + PAGE);
        bytes.set(data.subarray(from - offset, to - offset), from - start);
        this.#keepPage(inode, index, bytes);
      }
    }
  }

  async resize(node: number, size: number): Promise<number> {
    return this.#setattr(
      node,
      (set) => {
        set.mask = SetAttrMask.size;
        set.size = size;
      },
      (result, seen) => ({ kind: 'resize', node, size, result, seen }),
    );
  }

  async chmod(node: number, mode: number): Promise<number> {
    return this.#setattr(
      node,
      (set) => {
        set.mask = SetAttrMask.mode;
        set.mode = mode;
      },
      (result, seen) => ({ kind: 'chmod', node, mode, result, seen }),
    );
  }

  async utimens(node: number, mtimeSec: number): Promise<number> {
    return this.#setattr(
      node,
      (set) => {
        set.mask = SetAttrMask.mtime | SetAttrMask.atime;
        set.mtimeSec = mtimeSec;
        set.mtimeNsec = 1;
        set.atimeSec = mtimeSec;
        set.atimeNsec = 2;
      },
      (result, seen) => ({ kind: 'utimens', node, mtimeSec, result, seen }),
    );
  }

  #setattr(
    node: number,
    fill: (set: SetAttr) => void,
    step: (result: number, seen: readonly Seen[]) => Step,
  ): Promise<number> {
    const out = this.#out;
    const set = this.#set;
    return this.#request(() => {
      fill(set);
      const result = this.#ops.setattr(node, set, out);
      if (result === MISS || this.#isLost(result)) return result;
      this.#judge(step(result, result >= 0 ? [{ node, attr: copyAttributes(out) }] : []));
      const inode = this.#inodes.get(node);
      if (result < 0 || inode === undefined) return result;
      if (out.size !== inode.size) for (const index of [...inode.pages.keys()]) this.#dropPage(inode, index);
      this.#giveAttributes(inode, out);
      return result;
    });
  }

  async setxattr(node: number, text: string, value: string | undefined, flags: number): Promise<number> {
    const name = nameOf(text).bytes;
    return this.#request(() => {
      const result =
        value === undefined
          ? this.#ops.removexattr(node, name)
          : this.#ops.setxattr(node, name, Buffer.from(value, 'latin1'), flags);
      if (result === MISS || this.#isLost(result)) return result;
      const seen = result >= 0 ? this.#seen(node) : [];
      this.#judge({ kind: 'setxattr', node, name: text, value, flags, result, seen });
      const inode = this.#inodes.get(node);
      if (inode !== undefined) inode.isAttrValid = false;
      return result;
    });
  }

  async getxattr(node: number, text: string): Promise<number> {
    return this.#request(() => {
      const target = this.#page;
      const result = this.#ops.getxattr(node, nameOf(text).bytes, target);
      if (result === MISS || this.#isLost(result)) return result;
      const value = Buffer.from(target.subarray(0, Math.max(0, result))).toString('latin1');
      this.#judge({ kind: 'getxattr', node, name: text, result, value });
      return result;
    });
  }

  async listxattr(node: number): Promise<number> {
    return this.#request(() => {
      const target = this.#page;
      const result = this.#ops.listxattr(node, target);
      if (result === MISS || this.#isLost(result)) return result;
      const text = Buffer.from(target.subarray(0, Math.max(0, result))).toString('latin1');
      const list = text.split('\0').filter((name) => name.length > 0);
      this.#judge({ kind: 'listxattr', node, result, names: list });
      return result;
    });
  }

  async readlink(node: number): Promise<number> {
    return this.#request(() => {
      const target = this.#page;
      const result = this.#ops.readlink(node, target);
      if (result === MISS || this.#isLost(result)) return result;
      const text = Buffer.from(target.subarray(0, Math.max(0, result))).toString('latin1');
      this.#judge({ kind: 'readlink', node, result, target: text });
      return result;
    });
  }

  async statfs(): Promise<number> {
    const out = new StatfsOut();
    return this.#request(() => {
      const result = this.#ops.statfs(out);
      const isRight = out.availableBytes <= out.freeBytes && out.freeBytes <= out.totalBytes;
      if (result === 0 && !(isRight && out.totalBytes > 0))
        throw new Violation('the space adds up', JSON.stringify(out));
      return result;
    });
  }

  async fsync(node: number): Promise<number> {
    const own = { sinceMs: this.#options.quietMs() };
    this.#parked.add(own);
    const result = await this.#ops.fsync(node);
    this.#parked.delete(own);
    return result;
  }

  flush(node: number): number {
    return this.#ops.flush(node);
  }

  isDirectory(node: number): boolean {
    return this.#inodes.get(node)?.isDirectory === true;
  }

  /** The kind of an inode that the kernel knows, from its mode; 0 if it does not. */
  typeOf(node: number): number {
    return (this.#inodes.get(node)?.attr?.mode ?? 0) & TYPE;
  }

  /** opendir, readdir to the end, closedir. */
  async list(node: number): Promise<Listing> {
    const names = new Map<string, number>();
    const twice: string[] = [];
    const failed = (result: number): Listing => ({ names, twice, result });
    const opened = await this.openNode(node, { truncate: false, write: false, append: false });
    if (typeof opened === 'number') return failed(opened);
    let cookie = 0;
    let end = 0;
    const plus = this.#options.random.oneIn(2);
    for (;;) {
      let added = 0;
      const room = 1 + this.#options.random.below(6);
      const result = await this.#request(() => {
        if (cookie === 0) {
          end = this.#ops.directoryEnd(node);
          if (end === MISS) return MISS;
        }
        added = 0;
        const entries: [string, number, number][] = [];
        const attr = plus ? this.#out : null;
        const sink: DirSink = {
          add: (bytes, start, length, child, _ino, _type, nextCookie) => {
            if (added === room) return false;
            added++;
            cookie = nextCookie;
            const text = Buffer.from(bytes.subarray(start, start + length)).toString('latin1');
            if (text === '.' || text === '..') return true;
            entries.push([text, child, nextCookie]);
            if (attr !== null && attr.node !== 0) {
              this.#judge({ kind: 'getattr', node: attr.node, result: 0, attr });
              this.#giveEntry(node, nameOf(text), attr);
            }
            return true;
          },
        };
        const result = this.#ops.readdir(node, cookie, end, sink, attr);
        if (result === MISS || this.#isLost(result)) return result;
        for (const [text, child] of entries) {
          if (names.has(text)) twice.push(text);
          names.set(text, child);
        }
        return result;
      });
      if (result < 0) {
        this.close(opened);
        return failed(result);
      }
      if (added === 0) break;
    }
    this.close(opened);
    return { names, twice, result: 0 };
  }
}

function openFlags(how: { truncate: boolean; write: boolean }): number {
  return (how.write ? OpenFlags.write : 0) | (how.truncate ? OpenFlags.truncate : 0);
}
