// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bounds of the client, each with its unit and reason. Bounds that peers share are in util/limits.ts.

const KIB = 1024;
const MIB = 1024 * KIB;

/** Bytes of changes, sums and data at which a batch is closed and sent: 1 ms of a 10 Gbit/s link, 3,000 creates. */
export const BATCH_TARGET_BYTES: number = MIB;
/** Changes at which a batch is closed, far below what the protocol allows. */
export const BATCH_TARGET_CHANGES = 16_384;
/** Unsent for this long, milliseconds, a change or a written byte is sent: well within the 1 s that is promised. */
export const WRITE_BACK_AGE_MS = 500;
/** How often the age of what is unsent is looked at, milliseconds. */
export const WRITE_BACK_TICK_MS = 250;
/** Least and greatest bound of bytes written but not yet applied; between them it is what 200 ms moved. */
export const DIRTY_BYTES_MIN: number = 8 * MIB;
export const DIRTY_BYTES_MAX: number = 64 * MIB;
export const DIRTY_WINDOW_MS = 200;

/** Bytes of one run of written data, and of one put data: what the kernel writes at once. */
export const RUN_BYTES: number = MIB;
/** Longer payloads go to the socket from the buffer into which they were written, shorter ones are gathered. */
export const GATHER_BYTES: number = 64 * KIB;
/** Bytes of a batch's first buffer of gathered payloads, and of its largest. */
export const GATHER_FIRST_BYTES: number = 8 * KIB;
export const GATHER_BUFFER_BYTES: number = 256 * KIB;
/** Bytes of idle write buffers kept for the next writes. */
export const POOLED_BYTES_MAX: number = 16 * MIB;

/** First run of inode numbers asked for, and the largest; each run is four times the one before. */
export const INODE_RUN_FIRST = 64;
export const INODE_RUN_LARGEST = 16_384;
/** Bytes of space asked for at first, and the most; doubled each time it was used up. */
export const SPACE_FIRST: number = 16 * MIB;
export const SPACE_LARGEST: number = 512 * MIB;
/** Bytes of space asked for beyond the need when the server was short before. */
export const SPACE_LEAST: number = 64 * KIB;

/** Bytes that one read-data request asks for at most: several are in flight for more. */
export const READ_REQUEST_BYTES: number = MIB;
/** Bytes read ahead of a sequential reader at first and at most. */
export const READ_AHEAD_FIRST: number = 256 * KIB;
export const READ_AHEAD_LARGEST: number = 4 * MIB;
/** Files up to this many bytes are fetched ahead of a program that reads file after file. */
export const NEIGHBOUR_FILE_BYTES: number = 128 * KIB;
/** Files fetched ahead at once, and inode numbers looked through for them. */
export const NEIGHBOURS_MAX = 256;
/** Bytes of data wanted beside items when files are being read one after another. */
export const DATA_WITH_ITEMS_BYTES: number = MIB;

/** Share of the cache's bytes that data read ahead may take. */
export const DATA_CACHE_SHARE = 0.25;
/** Share of the cache's bytes that an eviction frees: rare and in bulk. */
export const EVICTION_SHARE = 0.125;
/** Ranges held at most; beyond it the coldest are given back. Less than what the server allows a session. */
export const HELD_RANGES_MAX = 16_384;
/** Ranges asked for by one listing: a burst of an `ls -l` of files far apart. */
export const LISTING_WANTS_MAX = 256;
/** Entries of the table of next directory indexes; what falls out is read from the directory again. */
export const NEXT_INDEX_MAX = 65_536;

/** Entries of the table of placeholders (node_id.ts); of one that falls out the kernel asks by its name again. */
export const PLACEHOLDERS_MAX = 65_536;

/** Default of the mount's `cache` option, bytes. */
export const CACHE_BYTES_DEFAULT: number = 256 * MIB;

/** Largest file size, bytes: offsets stay exact, rounded up to whole sectors too. */
export const FILE_SIZE_MAX: number = Number.MAX_SAFE_INTEGER - 4095;
/** Files larger than this have their extents asked for in windows rather than whole. */
export const WHOLE_EXTENTS_BYTES: number = 4096 * MIB;
/** Such a window, bytes: eight of the largest extents on disk. */
export const EXTENT_WINDOW_BYTES: number = 1024 * MIB;

/** How long an inode counts as contended after a revoke, milliseconds: much longer than handing it over takes. */
export const CONTENDED_MS = 1000;
/** A contended inode counts as in use for so long after an operation needed it, milliseconds: a program's next call. */
export const IN_USE_MS = 0.1;
/** How much later it is given back then, milliseconds: about what handing it over takes. */
export const TENURE_MS = 1;
/** Changes that a reader must have come for one by one before the next one is given to readers early. */
export const FOLLOWED_MIN = 2;
/** Looks of late, each after the inode had been given away, from which on it is wanted again at once; and the most that count. */
export const RETURNS_MIN = 2;
export const RETURNS_MAX = 4;
/** Contended inodes remembered at a time; beyond it all are forgotten, which costs some wider grants. */
export const CONTENDED_INODES_MAX = 65_536;
/** Contended files up to this many bytes are asked for whole, with their data. */
export const CONTENDED_WHOLE_BYTES: number = 64 * KIB;
/** How long the needs of an operation in a contended directory are remembered, milliseconds: some rounds of handing it
 * over. */
export const RECENT_NEEDS_MS = 100;
/** Directories of which they are; beyond it all are forgotten. */
export const RECENT_DIRECTORIES_MAX = 64;
/** Ranges of one operation that are remembered while it runs. A rename needs some twenty. */
export const NEEDS_MAX = 128;
/** Times that a contended operation may miss something before it asks to keep what it gets: most need three at most. */
export const TRIES_BEFORE_KEEPING = 5;
/** Acquires on their way at which contending operations share one again. */
export const OWN_ACQUIRES_MAX = 128;

/** How often to look whether what was looked up is used no more, milliseconds: so long its last name may be gone and it kept. */
export const LOOKED_SWEEP_MS = 1000;
