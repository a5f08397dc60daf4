// SPDX-License-Identifier: GPL-2.0-or-later
//
// Every bound of CRFS: each with its unit and the reason for its size. Whatever a peer or a program can make grow has
// its bound here; a layer that needs another one adds it here. The numbers that docs/protocol.md names are part of
// the protocol; the others may change freely.

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

// ---- Frames (docs/protocol.md, "Frame") ----

/** Bytes of a frame's head. */
export const FRAME_HEADER_BYTES = 24;
/** Bytes of CBOR in one frame. Protocol. Some 20,000 ranges, far more than one operation needs. */
export const CONTROL_BYTES_MAX: number = MIB;
/** Raw bytes in one frame. Protocol. Amortises a message, while a revoke waits behind it for 13 ms at 10 Gbit/s. */
export const BODY_BYTES_MAX: number = 16 * MIB;
/** Elements in all arrays of one control part: bounds the objects that 1 MiB of CBOR can become. */
export const CONTROL_ELEMENTS_MAX = 131_072;
/** Nesting of arrays in a control part. A list of ranges in a message is 3 deep; more is an attack. */
export const CONTROL_DEPTH_MAX = 6;
/** Controls up to this many bytes are summed by the table, longer ones by the injected function: break-even. */
export const TABLE_CRC_BYTES_MAX = 512;
/** Bytes of control and body that a peer may send before its greeting was accepted. A path fits. */
export const UNGREETED_FRAME_BYTES_MAX: number = 16 * KIB;

// ---- Item pages ----

/** Bytes of one item page, unless a single item needs more. Protocol. */
export const PAGE_BYTES_MAX: number = 256 * KIB;

// ---- Lists in messages ----

/** Ranges of one operation. A rename over a victim needs some twenty, plus one for each ancestor directory. */
export const WANTS_MAX = 4096;
/** Ranges in one revoke or release. A hold given back at unmount is sent in several messages. */
export const RANGES_MAX = 8192;
/** Open inodes named in one release. */
export const OPEN_INODES_MAX = 8192;
/** Inodes that all sessions together may have open beyond their grants; 100 bytes each at the server. */
export const OPEN_INODES_ALL_MAX = 1_000_000;
/** Extents in one read data request. Small files are read by the hundred. */
export const READ_EXTENTS_MAX = 4096;
/** Bytes of data that one read data request may name: one body, less its checksums (4 bytes a sector). */
export const READ_BYTES_MAX: number = BODY_BYTES_MAX - BODY_BYTES_MAX / 512;
/** Characters of the text of an error, goodbye or client name: one line of a log. */
export const TEXT_MAX = 1024;
/** Bytes of JSON in a reply to stats. */
export const STATS_TEXT_MAX: number = MIB;
/** Features in a greeting. */
export const FEATURES_MAX = 64;
/** Bytes of an export path (PATH_MAX of Linux). */
export const PATH_BYTES_MAX = 4096;
/** Bytes of one name (NAME_MAX of Linux). */
export const NAME_BYTES_MAX = 255;

// ---- Connections and sessions ----

/** Requests that a peer may have without a reply, waiting acquires included. A burst of the kernel channel fits. */
export const REQUESTS_IN_FLIGHT_MAX = 1024;
/** Bytes queued for sending at which a connection asks its users to wait: what 10 Gbit/s moves in 13 ms. */
export const SEND_QUEUE_BYTES_HIGH: number = 16 * MIB;
/** Connections of one server, greeted or not. */
export const CONNECTIONS_MAX = 1024;
/** Sessions of one server: mounts. Each costs the server some megabytes at the most. */
export const SESSIONS_MAX = 1000;
/** Time from connecting to an accepted greeting, milliseconds. */
export const GREETING_TIMEOUT_MS = 10_000;
/** Time to wait for a goodbye to be sent before the socket is closed, milliseconds. */
export const GOODBYE_TIMEOUT_MS = 1_000;
/** A session that sends nothing for this long loses its grants, milliseconds. Clients ping at a third of it. */
export const LEASE_MS = 30_000;

// ---- Grants ----

/** Ranges that one session may hold. 48 bytes each in the engine's list: 1.5 MiB. */
export const SESSION_RANGES_MAX = 32_768;
/** Operations that may wait for grants, in all sessions. */
export const WAITERS_MAX = 65_536;
/** Operations of one session that wait patiently: the oldest ends with nothing when there are more. */
export const PATIENT_MAX = 16;
/** Ranges of one such operation. */
export const PATIENT_WANTS_MAX = 32;
/** Ranges in releases of one session that wait for the batches that they name. */
export const QUEUED_RANGES_MAX = 262_144;
/** Time for which a session may keep what others want from it, to get one operation done, milliseconds. */
export const KEEP_MS = 1000;
/** The same for one that was never done in time: a client some seconds away must get through too. */
export const KEEP_LONGEST_MS = 16_000;
/** Bytes of items to which a wide want is widened: a directory of 1,000 files, 1 ms at 1 Gbit/s. */
export const WIDE_BYTES: number = 128 * KIB;
/** Inode numbers that a wide want may span: never the whole tree, however empty it is. */
export const WIDE_INODES_MAX = 16_384;
/** How long after it last wanted to write a session counts as one that writes, milliseconds. */
export const WRITER_MS = 10_000;
/** Inode numbers handed out at once at most. A client asks for the next run before this one is used up. */
export const INODE_RUN_MAX = 65_536;
/** Highest inode number that a range may name: they stay exact in a double, with room for the ranges' ends. */
export const INODE_NUMBER_MAX = 0xffff_ffff_ffff;
/** Highest inode number that is given out: the last one that has an st_ino (client/node_id.ts). */
export const INODE_GIVEN_MAX: number = 2 ** 36 - 2 ** 17 - 1;

// ---- Batches ----

/** Bytes of changes, checksums and data in one batch. */
export const BATCH_BYTES_MAX: number = 8 * MIB;
/** Changes in one batch: bounds the undo state of the engine. */
export const BATCH_CHANGES_MAX = 65_536;
/** Batches of one session without a reply. Keeps a link busy while the engine applies. */
export const BATCHES_IN_FLIGHT_MAX = 8;

// ---- Data beside items ----

/** Files up to this many bytes get their data together with their items. */
export const SMALL_FILE_BYTES: number = 64 * KIB;
/** Bytes of file data that one acquire may ask for. */
export const ACQUIRE_DATA_BYTES_MAX: number = 4 * MIB;
/** Bytes of item pages in one acquire reply; wants that do not fit are refused with EINVAL. */
export const ACQUIRE_PAGE_BYTES_MAX: number = 8 * MIB;

// ---- Commit ----

/** A dirty transaction is committed after this long, milliseconds: what a crash without fsync may lose. */
export const COMMIT_INTERVAL_MS = 5_000;
/** Dirty bytes in the engine that start a commit before its time. */
export const COMMIT_DIRTY_BYTES: number = 256 * MIB;

// ---- Space ----

/** Bytes of data space that are never promised to a client: what new chunks for metadata take beyond their need. */
export const SPACE_KEPT_BYTES: number = 4 * MIB;
/** Bytes of space that one acquire may reserve. */
export const SPACE_WANTED_MAX: number = 64 * GIB;
