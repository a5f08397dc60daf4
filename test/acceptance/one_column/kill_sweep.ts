// SPDX-License-Identifier: GPL-2.0-or-later
// kill -9 of crfsd at random moments of an untar: the image opens, passes both checks, and holds what an fsync had
// acknowledged. The mount meanwhile answers EIO and lets itself be unmounted.
//
// An image is killed several times, each time unpacking into a new directory of what the last kill left: so recovery
// begins from recovered images too, and what was acknowledged before the first kill must outlive them all.

import { spawn } from 'node:child_process';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import type { Cleanup } from '../../harness/images.ts';
import { withTimeout } from '../../harness/processes.ts';
import { linuxPart, unpackArguments } from '../../harness/trees.ts';
import { type AcceptanceContext, type AcceptanceLine, require, seconds } from '../acceptance.ts';

/** Of the kernel source: some seconds of untar. */
const ENTRIES = 20_000;
const IMAGES = 10;
const KILLS_OF_AN_IMAGE = 5;

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

/** Starts a program whose end is awaited later; its stdout goes into `stdout` (a file descriptor), or nowhere. */
function start(argv: readonly string[], cleanup: Cleanup, stdout?: number): Promise<number> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', stdout ?? 'ignore', 'ignore'] });
  cleanup.add(async () => void child.kill('SIGKILL'));
  return new Promise((done) => child.once('close', (code) => done(code ?? 128)));
}

export interface Kill {
  /** Files that the server had acknowledged as durable. */
  readonly acknowledged: number;
  /** Whether tar was still at work. */
  readonly duringUntar: boolean;
}

/** An image whose server is killed again and again: each recovery begins from what the last one left. */
class KilledImage {
  readonly #column: Column;
  readonly #cleanup: Cleanup;
  /** Logs of acknowledged files by the directory that holds these. */
  readonly #logs: Map<string, string> = new Map();

  private constructor(column: Column, cleanup: Cleanup) {
    this.#column = column;
    this.#cleanup = cleanup;
  }

  static async make(directory: string, cleanup: Cleanup): Promise<KilledImage> {
    await mkdir(directory, { recursive: true });
    return new KilledImage(await Column.make(directory, cleanup, { size: '8G' }), cleanup);
  }

  /** Serves and mounts what the last kill left: everything acknowledged must be there. */
  async recover(): Promise<void> {
    await this.#column.startServer();
    await this.#column.startMount();
    await this.#verify(this.#column.mountPoint);
  }

  async #verify(root: string): Promise<void> {
    for (const [name, log] of this.#logs) {
      // A server that was killed before its first commit has lost the directory too.
      if ((await readFile(log, 'utf8')).includes('\n')) {
        await run([testProgram('fsync-writer'), join(root, name), '--verify', log]);
      }
    }
  }

  /** Unpacks `tar` into a new directory, beside a writer that fsyncs, and kills the server after `delayMs`. */
  async unpackAndKill(tar: string, delayMs: number): Promise<Kill> {
    const column = this.#column;
    const number = this.#logs.size;
    const tree = join(column.mountPoint, `tree-${number}`);
    const durable = `durable-${number}`;
    const log = join(column.directory, `acknowledged-${number}`);
    await run(['mkdir', tree, join(column.mountPoint, durable)]);
    this.#logs.set(durable, log);
    const output = await open(log, 'w');
    const untar = start(unpackArguments(tar, tree), this.#cleanup);
    const writer = start(
      [testProgram('fsync-writer'), join(column.mountPoint, durable)],
      this.#cleanup,
      output.fd,
    );
    await output.close();
    await sleep(delayMs);
    await column.server.kill();
    const [code] = await withTimeout(
      Promise.all([untar, writer]),
      END_AFTER_KILL_MS,
      'programs hang after the server was killed',
    );
    // Changes were lost, which the helper says by its exit code; what counts is that it returns and unmounts.
    await column.mount.unmount().catch(() => undefined);
    const { stdout } = await run(['findmnt', '-n', column.mountPoint], { allow: [0, 1] });
    if (stdout !== '') throw new Error(`still mounted after umount: ${stdout}`);
    await column.check();
    await column.inLinux('ro', (directory) => this.#verify(directory));
    const acknowledged = (await readFile(log, 'utf8')).split('\n').length - 1;
    return { acknowledged, duringUntar: code !== 0 };
  }

  /** Stops as one should, after which the image is as good as one that was never killed. */
  async stopAndRemove(): Promise<void> {
    await this.#column.stop();
    await this.#column.check();
    await rm(this.#column.directory, { recursive: true });
  }
}

/** Kills the server of one image at each of `delaysMs`, counted from the start of an untar into a new directory. */
export async function killRepeatedly(
  directory: string,
  cleanup: Cleanup,
  tar: string,
  delaysMs: readonly number[],
  report: (kill: Kill, delayMs: number) => void = () => {},
): Promise<Kill[]> {
  const image = await KilledImage.make(directory, cleanup);
  const kills: Kill[] = [];
  for (const delayMs of delaysMs) {
    try {
      await image.recover();
      const kill = await image.unpackAndKill(tar, delayMs);
      report(kill, delayMs);
      kills.push(kill);
    } catch (error) {
      const which = `kill ${kills.length + 1} of the image, after ${delayMs} ms`;
      throw new Error(`${which}: ${(error as Error).message}`, { cause: error });
    }
  }
  await image.recover();
  await image.stopAndRemove();
  return kills;
}

async function killSweep(context: AcceptanceContext): Promise<void> {
  const { cleanup, directory, measure, quick, seed, shared } = context;
  const random = seededRandom(seed);
  const tar = await linuxPart(shared, quick ? 2_000 : ENTRIES);
  const images = quick ? 2 : IMAGES;
  // The whole untar, measured once, so that the moments spread over all of it.
  const trial = join(directory, 'trial');
  await mkdir(trial);
  const column = await Column.start(trial, cleanup, { size: '8G' });
  const whole = await seconds(() => run(unpackArguments(tar, column.mountPoint), { timeoutMs: 900_000 }));
  await column.stop();
  await rm(trial, { recursive: true });
  const kills: Kill[] = [];
  for (let image = 0; image < images; image += 1) {
    const delays = Array.from({ length: KILLS_OF_AN_IMAGE }, () => Math.round(50 + random() * whole * 1000));
    const report = (kill: Kill, delayMs: number): void => {
      kills.push(kill);
      const what = `${kill.acknowledged} files acknowledged${kill.duringUntar ? '' : ', untar was done'}`;
      process.stderr.write(`  kill ${kills.length}, after ${delayMs} ms: ${what}\n`);
    };
    await killRepeatedly(join(directory, `image-${image}`), cleanup, tar, delays, report);
  }
  const during = kills.filter((kill) => kill.duringUntar).length;
  measure(
    `${kills.length} kills, ${during} during an untar of ${whole.toFixed(1)} s, ${KILLS_OF_AN_IMAGE} to an image: ` +
      'each image clean in both modes each time, in Linux too',
  );
  const acknowledged = kills.reduce((sum, kill) => sum + kill.acknowledged, 0);
  measure(`${acknowledged} files acknowledged by fsync, all there after every later kill`);
  // A writer slows tar down, so almost all moments fall into the untar.
  require(during >= kills.length * 0.8, `only ${during} of ${kills.length} kills met an untar`);
}

export const KILL_SWEEP: AcceptanceLine = {
  name: 'kill_sweep',
  title: 'kill -9 of crfsd during an untar: clean image, everything fsynced is there',
  run: killSweep,
};
