// SPDX-License-Identifier: GPL-2.0-or-later
// kill -9 of crfsd at random moments of an untar: the image opens, passes both checks, and holds what an fsync had
// acknowledged. The mount meanwhile answers EIO and lets itself be unmounted.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import type { Cleanup } from '../../harness/images.ts';
import { withTimeout } from '../../harness/processes.ts';
import { linuxTar, unpackArguments } from '../../harness/trees.ts';
import { type AcceptanceContext, type AcceptanceLine, seconds } from '../acceptance.ts';

/** A lost server must not make anything hang. */
const END_AFTER_KILL_MS = 30_000;

/** mulberry32: the moments of a sweep can be repeated by its seed. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Starts a program whose end is awaited later, its stdout going to a file if one is named. */
function start(argv: readonly string[], cleanup: Cleanup, stdoutFile?: string): Promise<number> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] });
  cleanup.add(async () => void child.kill('SIGKILL'));
  if (stdoutFile === undefined) child.stdout.resume();
  else child.stdout.pipe(createWriteStream(stdoutFile));
  return new Promise((done) => child.once('close', (code) => done(code ?? 128)));
}

export interface KillRound {
  readonly tar: string;
  /** From the start of the untar to the kill. */
  readonly delayMs: number;
}

/** @returns how many files the server had acknowledged as durable. */
export async function killRound(directory: string, cleanup: Cleanup, round: KillRound): Promise<number> {
  await mkdir(directory, { recursive: true });
  const column = await Column.start(directory, cleanup, { size: '8G' });
  const tree = join(column.mountPoint, 'tree');
  const durable = join(column.mountPoint, 'durable');
  const log = join(directory, 'acknowledged');
  await run(['mkdir', tree, durable]);
  const untar = start(unpackArguments(round.tar, tree), cleanup);
  const writer = start([testProgram('fsync-writer'), durable], cleanup, log);
  await sleep(round.delayMs);
  await column.server.kill();
  await withTimeout(
    Promise.all([untar, writer]),
    END_AFTER_KILL_MS,
    'programs hang after the server was killed',
  );
  // Changes were lost, which the helper says by its exit code; what counts is that it returns and unmounts.
  await column.mount.unmount().catch(() => undefined);
  const { stdout } = await run(['findmnt', '-n', column.mountPoint], { allow: [0, 1] });
  if (stdout !== '') throw new Error(`still mounted after umount: ${stdout}`);
  await column.check();
  const verify = (at: string): Promise<unknown> =>
    run([testProgram('fsync-writer'), join(at, 'durable'), '--verify', log]);
  const acknowledged = (await readFile(log, 'utf8')).split('\n').length - 1;
  // An image that was killed before its first commit has no directory yet.
  if (acknowledged > 0) await column.inLinux('ro', verify as (at: string) => Promise<void>);
  await column.startServer();
  await column.startMount();
  if (acknowledged > 0) await verify(column.mountPoint);
  await column.stop();
  await column.check();
  await rm(directory, { recursive: true });
  return acknowledged;
}

async function killSweep(context: AcceptanceContext): Promise<void> {
  const random = seededRandom(context.seed);
  const tar = await linuxTar(context.shared, context.quick ? 'fs' : undefined);
  const rounds = context.quick ? 5 : 50;
  // The whole untar, measured once, so that the moments spread over all of it.
  const trial = join(context.directory, 'trial');
  await mkdir(trial);
  const column = await Column.start(trial, context.cleanup, { size: '8G' });
  const whole = await seconds(() => run(unpackArguments(tar, column.mountPoint), { timeoutMs: 900_000 }));
  await column.stop();
  await rm(trial, { recursive: true });
  let acknowledged = 0;
  for (let round = 0; round < rounds; round += 1) {
    const delayMs = Math.round(50 + random() * whole * 1000);
    const directory = join(context.directory, `round-${round}`);
    try {
      const held = await killRound(directory, context.cleanup, { tar, delayMs });
      acknowledged += held;
      process.stderr.write(`  round ${round}: killed after ${delayMs} ms, ${held} files acknowledged\n`);
    } catch (error) {
      throw new Error(`round ${round}, killed after ${delayMs} ms (seed ${context.seed})`, { cause: error });
    }
  }
  context.measure(`${rounds} kills within ${whole.toFixed(1)} s of untar, each image clean in both modes`);
  context.measure(`${acknowledged} files acknowledged by fsync, all there`);
}

export const KILL_SWEEP: AcceptanceLine = {
  name: 'kill_sweep',
  title: 'kill -9 of crfsd during an untar: clean image, everything fsynced is there',
  run: killSweep,
};
