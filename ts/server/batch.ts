// SPDX-License-Identifier: GPL-2.0-or-later
//
// Batches: handed to the volume in the order in which they came, their sections as they are. No change is looked at
// here; the engine judges them by the sender's packed write grants. A batch is answered when it is applied or refused;
// releases that name it count from then on.
//
// A session's batches take effect in their order or not at all: what was sent before its sender knew that a batch was
// refused goes back unjudged. So batches are applied one at a time.

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
  const { refusedSeen } = request.fields;
  const refused = await session.inTurn(async (): Promise<Refusal | null> => {
    if (refusedSeen < session.refused) {
      const text = `batch ${session.refused} before it was refused`;
      return { index: parts.changeCount, errno: Errno.EAGAIN, text };
    }
    const judged = await apply(state, session, parts);
    if (judged !== null) session.refused = number;
    return judged;
  });
  // Before the commit policy hears of it: a commit that it begins covers this batch.
  session.batchEnds(number);
  if (refused === null) state.commit.noteApplied();
  state.table.applied(session.id, number, session.refused === number);
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
    const grants = state.table.packedWriteGrants(session.id);
    const { refused, cost } = await state.volume.apply(parts, grants, state.credits.of(session.id));
    if (refused === null) {
      state.batchesApplied++;
      state.credits.spend(session.id, cost);
    } else {
      state.batchesRefused++;
      state.log(
        `session ${session.id}: batch refused at change ${refused.index}: ${refused.text}`,
        'warning',
      );
    }
    return refused;
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    state.log(`session ${session.id}: batch failed: ${error.message}`, 'error');
    return { index: 0, errno: error.errno, text: error.text };
  }
}
