// SPDX-License-Identifier: GPL-2.0-or-later
//
// Live counters. Times in milliseconds, sizes in bytes, the rest counts.

import type { MessageReport } from '../wire/counters.ts';
import type { ServerState } from './state.ts';

export interface ServerStats extends MessageReport {
  uptimeMs: number;
  epoch: string;
  sessions: {
    id: number;
    client: string;
    address: string;
    ranges: number;
    reservedBytes: number;
    batches: number;
    durable: number;
    readOnly: boolean;
  }[];
  grants: { ranges: number; waiting: number; revokes: number };
  batches: { applied: number; refused: number };
  commits: { done: number; syncs: number; generation: number; dirtyBytes: number };
  reservedBytes: number;
  volume: Readonly<Record<string, number>>;
}

export function serverStats(state: ServerState): ServerStats {
  const { table, credits, commit, volume, clock } = state;
  return {
    uptimeMs: Math.round(clock.nowMs() - state.startedMs),
    epoch: String(state.epoch),
    sessions: [...state.sessions.values()].map((session) => ({
      id: session.id,
      client: session.clientName,
      address: session.peer.transport.peerName,
      ranges: table.heldBy(session.id),
      reservedBytes: credits.of(session.id),
      batches: session.applied,
      durable: session.durable,
      readOnly: session.readOnly,
    })),
    ...state.counters.report(),
    grants: { ranges: table.ranges, waiting: table.waiting, revokes: state.revokesSent },
    batches: { applied: state.batchesApplied, refused: state.batchesRefused },
    commits: {
      done: commit.commits,
      syncs: commit.syncs,
      generation: commit.generation,
      dirtyBytes: volume.dirtyBytes(),
    },
    reservedBytes: credits.total,
    volume: volume.stats(),
  };
}
