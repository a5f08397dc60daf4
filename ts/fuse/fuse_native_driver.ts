// SPDX-License-Identifier: GPL-2.0-or-later
//
// The portable driver, over the npm package fuse-native: libfuse 2.9's interface by path, chosen by `-o driver=fuse-native`.
//
// That interface knows no inodes and no notifications, so the kernel keeps nothing: all timeouts are zero, and reads and
// writes pass its pages by. What else it lacks, and what a user sees of that, is docs/driver-fuse-native.md;
// test/mount/portable_driver.test.ts shows each line of it.
//
// The package's addon is called directly. Its index.js drops what the addon passes (the handle of fgetattr, a value that is
// too long for its buffer, link counts of zero), answers for us after 15 s, and cannot say direct_io.
// Each of libfuse's threads has one request at a time: it sends it to this thread (a handler), and sleeps until `signal`.
// Nothing tells the end of the mount but that libfuse closes /dev/fuse, so that is looked for.

import { execFile } from 'node:child_process';
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type KernelCache, NO_KERNEL } from '../client/kernel_cache.ts';
import { type AttrOut, MISS, type Operations, StatfsOut } from '../client/operations.ts';
import { assert } from '../util/assert.ts';
import { Errno } from '../util/errno.ts';
import type { ClosedHandler, MountDriver, OperationsServer, RequestCounters, UnmountMode } from './driver.ts';
import { GONE_LOOK_MS, PATH_CALLS_WAITING_MAX, REPLACING_LOOK_MS } from './limits.ts';
import { Listing, PathOperations } from './path_operations.ts';

/** What waits for an answer: the memory in which one of libfuse's threads keeps its request. */
type Caller = Buffer;

/** Gets the caller, the number of the operation, and its arguments. */
type Handler = (caller: Caller, operation: number, ...rest: never[]) => void;

/** Wakes the caller up with the result and what the operation gives besides. */
type Signal = (caller: Caller, result: number, ...rest: unknown[]) => void;

/** Puts the handler of an operation into the addon's table. */
type Bind = (name: string, make: (signal: Signal) => Handler) => void;

/** The addon, as far as it is used: also `op_NAME`, numbers, and `fuse_native_signal_NAME`, of type `Signal`. */
interface Addon {
  readonly sizeof_fuse_thread_t: number;
  fuse_native_mount(
    target: string,
    options: string,
    thread: Buffer,
    self: object,
    allocate: (bytes: number) => Buffer,
    handlers: readonly Handler[],
    implemented: Uint32Array,
  ): void;
  /** Lets the process end. */
  fuse_native_unmount(target: string, thread: Buffer): void;
}

export interface FuseNativeOptions {
  /** First column of the mount table. */
  readonly source: string;
  /** A directory. */
  readonly target: string;
  /** Generic mount flags as mount(8) writes them: ro, nosuid, noatime and so on. */
  readonly flags: readonly string[];
  /** Whether a program waits in a rename(2) to a name. */
  readonly isRenamedTo: (name: Uint8Array) => Promise<boolean>;
}

/** Length of the addon's table of operations. */
const OPERATIONS = 35;

/** Bytes that the addon has for a path or the options, with the NUL. */
const TEXT_BYTES = 1024;

/** Mount flags that libfuse knows by name, besides those of `KERNEL_DEFAULTS`. */
const FLAGS: ReadonlySet<string> = new Set([
  'ro',
  'rw',
  'nosuid',
  'nodev',
  'noexec',
  'noatime',
  'sync',
  'dirsync',
]);

/** What the kernel does without being told. */
const KERNEL_DEFAULTS: ReadonlySet<string> = new Set(['relatime']);

/** Words of what the addon takes for a struct stat or statvfs. */
const STAT_WORDS = 18;
const STATVFS_WORDS = 11;

const TWO_32 = 4_294_967_296;
const BLOCK_BYTES = 4096;
const NAME_MAX = 255;
const TARGET_MAX = 4096;

/** Where the addon keeps atime and mtime of a utimens in a caller's memory, as 64-bit milliseconds; it passes atime twice. */
const CALLER_ATIME = 104;
const CALLER_MTIME = 112;

