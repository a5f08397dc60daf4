// SPDX-License-Identifier: GPL-2.0-or-later
// Unmounts without the process that serves the mount: by umount(8), or fusermount3(1) for users other than root.

import { execFile } from 'node:child_process';
import { CliError, Exit } from './exit.ts';

export interface UmountWays {
  /** Abort: whoever waits for an answer gets an error. */
  readonly force?: boolean;
  /** Detach also what is in use. */
  readonly lazy?: boolean;
}

function argvOf(directory: string, { force = false, lazy = false }: UmountWays): string[] {
  if (process.geteuid?.() !== 0) return ['fusermount3', '-u', ...(lazy ? ['-z'] : []), '--', directory];
  // -i: without its helpers, us.
  return [
    'umount',
    '-i',
    '--no-canonicalize',
    ...(force ? ['-f'] : []),
    ...(lazy ? ['-l'] : []),
    '--',
    directory,
  ];
}

/** @throws CliError - with what the program said. */
export function systemUmount(directory: string, ways: UmountWays = {}): Promise<void> {
  const [program, ...argv] = argvOf(directory, ways);
  return new Promise((resolve, reject) => {
    execFile(program!, argv, (error, _stdout, stderr) => {
      if (error === null) return resolve();
      reject(new CliError(stderr.trim() || error.message, Exit.failed));
    });
  });
}
