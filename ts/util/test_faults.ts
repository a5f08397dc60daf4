// SPDX-License-Identifier: GPL-2.0-or-later
//
// Faults that a test plants to see that the judges report them: named in the environment variable CRFS_TEST_FAULTS,
// separated by commas, when the process starts. Nobody else sets it; without it every question is a look at an empty set.

export type TestFault =
  /** The kernel is not told to forget what leaves. */
  | 'keep-kernel-caches'
  /** A release goes out before what is dirty in its range. */
  | 'release-before-flush'
  /** The client goes on under a grant that it has given back. */
  | 'grant-not-split'
  /** What was written to files does not go out with a release, only later. */
  | 'data-after-metadata'
  /** Pages that were given while their range was leaving are not invalidated again. */
  | 'late-pages'
  /** Requests that wait keep the lock of a directory in which names must go. */
  | 'no-stale-answers'
  /** Names given in the last seconds are only expired. */
  | 'expire-young-names'
  /** Attributes go before names, without the parent's lock having been taken. */
  | 'inodes-first';

const planted: ReadonlySet<string> = new Set(process.env['CRFS_TEST_FAULTS']?.split(',') ?? []);

export function isPlanted(fault: TestFault): boolean {
  return planted.size > 0 && planted.has(fault);
}