const UNMOUNT_ARGUMENTS: Record<UnmountMode, readonly string[]> = {
  plain: [],
  lazy: ['-l'],
  force: ['-f', '-l'],
};

/** @throws Error - the package or libfuse is missing. */
function loadAddon(): Addon {
  const require = createRequire(import.meta.url);
  try {
    const root = dirname(require.resolve('fuse-native/package.json'));
    return createRequire(join(root, 'package.json'))('node-gyp-build')(root) as Addon;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (text.includes('libfuse.so.2')) {
      throw new Error(
        'driver=fuse-native needs libfuse 2, which is not installed (apt-get install libfuse2)',
      );
    }
    throw new Error(`driver=fuse-native cannot be loaded on this machine: ${text.split('\n')[0]}`);
  }
}

/** The options of libfuse. @throws Error */
function libfuseOptions({ source, flags }: FuseNativeOptions): string {
  for (const flag of flags) {
    if (!FLAGS.has(flag) && !KERNEL_DEFAULTS.has(flag)) {
      throw new Error(`driver=fuse-native has no mount option ${flag}: libfuse 2 does not know it`);
    }
  }
  const options = [
    `fsname=${source.replaceAll(/[\\,]/g, '\\$&')}`,
    'subtype=crfs',
    'nonempty',
    'default_permissions',
    'use_ino',
    'direct_io',
    'big_writes',
    'atomic_o_trunc',
    'entry_timeout=0',
    'negative_timeout=0',
    'attr_timeout=0',
    'ac_attr_timeout=0',
    // libfuse would have nosuid and nodev on its own.
    ...['suid', 'dev'].filter((flag) => !flags.includes(`no${flag}`)),
    ...flags.filter((flag) => FLAGS.has(flag)),
  ];
  return `-o${options.join(',')}`;
}

