// SPDX-License-Identifier: GPL-2.0-or-later
// A real tree and a synthetic one go in by tar, and every byte and attribute is there: at once, after a new mount,
// after a restart of the server, and in Linux. Then Linux writes into the image, CRFS serves that and changes it.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { Column } from '../../harness/column.ts';
import { type Cleanup, loopMount, makeLinuxImage } from '../../harness/images.ts';
import {
  compareManifests,
  countLines,
  linuxTar,
  syntheticTar,
  unpack,
  writeManifest,
} from '../../harness/trees.ts';
import { type AcceptanceContext, type AcceptanceLine, seconds } from '../acceptance.ts';

interface Tree {
  readonly name: string;
  readonly tar: string;
  /** Of the same tar, unpacked by the kernel's own BTRFS. */
  readonly manifest: string;
}

/**
 * Unpacks each tar on a local BTRFS, as the copy to compare with. (Other local file systems cannot hold all
 * times and xattrs.)
 */
export async function referenceTrees(
  directory: string,
  cleanup: Cleanup,
  makers: Readonly<Record<string, (scratch: string) => Promise<string>>>,
): Promise<Tree[]> {
  const image = join(directory, 'reference');
  await makeLinuxImage(image, '8G');
  const mounted = await loopMount(image, join(directory, 'reference-mount'), cleanup);
  const trees: Tree[] = [];
  for (const [name, make] of Object.entries(makers)) {
    const tar = await make(join(mounted.directory, `made-${name}`));
    const copy = join(mounted.directory, `copy-${name}`);
    await unpack(tar, copy);
    const manifest = join(directory, `${name}.expected`);
    await writeManifest(copy, manifest);
    trees.push({ name, tar, manifest });
  }
  await mounted.unmount();
  return trees;
}

/** Compares every tree under `root` with its reference. */
async function compareAll(root: string, trees: readonly Tree[], work: string, when: string): Promise<void> {
  for (const tree of trees) {
    const found = join(work, `${tree.name}.found`);
    await writeManifest(join(root, tree.name), found);
    await compareManifests(tree.manifest, found, `${tree.name}, ${when}`);
  }
}

/** Trees in by tar, then compared at every stage up to Linux's own view. */
export async function treesGoIn(
  column: Column,
  trees: readonly Tree[],
  measure: (line: string) => void,
): Promise<void> {
  const work = column.directory;
  for (const tree of trees) {
    const took = await seconds(() => unpack(tree.tar, join(column.mountPoint, tree.name)));
    measure(`untar ${tree.name}: ${took.toFixed(1)} s, ${await countLines(tree.manifest)} entries`);
  }
  const views: [string, () => Promise<void>][] = [
    ['at once', async () => {}],
    ['after umount and mount', () => column.remount()],
    ['after a restart of crfsd', () => column.restart()],
  ];
  for (const [when, step] of views) {
    await step();
    const took = await seconds(() => compareAll(column.mountPoint, trees, work, when));
    measure(`equal ${when} (read in ${took.toFixed(1)} s)`);
  }
  await column.stop();
  await column.check();
  await column.inLinux('ro', (directory) => compareAll(directory, trees, work, 'in Linux'));
  measure('equal in Linux, btrfs check (original, lowmem, data) clean, kernel log clean');
}

/** What Linux does to the image between two servings. `top` is a directory with files in it. */
const LINUX_WRITES = `
  set -e
  cp -a "$1" "$1.copied"
  cp "$1/$2" "$1/plain_copy"
  mv "$1/$2" "$1/renamed"
  rm -r "$1.copied/$3"
  printf 'in the middle' | dd of="$1/renamed" bs=1 seek=1000 conv=notrunc status=none
  dd if=/dev/urandom of="$1/large" bs=1M count=8 status=none
  cp "$1/large" "$1/large_copy"
  dd if=/dev/zero of="$1/large_copy" bs=64k seek=17 count=3 conv=notrunc status=none
  truncate -s 3000000 "$1/large"
  fallocate -l 1M "$1/preallocated"
  ln "$1/large" "$1/large_link"
  sync
`;

