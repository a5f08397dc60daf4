// SPDX-License-Identifier: GPL-2.0-or-later
// Starts and stops the real commands for tests: crfsd, mount.crfs, umount.crfs, each in a process of its own.
//
// This process never touches a mounted directory itself: a call that hangs there would stop the test's own clock.
// Every start registers its way back in a `Cleanup`; a mount that does not go by itself is aborted and detached, so
// that a failed test leaves nothing behind.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findMount, parseMountinfo } from '../../ts/cli/mountinfo.ts';
import { run } from '../../ts/dev/command.ts';
import type { Cleanup } from './images.ts';

/** Longest time that any start or stop may take; a commit of a large tree is the slowest. */
const START_STOP_MS = 120_000;

export function command(name: 'crfsd' | 'mount.crfs' | 'umount.crfs'): string {
  return resolve('dist/cli', `${name}.js`);
}

/** A directory that goes with the test. */
export async function temporaryDirectory(cleanup: Cleanup, prefix = 'crfs-test-'): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), prefix));
  cleanup.add(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export interface RunningServer {
  readonly process: ChildProcess;
  readonly pid: number;
  /** As `crfsd --listen` takes it. */
  readonly listen: string;
  /** What it has said on stderr so far. */
  stderr(): string;
  /** SIGTERM: commits and ends. @throws Error - unless it ends with 0. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Starts `crfsd serve` and returns when it listens. */
export async function startServer(
  image: string,
  listen: string,
  cleanup: Cleanup,
  options: readonly string[] = [],
): Promise<RunningServer> {
  const argv = [command('crfsd'), 'serve', image, '--listen', listen, ...options];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  const ended = new Promise<number | string>((done) => {
    child.once('exit', (code, signal) => done(code ?? signal ?? 1));
  });
  cleanup.add(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await new Promise<void>((ready, reject) => {
    const timer = setTimeout(() => reject(new Error(`crfsd does not listen:\n${said}`)), START_STOP_MS);
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (/listening on/.test(said)) {
        clearTimeout(timer);
        ready();
      }
    });
    void ended.then((how) => {
      clearTimeout(timer);
      reject(new Error(`crfsd ended with ${how}:\n${said}`));
    });
  });
  const end = async (signal: NodeJS.Signals): Promise<number | string> => {
    child.kill(signal);
    return withTimeout(ended, START_STOP_MS, 'crfsd does not end');
  };
  return {
    process: child,
    pid: child.pid!,
    listen,
    stderr: () => said,
    async stop() {
      const how = await end('SIGTERM');
      if (how !== 0) throw new Error(`crfsd ended with ${how}:\n${said}`);
    },
    async kill() {
      await end('SIGKILL');
    },
  };
}

export interface RunningMount {
  readonly directory: string;
  readonly pid: number;
  stats(): Promise<MountStats>;
  /** Through the helper that umount(8) calls; everything is durable afterwards. */
  unmount(): Promise<void>;
}

/** The part of `mount.crfs stats --json` that tests read. */
export interface MountStats {
  readonly pid: number;
  /** Whether the session with the server stands. */
  readonly connected: boolean;
  readonly messages: {
    readonly sent: Readonly<Record<string, number>>;
    readonly received: Readonly<Record<string, number>>;
  };
  readonly requests: Readonly<Record<string, number>>;
  readonly kernel: { readonly parked: number };
}

export async function mountStats(directory: string): Promise<MountStats> {
  const argv = [process.execPath, command('mount.crfs'), 'stats', directory, '--json'];
  const { stdout } = await run(argv, { timeoutMs: START_STOP_MS });
  return JSON.parse(stdout) as MountStats;
}

/** Mounts in the background, as users do. */
export async function mountCrfs(
  source: string,
  directory: string,
  cleanup: Cleanup,
  options: readonly string[] = [],
): Promise<RunningMount> {
  await mkdir(directory, { recursive: true });
  const log = `${directory}.log`;
  const all = [`log=${log}`, ...options].join(',');
  cleanup.add(() => forceUnmount(directory));
  const argv = [process.execPath, command('mount.crfs'), source, directory, '-o', all];
  await run(argv, { timeoutMs: START_STOP_MS });
  const { pid } = await mountStats(directory);
  return {
    directory,
    pid,
    stats: () => mountStats(directory),
    async unmount() {
      await run([process.execPath, command('umount.crfs'), directory], { timeoutMs: START_STOP_MS });
    },
  };
}

async function isMounted(directory: string): Promise<boolean> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  return findMount(mounts, directory)?.type === 'fuse.crfs';
}

/** Takes a mount away whatever state it is in: aborts the connection, detaches the directory. */
export async function forceUnmount(directory: string): Promise<void> {
  if (!(await isMounted(directory))) return;
  await run(['umount', '-i', '-f', directory], { allow: [0, 32], timeoutMs: START_STOP_MS });
  if (await isMounted(directory)) await run(['umount', '-i', '-l', directory]);
}

/** Fails instead of waiting for ever. */
export function withTimeout<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} (${ms} ms)`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Resident memory and CPU time of a process. */
export async function usageOf(
  pid: number,
): Promise<{ residentBytes: number; peakBytes: number; cpuSeconds: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kilobytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // Fields are counted behind the command, which may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return {
    residentBytes: kilobytes('VmRSS') * 1024,
    peakBytes: kilobytes('VmHWM') * 1024,
    cpuSeconds: ticks / 100, // USER_HZ is 100 on every Linux that Node runs on.
  };
}
