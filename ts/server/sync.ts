// SPDX-License-Identifier: GPL-2.0-or-later
//
// Durability on demand: waits until the named batch is applied, then for a commit that covers it, and with it what other
// sessions had applied by then: a client may have read it.

import { ProtocolError } from '../util/errors.ts';
import type { RequestFrom } from '../wire/peer.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

export async function onSync(
  state: ServerState,
  session: Session,
  request: RequestFrom<'sync'>,
): Promise<void> {
  const { batch } = request.fields;
  if (batch > session.received) throw new ProtocolError(`sync of batch ${batch}, which was not sent`);
  await session.whenApplied(batch);
  // Refused batches count too: nothing of them is left to become durable.
  const applied = session.applied;
  await state.commit.sync();
  session.durable = Math.max(session.durable, applied);
  request.reply({ durable: session.durable });
}
