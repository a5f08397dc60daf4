#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
// umount.crfs, installed as /sbin/umount.crfs and /sbin/umount.fuse.crfs: umount(8) calls it with the directory.
//
// The kernel tells a FUSE server neither of the unmount nor of its end, so the helper does: it asks the mount's
// process to make everything durable and to unmount, and returns when that process has ended. A mount whose process
// is gone is unmounted here. With -f nothing is waited for: unwritten changes are lost; -l detaches at once.

import { Option } from 'clipanion';
import { CrfsCommand, runProgram } from './command_line.ts';
import { askControl } from './control_socket.ts';
import { CliError, Exit } from './exit.ts';
import { findCrfsMount } from './find_mount.ts';
import { systemUmount } from './system_umount.ts';
import { NAMESPACE, TYPE } from './values.ts';

class UmountCommand extends CrfsCommand {
  static override usage = CrfsCommand.Usage({
    description: 'unmount a CRFS file system, after everything in it is durable',
    details: `
      It returns when the process that served the mount has ended. A mount that is in use stays, and exit code 32 says
      so. A mount whose process is gone is taken away.
    `,
    examples: [
      ['Usually called by umount(8)', 'umount /mnt'],
      ['Give up what is not written', 'umount -f /mnt'],
    ],
  });
  static override values = { '-N': NAMESPACE, '-t': TYPE };

  directory: string = Option.String({ name: 'DIR' });
  force: boolean = Option.Boolean('-f', false, {
    description: 'do not wait: abort, losing what is not written',
  });
  lazy: boolean = Option.Boolean('-l', false, {
    description: 'detach at once; the process ends when unused',
  });
  noMtab: boolean = Option.Boolean('-n', false, { description: 'accepted for umount(8)' });
  remount: boolean = Option.Boolean('-r', false, { description: 'accepted for umount(8), without effect' });
  verbose: boolean = Option.Boolean('-v', false, { description: 'say what was done' });
  namespace: string | undefined = Option.String('-N', { description: 'refused: other mount namespaces' });
  type: string | undefined = Option.String('-t', { description: 'accepted for umount(8)' });

  async work(): Promise<number> {
    if (this.namespace !== undefined)
      throw new CliError('-N: unmounting in another namespace is not supported');
    const mount = await findCrfsMount(this.directory);
    const request = { op: 'unmount', lazy: this.lazy, force: this.force } as const;
    const reply = await askControl(mount, request);
    if (reply === undefined) {
      // The process is dead: nothing can be flushed any more, and every call in the mount fails.
      await systemUmount(mount.mountPoint, { force: this.force, lazy: this.lazy });
    } else {
      const { answer } = reply;
      // A mount that goes on, or serves what was open or another namespace, does not end its process now.
      const goesOn = answer.ok ? answer.isServedOn === true : answer.exitCode === Exit.failed;
      if (this.lazy || goesOn) reply.forget();
      await reply.ended;
      if (!answer.ok) throw new CliError(answer.error, answer.exitCode);
    }
    if (this.verbose) this.context.stdout.write(`umount.crfs: ${mount.mountPoint} unmounted\n`);
    return Exit.ok;
  }
}

await runProgram('umount.crfs', [UmountCommand]);
