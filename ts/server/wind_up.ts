// SPDX-License-Identifier: GPL-2.0-or-later
//
// The end of a session: waits for its batches in the volume, frees its grants, reservations and numbers, and deletes
// the nameless inodes that it kept open. Until the batches are done its grants stand, so that nobody reads beside them.

import { FsError } from '../util/errors.ts';
import { dropLeftovers } from './nameless.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

/** Ends a session whose connection is gone. Called once a session. */
export function endSession(state: ServerState, session: Session): void {
  session.closing = true;
  const ended = windUp(state, session).finally(() => state.ending.delete(ended));
  state.ending.add(ended);
}

async function windUp(state: ServerState, session: Session): Promise<void> {
  await session.whenIdle();
  state.forget(session.operations);
  state.sessions.delete(session.id);
  state.table.endSession(session.id);
  state.revokes.endSession(session.id);
  state.credits.endSession(session.id);
  const opened = state.openInodes.endSession(session.id);
  state.deliver();
  try {
    if (state.sessions.size > 0) await dropLeftovers(state, opened);
    else await finishDeletes(state);
    for (const tree of state.runs.treesOf(session.id)) {
      state.runs.giveBack(session.id, tree, await state.volume.highestInode(tree));
    }
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    state.log(`session ${session.id}: cleaning up after it failed: ${error.message}`);
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
