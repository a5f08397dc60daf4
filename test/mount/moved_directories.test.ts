// SPDX-License-Identifier: GPL-2.0-or-later
// A directory that another mount moved while programs here have it open or know it at its old place: every call finds it
// where it is, those through the old place too, and none is answered ESTALE.

import { spawn } from 'node:child_process';
import { mkdir, open, readdir, readFile, rename, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const codeOf = (error: NodeJS.ErrnoException): string | undefined => error.code;

test('a directory that another mount moved can be renamed, made in and listed, whoever has it open', async () => {
  const several = await SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count: 2 });
  const [here, there] = several.paths as [string, string];
  for (const name of ['one', 'two', 'one/moved', 'one/moved/inner']) await mkdir(join(here, name));
  const held = await open(join(here, 'one/moved'));
  const inner = await open(join(here, 'one/moved/inner'));
  cleanup.add(() => held.close());
  cleanup.add(() => inner.close());
  const at = (name: string): string => `/proc/self/fd/${held.fd}/${name}`;
  await stat(at('absent')).catch(() => undefined);

  await rename(join(there, 'one/moved'), join(there, 'two/elsewhere'));
  // The first lookup of the new place is that of a rename between directories.
  await rename(join(here, 'two/elsewhere'), join(here, 'one/back'));
  await rename(join(there, 'one/back'), join(there, 'two/again'));
  await rename(join(there, 'two/again/inner'), join(there, 'two/inner'));
  await rename(join(here, 'two/inner'), join(here, 'two/again/inner'));
  expect(await readdir(join(here, 'two/again'))).toEqual(['inner']);

  // Two ways lead to one directory: what is done in one is seen in the other at once.
  await writeFile(at('made'), 'through the old place');
  expect(await readFile(join(here, 'two/again/made'), 'utf8')).toBe('through the old place');
  await rename(join(here, 'two/again/made'), join(here, 'two/again/renamed'));
  expect(await stat(at('made')).catch(codeOf)).toBe('ENOENT');
  expect(await readFile(at('renamed'), 'utf8')).toBe('through the old place');
  await writeFile(join(here, 'two/again/absent'), 'there now');
  expect(await readFile(at('absent'), 'utf8')).toBe('there now');
  await writeFile(join(there, 'two/again/absent'), 'changed');
  expect(await readFile(at('absent'), 'utf8')).toBe('changed');
  const [old, current] = [await held.stat(), await stat(join(here, 'two/again'))];
  expect([old.ino, old.mtimeMs, old.nlink]).toEqual([current.ino, current.mtimeMs, current.nlink]);
  expect((await readdir(`/proc/self/fd/${inner.fd}`)).length).toBe(0);

  // A directory does not go below itself, by whatever way.
  const below = rename(join(here, 'two/again'), join(at('inner'), 'loop'));
  expect(await below.catch(codeOf)).toBe('EINVAL');
  await rmdir(join(there, 'two/again/inner'));
  expect(await writeFile(`/proc/self/fd/${inner.fd}/late`, '').catch(codeOf)).toBe('ENOENT');
  await several.stop().catch(() => undefined);
});

test('a working directory stays good when another mount moves it', async () => {
  const several = await SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count: 2 });
  const [here, there] = several.paths as [string, string];
  await mkdir(join(here, 'one/work'), { recursive: true });
  await mkdir(join(here, 'two'));
  const script = 'read _; echo text > file && cat file; read _';
  const shell = spawn('sh', ['-c', script], {
    cwd: join(here, 'one/work'),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  cleanup.add(async () => void shell.kill('SIGKILL'));
  const said = new Promise<string>((resolve) => shell.stdout.once('data', (data) => resolve(String(data))));
  await rename(join(there, 'one/work'), join(there, 'two/work'));
  await stat(join(here, 'two/work'));
  shell.stdin.write('\n');
  expect(await said).toBe('text\n');
  expect(await readFile(join(there, 'two/work/file'), 'utf8')).toBe('text\n');
  shell.stdin.write('\n');
  await new Promise((resolve) => shell.once('close', resolve));
  await several.stop();
  await several.check();
});
