// SPDX-License-Identifier: GPL-2.0-or-later
// Images of Linux with subvolumes and snapshots, through crfsd and mount.crfs: directories that one walks into, with
// everything in them as Linux shows it; inode numbers that are distinct over the mount and stay; changes in them, which
// Linux sees; and what cannot be done, with its errno.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { testProgram } from '../../ts/dev/test_programs.ts';
import { Column } from '../harness/column.ts';
import { Cleanup, makeLinuxImage } from '../harness/images.ts';
import { mountCrfs, temporaryDirectory } from '../harness/processes.ts';
import { compareManifests, writeManifest } from '../harness/trees.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const TIMEOUT_MS = 60_000;

async function shell(script: string, directory: string, ...args: string[]): Promise<string> {
  const argv = ['sh', '-ec', script, 'sh', ...args];
  return (await run(argv, { cwd: directory, timeoutMs: TIMEOUT_MS, env: { LC_ALL: 'C' } })).stdout;
}

/** What a command says on stderr when it fails, as it must. */
async function refusal(directory: string, script: string): Promise<string> {
  const argv = ['sh', '-c', script];
  const options = { cwd: directory, timeoutMs: TIMEOUT_MS, env: { LC_ALL: 'C' } };
  return (await run(argv, { ...options, allow: [1, 2] })).stderr.trim().replace(/^.*: /, '');
}

/** An image that Linux fills by a script, and its manifest. */
async function linuxColumn(
  fill: (directory: string) => Promise<unknown>,
  options: { serveOptions?: readonly string[] } = {},
): Promise<{ column: Column; manifest: string }> {
  const directory = await temporaryDirectory(cleanup);
  const column = await Column.make(directory, cleanup, { size: '512M', existing: true, ...options });
  await makeLinuxImage(column.image, '512M');
  await column.inLinux('rw', async (mounted) => {
    await fill(mounted);
  });
  const manifest = join(directory, 'linux.manifest');
  // Not the times of that mount: what it knows of inodes that stand for others does not outlive it.
  await column.inLinux('ro', (mounted) => writeManifest(mounted, manifest, ['--directories']));
  return { column, manifest };
}

async function manifestOf(directory: string, file: string): Promise<string> {
  await writeManifest(directory, file, ['--directories']);
  return file;
}

/** `inode type path` of everything. */
async function inodes(directory: string): Promise<string[]> {
  const listed = await shell("find . -printf '%i %y%n %p\\n' | sort", directory);
  return listed.trim().split('\n');
}

/** Numbers of directories, and of files with one name, that came twice. */
function doubles(lines: readonly string[]): string[] {
  const single = lines.filter((line) => / (d\d+|[^d]1) /.test(line));
  const numbers = single.map((line) => line.split(' ')[0]!);
  return numbers.filter((number, at) => numbers.indexOf(number) !== at);
}

const PLAIN = `
  subvolume() { btrfs subvolume create "$1" > /dev/null; }
  echo top > top
  mkdir dir
  echo file > dir/file
  subvolume one
  subvolume dir/two
  subvolume dir/two/inner
  mkdir dir/two/inner/deep
  subvolume dir/two/inner/deep/three
  subvolume sealed
  subvolume empty
  subvolume dead
  for at in one dir/two dir/two/inner dir/two/inner/deep/three sealed dead; do
    mkdir $at/tree; "$1" $at/tree --seed 7 --entries 120 --special
    echo "in $at" > $at/name
    head -c 300000 /dev/urandom > $at/data
    ln $at/data $at/link
    chown 12:34 $at
  done
  btrfs property set -ts sealed ro true
  sync
  # Perhaps Linux has no time to take it apart before it is unmounted.
  btrfs subvolume delete dead > /dev/null
`;

