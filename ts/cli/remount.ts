// SPDX-License-Identifier: GPL-2.0-or-later
// `mount -o remount,...`: gives a mount that stands other flags, above all ro and rw.
//
// This process changes the kernel's flags (it is root, which the one that serves the mount need not be), and that one
// takes part: before the mount is read-only everything in it is durable, and then it refuses changes too. The kernel
// refuses while files are open for writing, so nothing can be changed in between.

import { MountError, remountNative } from '../fuse/native_driver.ts';
import { Errno } from '../util/errno.ts';
import { askControl, type ControlRequest } from './control_socket.ts';
import { CliError, Exit, messageOf } from './exit.ts';
import { findCrfsMount } from './find_mount.ts';
import { fixedSettings, type MountSettings } from './mount_options.ts';
import type { MountEntry } from './mountinfo.ts';

async function ask(mount: MountEntry, request: ControlRequest): Promise<void> {
  const reply = await askControl(mount, request);
  if (reply === undefined) {
    throw new CliError(`${mount.mountPoint}: the process of this mount has ended`, Exit.failed);
  }
  reply.forget();
  if (!reply.answer.ok) throw new CliError(reply.answer.error, reply.answer.exitCode);
}

function changeFlags(mount: MountEntry, settings: MountSettings): void {
  try {
    remountNative(mount.mountPoint, [...settings.kernelFlags, settings.readOnly ? 'ro' : 'rw']);
  } catch (error) {
    const isBusy = error instanceof MountError && error.errno === Errno.EBUSY;
    const why = isBusy ? 'files are open for writing' : messageOf(error);
    throw new CliError(`${mount.mountPoint}: cannot be remounted: ${why}`, Exit.failed);
  }
}

/**
 * @param settings - all flags that the mount is to have; of the other settings only those that were given are looked at,
 *   and must be as they are.
 * @throws CliError
 */
export async function remount(directory: string, settings: MountSettings): Promise<void> {
  if (process.geteuid?.() !== 0) throw new CliError('only root can remount');
  const mount = await findCrfsMount(directory);
  const { readOnly } = settings;
  const fixed = Object.fromEntries(
    Object.entries(fixedSettings(settings)).filter(([option]) => settings.given.has(option)),
  );
  await ask(mount, { op: 'remount', readOnly, fixed });
  if (!readOnly) await ask(mount, { op: 'readOnly', readOnly });
  changeFlags(mount, settings);
  if (readOnly) await ask(mount, { op: 'readOnly', readOnly });
}
