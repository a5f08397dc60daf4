// SPDX-License-Identifier: GPL-2.0-or-later
// `crfs-bench files` on a real mount beside a local directory: every row is there, nothing is left behind, and what goes wrong
// is told with directory, phase and errno. Times are not judged.

import { spawn } from 'node:child_process';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { FilesFigures } from '../../ts/bench/files.ts';
import { type CommandResult, run } from '../../ts/dev/command.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory, withTimeout } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const PROGRAM = resolve('dist/bench/crfs-bench.js');
const TINY = ['--files', '30', '--directories', '4', '--bytes', '700', '--size', '300K', '--block', '64K'];
const UNITS = {
  create: 'files/s',
  stat: 'files/s',
  'open+read': 'files/s',
  readdir: 'entries/s',
  'readdir+stat': 'entries/s',
  rename: 'files/s',
  unlink: 'files/s',
  write: 'MiB/s',
  'write+fsync': 'MiB/s',
  read: 'MiB/s',
  'read cold': 'MiB/s',
};
/** Files or bytes of one pass: what only reads makes as many passes as it likes. */
const ONE_PASS = { 'files/s': 30, 'entries/s': 30, 'MiB/s': 300 * 1024 };
const ONCE = new Set(['create', 'rename', 'unlink', 'write', 'write+fsync', 'read cold']);

function bench(...rest: string[]): Promise<CommandResult> {
  const argv = [process.execPath, PROGRAM, 'files', ...rest];
  return run(argv, { allow: Array.from({ length: 256 }, (_, code) => code), timeoutMs: 120_000 });
}

/** In a process of its own, since it may be a mount. */
async function listed(directory: string): Promise<string> {
  return (await run(['ls', '-A', directory], { timeoutMs: 30_000 })).stdout;
}

async function mountAndLocal(): Promise<{ column: Column; local: string }> {
  const directory = await temporaryDirectory(cleanup);
  const column = await Column.start(directory, cleanup, { size: '512M' });
  const local = join(directory, 'local');
  await mkdir(local);
  return { column, local };
}

test('every row is measured in every directory, and nothing stays', async () => {
  const { column, local } = await mountAndLocal();
  const directories = ['--dir', `crfs=${column.mountPoint}`, '--dir', `local=${local}`];
  const counts = ['--repetitions', '2', '--warm-up', '1'];
  const result = await bench(...directories, '--base', 'local', ...TINY, ...counts, '--json');
  expect(result.stderr).toBe('');
  expect(result.code).toBe(0);
  const figures = JSON.parse(result.stdout) as FilesFigures;
  expect(figures.settings).toEqual({
    directories: [
      { name: 'crfs', path: column.mountPoint },
      { name: 'local', path: local },
    ],
    base: 'local',
    files: 30,
    subdirectories: 4,
    fileBytes: 700,
    streamBytes: 300 * 1024,
    blockBytes: 64 * 1024,
    repetitions: 2,
    warmUp: 1,
    dropCaches: false,
  });
  expect(Object.fromEntries(figures.rows.map(({ row, unit }) => [row, unit]))).toEqual(UNITS);
  for (const { row, unit, directories } of figures.rows) {
    expect(directories.map(({ name }) => name)).toEqual(['crfs', 'local']);
    for (const { name, rate, ratio, samples } of directories) {
      const what = `${row} in ${name}`;
      expect(samples, what).toHaveLength(2);
      for (const { count, microseconds } of samples) {
        expect(microseconds, what).toBeGreaterThan(0);
        expect(count % ONE_PASS[unit], what).toBe(0);
        expect(count, what).toBeGreaterThan(0);
        if (ONCE.has(row)) expect(count, what).toBe(ONE_PASS[unit]);
      }
      expect(rate.min, what).toBeGreaterThan(0);
      expect(rate.median, what).toBeGreaterThanOrEqual(rate.min);
      expect(rate.max, what).toBeGreaterThanOrEqual(rate.median);
      if (name === 'local') expect(ratio, what).toEqual({ ofMedians: 1, min: 1, max: 1 });
      else expect(ratio!.ofMedians, what).toBeGreaterThan(0);
    }
  }
  expect(await listed(column.mountPoint)).toBe('');
  expect(await listed(local)).toBe('');
  await column.stop();
  await column.check();
});

