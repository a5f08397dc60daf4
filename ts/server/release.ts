// SPDX-License-Identifier: GPL-2.0-or-later
//
// Releases: ranges that a client gives back, by itself or because they were revoked. The table makes them count when
// the batch that they name has been applied.
// The inodes that it names as open count from then on (coherency/open_inodes.ts).

import { ProtocolError } from '../util/errors.ts';
import { OPEN_INODES_ALL_MAX, QUEUED_RANGES_MAX } from '../util/limits.ts';
import type { Release } from '../wire/message.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

export function onRelease(state: ServerState, session: Session, release: Release): void {
  if (release.afterBatch > session.received) {
    throw new ProtocolError(`release after batch ${release.afterBatch}, which was not sent`);
  }
  // Before the ranges are given to anybody.
  for (const inode of release.openInodes) state.openInodes.opened(session.id, inode);
  if (state.openInodes.size > OPEN_INODES_ALL_MAX) throw new ProtocolError('too many open inodes');
  state.table.release(session.id, release.ranges, release.afterBatch, release.refusedSeen);
  if (state.table.queuedRanges(session.id) > QUEUED_RANGES_MAX) {
    throw new ProtocolError('too many ranges in releases that wait for a batch');
  }
  state.revokes.settle(session.id);
  state.deliver();
}