/** The same kinds of change through CRFS, on what Linux left. */
const CRFS_WRITES = `
  set -e
  printf 'appended' >> "$1/plain_copy"
  printf 'through crfs' | dd of="$1/large_copy" bs=1 seek=1100000 conv=notrunc status=none
  printf 'through crfs' | dd of="$1/preallocated" bs=1 seek=500000 conv=notrunc status=none
  truncate -s 100000 "$1/large"
  mv "$1/renamed" "$1.copied/renamed"
  rm -r "$1.copied/$2"
  mkdir "$1/new"
  cp -a "$1.copied" "$1/new/copied"
`;

export interface ForeignWrites {
  /** Directory under the root of the image in which the writes happen. */
  readonly top: string;
  /** A file of more than 1,000 bytes in it. */
  readonly file: string;
  /** Two directories in it. */
  readonly directories: readonly [string, string];
}

/** Linux writes into the image, CRFS serves it and changes it, Linux sees that. The column is stopped at the end. */
export async function linuxWritesAndBack(column: Column, names: ForeignWrites): Promise<void> {
  const work = column.directory;
  const linux = join(work, 'linux.manifest');
  const found = join(work, 'crfs.manifest');
  await column.inLinux('rw', async (directory) => {
    await run(['sh', '-c', LINUX_WRITES, 'sh', join(directory, names.top), names.file, names.directories[0]]);
    await writeManifest(directory, linux);
  });
  await column.check();
  await column.startServer();
  await column.startMount();
  await writeManifest(column.mountPoint, found);
  await compareManifests(linux, found, 'what Linux wrote, through CRFS');
  await run(['sh', '-c', CRFS_WRITES, 'sh', join(column.mountPoint, names.top), names.directories[1]]);
  await writeManifest(column.mountPoint, found);
  await column.stop();
  await column.check();
  await column.inLinux('ro', async (directory) => {
    await writeManifest(directory, linux);
    await compareManifests(found, linux, 'what CRFS changed, in Linux');
  });
}

/** `rm -rf` of everything, and the image is clean and empty. */
export async function removeEverything(column: Column, measure: (line: string) => void): Promise<void> {
  await column.startServer();
  await column.startMount();
  const took = await seconds(() =>
    run(['find', column.mountPoint, '-mindepth', '1', '-maxdepth', '1', '-exec', 'rm', '-rf', '{}', '+'], {
      timeoutMs: 900_000,
    }),
  );
  const left = await run(['find', column.mountPoint, '-mindepth', '1']);
  if (left.stdout !== '') throw new Error(`left after rm -rf:\n${left.stdout.slice(0, 1000)}`);
  measure(`rm -rf of everything: ${took.toFixed(1)} s`);
  await column.stop();
  await column.check();
}

async function realTrees(context: AcceptanceContext): Promise<void> {
  const part = context.quick ? 'fs' : undefined;
  const entries = context.quick ? 1_000 : 10_000;
  const synthetic = join(context.directory, 'synthetic.tar');
  const trees = await referenceTrees(context.directory, context.cleanup, {
    linux: () => linuxTar(context.shared, part),
    synthetic: async (scratch) => {
      await syntheticTar(scratch, synthetic, { seed: context.seed, entries });
      return synthetic;
    },
  });
  const work = join(context.directory, 'column');
  await mkdir(work);
  const column = await Column.start(work, context.cleanup, { size: '8G' });
  await treesGoIn(column, trees, context.measure);
  await linuxWritesAndBack(column, {
    top: 'linux/linux-source-6.1/fs',
    file: 'namei.c',
    directories: ['btrfs', 'ext4'],
  });
  context.measure('Linux wrote into it, CRFS served and changed that, Linux saw it; all checks clean');
  await removeEverything(column, context.measure);
}

export const REAL_TREES: AcceptanceLine = {
  name: 'real_trees',
  title: 'trees by tar: all bytes and attributes, at once, remounted, restarted, in Linux, and back',
  run: realTrees,
};
