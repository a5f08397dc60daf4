// SPDX-License-Identifier: GPL-2.0-or-later
//
// Live counters. Times in milliseconds, sizes in bytes, the rest counts.

import type { DurationReport } from '../util/durations.ts';
import { formatRange } from '../util/range.ts';
import type { MessageReport } from '../wire/counters.ts';
import { Mode } from '../wire/message.ts';
import { modeName, type RevokeReport } from './revoke_log.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';

/** Operations that wait, of which a report tells. */
const WAITS_TOLD_MAX = 100;
/** Ranges of such an operation that are named. */
const WAIT_RANGES_TOLD_MAX = 8;

/** An operation that waits for grants. */
interface WaitReport {
  session: number;
  ms: number;
  /** `mode range` of what it wants. */
  wants: string[];
  /** Sessions that hold it. */
  heldBy: number[];
}

export interface ServerStats extends MessageReport {
  uptimeMs: number;
  epoch: string;
  sessions: {
    id: number;
    client: string;
    address: string;
    ranges: number;
    readRanges: number;
    writeRanges: number;
    /** Its operations that wait for grants. */
    waiting: number;
    /** Revokes that it has not answered, and the age of the oldest. */
    revokesOut: number;
    oldestRevokeMs: number;
    reservedBytes: number;
    batches: number;
    batchesInFlight: number;
    durable: number;
    /** Since something came from it. */
    silentMs: number;
    readOnly: boolean;
  }[];
  grants: {
    ranges: number;
    waiting: number;
    patient: number;
    revokes: number;
    keepings: number;
    openInodes: number;
  };
  /** Operations that wait, the oldest first. */
  waits: WaitReport[];
  /** How long operations waited for their grants. */
  grantWaits: DurationReport;
  /** By what the holder had and may keep. */
  revokes: Record<string, RevokeReport>;
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
    sessions: [...state.sessions.values()].map((session) => sessionReport(state, session)),
    ...state.counters.report(),
    grants: {
      ranges: table.ranges,
      waiting: table.waiting,
      patient: table.patient,
      revokes: state.revokesSent,
      keepings: state.keepings,
      openInodes: state.openInodes.size,
    },
    waits: waitReports(state),
    grantWaits: state.grantWaits.report(),
    revokes: state.revokes.report(),
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

function sessionReport(state: ServerState, session: Session): ServerStats['sessions'][number] {
  const { table, revokes, credits, clock } = state;
  const modes = table.heldModes(session.id);
  const out = revokes.of(session.id);
  return {
    id: session.id,
    client: session.clientName,
    address: session.peer.transport.peerName,
    ranges: table.heldBy(session.id),
    readRanges: modes.get(Mode.read) ?? 0,
    writeRanges: modes.get(Mode.write) ?? 0,
    waiting: [...session.operations].filter((operation) => !operation.isPatient).length,
    revokesOut: out.count,
    oldestRevokeMs: Math.round(out.oldestMs),
    reservedBytes: credits.of(session.id),
    batches: session.applied,
    batchesInFlight: session.batchesInFlight,
    durable: session.durable,
    silentMs: Math.round(clock.nowMs() - session.peer.lastReceivedMs),
    readOnly: session.readOnly,
  };
}

function waitReports(state: ServerState): WaitReport[] {
  return state.table.waits(WAITS_TOLD_MAX).map(({ operation, heldBy }) => ({
    session: operation.session,
    ms: Math.round(state.waitedMs(operation)),
    wants: operation.wants
      .slice(0, WAIT_RANGES_TOLD_MAX)
      .map((want) => `${modeName(want.mode)} ${formatRange(want)}`),
    heldBy: [...heldBy],
  }));
}
