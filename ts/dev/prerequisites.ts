// SPDX-License-Identifier: GPL-2.0-or-later
// What the tests, the demo and the acceptance runs need of the machine: root, /dev/fuse, loop devices, the kernel's
// BTRFS, and commands from Debian packages.
//
// Missing packages are installed; what cannot be had is an error with one line that says what and why. Nothing is
// skipped quietly: a run without these would prove little.

import { access, constants, readFile, rm, writeFile } from 'node:fs/promises';
import { run, runShown } from './command.ts';

/** Command -> the Debian package that brings it. */
const PACKAGES: Readonly<Record<string, string>> = {
  tar: 'tar',
  xz: 'xz-utils',
  cc: 'gcc',
  'mkfs.btrfs': 'btrfs-progs',
  setfattr: 'attr',
  setfacl: 'acl',
  losetup: 'mount',
  man: 'man-db',
  mandoc: 'mandoc',
  zsh: 'zsh',
  fish: 'fish',
  fusermount3: 'fuse3',
  modprobe: 'kmod',
  sshfs: 'sshfs',
  ssh: 'openssh-client',
  '/usr/sbin/sshd': 'openssh-server',
  perf: 'linux-perf',
  sqlite3: 'sqlite3',
  git: 'git',
  perl: 'perl-base',
  '/usr/lib/x86_64-linux-gnu/libfuse.so.2': 'libfuse2',
  make: 'make',
  '/usr/lib/postgresql': 'postgresql',
  '/usr/src/linux-source-6.1.tar.xz': 'linux-source-6.1',
};

/** What `npm test` calls from outside. */
export const TEST_COMMANDS: readonly string[] = [
  'tar',
  'cc',
  'mkfs.btrfs',
  'setfattr',
  'setfacl',
  'losetup',
  'man',
  'mandoc',
  'zsh',
  'fish',
  'fusermount3',
  'git',
  'perl',
  // Of the portable driver, whose package has its addon for this machine only.
  ...(process.arch === 'x64' ? ['/usr/lib/x86_64-linux-gnu/libfuse.so.2'] : []),
];

/** What the acceptance runs call beyond that. */
export const ACCEPTANCE_COMMANDS: readonly string[] = ['xz', '/usr/src/linux-source-6.1.tar.xz'];

/** What the comparison with sshfs calls beyond that. */
export const SSHFS_COMMANDS: readonly string[] = ['sshfs', 'ssh', '/usr/sbin/sshd'];

/** The programs that share a tree from several mounts. */
export const PROGRAM_COMMANDS: readonly string[] = ['sqlite3', 'git', 'make', '/usr/lib/postgresql'];

/** What the profile in that comparison calls. */
export const PROFILE_COMMANDS: readonly string[] = ['perf'];

async function exists(path: string): Promise<boolean> {
  try {
    await access(path, constants.F_OK);
    return true;
  } catch {
    return false;
  }
}

async function hasCommand(command: string): Promise<boolean> {
  if (command.startsWith('/')) return exists(command);
  const directories = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':');
  for (const directory of directories) {
    if (directory !== '' && (await exists(`${directory}/${command}`))) return true;
  }
  return false;
}

/**
 * Installs packages without starting the daemons that some of them bring (a policy-rc.d that says no, as chroots
 * have it; a policy that is already there stays).
 */
async function install(packages: readonly string[]): Promise<void> {
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !(await exists(policy));
  if (ours) await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await runShown(['apt-get', 'update', '-q'], { env });
    const argv = ['apt-get', 'install', '-y', '-q', '--no-install-recommends', ...packages];
    if ((await runShown(argv, { env })) !== 0) throw new Error(`could not install: ${packages.join(' ')}`);
  } finally {
    if (ours) await rm(policy, { force: true });
  }
}

/** Makes sure that every one of `commands` can be called, installing Debian packages where needed. */
export async function ensureCommands(commands: readonly string[]): Promise<void> {
  const missing = new Set<string>();
  for (const command of commands) {
    if (!(await hasCommand(command))) missing.add(PACKAGES[command] ?? command);
  }
  if (missing.size > 0) await install([...missing]);
}

/** Makes sure of root and of a /dev/fuse that can be opened. */
export async function ensureFuse(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('this must run as root: it mounts file systems');
  if (!(await exists('/dev/fuse'))) await run(['modprobe', 'fuse'], { allow: [0, 1, 127] });
  if (!(await exists('/dev/fuse'))) throw new Error('no /dev/fuse: the kernel module fuse is not available');
}

/** Makes sure of what the judges need: loop devices and the kernel's own BTRFS. */
export async function ensureKernelBtrfs(): Promise<void> {
  if (!(await exists('/dev/loop-control'))) await run(['modprobe', 'loop'], { allow: [0, 1, 127] });
  if (!(await exists('/dev/loop-control'))) throw new Error('no /dev/loop-control: loop devices are needed');
  const known = async () => /\tbtrfs$/m.test(await readFile('/proc/filesystems', 'utf8'));
  if (!(await known())) await run(['modprobe', 'btrfs'], { allow: [0, 1, 127] });
  if (!(await known()))
    throw new Error('the kernel has no BTRFS: it judges every image that the tests write');
}
