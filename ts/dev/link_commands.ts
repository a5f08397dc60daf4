// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run link` puts the commands where shells and mount(8) find them, `npm run unlink` takes them away again.
//
// mount(8) and umount(8) look for their helpers only in /sbin. The links point into this working tree; a file
// that is there already and is not ours is left alone, with an error.

import { chmod, lstat, readlink, rm, symlink } from 'node:fs/promises';
import { resolve } from 'node:path';

const LINKS: readonly (readonly [string, string])[] = [
  ['/usr/local/bin/crfs-bench', 'dist/bench/crfs-bench.js'],
  ['/usr/local/bin/crfsd', 'dist/cli/crfsd.js'],
  ['/usr/local/bin/mount.crfs', 'dist/cli/mount.crfs.js'],
  ['/usr/local/bin/umount.crfs', 'dist/cli/umount.crfs.js'],
  ['/sbin/mount.crfs', 'dist/cli/mount.crfs.js'],
  ['/sbin/umount.crfs', 'dist/cli/umount.crfs.js'],
  ['/sbin/umount.fuse.crfs', 'dist/cli/umount.crfs.js'],
];

/** Whether `path` is free, a link to some build of ours, or something else. */
async function stateOf(path: string): Promise<'free' | 'ours' | 'foreign'> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return 'free';
  if (!found.isSymbolicLink()) return 'foreign';
  return /\/dist\/(cli\/(crfsd|u?mount\.crfs)|bench\/crfs-bench)\.js$/.test(await readlink(path))
    ? 'ours'
    : 'foreign';
}

async function main(action: string | undefined): Promise<void> {
  for (const [path, target] of LINKS) {
    const state = await stateOf(path);
    if (state === 'foreign')
      throw new Error(`${path} exists and is not a link of this project; left as it is`);
    if (state === 'ours') await rm(path);
    if (action !== 'link') continue;
    await chmod(resolve(target), 0o755);
    await symlink(resolve(target), path);
    process.stdout.write(`${path} -> ${resolve(target)}\n`);
  }
}

await main(process.argv[2]).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
