// SPDX-License-Identifier: GPL-2.0-or-later
// The options of `crfs-bench files`: what they become, and which are refused with what words.

import { expect, test } from 'vitest';
import { type FilesOptions, parseFilesOptions } from '../../../ts/bench/files_settings.ts';
import { CliError, Exit } from '../../../ts/cli/exit.ts';

const GOOD: FilesOptions = {
  dir: ['crfs=/mnt', 'local=/var/tmp/a=b'],
  base: 'local',
  files: '1000',
  directories: '10',
  bytes: '4K',
  size: '64M',
  block: '1M',
  repetitions: '5',
  warmUp: '0',
  dropCaches: false,
};

test('options become settings, sizes in bytes', () => {
  expect(parseFilesOptions(GOOD, false)).toEqual({
    directories: [
      { name: 'crfs', path: '/mnt' },
      { name: 'local', path: '/var/tmp/a=b' },
    ],
    base: 'local',
    files: 1000,
    subdirectories: 10,
    fileBytes: 4096,
    streamBytes: 64 * 1024 ** 2,
    blockBytes: 1024 ** 2,
    repetitions: 5,
    warmUp: 0,
    dropCaches: false,
  });
});

test('relative paths are those of this directory; there need be no base; one path may have two names', () => {
  const settings = parseFilesOptions({ ...GOOD, dir: ['a=x/../y', 'b=y'], base: undefined }, true);
  const path = `${process.cwd()}/y`;
  expect(settings.directories).toEqual([
    { name: 'a', path },
    { name: 'b', path },
  ]);
  expect(settings).not.toHaveProperty('base');
});

test('files may be empty', () => {
  expect(parseFilesOptions({ ...GOOD, bytes: '0' }, false).fileBytes).toBe(0);
});

test.each<[Partial<FilesOptions>, RegExp]>([
  [{ dir: [] }, /^at least one --dir NAME=PATH/],
  [{ dir: ['/mnt'] }, /^--dir \/mnt: write NAME=PATH$/],
  [{ dir: ['=/mnt'] }, /^--dir =\/mnt: write NAME=PATH$/],
  [{ dir: ['crfs='] }, /^--dir crfs=: write NAME=PATH$/],
  [{ dir: ['a b=/mnt'] }, /^--dir a b=\/mnt: a name is/],
  [{ dir: [`${'x'.repeat(25)}=/mnt`] }, /a name is up to 24/],
  [{ dir: ['a=/mnt', 'a=/tmp'], base: 'a' }, /^--dir: two directories have the name a$/],
  [{ dir: Array.from({ length: 17 }, (_, index) => `n${index}=/mnt`) }, /^--dir: at most 16$/],
  [{ base: 'nfs' }, /^--base: no --dir has the name nfs$/],
  [{ files: '0' }, /^--files: 0 is not a number from 1 to 1000000$/],
  [{ files: '1000001' }, /^--files/],
  [{ files: '1e3' }, /^--files/],
  [{ directories: '0' }, /^--directories/],
  [{ files: '3', directories: '4' }, /^--directories: 4 for 3 files$/],
  [{ bytes: '65M' }, /^--bytes: 65M is not from 0 to 67108864 bytes$/],
  [{ bytes: 'many' }, /^--bytes: many is not a size/],
  [{ size: '0' }, /^--size: 0 is not from 1/],
  [{ size: '2T' }, /^--size/],
  [{ block: '7' }, /^--block/],
  [{ block: '1G' }, /^--block/],
  [{ repetitions: '0' }, /^--repetitions/],
  [{ warmUp: '-1' }, /^--warm-up: -1 is not a number from 0 to 1000$/],
  [{ dropCaches: true }, /^--drop-caches: only root can$/],
])('%j is refused', (wrong, words) => {
  let thrown: unknown;
  try {
    parseFilesOptions({ ...GOOD, ...wrong }, false);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(CliError);
  expect((thrown as CliError).message).toMatch(words);
  expect((thrown as CliError).exitCode).toBe(Exit.usage);
});
