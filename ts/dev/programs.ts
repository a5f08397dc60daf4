// SPDX-License-Identifier: GPL-2.0-or-later
// The commands of the project: where their builds lie, which manual pages there are, and what each command says of itself.

import { join } from 'node:path';
import type { ProgramDescription } from '../cli/command_line.ts';
import { run } from './command.ts';

export interface ProgramFile {
  readonly name: string;
  /** From the top of the tree, as are the pages. */
  readonly script: string;
}

export const PROGRAMS: readonly ProgramFile[] = [
  { name: 'crfs-bench', script: 'dist/bench/crfs-bench.js' },
  { name: 'crfsd', script: 'dist/cli/crfsd.js' },
  { name: 'mount.crfs', script: 'dist/cli/mount.crfs.js' },
  { name: 'umount.crfs', script: 'dist/cli/umount.crfs.js' },
];

/** Where the manual pages lie, and their names: `crfsd.8` is crfsd(8). */
export const PAGE_DIRECTORY = 'docs/man';
export const PAGES: readonly string[] = [
  'crfs.5',
  'crfs-bench.1',
  'crfsd.8',
  'mount.crfs.8',
  'umount.crfs.8',
];

/** Asks a built command for its subcommands and options. */
export async function describe(
  program: ProgramFile,
  tree: string = process.cwd(),
): Promise<ProgramDescription> {
  const argv = [process.execPath, join(tree, program.script), '--describe'];
  return JSON.parse((await run(argv, { timeoutMs: 60_000 })).stdout) as ProgramDescription;
}