test('a table for people, with one directory and no base', async () => {
  const local = await temporaryDirectory(cleanup);
  const result = await bench('--dir', `here=${local}`, ...TINY, '--repetitions', '1', '--warm-up', '0');
  expect(result.stderr).toBe('');
  const lines = result.stdout.trimEnd().split('\n');
  expect(lines).toHaveLength(1 + Object.keys(UNITS).length);
  for (const [index, [row, unit]] of Object.entries(UNITS).entries()) {
    const [first, second, name, ...numbers] = lines[index + 1]!.split(/ {2,}/);
    expect([first, second, name]).toEqual([row, unit, 'here']);
    expect(numbers).toHaveLength(3);
    for (const number of numbers) expect(Number(number), row).toBeGreaterThan(0);
  }
});

test('a directory that is missing, or none, is an error, and what was made in others goes', async () => {
  const local = await temporaryDirectory(cleanup);
  const file = join(local, 'file');
  await writeFile(file, '');
  for (const [path, errno] of [
    [join(local, 'missing'), 'ENOENT'],
    [file, 'ENOTDIR'],
  ]) {
    const result = await bench('--dir', `good=${local}`, '--dir', `bad=${path}`, ...TINY);
    expect(result.stderr).toBe(
      `crfs-bench: --dir bad=${path}: no directory can be made in it: mkdir: ${errno}\n`,
    );
    expect(result.code).toBe(1);
    expect(result.stdout).toBe('');
    expect(await readdir(local)).toEqual(['file']);
  }
});

test('wrong options are refused by name before anything is made', async () => {
  const local = await temporaryDirectory(cleanup);
  const wrong = await bench('--dir', `here=${local}`, '--base', 'there');
  expect(wrong.stderr).toBe('crfs-bench: --base: no --dir has the name there\n');
  expect(wrong.code).toBe(1);
  const unknown = await bench('--dir', `here=${local}`, '--frobnicate');
  expect(unknown.stderr).toMatch(/--frobnicate/);
  expect(unknown.code).toBe(1);
  expect(await readdir(local)).toEqual([]);
});

test('a phase that fails is told with directory, phase and errno, and everything goes', async () => {
  const local = await temporaryDirectory(cleanup);
  const small = join(local, 'small');
  await mkdir(small);
  await run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', small]);
  cleanup.add(() => run(['umount', small]));
  const result = await bench('--dir', `small=${small}`, ...TINY);
  expect(result.stderr).toMatch(
    /^crfs-bench: small \(\/.*\/crfs-bench-[^/]*\): write: write at byte \d+ of stream: ENOSPC\n$/,
  );
  expect(result.code).toBe(32);
  expect(await listed(small)).toBe('');
});

test('SIGINT to all of its processes, as a terminal sends it, ends it and leaves nothing', async () => {
  const { column, local } = await mountAndLocal();
  const directories = ['--dir', `local=${local}`, '--dir', `crfs=${column.mountPoint}`];
  const argv = [PROGRAM, 'files', ...directories, '--files', '500', '--repetitions', '1000'];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  cleanup.add(async () => child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  }
  const ended = new Promise<unknown>((done) => child.once('close', (code, signal) => done(signal ?? code)));
  const atWork = async (): Promise<void> => {
    while (!(await listed(column.mountPoint)).startsWith('crfs-bench-')) {
      if (child.exitCode !== null) throw new Error(`it ended: ${said}`);
      await new Promise((next) => setTimeout(next, 20));
    }
  };
  await withTimeout(atWork(), 60_000, 'no test directory');
  process.kill(-child.pid!, 'SIGINT');
  expect(await withTimeout(ended, 60_000, 'it does not end')).toBe('SIGINT');
  expect(said).toBe('');
  expect(await listed(column.mountPoint)).toBe('');
  expect(await listed(local)).toBe('');
  await column.stop();
});
