// SPDX-License-Identifier: GPL-2.0-or-later
//
// What programs do: each process of a client goes on at random over few shared names, holding some files open.

import type { Prng } from '../../ts/util/prng.ts';
import { errnoText } from './history.ts';
import type { Handle, Listing, SimulatedKernel } from './kernel.ts';
import { DIRECTORY, PAGE, REGULAR, SYMLINK } from './model.ts';
import type { Scenario } from './scenario.ts';
import { XATTRS } from './wreck.ts';

const ROOT = 1;
const HANDLES_MAX = 3;

export interface ProcessOptions {
  readonly kernel: SimulatedKernel;
  readonly random: Prng;
  readonly scenario: Scenario;
  /** Bytes that no other write writes. */
  readonly fresh: (length: number) => Uint8Array;
  /** Starts to watch a directory for a listing; the function that it returns judges what was listed. */
  readonly watchListing: (node: number) => (listing: Listing) => void;
  /** fsync of a file is about to start; the function that it returns judges that it has ended. */
  readonly watchSync: (node: number) => (result: number) => void;
}

type Action = (process: Process) => Promise<string>;

export class Process {
  readonly options: ProcessOptions;
  readonly handles: Handle[] = [];
  /** Inodes that the operation under way has walked to. */
  readonly held: number[] = [];

  constructor(options: ProcessOptions) {
    this.options = options;
  }

  get random(): Prng {
    return this.options.random;
  }

  get kernel(): SimulatedKernel {
    return this.options.kernel;
  }

  /** Does one thing. @returns what it was, in words */
  async act(): Promise<string> {
    let roll = this.random.below(WEIGHTS_SUM);
    const chosen = ACTIONS.find(([weight]) => {
      roll -= weight;
      return roll < 0;
    })!;
    const text = await chosen[1](this);
    this.kernel.unhold(this.held);
    return text;
  }

  closeAll(): void {
    for (const handle of this.handles.splice(0)) this.kernel.close(handle);
  }

  name(): string {
    const { crowd } = this.options.scenario;
    if (crowd > 0 && this.random.oneIn(3)) return `z${this.random.below(crowd)}`;
    return this.random.pick(this.options.scenario.names);
  }

  /** A directory, walked to from the root; a negative errno if the path breaks off. */
  async directory(): Promise<number> {
    let node = ROOT;
    const depth = this.random.below(this.options.scenario.depth + 1);
    for (let at = 0; at < depth; at++) {
      const next = await this.kernel.lookup(node, this.name(), false, this.held);
      if (next < 0) return at > 0 && this.random.oneIn(2) ? node : next;
      if (!this.kernel.isDirectory(next)) return node;
      node = next;
    }
    return node;
  }

  /** An inode by its path. */
  async inode(): Promise<number> {
    const dir = await this.directory();
    return dir < 0 ? dir : this.kernel.lookup(dir, this.name(), false, this.held);
  }

  keep(handle: Handle | number): string {
    if (typeof handle === 'number') return errnoText(handle);
    if (this.handles.length >= HANDLES_MAX) {
      const old = this.handles.splice(this.random.below(this.handles.length), 1)[0]!;
      this.kernel.flush(old.node);
      this.kernel.close(old);
    }
    this.handles.push(handle);
    return String(handle.node);
  }

  /** A handle, one that can write if asked. */
  handle(write: boolean): Handle | undefined {
    const fit = this.handles.filter((handle) => !write || (handle.flags & 1) !== 0);
    return fit.length === 0 ? undefined : this.random.pick(fit);
  }

  offset(): number {
    if (this.options.scenario.files === 'tiny') return this.random.below(200);
    return this.random.oneIn(2) ? this.random.below(4) * PAGE : this.random.below(4 * PAGE);
  }

  length(): number {
    if (this.options.scenario.files === 'tiny') return 1 + this.random.below(100);
    return this.random.oneIn(2) ? PAGE : 1 + this.random.below(2 * PAGE);
  }
}

