// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run link` puts the commands where shells and mount(8) find them, the manual pages where man(1) does, and the
// completions where bash, zsh and fish do; `npm run unlink` takes them away again.
//
// mount(8) and umount(8) look for their helpers only in /sbin. All are links into this working tree. Where a file is
// already that is not ours nothing at all is done, with an error. Directories that were missing are made, and stay.

import { chmod, lstat, mkdir, readlink, rm, symlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { COMPLETION_DIRECTORY, completionFiles, makeCompletions } from './completions.ts';
import { PAGE_DIRECTORY, PAGES, PROGRAMS } from './programs.ts';

interface Link {
  readonly path: string;
  /** From the top of the tree. */
  readonly target: string;
}

function commandLinks(): Link[] {
  const links = PROGRAMS.map(({ name, script }) => ({ path: `/usr/local/bin/${name}`, target: script }));
  // With `fuse.`: what the kernel calls the type, and mount(8) and umount(8) with it when they remount and unmount.
  const helpers = ['mount.crfs', 'mount.fuse.crfs', 'umount.crfs', 'umount.fuse.crfs'].map((name) => ({
    path: `/sbin/${name}`,
    target: `dist/cli/${name.replace('.fuse', '')}.js`,
  }));
  return [...links, ...helpers];
}

function pageLinks(): Link[] {
  return PAGES.map((page) => ({
    path: `/usr/local/share/man/man${page.at(-1)}/${page}`,
    target: `${PAGE_DIRECTORY}/${page}`,
  }));
}

function completionLinks(): Link[] {
  return PROGRAMS.flatMap(({ name }) => {
    const { bash, fish, zsh } = completionFiles(name);
    return [
      { path: `/usr/local/share/bash-completion/completions/${name}`, target: bash },
      { path: `/usr/local/share/fish/vendor_completions.d/${name}.fish`, target: fish },
      { path: `/usr/local/share/zsh/site-functions/_${name}`, target: zsh },
    ].map(({ path, target }) => ({ path, target: `${COMPLETION_DIRECTORY}/${target}` }));
  });
}

/** Whether `path` is free, a link to what some working tree of ours has for it, or something else. */
async function stateOf({ path, target }: Link): Promise<'free' | 'ours' | 'foreign'> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return 'free';
  if (!found.isSymbolicLink()) return 'foreign';
  return (await readlink(path)).endsWith(`/${target}`) ? 'ours' : 'foreign';
}

async function main(action: string | undefined): Promise<void> {
  if (action !== 'link' && action !== 'unlink') throw new Error('link or unlink?');
  const links = [...commandLinks(), ...pageLinks(), ...completionLinks()];
  for (const link of links) {
    if ((await stateOf(link)) === 'foreign')
      throw new Error(`${link.path} exists and is not a link of this project; left as it is`);
  }
  if (action === 'link') await makeCompletions();
  for (const link of links) {
    await rm(link.path, { force: true });
    if (action === 'unlink') continue;
    const target = resolve(link.target);
    if (target.endsWith('.js')) await chmod(target, 0o755);
    await mkdir(dirname(link.path), { recursive: true });
    await symlink(target, link.path);
    process.stdout.write(`${link.path} -> ${target}\n`);
  }
}

await main(process.argv[2]).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