/** Descriptors of this process that are open on /dev/fuse. */
function fuseDescriptors(): Set<string> {
  const found = new Set<string>();
  for (const descriptor of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${descriptor}`) === '/dev/fuse') found.add(descriptor);
    } catch {
      // The one by which the directory was read.
    }
  }
  return found;
}

/** Mounts and returns the driver; what programs ask before `start` waits for it. @throws Error */
export function mountFuseNative(options: FuseNativeOptions): FuseNativeDriver {
  const { target } = options;
  if (process.geteuid?.() !== 0) throw new Error('only root can mount with driver=fuse-native');
  if (!statSync(target).isDirectory()) throw new Error(`${target}: not a directory`);
  return new FuseNativeDriver(loadAddon(), options);
}

/** Something that waits for the client. */
interface Waiting {
  /** Answers it; the second time nothing happens. */
  readonly answer: (result: number) => void;
}

export class FuseNativeDriver implements MountDriver, OperationsServer {
  readonly target: string;
  /** The kernel keeps nothing. */
  readonly kernel: KernelCache & { forgetEverything(): Promise<void> } = {
    ...NO_KERNEL,
    forgetEverything: () => Promise.resolve(),
  };
  readonly #addon: Addon;
  /** The addon's memory of the mount: it must stay where it is. */
  readonly #thread: Buffer;
  /** Libfuse's descriptor of /dev/fuse. */
  readonly #descriptor: string;
  readonly #isRenamedTo: (name: Uint8Array) => Promise<boolean>;
  readonly #counts: Record<string, number> = {};
  readonly #waiting = new Set<Waiting>();
  readonly #space = new StatfsOut();
  #misses = 0;
  /** Errno of every call, positive, when the mount was aborted; else 0. */
  #aborted = 0;
  #operations: Operations | null = null;
  #paths: PathOperations | null = null;
  /** What came before `start`. */
  #early: (() => void)[] = [];

  constructor(addon: Addon, mount: FuseNativeOptions) {
    const { target } = mount;
    const options = libfuseOptions(mount);
    this.#isRenamedTo = mount.isRenamedTo;
    if (Buffer.byteLength(target) >= TEXT_BYTES)
      throw new Error(`${target}: longer than fuse-native can mount`);
    if (Buffer.byteLength(options) >= TEXT_BYTES)
      throw new Error('the source is longer than fuse-native can mount');
    this.target = target;
    this.#addon = addon;
    this.#thread = Buffer.alloc(addon.sizeof_fuse_thread_t);
    const implemented = new Uint32Array(OPERATIONS);
    const before = fuseDescriptors();
    try {
      const handlers = this.#handlers(implemented);
      addon.fuse_native_mount(target, options, this.#thread, this, Buffer.alloc, handlers, implemented);
    } catch {
      // It has said why on stderr, and gives no errno.
      throw new Error(`${target}: libfuse cannot mount there`);
    }
    this.#descriptor = [...fuseDescriptors()].find((descriptor) => !before.has(descriptor)) ?? '';
    assert(this.#descriptor !== '', 'libfuse has /dev/fuse open after a mount');
  }

  start(operations: Operations, onClosed: ClosedHandler): void {
    this.#operations = operations;
    this.#paths = new PathOperations(operations, process.geteuid!(), process.getegid!());
    for (const call of this.#early.splice(0)) call();
    const timer = setInterval(() => {
      void readlink(`/proc/self/fd/${this.#descriptor}`)
        .catch(() => '')
        .then((place) => {
          if (place === '/dev/fuse' || timer.hasRef() === false) return;
          clearInterval(timer.unref());
          this.#paths?.releaseAll();
          this.#addon.fuse_native_unmount(this.target, this.#thread);
          onClosed(null);
        });
    }, GONE_LOOK_MS);
  }

  counters(): RequestCounters {
    return {
      requests: { ...this.#counts },
      parked: this.#waiting.size,
      parkedBytes: 0,
      misses: this.#misses,
      staled: 0,
      nodes: this.#paths?.openFiles ?? 0,
      names: 0,
    };
  }

  /** By umount(8), since there is no call for it; it must not call our helper, which would ask us. */
  unmount(mode: UnmountMode): Promise<number> {
    if (mode === 'force') this.#endWaiting();
    return new Promise((resolve) => {
      const argv = ['-i', '--no-canonicalize', ...UNMOUNT_ARGUMENTS[mode], '--', this.target];
      execFile('umount', argv, { env: { ...process.env, LC_ALL: 'C' } }, (error, _stdout, stderr) => {
        if (error === null) resolve(0);
        else if (/busy/.test(stderr)) resolve(Errno.EBUSY);
        else resolve(/not mounted|no mount point/.test(stderr) ? Errno.EINVAL : Errno.EIO);
      });
    });
  }

  abort(): void {
    void this.unmount('force');
  }

  tryAbort(): boolean {
    return false;
  }

  /** Answers everything: libfuse ends only when no thread of its waits for us. */
  #endWaiting(): void {
    this.#aborted = Errno.ECONNABORTED;
    for (const { answer } of this.#waiting) answer(-this.#aborted);
  }

  /**
   * Runs a step of an operation, again after each MISS, and answers the call.
   *
   * @param answer - called once, in the turn of the step.
   */
  #run(name: string, step: (paths: PathOperations) => number, answer: (result: number) => void): void {
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
    this.#do(step, answer);
  }

  #do(step: (paths: PathOperations) => number, answer: (result: number) => void): void {
    this.#begin(() => {
      const result = this.#aborted === 0 ? step(this.#paths!) : -this.#aborted;
      if (result !== MISS) return answer(result);
      this.#misses++;
      const again = this.#wait(answer);
      if (again !== null) void this.#runAgain(step, again);
    });
  }

  async #runAgain(step: (paths: PathOperations) => number, waiting: Waiting): Promise<void> {
    const operations = this.#operations!;
    let tries = 1;
    for (; ; tries++) {
      const error = await operations.fetchMissing(tries);
      if (!this.#waiting.has(waiting)) break;
      const result = error < 0 ? error : step(this.#paths!);
      if (result === MISS) continue;
      waiting.answer(result);
      break;
    }
    operations.done(tries);
  }

  /** Runs what ends later. */
  #runLater(
    name: string,
    outcome: (paths: PathOperations) => Promise<number>,
    answer: (result: number) => void,
  ): void {
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
    this.#begin(() => {
      const waiting = this.#aborted === 0 ? this.#wait(answer) : void answer(-this.#aborted);
      if (waiting) void outcome(this.#paths!).then(waiting.answer);
    });
  }

  #begin(call: () => void): void {
    if (this.#paths === null) this.#early.push(call);
    else call();
  }

  /** @returns null if too much waits; then it is answered. */
  #wait(answer: (result: number) => void): Waiting | null {
    if (this.#waiting.size >= PATH_CALLS_WAITING_MAX) {
      answer(-Errno.ENOMEM);
      return null;
    }
    const waiting: Waiting = {
      answer: (result) => {
        if (this.#waiting.delete(waiting)) answer(result);
      },
    };
    this.#waiting.add(waiting);
    return waiting;
  }

  async #fsync(node: number): Promise<number> {
    return node < 0 ? node : this.#operations!.fsync(node);
  }

  /** Makes the addon's table of handlers, and marks what is in it. */
  #handlers(implemented: Uint32Array): Handler[] {
    const addon = this.#addon as unknown as Record<string, unknown>;
    // Every place of the table must have a function.
    const handlers: Handler[] = Array.from({ length: OPERATIONS }, () => () => {});
    const bind: Bind = (name, make) => {
      const operation = addon[`op_${name}`] as number;
      implemented[operation] = 1;
      handlers[operation] = make(addon[`fuse_native_signal_${name}`] as Signal);
    };
    /** Operations that give nothing but their result. */
    const plain = <A extends readonly unknown[]>(
      name: string,
      step: (paths: PathOperations, ...rest: A) => number,
    ): void =>
      bind(name, (signal) => (caller, _operation, ...rest) => {
        this.#run(
          name,
          (paths) => step(paths, ...(rest as unknown as A)),
          (result) => signal(caller, Math.min(result, 0)),
        );
      });

    bind('init', (signal) => (caller) => signal(caller, 0));
    this.#bindAttributes(bind);
    this.#bindData(bind);
    this.#bindXattrs(bind);
    this.#bindRename(bind);
    plain<[string, number]>('chmod', (paths, path, mode) => paths.chmod(path, mode));
    plain<[string, number, number]>('chown', (paths, path, uid, gid) => paths.chown(path, uid, gid));
    plain<[string, number, number]>('truncate', (paths, path, low, high) =>
      paths.truncate(path, low + high * TWO_32),
    );
    plain<[string, number, number, number]>('ftruncate', (paths, _path, file, low, high) =>
      paths.truncateOf(file, low + high * TWO_32),
    );
    // No `create`: it would not tell the flags of open(2). Without it the kernel uses mknod and open.
    plain<[string, number, number]>('mknod', (paths, path, mode, rdev) => paths.mknod(path, mode, rdev));
    plain<[string, number]>('mkdir', (paths, path, mode) => paths.mkdir(path, mode));
    plain<[string, string]>('symlink', (paths, target, path) => paths.symlink(target, path));
    plain<[string, string]>('link', (paths, path, newPath) => paths.link(path, newPath));
    plain<[string]>('unlink', (paths, path) => paths.unlink(path));
    plain<[string]>('rmdir', (paths, path) => paths.rmdir(path));
    plain<[string, number]>('flush', (paths, _path, file) => paths.flush(file));
    plain<[string, number]>('release', (paths, _path, file) => paths.release(file));
    plain<[string, string]>('removexattr', (paths, path, name) => paths.removexattr(path, name));
    return handlers;
  }

  #bindAttributes(bind: Bind): void {
    const stat = (signal: Signal, caller: Caller, result: number): void => {
      const words = new Uint32Array(STAT_WORDS);
      const error = result < 0 ? result : putStat(words, this.#paths!.attr);
      signal(caller, error, words);
    };
    bind('getattr', (signal) => (caller, _operation, path: string) => {
      this.#run(
        'getattr',
        (paths) => paths.getattr(path),
        (result) => stat(signal, caller, result),
      );
    });
    bind('fgetattr', (signal) => (caller, _operation, _path: string, file: number) => {
      this.#run(
        'fgetattr',
        (paths) => paths.getattrOf(file),
        (result) => stat(signal, caller, result),
      );
    });
    bind('utimens', (signal) => (caller, _operation, path: string) => {
      const atimeMs = Number(caller.readBigInt64LE(CALLER_ATIME));
      const mtimeMs = Number(caller.readBigInt64LE(CALLER_MTIME));
      this.#run(
        'utimens',
        (paths) => paths.utimens(path, atimeMs, mtimeMs),
        (result) => signal(caller, result),
      );
    });
    bind('readlink', (signal) => (caller, _operation, path: string) => {
      const target = Buffer.alloc(TARGET_MAX);
      this.#run(
        'readlink',
        (paths) => paths.readlink(path, target),
        (result) => {
          if (result < 0) return signal(caller, result, '');
          const bytes = target.subarray(0, result);
          const text = bytes.toString();
          if (!Buffer.from(text).equals(bytes)) return signal(caller, -Errno.EILSEQ, '');
          signal(caller, 0, text);
        },
      );
    });
    bind('statfs', (signal) => (caller) => {
      this.#run(
        'statfs',
        (paths) => paths.statfs(this.#space),
        (result) => {
          signal(caller, result, statvfsOf(this.#space));
        },
      );
    });
    bind('readdir', (signal) => (caller, _operation, path: string) => {
      const listing = new Listing();
      this.#run(
        'readdir',
        (paths) => paths.readdir(path, listing),
        (result) => {
          if (result < 0) signal(caller, result, [], []);
          else signal(caller, 0, listing.names, statsOf(listing));
        },
      );
    });
  }

  #bindRename(bind: Bind): void {
    bind('rename', (signal) => (caller, _operation, path: string, newPath: string) => {
      const rename = (isReplaced: boolean): void =>
        this.#run(
          'rename',
          (paths) => paths.rename(path, newPath, caller, isReplaced),
          (result) => {
            signal(caller, result);
            this.#awaitReplacing(caller);
          },
        );
      const hidden = this.#paths?.hidesName(path, newPath) ?? null;
      if (hidden === null) rename(false);
      else void this.#isRenamedTo(hidden).then(rename);
    });
  }

  /** libfuse has hidden a file that a rename is to replace, as it seems. If none comes it was removed. */
  #awaitReplacing(caller: Caller): void {
    const replaced = this.#paths!.replacedBy(caller);
    if (replaced === undefined) return;
    const look = async (): Promise<void> => {
      const isComing = await this.#isRenamedTo(
        Buffer.from(replaced.path.slice(replaced.path.lastIndexOf('/') + 1)),
      );
      if (this.#paths!.replacedBy(caller) !== replaced) return;
      if (isComing) later();
      else
        this.#do(
          (paths) => paths.endReplacing(caller, replaced),
          () => {},
        );
    };
    const later = (): void => void setTimeout(() => void look(), REPLACING_LOOK_MS).unref();
    later();
  }

  #bindData(bind: Bind): void {
    bind('open', (signal) => (caller, _operation, path: string, flags: number) => {
      this.#run(
        'open',
        (paths) => paths.open(path, flags),
        (result) => {
          signal(caller, Math.min(result, 0), Math.max(result, 0));
        },
      );
    });
    bind(
      'read',
      (signal) =>
        (
          caller,
          _operation,
          _path: string,
          file: number,
          bytes: Buffer,
          _length: number,
          low: number,
          high: number,
        ) => {
          this.#run(
            'read',
            (paths) => paths.read(file, low + high * TWO_32, bytes),
            (result) => {
              signal(caller, result, 0, bytes.buffer);
            },
          );
        },
    );
    bind(
      'write',
      (signal) =>
        (
          caller,
          _operation,
          _path: string,
          file: number,
          bytes: Buffer,
          _length: number,
          low: number,
          high: number,
        ) => {
          this.#run(
            'write',
            (paths) => paths.write(file, low + high * TWO_32, bytes),
            (result) => {
              const written = (outcome: number): void => signal(caller, outcome, 0, bytes.buffer);
              if (result < 0 || !this.#paths!.isDurable(file)) return written(result);
              const node = this.#paths!.nodeOf(file);
              this.#runLater(
                'sync',
                () => this.#fsync(node),
                (error) => written(error < 0 ? error : result),
              );
            },
          );
        },
    );
    bind('fsync', (signal) => (caller, _operation, _path: string, _isData: number, file: number) => {
      this.#runLater(
        'fsync',
        (paths) => this.#fsync(paths.nodeOf(file)),
        (result) => signal(caller, result),
      );
    });
    bind('fsyncdir', (signal) => (caller, _operation, path: string) => {
      this.#run(
        'fsyncdir',
        (paths) => paths.find(path),
        (node) => {
          this.#runLater(
            'sync',
            () => this.#fsync(node),
            (result) => signal(caller, result),
          );
        },
      );
    });
  }

  #bindXattrs(bind: Bind): void {
    bind('getxattr', (signal) => (caller, _operation, path: string, name: string, value: Buffer) => {
      this.#run(
        'getxattr',
        (paths) => paths.getxattr(path, name, value),
        (result) => {
          signal(caller, result, value.buffer);
        },
      );
    });
    bind('listxattr', (signal) => (caller, _operation, path: string, names: Buffer) => {
      this.#run(
        'listxattr',
        (paths) => paths.listxattr(path, names),
        (result) => {
          signal(caller, result, names.buffer);
        },
      );
    });
    bind(
      'setxattr',
      (signal) =>
        (caller, _operation, path: string, name: string, value: Buffer, _position: number, flags: number) => {
          this.#run(
            'setxattr',
            (paths) => paths.setxattr(path, name, value, flags),
            (result) => {
              signal(caller, result, value.buffer);
            },
          );
        },
    );
  }
}

