// SPDX-License-Identifier: GPL-2.0-or-later
// How a command ends: its exit code and the one line that it prints on stderr.
//
// mount.crfs and umount.crfs use the codes of mount(8), since mount(8) passes them on; crfsd uses 0 and 1.

export const Exit = {
  ok: 0,
  /** The user can correct it: wrong options, no permission. */
  usage: 1,
  /** The machine refused: no /dev/fuse, no memory. */
  system: 2,
  /** A bug of ours. */
  bug: 4,
  /** A signal came before the mount stood. (16, a table of mounts that cannot be written, cannot happen: there is none.) */
  interrupted: 8,
  /** The mount or unmount itself failed. */
  failed: 32,
} as const;

/** A failure whose message is meant for the user, without a stack. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = Exit.usage) {
    super(message);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
