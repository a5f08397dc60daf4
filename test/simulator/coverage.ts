// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a long run must have seen: what never happens is not tested.

import { Transition } from '../../ts/coherency/transitions.ts';

/** What no client of today makes happen, or only one that has far more ranges than fit into a simulation. */
const UNREACHED: readonly string[] = [
  // A client waits for its batch before it releases.
  'acquireQueued',
  'releaseQueued',
  // Needs a release that crosses a grant of another mode for the same keys.
  'releaseStale',
  // The volume does not fail here.
  'abandoned',
  'shed',
  // Refused batches break a rule of their own.
  'batchRefused',
  // 8 MiB may be dirty.
  'waitedForRoom',
];

const EXPECTED: readonly string[] = [
  ...Object.keys(Transition)
    .filter((name) => !UNREACHED.includes(name))
    .map((name) => `transition: ${name}`),
  'trouble: a client crashes',
  'trouble: a client is silent for a while',
  'trouble: a client is silent for good',
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