async function open(process: Process): Promise<string> {
  const { random } = process;
  const dir = await process.directory();
  if (dir < 0) return `open: ${errnoText(dir)}`;
  const write = random.below(4) > 0;
  const how = {
    create: random.below(3) > 0,
    exclusive: random.oneIn(3),
    truncate: write && random.oneIn(6),
    write,
    append: write && random.oneIn(6),
  };
  const name = process.name();
  const result = process.keep(await process.kernel.open(dir, name, how, process.held));
  return `open ${dir}/${name}${how.create ? ' create' : ''}${how.create && how.exclusive ? ' excl' : ''}${how.truncate ? ' trunc' : ''}: ${result}`;
}

async function close(process: Process): Promise<string> {
  if (process.handles.length === 0) return 'close: nothing';
  const at = process.random.below(process.handles.length);
  const handle = process.handles.splice(at, 1)[0]!;
  process.kernel.flush(handle.node);
  process.kernel.close(handle);
  return `close ${handle.node}`;
}

async function read(process: Process): Promise<string> {
  const handle = process.handle(false);
  if (handle === undefined) return open(process);
  const offset = process.offset();
  const result = await process.kernel.read(handle, offset, process.length());
  return `read ${handle.node} at ${offset}: ${errnoText(result)}`;
}

async function write(process: Process): Promise<string> {
  const handle = process.handle(true);
  if (handle === undefined) return open(process);
  const offset = process.offset();
  const data = process.options.fresh(process.length());
  const result = await process.kernel.write(handle, offset, data);
  return `write ${handle.node} at ${offset}: ${errnoText(result)}`;
}

async function truncate(process: Process): Promise<string> {
  const handle = process.handle(true);
  const node = handle?.node ?? (await process.inode());
  if (node < 0) return `truncate: ${errnoText(node)}`;
  if (process.kernel.typeOf(node) !== REGULAR) return 'truncate: no file';
  const size = process.random.oneIn(3) ? 0 : process.offset();
  return `truncate ${node} to ${size}: ${errnoText(await process.kernel.resize(node, size))}`;
}

async function fsync(process: Process): Promise<string> {
  const handle = process.handle(false);
  if (handle === undefined) return open(process);
  const ended = process.options.watchSync(handle.node);
  const result = await process.kernel.fsync(handle.node);
  ended(result);
  return `fsync ${handle.node}: ${errnoText(result)}`;
}

async function stat(process: Process): Promise<string> {
  const node = await process.inode();
  return node < 0 ? `stat: ${errnoText(node)}` : `stat ${node}: ${await process.kernel.getattr(node)}`;
}

async function fstat(process: Process): Promise<string> {
  const handle = process.handle(false);
  if (handle === undefined) return stat(process);
  return `fstat ${handle.node}: ${errnoText(await process.kernel.getattr(handle.node))}`;
}

async function unlink(process: Process): Promise<string> {
  const dir = await process.directory();
  if (dir < 0) return `unlink: ${errnoText(dir)}`;
  const name = process.name();
  return `unlink ${dir}/${name}: ${errnoText(await process.kernel.remove(dir, name, false))}`;
}

async function rmdir(process: Process): Promise<string> {
  const dir = await process.directory();
  if (dir < 0) return `rmdir: ${errnoText(dir)}`;
  const name = process.name();
  return `rmdir ${dir}/${name}: ${errnoText(await process.kernel.remove(dir, name, true))}`;
}

async function mkdir(process: Process): Promise<string> {
  const dir = await process.directory();
  if (dir < 0) return `mkdir: ${errnoText(dir)}`;
  const name = process.name();
  return `mkdir ${dir}/${name}: ${errnoText(await process.kernel.mkdir(dir, name))}`;
}

async function mknod(process: Process): Promise<string> {
  const dir = await process.directory();
  if (dir < 0) return `mknod: ${errnoText(dir)}`;
  const name = process.name();
  return `mknod ${dir}/${name}: ${errnoText(await process.kernel.mknod(dir, name))}`;
}