/** Puts a whole number of 0 or more in two words, low one first. */
function put64(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = Math.floor(value / TWO_32);
}

/** Milliseconds since 1970, of which there are none before. */
function milliseconds(seconds: number, nanoseconds: number): number {
  return Math.max(0, seconds * 1000 + Math.floor(nanoseconds / 1_000_000));
}

/** Fills what the addon takes for a struct stat. @returns 0, or -EOVERFLOW: st_ino has 32 bits */
function putStat(words: Uint32Array, attr: AttrOut): number {
  if (attr.ino >= TWO_32) return -Errno.EOVERFLOW;
  words[0] = attr.mode;
  words[1] = attr.uid;
  words[2] = attr.gid;
  put64(words, 3, attr.size);
  words[6] = attr.nlink;
  words[7] = attr.ino;
  words[8] = attr.rdev;
  words[9] = BLOCK_BYTES;
  put64(words, 10, attr.blocks);
  put64(words, 12, milliseconds(attr.atimeSec, attr.atimeNsec));
  put64(words, 14, milliseconds(attr.mtimeSec, attr.mtimeNsec));
  put64(words, 16, milliseconds(attr.ctimeSec, attr.ctimeNsec));
  return 0;
}

/** A struct stat for each entry, of which only type and number count. An unknown number is 2^32 - 1 in libfuse. */
function statsOf({ inos, types }: Listing): Uint32Array[] {
  const bytes = STAT_WORDS * 4;
  const all = new ArrayBuffer(inos.length * bytes);
  return inos.map((ino, index) => {
    const words = new Uint32Array(all, index * bytes, STAT_WORDS);
    words[0] = types[index]! << 12;
    words[7] = ino < TWO_32 ? ino : TWO_32 - 1;
    return words;
  });
}

/** What the addon takes for a struct statvfs: 32 bits each, so that the blocks of a large file system are larger. */
function statvfsOf(space: StatfsOut): Uint32Array {
  let block = BLOCK_BYTES;
  while (space.totalBytes / block >= TWO_32) block *= 2;
  const words = new Uint32Array(STATVFS_WORDS);
  words[0] = block;
  words[1] = block;
  words[2] = Math.floor(space.totalBytes / block);
  words[3] = Math.floor(space.freeBytes / block);
  words[4] = Math.floor(space.availableBytes / block);
  words[10] = NAME_MAX;
  return words;
}
