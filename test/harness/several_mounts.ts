// SPDX-License-Identifier: GPL-2.0-or-later
// One image, one crfsd, any number of mounts over a unix socket: the arrangement of everything that several mounts
// share. Each mount has options and an environment of its own; figures of all processes are read in one call.
//
// `localDirectories` makes the same arrangement of one local BTRFS, on which every judge of coherency must pass.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../ts/dev/command.ts';
import { type Cleanup, checkImage, loopMount, makeLinuxImage, markKernelLog } from './images.ts';
import {
  command,
  mountCrfs,
  type RunningMount,
  type RunningServer,
  startServer,
  usageOf,
} from './processes.ts';

export interface SeveralMountsOptions {
  readonly count: number;
  /** As `crfsd mkfs --size` takes it. */
  readonly size?: string;
  readonly serveOptions?: readonly string[];
  /** Given to every mount. */
  readonly mountOptions?: readonly string[];
  /** Given to the mount of this number besides. */
  readonly optionsOf?: (index: number) => readonly string[];
  /** The environment of all processes besides this process's own. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Mounts of these numbers go through this socket instead of the server's own (a relay). */
  readonly sockets?: ReadonlyMap<number, string>;
}

/** The part of `crfsd stats --json` that tests read. */
export interface ServerStats {
  readonly sessions: readonly { readonly id: number; readonly client: string; readonly ranges: number }[];
  readonly messages: {
    readonly sent: Readonly<Record<string, number>>;
    readonly received: Readonly<Record<string, number>>;
  };
  readonly grants: { readonly ranges: number; readonly waiting: number; readonly revokes: number };
}

export async function serverStats(listen: string): Promise<ServerStats> {
  const argv = [process.execPath, command('crfsd'), 'stats', listen, '--json'];
  const { stdout } = await run(argv, { timeoutMs: 30_000 });
  return JSON.parse(stdout) as ServerStats;
}

export class SeveralMounts {
  readonly directory: string;
  readonly image: string;
  readonly socket: string;
  readonly options: SeveralMountsOptions;
  readonly cleanup: Cleanup;
  readonly mounts: RunningMount[] = [];
  server!: RunningServer;
  #kernelMark = '';

  private constructor(directory: string, cleanup: Cleanup, options: SeveralMountsOptions) {
    this.directory = directory;
    this.image = join(directory, 'image');
    this.socket = join(directory, 'crfsd.sock');
    this.options = options;
    this.cleanup = cleanup;
  }

  /** Makes the image, starts the server; nothing is mounted yet. */
  static async serve(
    directory: string,
    cleanup: Cleanup,
    options: SeveralMountsOptions,
  ): Promise<SeveralMounts> {
    await mkdir(directory, { recursive: true });
    const several = new SeveralMounts(directory, cleanup, options);
    const size = options.size ?? '8G';
    await run([process.execPath, command('crfsd'), 'mkfs', several.image, '--size', size], {
      timeoutMs: 60_000,
    });
    several.#kernelMark = await markKernelLog();
    await several.#inEnvironment(async () => {
      several.server = await startServer(
        several.image,
        `unix:${several.socket}`,
        cleanup,
        options.serveOptions,
      );
    });
    return several;
  }

  /** Makes the image, starts the server, mounts all. */
  static async start(
    directory: string,
    cleanup: Cleanup,
    options: SeveralMountsOptions,
  ): Promise<SeveralMounts> {
    const several = await SeveralMounts.serve(directory, cleanup, options);
    for (let index = 0; index < options.count; index += 1) await several.mount(index);
    return several;
  }

  pathOf(index: number): string {
    return join(this.directory, `mnt${index}`);
  }

  get paths(): string[] {
    return this.mounts.map((mount) => mount.directory);
  }

  /** Mounts (or mounts afresh) the mount of this number. */
  async mount(index: number): Promise<RunningMount> {
    const socket = this.options.sockets?.get(index) ?? this.socket;
    const options = [...(this.options.mountOptions ?? []), ...(this.options.optionsOf?.(index) ?? [])];
    await this.#inEnvironment(async () => {
      this.mounts[index] = await mountCrfs(`unix:${socket}:/`, this.pathOf(index), this.cleanup, options);
    });
    return this.mounts[index]!;
  }

  stats(): Promise<ServerStats> {
    return serverStats(`unix:${this.socket}`);
  }

  /** Unmounts all at once and stops the server; the image is whole afterwards. */
  async stop(): Promise<void> {
    for (const mount of this.mounts) await mount.unmount();
    await this.server.stop();
  }

  /** Both modes of `btrfs check`, and no word of the kernel about a stuck task or a bug since the start. */
  async check(): Promise<void> {
    await checkImage(this.image);
    const { stdout } = await run(['dmesg']);
    const lines = stdout.split('\n');
    const after = lines.slice(lines.findIndex((line) => line.includes(this.#kernelMark)) + 1);
    const bad = after.filter((line) => /blocked for more than|BUG:|WARNING:.*fuse|Oops/.test(line));
    if (bad.length > 0) throw new Error(`the kernel complained:\n${bad.join('\n')}`);
  }

  /** Memory and CPU of the server and of all mounts, one line. */
  async figures(): Promise<string> {
    const server = await usageOf(this.server.pid);
    const mounts = await Promise.all(this.mounts.map((mount) => usageOf(mount.pid)));
    const mib = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`;
    const cpu = mounts.reduce((sum, usage) => sum + usage.cpuSeconds, 0);
    const peak = Math.max(0, ...mounts.map((usage) => usage.peakBytes));
    return (
      `crfsd: ${mib(server.peakBytes)} at most, ${server.cpuSeconds.toFixed(1)} s CPU; ${mounts.length} mounts: ` +
      `${mib(peak)} at most, ${cpu.toFixed(1)} s CPU together`
    );
  }

  /** Children inherit the environment of this process. */
  async #inEnvironment(body: () => Promise<void>): Promise<void> {
    const before = new Map<string, string | undefined>();
    for (const [name, value] of Object.entries(this.options.environment ?? {})) {
      before.set(name, process.env[name]);
      process.env[name] = value;
    }
    try {
      await body();
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  }
}

/** `count` bind mounts of one directory of a local BTRFS: coherent for sure. */
export async function localDirectories(
  directory: string,
  cleanup: Cleanup,
  count: number,
): Promise<string[]> {
  await mkdir(directory, { recursive: true });
  const image = join(directory, 'local.img');
  await makeLinuxImage(image, '4G');
  const mounted = await loopMount(image, join(directory, 'local'), cleanup);
  const paths: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const path = join(directory, `bind${index}`);
    await mkdir(path);
    await run(['mount', '--bind', mounted.directory, path]);
    cleanup.add(() => run(['umount', path]));
    paths.push(path);
  }
  return paths;
}
