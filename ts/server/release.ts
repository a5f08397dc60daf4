// SPDX-License-Identifier: GPL-2.0-or-later
//
// Releases: ranges that a client gives back, by itself or because they were revoked. The table makes them count when
// the batch that they name has been applied.
//
// The inodes that it names as open are not remembered: nameless inodes are deleted only when no session is left
// (wind_up.ts), so an open one is never among them.

import { ProtocolError } from '../util/errors.ts';
import type { Release } from '../wire/message.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

export function onRelease(state: ServerState, session: Session, release: Release): void {
  if (release.afterBatch > session.received) {
    throw new ProtocolError(`release after batch ${release.afterBatch}, which was not sent`);
  }
  state.table.release(session.id, release.ranges, release.afterBatch);
  state.deliver();
}
