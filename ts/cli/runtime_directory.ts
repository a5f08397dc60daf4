// SPDX-License-Identifier: GPL-2.0-or-later
// Where the processes of a user's mounts keep their control sockets, and a log where there is no other place:
// /run/crfs for root, /run/user/UID/crfs where the system makes such directories, /tmp/crfs-UID where not.
//
// The places follow from the user alone, not from an environment, so that root, cron and a shell with another
// environment find the same ones. In /tmp anybody can make a directory under another user's name: one that does not
// belong to that user alone is not used.

import { existsSync, lstatSync, mkdirSync } from 'node:fs';
import { CliError, Exit, messageOf } from './exit.ts';

/** The places of a user, the one that is preferred first. */
function placesOf(uid: number): readonly string[] {
  if (uid === 0) return ['/run/crfs'];
  return [`/run/user/${uid}/crfs`, `/tmp/crfs-${uid}`];
}

/** Whether only `uid` can have put there what is in `directory`. */
function belongsTo(directory: string, uid: number): boolean {
  const found = lstatSync(directory, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === uid && (found.mode & 0o022) === 0;
}

/** The directories that may hold sockets of a user's mounts. */
export function runtimeDirectories(uid: number): string[] {
  return placesOf(uid).filter((directory) => belongsTo(directory, uid));
}

/** The directory for this process's own sockets, made if it is not there. @throws CliError */
export function makeRuntimeDirectory(uid: number = process.geteuid!()): string {
  const [first, second = first] = placesOf(uid);
  const directory = uid !== 0 && !existsSync(`/run/user/${uid}`) ? second! : first!;
  try {
    mkdirSync(directory, { recursive: true, mode: uid === 0 ? 0o755 : 0o700 });
  } catch (error) {
    throw new CliError(`cannot make the directory of control sockets: ${messageOf(error)}`, Exit.system);
  }
  if (!belongsTo(directory, uid)) {
    throw new CliError(`${directory} must be a directory that belongs to user ${uid} alone`, Exit.system);
  }
  return directory;
}