const CHANGES = `
  echo more >> one/name
  mkdir -p one/new/below
  cp -a dir/two/tree one/new/below/copy
  printf through | dd of=dir/two/data bs=1 seek=100000 conv=notrunc status=none
  truncate -s 5000 dir/two/inner/link
  rm -r dir/two/inner/tree
  mkfifo empty/fifo
  ln dir/two/inner/deep/three/name dir/two/inner/deep/three/again
  mv dir/two/inner/deep/three/data dir/two/inner/deep/three/moved
  chmod 700 one empty
  chown 5:6 dir/two
  # Across subvolumes mv(1) copies.
  mv one/data dir/moved
  mv dir/two/inner/deep dir/two/inner/deeper
  touch -d 2001-02-03T04:05:06.789 dir/two/inner
`;

test('subvolumes are directories: read, changed, mounted by path, as in Linux', async () => {
  const program = testProgram('synthetic-tree');
  const { column, manifest } = await linuxColumn((directory) => shell(PLAIN, directory, program));
  await column.startServer();
  await column.startMount();
  const { mountPoint } = column;
  const work = column.directory;
  const found = join(work, 'crfs.manifest');
  await compareManifests(manifest, await manifestOf(mountPoint, found), 'made by Linux');

  const numbers = await inodes(mountPoint);
  expect(doubles(numbers)).toEqual([]);
  await column.remount();
  expect(await inodes(mountPoint)).toEqual(numbers);

  expect(await shell('cat one/../top dir/two/inner/../../file; stat -fc %T one', mountPoint)).toBe(
    'top\nfile\nfuseblk\n',
  );
  expect(
    await shell('cd -P dir/two/inner/deep/three/..; stat -c %i . ../deep | uniq | wc -l', mountPoint),
  ).toBe('1\n');

  const readOnly = 'Read-only file system';
  for (const change of [
    'echo > sealed/new',
    'echo >> sealed/name',
    'mkdir sealed/dir',
    'rm sealed/name',
    'chmod 600 sealed/name',
    'truncate -s 0 sealed/data',
    'touch sealed',
    'ln sealed/name sealed/other',
    'mv -T sealed/name sealed/other',
    'setfattr -n user.x -v y sealed/name',
  ])
    expect([change, await refusal(mountPoint, change)]).toEqual([change, readOnly]);
  for (const [change, text] of [
    ['ln one/name dir/hard', 'Invalid cross-device link'],
    ['ln top dir/two/hard', 'Invalid cross-device link'],
    ['mv -T one uno', 'Device or resource busy'],
    ['rmdir one', 'Directory not empty'],
    ['rmdir empty', 'Operation not permitted'],
    ['mkdir d && mv -T d empty; status=$?; rmdir d; exit $status', 'Directory not empty'],
  ] as const)
    expect([change, await refusal(mountPoint, change)]).toEqual([change, text]);

  await shell(CHANGES, mountPoint);

  // A second mount, of a directory inside a subvolume, sees it all and is seen.
  const second = await mountCrfs(`unix:${column.socket}:/dir/two/inner`, join(work, 'second'), cleanup);
  expect(await shell('stat -c %s link; cat deeper/three/again', second.directory)).toBe(
    '5000\nin dir/two/inner/deep/three\n',
  );
  await shell('echo second > deeper/three/second; rm name', second.directory);
  expect(await shell('cat dir/two/inner/deeper/three/second; ls dir/two/inner', mountPoint)).toBe(
    'second\ndata\ndeeper\nlink\n',
  );
  const above = await shell('stat -c %i deeper/three/second', second.directory);
  expect(await shell('stat -c %i dir/two/inner/deeper/three/second', mountPoint)).toBe(above);
  await second.unmount();
  const sealed = await mountCrfs(`unix:${column.socket}:/sealed/tree`, join(work, 'third'), cleanup);
  expect(await refusal(sealed.directory, 'echo > new')).toBe(readOnly);
  await sealed.unmount();

  await manifestOf(mountPoint, found);
  const changed = await inodes(mountPoint);
  expect(doubles(changed)).toEqual([]);
  await column.restart();
  expect(await inodes(mountPoint)).toEqual(changed);
  await column.stop();
  await column.check();
  await column.inLinux('rw', async (directory) => {
    await compareManifests(await manifestOf(directory, manifest), found, 'changed by CRFS');
    // Linux goes on with what CRFS left: in the subvolumes, and with them.
    await shell(
      'echo linux >> one/name; btrfs subvolume snapshot -r dir/two dir/snapshot; btrfs subvolume delete empty; mv one uno',
      directory,
    );
  });
  await column.check();
});

