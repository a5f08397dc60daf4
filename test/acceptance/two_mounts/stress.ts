// SPDX-License-Identifier: GPL-2.0-or-later
// Worker processes do every operation at random on the same few names through 2, 4 and 16 mounts, and write down every
// call; check-history then looks, for each object, for an order of the calls that explains every answer.
//
// Before that the judge itself is tried on a local BTRFS, where it must find nothing. With `--mounts` and `--minutes` only
// those mounts are run, that long, and no faults are planted.
//
// The same with each planted fault (CRFS_TEST_FAULTS) must be reported: a judge that finds nothing when something is
// wrong proves nothing.

import { spawn } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import type { Cleanup } from '../../harness/images.ts';
import { localDirectories, SeveralMounts } from '../../harness/several_mounts.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

/** What ts/util/test_faults.ts knows to do wrong. */
export const PLANTED_FAULTS = [
  'keep-kernel-caches',
  'release-before-flush',
  'grant-not-split',
  'data-after-metadata',
] as const;

/** How much longer than its time a worker may need: one call may take 20 s before the worker itself gives up. */
const WORKER_GRACE_MS = 40_000;
/** What is killed ends within this time, unless the kernel holds it. */
const KILL_MS = 5_000;
/** A history of this length is judged at once; a long run is several. */
const ROUND_SECONDS = 300;
/** Worker number of the program that looks at everything in the end. */
const LAST_WORKER = 63;

export interface StressSettings {
  readonly seconds: number;
  readonly workers: number;
  readonly seed: number;
  /** Sets of names; fewer give more conflicts. */
  readonly groups: number;
  /** Mean rest of a worker between two actions. */
  readonly restMicroseconds: number;
}

export interface StressResult {
  /** What check-history printed, violations included. */
  readonly lines: readonly string[];
  readonly violations: number;
  /** Workers that hung, crashed or could not go on. */
  readonly failedWorkers: readonly string[];
  readonly records: number;
}

interface Ended {
  readonly code: number | string;
  readonly said: string;
}

function startWorker(argv: readonly string[], limitMs: number, cleanup: Cleanup): Promise<Ended> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  cleanup.add(async () => void child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  // A process that hangs in a file system cannot always be killed; only the end of the mount frees it.
  const late = setTimeout(() => child.emit('close', null, 'hangs, cannot be killed'), limitMs + KILL_MS);
  return new Promise((done) => {
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      clearTimeout(late);
      done({ code: code ?? signal ?? 1, said });
    });
  });
}

/** One round on `directories` (each through a mount of its own), below a new directory `name`. */
export async function stress(
  directories: readonly string[],
  name: string,
  histories: string,
  cleanup: Cleanup,
  settings: StressSettings,
): Promise<StressResult> {
  await rm(histories, { recursive: true, force: true });
  await mkdir(histories, { recursive: true });
  const program = testProgram('stress-worker');
  const below = (index: number): string => join(directories[index % directories.length]!, name);
  await run(['mkdir', below(0)], { timeoutMs: 30_000 });
  await run([program, below(0), '--prepare'], { timeoutMs: 30_000 });
  const common = [
    ['--seed', settings.seed],
    ['--groups', settings.groups],
    ['--rest-us', settings.restMicroseconds],
    ['--seconds', settings.seconds],
  ].flat();
  const argvOf = (index: number, number: number): string[] => [
    program,
    below(index),
    ...common.map(String),
    '--worker',
    String(number),
    '--history',
    join(histories, String(number)),
  ];
  const limitMs = settings.seconds * 1000 + WORKER_GRACE_MS;
  const running: Promise<Ended>[] = [];
  for (let number = 0; number < settings.workers; number += 1) {
    running.push(startWorker(argvOf(number, number), limitMs, cleanup));
  }
  const failedWorkers: string[] = [];
  const note = (number: number, ended: Ended): void => {
    if (ended.code !== 0) failedWorkers.push(`worker ${number} (${ended.code}): ${ended.said.trim()}`);
  };
  (await Promise.all(running)).forEach((ended, number) => {
    note(number, ended);
  });
  // Who hangs holds things up; a look at the end would only hang too.
  if (failedWorkers.length === 0) {
    const last = startWorker([...argvOf(1, LAST_WORKER), '--final'], WORKER_GRACE_MS, cleanup);
    note(LAST_WORKER, await last);
  }
  return { ...(await checkHistories(histories)), failedWorkers };
}

