// SPDX-License-Identifier: GPL-2.0-or-later
//
// Releases: ranges that a client gives back, by itself or because they were revoked. The table makes them count when
// the batch that they name has been applied.

import { ProtocolError } from '../util/errors.ts';
import type { Release } from '../wire/message.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

export function onRelease(state: ServerState, session: Session, release: Release): void {
  if (release.afterBatch > session.received) {
    throw new ProtocolError(`release after batch ${release.afterBatch}, which was not sent`);
  }
  for (const { tree, ino } of release.openInodes) session.openInodes.add(`${tree}:${ino}`);
  state.table.release(session.id, release.ranges, release.afterBatch);
  state.deliver();
}
