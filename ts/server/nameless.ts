// SPDX-License-Identifier: GPL-2.0-or-later
//
// Inodes without a name: dropped when nobody has them open any more.
//
// A session that holds write on an inode whose last name it took away drops it itself, in a batch. The server does it
// where sessions share the knowledge (coherency/open_inodes.ts), and for what an ended session left behind.

import { ChangeLog } from '../item/change.ts';
import { FsError, ProtocolError } from '../util/errors.ts';
import { inodeRange } from '../util/range.ts';
import type { Closed, TreeInode } from '../wire/message.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

/** Nameless inodes looked at in one go. */
const ORPHANS_AT_ONCE = 1024;

/** A session has closed inodes that it had named as open. */
export async function onClosed(state: ServerState, session: Session, closed: Closed): Promise<void> {
  const { afterBatch, inodes } = closed;
  if (afterBatch > session.received)
    throw new ProtocolError(`closed after batch ${afterBatch}, which was not sent`);
  // In this very turn, as far as possible: a release that comes behind may say that one of them is open again.
  if (afterBatch > session.applied) await session.whenApplied(afterBatch);
  const unused = inodes.filter((inode) => state.openInodes.closed(session.id, inode, inode.isNameless));
  for (const inode of unused) await drop(state, inode);
}

/** Drops what an ended session had open, or had left nameless, and nobody else uses. */
export async function dropLeftovers(state: ServerState, opened: readonly TreeInode[]): Promise<void> {
  for (const inode of opened) await drop(state, inode);
  for (const tree of state.writableTrees) {
    for (let from = 0; ; ) {
      const found = await state.volume.orphans(tree, from, ORPHANS_AT_ONCE);
      for (const ino of found) if (!state.openInodes.isOpen(tree, ino)) await drop(state, { tree, ino });
      const last = found.at(-1);
      if (last === undefined || found.length < ORPHANS_AT_ONCE) break;
      from = last + 1;
    }
  }
}

/**
 * Drops an inode if it is there, has no name, and nobody has it open. Whoever holds a grant of it may: the server takes
 * them all back first, as a session would that unlinks, and so hears of it.
 */
async function drop(state: ServerState, { tree, ino }: TreeInode): Promise<void> {
  if (state.volume.info.readOnly) return;
  const range = inodeRange(tree, ino);
  await state.takeForServer(range);
  try {
    if (state.openInodes.keepNameless(tree, ino)) return;
    const log = new ChangeLog();
    log.dropInode(tree, ino);
    const nothing = new Uint8Array(0);
    const changes = log.bytes.subarray(0, log.length);
    const { refused } = await state.volume.apply(
      { changeCount: 1, changes, checksums: nothing, data: nothing },
      null,
      0,
    );
    // Refused: somebody else dropped it, or it has a name after all.
    if (refused === null) state.commit.noteApplied();
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    state.log(`inode ${ino} of tree ${tree} has no name and could not be dropped: ${error.message}`, 'error');
  } finally {
    state.giveFromServer(range);
  }
}