async function checkHistories(histories: string): Promise<Omit<StressResult, 'failedWorkers'>> {
  const files = (await readdir(histories)).map((file) => join(histories, file));
  const argv = [testProgram('check-history'), ...files];
  const result = await run(argv, { allow: [0, 1, 2], timeoutMs: 1_200_000 });
  const lines = result.stdout.trimEnd().split('\n');
  const sums = lines.map((line) => /^(\d+) records.* (\d+) violations/.exec(line)).find((found) => found);
  return {
    lines,
    violations: Number(sums?.[2] ?? 1) + (result.code === 2 ? 1 : 0),
    records: Number(sums?.[1] ?? 0),
  };
}

/** @throws Error - with violations and failed workers, when there are any. */
export function requireClean(result: StressResult): void {
  const told = [
    ...result.failedWorkers,
    ...result.lines.filter((line) => /^(VIOLATION|UNDECIDED| )/.test(line)),
  ];
  const clean = result.failedWorkers.length === 0 && result.violations === 0;
  require(clean, `${result.violations} violations, ${result.failedWorkers.length} workers failed:\n${told.slice(0, 200).join('\n')}`);
}

async function onMounts(context: AcceptanceContext, count: number, seconds: number): Promise<void> {
  const { cleanup, measure } = context;
  const several = await SeveralMounts.start(join(context.directory, `on_${count}`), cleanup, { count });
  for (let left = seconds, round = 0; left > 0; left -= ROUND_SECONDS, round += 1) {
    const result = await stress(
      several.paths,
      `stress_${round}`,
      join(context.directory, 'histories'),
      cleanup,
      {
        seconds: Math.min(left, ROUND_SECONDS),
        workers: Math.max(count, 4),
        seed: context.seed + round,
        groups: Math.max(3, count / 2),
        restMicroseconds: 1_000,
      },
    );
    const summary = result.lines.filter((line) => !/^(VIOLATION|UNDECIDED| )/.test(line));
    for (const line of summary) measure(`${count} mounts: ${line}`);
    requireClean(result);
  }
  const stats = await several.stats();
  measure(`${count} mounts: ${stats.grants.revokes} revokes; ${await several.figures()}`);
  await several.stop();
  await several.check();
}

/** Runs with one planted fault until the judge reports it. @returns what it was reported as. */
export async function plantedFault(
  directory: string,
  cleanup: Cleanup,
  fault: string,
  seconds: number,
): Promise<string> {
  const environment = { CRFS_TEST_FAULTS: fault };
  const several = await SeveralMounts.start(directory, cleanup, { count: 2, environment });
  const result = await stress(several.paths, 'stress', join(directory, 'histories'), cleanup, {
    seconds,
    workers: 4,
    seed: 1,
    groups: 2,
    restMicroseconds: 500,
  });
  await several.stop().catch(() => undefined);
  const found = result.lines.find((line) => line.startsWith('VIOLATION'));
  require(found !== undefined, `planted ${fault}: not reported in ${result.records} records`);
  return `${result.violations} violations, among them: ${found!.slice(10, 150)}`;
}

/** The judge finds nothing on a file system that is right for sure. */
export async function control(
  directory: string,
  cleanup: Cleanup,
  seconds: number,
  seed: number,
): Promise<StressResult> {
  const paths = await localDirectories(directory, cleanup, 2);
  const result = await stress(paths, 'stress', join(directory, 'histories'), cleanup, {
    seconds,
    workers: 8,
    seed,
    groups: 2,
    restMicroseconds: 300,
  });
  requireClean(result);
  return result;
}

function secondsOn(context: AcceptanceContext, count: number): number {
  if (context.minutes !== undefined) return context.minutes * 60;
  if (context.quick) return count === 16 ? 60 : 15;
  return count === 16 ? 1_800 : 120;
}

async function line(context: AcceptanceContext): Promise<void> {
  const faults: string[] = [];
  const local = await control(join(context.directory, 'local'), context.cleanup, 15, context.seed);
  context.measure(`a local file system: ${local.records} records, nothing found`);
  for (const count of context.mounts ?? [2, 4, 16]) {
    await onMounts(context, count, secondsOn(context, count)).catch((error: Error) => {
      faults.push(`${count} mounts: ${error.message}`);
    });
  }
  const isChosen = context.mounts !== undefined || context.minutes !== undefined;
  for (const fault of isChosen ? [] : PLANTED_FAULTS) {
    const directory = join(context.directory, fault);
    try {
      const told = await plantedFault(directory, context.cleanup, fault, context.quick ? 15 : 60);
      context.measure(`planted ${fault}: ${told}`);
    } catch (error) {
      faults.push((error as Error).message);
    }
  }
  require(faults.length === 0, faults.join('\n\n'));
}

export const STRESS: AcceptanceLine = {
  name: 'stress',
  title: 'everything at once over 2, 4 and 16 mounts is linearizable, and planted faults are reported',
  run: line,
};
