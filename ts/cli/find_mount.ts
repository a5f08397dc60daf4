// SPDX-License-Identifier: GPL-2.0-or-later
// From the directory that a user names to the CRFS mount on it, without touching the mount.

import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CliError, Exit } from './exit.ts';
import { findMount, type MountEntry, parseMountinfo } from './mountinfo.ts';

/** File system type of a CRFS mount in /proc/self/mountinfo. */
export const MOUNT_TYPE = 'fuse.crfs';

export async function readMounts(): Promise<MountEntry[]> {
  return parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/**
 * The absolute path of `directory` without symbolic links. Its last component is not looked at: that would be
 * a request to the mount, which may be dead.
 */
export async function mountPointOf(directory: string): Promise<string> {
  const path = resolve(directory);
  if (path === '/') return path;
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  return join(parent, basename(path));
}

/** What is mounted on `directory`, of whatever type. */
export async function findMountOf(directory: string): Promise<MountEntry | undefined> {
  const mounts = await readMounts();
  return findMount(mounts, resolve(directory)) ?? findMount(mounts, await mountPointOf(directory));
}

/** @throws CliError - no CRFS is mounted there. */
export async function findCrfsMount(directory: string): Promise<MountEntry> {
  const entry = await findMountOf(directory);
  if (entry === undefined) throw new CliError(`${directory}: not a mount point`, Exit.failed);
  if (entry.type !== MOUNT_TYPE) {
    throw new CliError(`${directory}: mounted there is ${entry.type}, not CRFS`, Exit.failed);
  }
  return entry;
}
