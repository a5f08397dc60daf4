// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a long run must have seen: what never happens is not tested.

const EXPECTED: readonly string[] = [
  'kernel: cached name',
  'kernel: cached attributes',
  'kernel: cached page',
  'message: acquire from client',
  'message: acquire to client',
  'message: batch from client',
  'message: batch to client',
  'message: closed from client',
  'message: goodbye from client',
  'message: greeting from client',
  'message: greeting to client',
  'message: ping from client',
  'message: ping to client',
  'message: readData from client',
  'message: readData to client',
  'message: release from client',
  'message: revoke to client',
  'message: sync from client',
  'message: sync to client',
];

/** @returns what never happened */
export function missingCounts(counts: Readonly<Record<string, number>>): string[] {
  return EXPECTED.filter((name) => (counts[name] ?? 0) === 0);
}
