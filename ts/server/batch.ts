// SPDX-License-Identifier: GPL-2.0-or-later
//
// Batches: handed to the volume in the order in which they came, their sections as they are. No change is looked at
// here; the engine judges them by the sender's packed write grants. A batch is answered when it is applied or refused;
// releases that name it count from then on.

import type { BatchParts } from '../store/volume.ts';
import { Errno } from '../util/errno.ts';
import { FsError, ProtocolError } from '../util/errors.ts';
import { BATCHES_IN_FLIGHT_MAX } from '../util/limits.ts';
import type { Refusal } from '../wire/message.ts';
import type { RequestFrom } from '../wire/peer.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

export async function onBatch(
  state: ServerState,
  session: Session,
  request: RequestFrom<'batch'>,
): Promise<void> {
  const { number } = request.fields;
  if (number !== session.received + 1) {
    throw new ProtocolError(`batch ${number} after batch ${session.received}`);
  }
  if (session.batchesInFlight >= BATCHES_IN_FLIGHT_MAX) throw new ProtocolError('too many batches in flight');
  const parts = cut(state, request);
  session.received = number;
  session.batchBegins();
  const refused = await apply(state, session, parts);
  // Before the commit policy hears of it: a commit that it begins covers this batch.
  session.batchEnds(number);
  if (refused === null) state.commit.noteApplied();
  state.table.applied(session.id, number);
  state.revokes.settle(session.id);
  request.reply({ applied: session.applied, durable: session.durable, refused });
  state.deliver();
}

/** The sections of the body, as views. */
function cut(state: ServerState, request: RequestFrom<'batch'>): BatchParts {
  const { changeCount, changesLength, changesCrc32c, dataLength } = request.fields;
  const { body } = request;
  const dataStart = body.length - dataLength;
  if (changesLength > dataStart || (dataStart - changesLength) % 4 !== 0) {
    throw new ProtocolError('the sections of a batch do not add up to its body');
  }
  const changes = body.subarray(0, changesLength);
  if (state.crc32c(changes) !== changesCrc32c) throw new ProtocolError('changes with a wrong checksum');
  return {
    changeCount,
    changes,
    checksums: body.subarray(changesLength, dataStart),
    data: body.subarray(dataStart),
  };
}

async function apply(state: ServerState, session: Session, parts: BatchParts): Promise<Refusal | null> {
  if (!state.mayWrite(session)) return { index: 0, errno: Errno.EROFS, text: 'the file system is read-only' };
  try {
    const { refused, cost } = await state.volume.apply(parts, state.table.packedWriteGrants(session.id));
    if (refused === null) {
      state.batchesApplied++;
      state.credits.spend(session.id, cost);
    } else {
      state.batchesRefused++;
      state.log(`session ${session.id}: batch refused at change ${refused.index}: ${refused.text}`);
    }
    return refused;
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    state.log(`session ${session.id}: batch failed: ${error.message}`);
    return { index: 0, errno: error.errno, text: error.text };
  }
}
