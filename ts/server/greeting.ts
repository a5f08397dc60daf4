// SPDX-License-Identifier: GPL-2.0-or-later
//
// The greeting: the first message of a session. Agrees on the version, finds the directory to mount, opens the
// session in the grant table.

import { Errno } from '../util/errno.ts';
import { FsError } from '../util/errors.ts';
import { BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX, BODY_BYTES_MAX } from '../util/limits.ts';
import { type Greeting, PROTOCOL_VERSION } from '../wire/message.ts';
import type { Peer, RequestFrom } from '../wire/peer.ts';
import { findExportRoot } from './export_root.ts';
import { Session } from './session.ts';
import type { ServerState } from './state.ts';

/**
 * Opens a session and answers the greeting.
 *
 * @returns null when the connection ended meanwhile
 * @throws FsError - the reason for which there will be no session
 */
export async function onGreeting(
  state: ServerState,
  peer: Peer,
  request: RequestFrom<'greeting'>,
): Promise<Session | null> {
  const greeting = request.fields;
  requireVersion(greeting);
  const root = await findExportRoot(state.volume, greeting.path, state.crc32c);
  // A client that just went away, perhaps this very one, may leave its last batches with the volume.
  while (state.leaving.size > 0) await Promise.all(state.leaving);
  if (peer.closed !== null) return null;
  if (state.stopping) throw new FsError(Errno.EBUSY, 'the server is stopping');
  if (state.sessions.size >= state.sessionsMax) {
    throw new FsError(Errno.EBUSY, `the server has ${state.sessions.size} of ${state.sessionsMax} sessions`);
  }
  const session = open(state, peer, greeting, root);
  const { info } = state.volume;
  peer.limitFrames();
  request.reply({
    version: PROTOCOL_VERSION,
    features: [],
    session: session.number,
    epoch: state.epoch,
    serverTimeNs: state.clock.realTimeNs(),
    leaseMs: state.leaseMs,
    limits: {
      frameBodyBytes: BODY_BYTES_MAX,
      batchBytes: BATCH_BYTES_MAX,
      batchesInFlight: BATCHES_IN_FLIGHT_MAX,
    },
    root,
    fsid: info.fsid,
    sectorSize: info.sectorSize,
    maxInline: info.maxInline,
    maxXattrItem: info.maxXattrItem,
    maxHashBucketItem: info.maxHashBucketItem,
    deviceTotal: info.deviceTotal,
  });
  return session;
}

function requireVersion({ versionMin, versionMax }: Greeting): void {
  if (versionMin <= PROTOCOL_VERSION && PROTOCOL_VERSION <= versionMax) return;
  const theirs =
    versionMin === versionMax ? `version ${versionMin}` : `versions ${versionMin} to ${versionMax}`;
  throw new FsError(Errno.EPROTONOSUPPORT, `the client speaks ${theirs}, the server ${PROTOCOL_VERSION}`);
}

function open(state: ServerState, peer: Peer, greeting: Greeting, root: Session['root']): Session {
  const id = state.newSessionId();
  const { clientName, readOnly } = greeting;
  const session = new Session({
    id,
    number: BigInt(id),
    peer,
    clientName,
    root,
    readOnly,
    openedMs: state.clock.nowMs(),
  });
  state.sessions.set(id, session);
  state.table.openSession(id);
  state.log(`session ${id}: ${clientName} from ${peer.transport.peerName} mounts ${root.tree}:${root.ino}`);
  return session;
}
