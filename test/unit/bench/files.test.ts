// SPDX-License-Identifier: GPL-2.0-or-later
// How `crfs-bench files` goes about it, with a program in place of bench-loops that only notes what it is called for:
// directories take turns, warming up does not count, and what was made is removed whatever happens.

import { access, chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { benchFiles, type FilesFigures } from '../../../ts/bench/files.ts';
import type { FilesSettings } from '../../../ts/bench/files_settings.ts';
import { Interrupted } from '../../../ts/bench/interrupt.ts';
import { TestDirectories } from '../../../ts/bench/test_directories.ts';
import { Cleanup } from '../../harness/images.ts';
import { temporaryDirectory } from '../../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

/** Notes each call; calls that match a pattern in `fail` fail, a `slow` one takes for ever. */
const PROGRAM = `#!/bin/sh
here=$(dirname "$0")
echo "$1 $2" >> "$here/calls"
n=$(wc -l < "$here/calls")
if echo "$1 $2" | grep -q -f "$here/fail"; then echo "a call: ENOSPC" >&2; exit 1; fi
if echo "$1 $2" | grep -q -f "$here/slow"; then touch "$here/started"; exec sleep 1000; fi
row() { printf '"%s":{"count":1000,"nanoseconds":%s}' "$1" "\${n}000"; }
case $2 in
  make|remove) ;;
  readdir) echo "{$(row readdir),$(row readdir+stat)}" ;;
  write) echo "{$(row write),$(row write+fsync)}" ;;
  read) echo "{$(row read),$(row 'read cold')}" ;;
  *) echo "{$(row "$2")}" ;;
esac
`;

interface Arranged {
  readonly directory: string;
  run(signal?: AbortSignal): Promise<FilesFigures>;
  /** What was called, as `NAME PHASE`. */
  calls(): Promise<string[]>;
  readonly steps: [number, number, string][];
  readonly tests: TestDirectories;
}

async function arrange(
  names: readonly string[],
  options: Partial<FilesSettings> & { readonly fail?: string; readonly slow?: string },
): Promise<Arranged> {
  const directory = await temporaryDirectory(cleanup);
  const program = join(directory, 'program');
  await writeFile(program, PROGRAM);
  await chmod(program, 0o755);
  // An empty file of patterns matches nothing.
  await writeFile(join(directory, 'fail'), options.fail === undefined ? '' : `${options.fail}\n`);
  await writeFile(join(directory, 'slow'), options.slow === undefined ? '' : `${options.slow}\n`);
  const settings: FilesSettings = {
    directories: names.map((name) => ({ name, path: `/nowhere/${name}` })),
    base: names[0]!,
    files: 10,
    subdirectories: 2,
    fileBytes: 1,
    streamBytes: 1,
    blockBytes: 8,
    repetitions: 1,
    warmUp: 0,
    dropCaches: false,
    ...options,
  };
  const tests = new TestDirectories(program);
  const steps: [number, number, string][] = [];
  return {
    directory,
    steps,
    tests,
    run: (interrupt = new AbortController().signal) =>
      benchFiles(program, settings, tests, { interrupt, onStep: (...step) => steps.push(step) }),
    async calls() {
      const text = await readFile(join(directory, 'calls'), 'utf8');
      return text
        .trimEnd()
        .split('\n')
        .map((line) => line.replace(/^\/nowhere\/(\w+)\/crfs-bench-\d+-[0-9a-f]{8} /, '$1 '));
    },
  };
}

test('directories take turns in each phase, and begin in another order in each repetition', async () => {
  const arranged = await arrange(['a', 'b', 'c'], { warmUp: 1, repetitions: 2 });
  const figures = await arranged.run();
  const calls = await arranged.calls();
  expect(calls.slice(0, 3)).toEqual(['a make', 'b make', 'c make']);
  expect(calls.slice(-3)).toEqual(['a remove', 'b remove', 'c remove']);
  const phases = ['create', 'stat', 'open+read', 'readdir', 'rename', 'unlink', 'write', 'read'];
  const orders = [
    ['a', 'b', 'c'],
    ['b', 'c', 'a'],
    ['c', 'a', 'b'],
  ];
  const all = orders.flatMap((order) => phases.flatMap((phase) => order.map((name) => `${name} ${phase}`)));
  expect(calls.slice(3, -3)).toEqual(all);
  expect(arranged.steps.map(([done]) => done)).toEqual(all.map((_, index) => index));
  expect(arranged.steps.every(([, total]) => total === all.length)).toBe(true);
  // The program says how many calls there were: those of the second and third order, and of each directory its own.
  const create = figures.rows[0]!.directories;
  expect(create.map(({ samples }) => samples.map(({ microseconds }) => microseconds))).toEqual([
    [30, 53],
    [28, 54],
    [29, 52],
  ]);
});

test('what fails is told with its directory and phase, ends all, and everything is removed', async () => {
  const arranged = await arrange(['a', 'b'], { fail: '/b/.* rename$' });
  await expect(arranged.run()).rejects.toThrow(
    /^b \(\/nowhere\/b\/crfs-bench-\d+-[0-9a-f]{8}\): rename: a call: ENOSPC$/,
  );
  expect((await arranged.calls()).slice(-3)).toEqual(['b rename', 'a remove', 'b remove']);
  expect(arranged.tests.left).toEqual([]);
});

test('a directory in which nothing can be made is not removed, the others are', async () => {
  const arranged = await arrange(['a', 'b', 'c'], { fail: '/b/.* make$' });
  await expect(arranged.run()).rejects.toThrow(/^--dir b=\/nowhere\/b: .*ENOSPC$/);
  expect(await arranged.calls()).toEqual(['a make', 'b make', 'a remove']);
});

test('what cannot be removed is told, beside what went wrong before', async () => {
  const arranged = await arrange(['a', 'b'], { fail: '/a/.* remove$' });
  await expect(arranged.run()).rejects.toThrow(
    /^\/nowhere\/a\/crfs-bench-\d+-[0-9a-f]{8} is left behind: a call: ENOSPC$/,
  );
  expect((await arranged.calls()).slice(-2)).toEqual(['a remove', 'b remove']);
  const both = await arrange(['a'], { fail: '/a/.* [cr]\\w*e$' });
  await expect(both.run()).rejects.toThrow(/create: a call: ENOSPC; \/nowhere\/a\/.* is left behind: a call/);
});

test('an interruption ends what runs, and everything is removed', async () => {
  const arranged = await arrange(['a', 'b'], { slow: '/b/.* stat$' });
  const controller = new AbortController();
  const running = arranged.run(controller.signal).catch((error: unknown) => error);
  while (
    !(await access(join(arranged.directory, 'started')).then(
      () => true,
      () => false,
    ))
  ) {
    await new Promise((next) => setTimeout(next, 10));
  }
  controller.abort(new Interrupted('SIGINT'));
  expect(await running).toBeInstanceOf(Interrupted);
  expect((await arranged.calls()).slice(-3)).toEqual(['b stat', 'a remove', 'b remove']);
});
