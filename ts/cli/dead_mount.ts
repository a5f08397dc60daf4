// SPDX-License-Identifier: GPL-2.0-or-later
// A mount whose process was killed stays in its place, and every call in it fails with ENOTCONN. The next mount on the
// directory takes its place.

import { statfs } from 'node:fs/promises';
import type { Log } from '../util/log.ts';
import { askControl } from './control_socket.ts';
import { findMountOf, MOUNT_TYPE } from './find_mount.ts';
import type { MountEntry } from './mountinfo.ts';
import { systemUmount } from './system_umount.ts';

async function isDead(mount: MountEntry): Promise<boolean> {
  const reply = await askControl(mount, { op: 'stats' });
  reply?.forget();
  if (reply !== undefined) return false;
  // Not stat(2): the kernel may answer that from what it remembers.
  const errno = await statfs(mount.mountPoint).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );
  // The second one for a request that was under way while the process ended.
  return errno === 'ENOTCONN' || errno === 'ECONNABORTED';
}

/** Takes mounts of ours away from `directory` that nobody serves any more. @throws CliError */
export async function removeDeadMounts(directory: string, log: Log): Promise<void> {
  for (;;) {
    const mount = await findMountOf(directory);
    if (mount?.type !== MOUNT_TYPE || !(await isDead(mount))) return;
    // Lazily: programs that still stand in it can do nothing there any more.
    await systemUmount(mount.mountPoint, { lazy: true });
    log(`${mount.mountPoint}: the dead mount of ${mount.source} is replaced`, 'warning');
  }
}
