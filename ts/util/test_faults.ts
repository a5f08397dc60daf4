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
  | 'inodes-first'
  /** A name that waits for its directory's lock is waited for, however long. */
  | 'wait-for-names'
  /** Where some bytes of a file go, all its pages do. */
  | 'whole-files'
  /** The kernel is told to drop pages that unanswered READs and WRITEs keep locked. */
  | 'locked-pages-too'
  /** READs and WRITEs of direct handles count as keeping pages locked. */
  | 'direct-requests-lock'
  /** The page of a WRITE that waits for nobody else is left out of an invalidation too. */
  | 'leave-out-all-writes'
  /** Absent names that the kernel was told of are not remembered. */
  | 'forget-absent-names'
  /** Names that fall out of the table of given names are not expired. */
  | 'evicted-names-stay'
  /** A directory that the kernel takes for removed, though another one was, is given to it as before. */
  | 'removed-directories-stay'
  /** A rename finds one file under both of its names. */
  | 'torn-renames-pass'
  /** The kernel may keep listings. */
  | 'keep-listings'
  /** What is answered may be kept without limit, though its range is leaving or contended. */
  | 'always-lasting'
  /** A READ of pages that are leaving waits for what it lacks like any other. */
  | 'leaving-reads-wait'
  /** A file that is open for writing may have pages of bytes held only to read. */
  | 'dirty-under-read'
  /** A file that is open for writing keeps its pages when the derived part of its inode goes. */
  | 'derived-alone'
  /** Any signal ends a call that waits. */
  | 'any-signal-ends'
  /** The kernel keeps what it has when the session is over. */
  | 'keep-after-end'
  // Those of crates/crfs-fuse/src/test_faults.rs, named here for completeness.
  /** The kernel sends few background requests at a time. */
  | 'few-background-requests'
  /** One thread writes all notifications, in order. */
  | 'one-notifier'
  /** The thread that answers requests writes notifications. */
  | 'answering-thread-notifies';

const planted: ReadonlySet<string> = new Set(process.env['CRFS_TEST_FAULTS']?.split(',') ?? []);

export function isPlanted(fault: TestFault): boolean {
  return planted.size > 0 && planted.has(fault);
}
