// SPDX-License-Identifier: GPL-2.0-or-later
// What `crfsd status` and `mount.crfs status` show to people: who holds and waits for what, what is dirty, how long
// revokes take. Programs get the same facts from --json.

import type { ServerStats } from '../server/stats.ts';
import { formatSize } from './size.ts';

/** Rows with aligned columns; the first one is the heading, numbers are aligned to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  const isNumber = (cell: string): boolean => /^[\d.]/.test(cell);
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (isNumber(cell) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd();
  return `${rows.map(line).join('\n')}\n`;
}

const SESSION_HEADING = [
  'session',
  'client',
  'read',
  'write',
  'waiting',
  'revokes out',
  'oldest ms',
  'in flight',
  'reserved',
  'silent ms',
];

export function serverStatusText(stats: ServerStats): string {
  const parts: string[] = [];
  const { sessions, grants, commits, revokes, waits, grantWaits } = stats;
  parts.push(
    `${sessions.length} sessions, ${grants.ranges} ranges granted, ${grants.waiting} operations wait, ` +
      `${grants.openInodes} inodes open beyond grants, ${formatSize(commits.dirtyBytes)} not committed\n`,
  );
  if (sessions.length > 0) {
    const rows = sessions.map((session) => [
      String(session.id),
      session.client,
      String(session.readRanges),
      String(session.writeRanges),
      String(session.waiting),
      String(session.revokesOut),
      String(session.oldestRevokeMs),
      String(session.batchesInFlight),
      formatSize(session.reservedBytes),
      String(session.silentMs),
    ]);
    parts.push(table([SESSION_HEADING, ...rows]));
  }
  const kinds = Object.entries(revokes).map(([kind, report]) => [kind, report.outstanding, report] as const);
  const times = [...kinds, ['waits for grants', grants.waiting, grantWaits] as const].map(
    ([name, out, { count, p50Ms, p99Ms, maxMs }]) => [
      name,
      String(count),
      String(out),
      String(p50Ms),
      String(p99Ms),
      String(maxMs),
    ],
  );
  parts.push(table([['revokes', 'ended', 'out', 'p50 ms', 'p99 ms', 'max ms'], ...times]));
  for (const { session, ms, wants, heldBy } of waits) {
    const holders = heldBy.length === 0 ? 'those before it' : heldBy.map((id) => `session ${id}`).join(', ');
    parts.push(`session ${session} waits ${ms} ms on ${holders} for ${wants.join('; ')}\n`);
  }
  return parts.join('\n');
}

/** The facts of a mount that its status shows; `MountProcess` makes them. */
export interface MountStatus {
  source: string;
  directory: string;
  connected: boolean;
  grants: { read: number; write: number; leaving: number; contendedInodes: number };
  dirty: { bytes: number; files: number; unsentChanges: number; batchesInFlight: number };
  cache: { itemBytes: number; items: number; dataBytes: number; boundBytes: number };
  waiting: { requests: number; bytes: number };
  kernel: { inodes: number; names: number; askedAgain: number };
  revokes: Record<string, { count: number; p50Ms: number; p99Ms: number; maxMs: number }>;
}

export function mountStatusText(status: MountStatus): string {
  const { grants, dirty, cache, waiting, kernel, revokes } = status;
  const facts = [
    ['source', status.source],
    ['server', status.connected ? 'connected' : 'lost'],
    ['grants', `${grants.read} to read, ${grants.write} to write, ${grants.leaving} being given back`],
    ['contended', `${grants.contendedInodes} inodes`],
    [
      'dirty',
      `${formatSize(dirty.bytes)} in ${dirty.files} files and ${dirty.unsentChanges} changes, ` +
        `${dirty.batchesInFlight} batches in flight`,
    ],
    [
      'cache',
      `${formatSize(cache.itemBytes)} in ${cache.items} items, ${formatSize(cache.dataBytes)} of data, ` +
        `bound ${formatSize(cache.boundBytes)}`,
    ],
    ['waiting', `${waiting.requests} requests, ${formatSize(waiting.bytes)}`],
    ['kernel', `${kernel.inodes} inodes, ${kernel.names} names, ${kernel.askedAgain} requests asked again`],
  ];
  const rows = Object.entries(revokes).map(([kind, { count, p50Ms, p99Ms, maxMs }]) => [
    kind,
    String(count),
    String(p50Ms),
    String(p99Ms),
    String(maxMs),
  ]);
  const parts = [facts.map(([name, text]) => `${name!.padEnd(10)} ${text}\n`).join('')];
  if (rows.length > 0) parts.push(table([['given back', 'times', 'p50 ms', 'p99 ms', 'max ms'], ...rows]));
  return parts.join('\n');
}
