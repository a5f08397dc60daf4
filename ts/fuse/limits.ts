// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bounds of the kernel channel, each with unit and reason. The sizes that the kernel is told of (write, pages,
// background requests) are in crates/crfs-fuse; the two that both sides use are repeated here and compared by a test.

const KIB = 1024;
const MIB = 1024 * KIB;

/** Room that every read of a request needs, bytes: a WRITE of 1 MiB and its header. As `SLOT_BYTES` in Rust. */
export const REQUEST_SLOT_BYTES: number = MIB + 4 * KIB;
/** Bytes of requests in one burst: three of the largest, or some ten thousand small ones behind one another. */
export const REQUEST_REGION_BYTES: number = 4 * MIB;
/** Requests in one burst: more gain nothing, and the replies of the first ones wait for the last. */
export const BURST_MAX = 32;
/** Continuous work on requests before the event loop's sockets and timers get their turn, milliseconds. */
export const BURST_WORK_MS = 4;
/** The same while other clients want what this one holds: what a few requests take. */
export const CONTENDED_WORK_MS = 0.25;

/** How long to look for the next request before sleeping, microseconds: what a program takes between two calls. */
export const LOOK_US = 60;

/** Bytes of small replies that one burst queues; a full area is flushed early. The largest small reply has 160. */
export const SMALL_REPLY_AREA_BYTES: number = 64 * KIB;
/** Replies queued before they are written. */
export const QUEUED_REPLIES_MAX = 256;
/** Places for large replies (READ, READDIR, xattrs) that may be queued at once. */
export const LARGE_REPLY_SLOTS = 4;
/** Bytes of data of one large reply: what READ may ask for (max_read). */
export const LARGE_REPLY_BYTES: number = MIB;

/**
 * Requests that may wait for grants or data. Below the kernel's 8,192 background requests: if parked reads filled
 * that queue, pages dirtied through mmap could not be written and an invalidation would wait for ever.
 */
export const PARKED_MAX = 4096;
/** Bytes of copied requests that wait: each writing thread parks one WRITE of at most 1 MiB. */
export const PARKED_BYTES_MAX: number = 256 * MIB;

/** How often to look whether a thread that got a signal is being killed, milliseconds. */
export const INTERRUPTED_LOOK_MS = 500;

/** Names that the kernel may hold with a timeout, positive and negative: 16 MiB of table when full. */
export const GIVEN_NAMES_MAX = 262_144;
/** Bytes of those names: 24 on average. Whichever bound is reached first expires the oldest. */
export const GIVEN_NAME_BYTES_MAX: number = 6 * MIB;
/** Names of directories that only the kernel remembers, and has to ask for: what is beyond goes when the kernel is short. */
export const EXPIRED_NAMES_MAX = 16_384;
/** A name answered less than this long ago may not have been stored by its caller yet, seconds. */
export const RECENT_SECONDS = 3;
/** Lookups that are remembered as such: those of the threads that are between a lookup and what they do with it. */
export const RECENT_LOOKUPS = 256;
/**
 * Names told one by one in one batch, 5 us each on four threads; above that one INC_EPOCH replaces them. It makes programs
 * lose their working directory as a drop does, so the bound lies where the wait, some 0.1 s, would be felt.
 */
export const NAMES_AT_ONCE_MAX = 32_768;
/**
 * Notifications under way at once, some 2 ms of work. Each costs a promise: by the ten thousand these would grow old
 * and stay in the heap until all of it is collected.
 */
export const NOTIFICATIONS_AT_ONCE_MAX = 1024;
/** Time that the kernel may take for a name before INC_EPOCH replaces it, ms: its directory is locked by a request. */
export const NAME_NOTIFICATION_MS = 20;

/** Threads whose last found name is remembered, some 400 bytes each; beyond it all are forgotten. */
export const LAST_FOUND_MAX = 4096;

/** Threads that may be within a write in parts; beyond it all are forgotten. */
export const THREADS_WRITING_MAX = 4096;
/** How long the next part of a write is waited for, milliseconds: the thread only has to get a processor. */
export const UNFINISHED_WRITE_MS = 5;
/** How much longer, while the thread wants to run: some turns of others on a busy processor. */
export const UNFINISHED_RUNNING_MS = 50;

/** How long a WRITE's answer waits for its pages to be forgotten, milliseconds: one that it keeps locked itself never is. */
export const OWN_PAGES_MS = 2;

/** Threads that may not have taken the attributes that they asked for; beyond it all are forgotten. */
export const UNTAKEN_MAX = 4096;
/** How long such a thread is waited for, milliseconds: many turns of others on a busy processor. */
export const UNTAKEN_MS = 100;

/** How long until it is looked again whether a thread has come to wait for its answer, milliseconds, and how often. */
export const LOOK_LATER_MS = 1;
export const LOOKS_MAX = 1000;

/** A system call that was answered ESTALE and began anew is over within this time, seconds. */
export const STALE_RETRY_SECONDS = 5;
/** Threads answered ESTALE that are remembered; beyond it all are forgotten, and a program may see one ESTALE. */
export const STALE_RETRIES_MAX = 65_536;

/** Seconds for which the kernel may keep what a grant covers: without limit, as far as jiffies go. */
export const UNLIMITED_SECONDS = 1_000_000_000;

/** Calls of the portable driver that may wait for grants or data: each keeps one of libfuse's threads. */
export const PATH_CALLS_WAITING_MAX = 1024;
/** Files that are open in the portable driver: as many as Linux lets one process open. Its API has 31 bits for them. */
export const OPEN_FILES_MAX = 1_048_576;
/** How often the portable driver looks whether its mount is gone, milliseconds: nobody tells it. */
export const GONE_LOOK_MS = 100;
/** How often the portable driver looks whether a rename that it has seen coming is still on its way, milliseconds. */
export const REPLACING_LOOK_MS = 20;