async function symlink(process: Process): Promise<string> {
  const dir = await process.directory();
  if (dir < 0) return `symlink: ${errnoText(dir)}`;
  const name = process.name();
  return `symlink ${dir}/${name}: ${errnoText(await process.kernel.symlink(dir, name, `to-${process.name()}`))}`;
}

async function readlink(process: Process): Promise<string> {
  const node = await process.inode();
  if (node < 0 || process.kernel.typeOf(node) !== SYMLINK) return 'readlink: none';
  return `readlink ${node}: ${errnoText(await process.kernel.readlink(node))}`;
}

async function link(process: Process): Promise<string> {
  const node = await process.inode();
  if (node < 0) return `link: ${errnoText(node)}`;
  if (process.kernel.typeOf(node) === DIRECTORY) return 'link: a directory';
  const dir = await process.directory();
  if (dir < 0) return `link: ${errnoText(dir)}`;
  const name = process.name();
  return `link ${node} as ${dir}/${name}: ${errnoText(await process.kernel.link(node, dir, name))}`;
}

async function rename(process: Process): Promise<string> {
  const source = await process.directory();
  const target = process.random.oneIn(2) ? source : await process.directory();
  if (source < 0 || target < 0) return `rename: ${errnoText(Math.min(source, target))}`;
  const from = process.name();
  const to = process.name();
  const noReplace = process.random.oneIn(5);
  const result = await process.kernel.rename(source, from, target, to, noReplace);
  return `rename ${source}/${from} to ${target}/${to}: ${errnoText(result)}`;
}

async function chmod(process: Process): Promise<string> {
  const node = await process.inode();
  if (node < 0) return `chmod: ${errnoText(node)}`;
  if (process.kernel.typeOf(node) === SYMLINK) return 'chmod: a symlink';
  return `chmod ${node}: ${errnoText(await process.kernel.chmod(node, 0o600 + process.random.below(0o100)))}`;
}

async function utimens(process: Process): Promise<string> {
  const node = await process.inode();
  if (node < 0) return `utimens: ${errnoText(node)}`;
  return `utimens ${node}: ${errnoText(await process.kernel.utimens(node, 1000 + process.random.below(1000)))}`;
}

async function xattr(process: Process): Promise<string> {
  const { random, kernel } = process;
  const node = await process.inode();
  if (node < 0) return `xattr: ${errnoText(node)}`;
  const name = random.pick(XATTRS);
  switch (random.below(4)) {
    case 0:
      return `getxattr ${node}: ${errnoText(await kernel.getxattr(node, name))}`;
    case 1:
      return `listxattr ${node}: ${errnoText(await kernel.listxattr(node))}`;
    case 2:
      return `removexattr ${node}: ${errnoText(await kernel.setxattr(node, name, undefined, 0))}`;
    default: {
      const value = `v${random.below(100_000)}`;
      return `setxattr ${node}: ${errnoText(await kernel.setxattr(node, name, value, random.below(3)))}`;
    }
  }
}

async function list(process: Process): Promise<string> {
  const node = await process.directory();
  if (node < 0) return `list: ${errnoText(node)}`;
  const judge = process.options.watchListing(node);
  const listing = await process.kernel.list(node);
  judge(listing);
  return `list ${node}: ${listing.result < 0 ? errnoText(listing.result) : [...listing.names.keys()].join(' ')}`;
}

async function statfs(process: Process): Promise<string> {
  return `statfs: ${errnoText(await process.kernel.statfs())}`;
}

const ACTIONS: readonly (readonly [weight: number, Action])[] = [
  [14, open],
  [5, close],
  [14, read],
  [14, write],
  [4, truncate],
  [2, fsync],
  [10, stat],
  [6, fstat],
  [5, unlink],
  [2, rmdir],
  [4, mkdir],
  [2, mknod],
  [1, symlink],
  [1, readlink],
  [2, link],
  [6, rename],
  [3, chmod],
  [2, utimens],
  [3, xattr],
  [4, list],
  [1, statfs],
];

const WEIGHTS_SUM = ACTIONS.reduce((sum, [weight]) => sum + weight, 0);
