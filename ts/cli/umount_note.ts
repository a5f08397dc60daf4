// SPDX-License-Identifier: GPL-2.0-or-later
// Sees to it that umount(8) calls umount.crfs. Given an absolute path it asks only statfs(2) for the type, which is "fuse"
// for every FUSE file system, and unmounts without a helper and without waiting for anything. Unless the mount stands in
// util-linux's own table (/run/mount/utab) with a helper: then it looks closer. mount(8) leaves that entry to the
// helpers of mounting, us; `mount -f` writes it.
//
// Only root may. A user's umount(8) always looks closer.

import { execFile } from 'node:child_process';
import type { Log } from '../util/log.ts';
import { MOUNT_TYPE } from './find_mount.ts';

/** @returns what the program said if it failed. */
function call(program: string, argv: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(program, argv, (error, _stdout, stderr) => {
      resolve(error === null ? undefined : stderr.trim() || error.message);
    });
  });
}

const FAKE: readonly string[] = ['-i', '--fake', '--no-canonicalize'];

/** Takes the note of a mount that has ended away. umount(8) may have done so already, which is no failure. */
export async function forgetForUmount(target: string): Promise<void> {
  if (process.geteuid?.() === 0) await call('umount', [...FAKE, '--', target]);
}

/** Notes the mount in the table, in the place of an older one whose process was killed. */
export async function noteForUmount(source: string, target: string, log: Log): Promise<void> {
  if (process.geteuid?.() !== 0) return;
  await forgetForUmount(target);
  const argv = [...FAKE, '-t', MOUNT_TYPE, '-o', 'uhelper=crfs', '--', source, target];
  const failure = await call('mount', argv);
  if (failure !== undefined)
    log(`umount(8) will not wait for this mount, only umount.crfs: ${failure}`, 'warning');
}
