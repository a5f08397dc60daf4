// SPDX-License-Identifier: GPL-2.0-or-later
//
// The end of a session: waits for its batches in the volume, frees its grants, reservations and numbers, and deletes
// the nameless inodes that it kept open. Until the batches are done its grants stand, so that nobody reads beside them.

import { FsError } from '../util/errors.ts';
import type { TreeInode } from '../wire/message.ts';
import { dropLeftovers } from './nameless.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

/** Ends a session whose connection is gone. Called once a session. */
export function endSession(state: ServerState, session: Session): void {
  session.closing = true;
  const left = leave(state, session);
  state.leaving.add(left);
  void left.finally(() => state.leaving.delete(left));
  const ended = left.then((opened) => cleanUp(state, session, opened));
  state.ending.add(ended);
  void ended.finally(() => state.ending.delete(ended));
}

/** @returns the inodes that nobody has open any more, for `cleanUp`; with the last session they are deleted already. */
async function leave(state: ServerState, session: Session): Promise<readonly TreeInode[]> {
  await session.whenIdle();
  state.forget(session.operations);
  state.sessions.delete(session.id);
  state.table.endSession(session.id);
  state.revokes.endSession(session.id);
  const unused = state.credits.endSession(session.id);
  const opened = state.openInodes.endSession(session.id);
  state.deliver();
  if (unused > 0) await state.volume.withdraw(unused);
  if (state.sessions.size > 0) return opened;
  await logged(state, session, () => finishDeletes(state));
  return [];
}

/** What waits for other sessions, which may be silent for a lease. */
async function cleanUp(state: ServerState, session: Session, opened: readonly TreeInode[]): Promise<void> {
  await logged(state, session, async () => {
    await dropLeftovers(state, opened);
    for (const tree of state.runs.treesOf(session.id)) {
      state.runs.giveBack(session.id, tree, await state.volume.highestInode(tree));
    }
  });
}

async function logged(state: ServerState, session: Session, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    state.log(`session ${session.id}: cleaning up after it failed: ${error.message}`, 'error');
  }
}

/** Deletes the inodes that have no name, in every tree, while there are no sessions. */
export async function finishDeletes(state: ServerState): Promise<void> {
  if (state.volume.info.readOnly) return;
  for (const tree of state.writableTrees) {
    for (let from: number | null = 0; from !== null; ) {
      from = await state.volume.finishDeletes(tree, from, []);
      state.commit.noteApplied();
    }
  }
}
