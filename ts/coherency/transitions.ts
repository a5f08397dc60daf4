// SPDX-License-Identifier: GPL-2.0-or-later
//
// How often each transition of the state machines of coherency came about in this process: what simulations and tests
// never make happen is not tested. Counting is one addition in a typed array.

export const Transition = {
  grantedAtOnce: 0,
  waited: 1,
  acquireQueued: 2,
  extended: 3,
  raised: 4,
  trimmed: 5,
  abandoned: 6,
  revokeSent: 7,
  revokeDeferred: 8,
  releaseCounted: 9,
  releaseStale: 10,
  releaseQueued: 11,
  shed: 12,
  sessionEnded: 13,
  sessionEndedWaiting: 14,
  gave: 15,
  gaveDirty: 16,
  forgotLatePages: 17,
  evicted: 18,
  batchSent: 19,
  batchRefused: 20,
  waitedForRoom: 21,
  releaseVoid: 22,
  releasedAgain: 23,
  kept: 24,
  keptTooLong: 25,
  leaseEnded: 26,
  leaseLapsed: 27,
  leaseRenewed: 28,
  gaveLater: 29,
  gaveEarly: 30,
  grantedPatient: 31,
  patientHurried: 32,
  patientDropped: 33,
} as const;

export type TransitionName = keyof typeof Transition;

const names = Object.keys(Transition) as TransitionName[];
const counts = new Float64Array(names.length);

export function countTransition(which: number): void {
  counts[which]!++;
}

/** Counts since the process started. */
export function transitionCounts(): Record<TransitionName, number> {
  const named = {} as Record<TransitionName, number>;
  for (const name of names) named[name] = counts[Transition[name]]!;
  return named;
}
