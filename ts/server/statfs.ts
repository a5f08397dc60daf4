// SPDX-License-Identifier: GPL-2.0-or-later
//
// The state of the space: what is promised to sessions does not count as available to others.

import type { RequestFrom } from '../wire/peer.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

/** The first inode number of a tree is that of its root directory. */
const FIRST_INO = 256;

export async function onStatfs(
  state: ServerState,
  session: Session,
  request: RequestFrom<'statfs'>,
): Promise<void> {
  const { total, free, available } = await state.volume.statfs();
  const highest = await state.volume.highestInode(session.root.tree);
  // A session may use what it holds reserved, and what is still to be had.
  const own = state.credits.of(session.id) + state.credits.promisable(available);
  request.reply({
    total,
    free,
    available: Math.max(0, Math.min(available, own)),
    // BTRFS does not count inodes; numbers given out are an upper bound.
    inodesUsed: Math.max(0, highest - FIRST_INO + 1),
  });
}