const SNAPSHOTS = `
  btrfs subvolume create one > /dev/null
  btrfs subvolume create one/nested > /dev/null
  btrfs subvolume create one/other > /dev/null
  mkdir one/tree; "$1" one/tree --seed 8 --entries 120 --special
  echo before > one/name
  echo nested > one/nested/name
  chown 12:34 one
  btrfs subvolume snapshot one first > /dev/null
  btrfs subvolume snapshot -r one second > /dev/null
  btrfs subvolume snapshot first one/third > /dev/null
  btrfs subvolume snapshot one gone > /dev/null
  echo after > one/name
  echo first > first/name
  rm -r first/tree
  btrfs subvolume delete -C gone > /dev/null
  btrfs subvolume delete -C one/other > /dev/null
  sync
`;

test('snapshots are served as they are; of subvolumes that they do not contain they hold an empty directory', async () => {
  const program = testProgram('synthetic-tree');
  const { column, manifest } = await linuxColumn((directory) => shell(SNAPSHOTS, directory, program), {
    serveOptions: ['--read-only'],
  });
  await column.startServer();
  await column.startMount();
  const { mountPoint } = column;
  const work = column.directory;
  const found = await manifestOf(mountPoint, join(work, 'crfs.manifest'));
  // Linux gives such a directory the time at which it was looked up.
  const timeless = 'sed -i -E \'/^[a-z/]*(first|second|third)\\/(nested|other) d /s/ mtime=[^ ]*//\' "$@"';
  await shell(timeless, work, manifest, found);
  await compareManifests(manifest, found, 'snapshots');
  const absent = await shell('find . -path "*/nested" -o -path "*/other" | sort', mountPoint);
  expect(absent.trim().split('\n')).toEqual([
    './first/nested',
    './first/other',
    './one/nested',
    './one/third/nested',
    './one/third/other',
    './second/nested',
    './second/other',
  ]);

  const numbers = await inodes(mountPoint);
  expect(doubles(numbers)).toEqual([]);
  await column.restart();
  expect(await inodes(mountPoint)).toEqual(numbers);

  expect(await shell('cat one/name one/third/name one/nested/name; ls -A second/nested', mountPoint)).toBe(
    'after\nbefore\nnested\n',
  );
  // Whoever is not the owner goes by the ACL, of which there is none.
  expect(await shell('setpriv --reuid 99 --regid 99 --clear-groups ls -A first/nested', mountPoint)).toBe('');
  expect(await shell('cd -P first/nested/..; stat -c %u:%g . nested; cat name', mountPoint)).toBe(
    '12:34\n12:34\nfirst\n',
  );
  for (const change of [
    'echo > second/nested/new',
    'mkdir first/nested/new',
    'echo >> one/name',
    'rmdir first/nested',
  ])
    expect([change, await refusal(mountPoint, change)]).toEqual([change, 'Read-only file system']);
  expect(await refusal(mountPoint, 'cat first/nested/name')).toBe('No such file or directory');
  const mounting = mountCrfs(`unix:${column.socket}:/second/nested`, join(work, 'absent'), cleanup);
  await expect(mounting).rejects.toThrow(
    '"nested" is the place of a subvolume that this snapshot does not contain',
  );
  await mkdir(join(work, 'second'), { recursive: true });
  const second = await mountCrfs(`unix:${column.socket}:/second`, join(work, 'second'), cleanup);
  expect(await shell('cat name; ls', second.directory)).toBe('before\nname\nnested\nother\ntree\n');
  await second.unmount();
  await column.stop();
  await column.check();
});
