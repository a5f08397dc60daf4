// SPDX-License-Identifier: GPL-2.0-or-later
//
// THE list of messages: kind, name, sender, fields with their units, body, reply and errors. The codec, the peer and
// the counters go by it, and a test compares it with the table of docs/protocol.md, where the meaning is explained.
//
// To add a message: an interface for its fields (and its reply's), a line in `MessageMap`, an entry in `messages`,
// a line in docs/protocol.md.

import type { ErrnoName } from '../util/errno.ts';
import {
  BATCH_BYTES_MAX,
  BATCH_CHANGES_MAX,
  BODY_BYTES_MAX,
  FEATURES_MAX,
  INODE_RUN_MAX,
  OPEN_INODES_MAX,
  PATH_BYTES_MAX,
  RANGES_MAX,
  READ_EXTENTS_MAX,
  STATS_TEXT_MAX,
  TEXT_MAX,
  WANTS_MAX,
} from '../util/limits.ts';
import { compareKey, type TreeRange } from '../util/range.ts';
import {
  bool,
  bytes,
  type FieldType,
  type FieldTypes,
  key,
  list,
  nullable,
  record,
  text,
  u64,
  uint,
} from './field.ts';

/** Version of the protocol that this code speaks. */
export const PROTOCOL_VERSION = 1;

/** Modes of grants, as on the wire. coherency/mode.ts says what each allows. */
export const Mode = { none: 0, read: 1, merge: 2, write: 3 } as const;
export type Mode = (typeof Mode)[keyof typeof Mode];

/** Flags of a want. */
export const WantFlags = { wide: 1, flushOnly: 2, keep: 4, patient: 8 } as const;

/** A range and its mode. */
export interface GrantRange extends TreeRange {
  readonly mode: Mode;
}

/** A range that an operation needs. */
export interface Want extends GrantRange {
  /** `WantFlags`. */
  readonly flags: number;
}

/** A range that changes its mode: in a revoke what the server asks for, in a release what the client did. */
export interface ModeChange extends TreeRange {
  readonly oldMode: Mode;
  readonly newMode: Mode;
}

/** A piece of the body: one item page and the range that it covers, absence included. */
export interface PageEntry extends TreeRange {
  /** Bytes of the page. */
  readonly length: number;
}

/** A run of bytes of a file. Offset and length in bytes. */
export interface FileExtent {
  readonly tree: number;
  readonly ino: number;
  readonly offset: number;
  readonly length: number;
}

/** Inode numbers `first` to `first + count - 1`. */
export interface InodeRun {
  readonly tree: number;
  readonly first: number;
  readonly count: number;
}

export interface InodeRunWanted {
  readonly tree: number;
  readonly count: number;
}

export interface TreeInode {
  readonly tree: number;
  readonly ino: number;
}

/** What a client must know of a subvolume. */
export interface Subvolume {
  readonly tree: number;
  /** Nothing in it may be changed through this session. */
  readonly isReadOnly: boolean;
  /** Tree and number of the directory in which it has its name; 0 for the top one. */
  readonly parentTree: number;
  readonly parentDir: number;
}

export interface Greeting {
  readonly versionMin: number;
  readonly versionMax: number;
  readonly features: readonly string[];
  /** Who connects, for logs. */
  readonly clientName: string;
  /** Directory of the image that becomes the root, absolute, raw bytes. */
  readonly path: Uint8Array;
  readonly readOnly: boolean;
}

export interface SessionLimits {
  /** Bytes of the longest body. */
  readonly frameBodyBytes: number;
  /** Bytes of changes, checksums and data in one batch. */
  readonly batchBytes: number;
  /** Batches without a reply. */
  readonly batchesInFlight: number;
}

export interface GreetingReply {
  readonly version: number;
  readonly features: readonly string[];
  /** Number of the session, unique in the epoch. */
  readonly session: bigint;
  /** Number of the server incarnation. */
  readonly epoch: bigint;
  /** Time of day at the server, nanoseconds since 1970. */
  readonly serverTimeNs: bigint;
  readonly leaseMs: number;
  readonly limits: SessionLimits;
  /** The directory at the path. */
  readonly root: TreeInode;
  readonly fsid: Uint8Array;
  readonly sectorSize: number;
  /** Longest inline file, bytes. */
  readonly maxInline: number;
  /** Longest name plus value of an xattr with its heads, bytes. */
  readonly maxXattrItem: number;
  /** Longest DIR_ITEM of names with one hash, bytes. */
  readonly maxHashBucketItem: number;
  readonly deviceTotal: number;
}

export interface Acquire {
  readonly wants: readonly Want[];
  /** Bytes. */
  readonly spaceWanted: number;
  readonly inodesWanted: InodeRunWanted | null;
  /** Bytes of small files' data that may come with the items; 0 for none. */
  readonly dataBytesWanted: number;
}

export interface AcquireReply {
  readonly grants: readonly GrantRange[];
  readonly pages: readonly PageEntry[];
  /** Bytes added to the reservation. */
  readonly space: number;
  readonly inodeRun: InodeRun | null;
  readonly data: readonly FileExtent[];
  /** Inodes in the granted ranges that other sessions have open: they outlive their last name. */
  readonly openElsewhere: readonly TreeInode[];
  /** The subvolumes that were asked about and that the session was not told of before. */
  readonly subvolumes: readonly Subvolume[];
}

export interface Revoke {
  readonly ranges: readonly ModeChange[];
}

export interface Release {
  readonly ranges: readonly ModeChange[];
  /** Number of the batch after which the release counts; 0 for at once. */
  readonly afterBatch: number;
  /** Number of the last refused batch whose answer came; 0 if none. */
  readonly refusedSeen: number;
  readonly openInodes: readonly TreeInode[];
}

/** An inode that its sender had named as open in a release, and that it has no more use for. */
export interface ClosedInode extends TreeInode {
  /** The sender took its last name away. */
  readonly isNameless: boolean;
}

export interface Closed {
  readonly inodes: readonly ClosedInode[];
  /** Number of the batch after which it counts. */
  readonly afterBatch: number;
}

export interface Batch {
  readonly number: number;
  readonly changeCount: number;
  /** Bytes. */
  readonly changesLength: number;
  readonly changesCrc32c: number;
  /** Bytes. */
  readonly dataLength: number;
  /** Number of the last refused batch whose answer came; 0 if none. */
  readonly refusedSeen: number;
}

export interface Refusal {
  /** Place of the first change that failed, from 0. */
  readonly index: number;
  readonly errno: number;
  readonly text: string;
}

export interface BatchReply {
  /** Number of the last batch of this session that was answered. */
  readonly applied: number;
  /** Number of the last batch of this session that survives a power cut. */
  readonly durable: number;
  readonly refused: Refusal | null;
}

export interface Sync {
  readonly batch: number;
}

export interface SyncReply {
  readonly durable: number;
}

export interface ReadData {
  readonly extents: readonly FileExtent[];
}

export interface ReadDataReply {
  /** Bytes of each extent that the body holds, in the order of the request. */
  readonly lengths: readonly number[];
}

export type Empty = Record<never, never>;

/** Bytes, but inodesUsed. */
export interface StatfsReply {
  readonly total: number;
  readonly free: number;
  readonly available: number;
  readonly inodesUsed: number;
}

export interface PingReply {
  /** Time of day at whoever answers, nanoseconds since 1970. */
  readonly serverTimeNs: bigint;
}

export interface Goodbye {
  /** 0 for an orderly end. */
  readonly errno: number;
  readonly text: string;
}

export interface StatsReply {
  readonly json: string;
}

/** Name -> fields of the message and of its reply; `null` for a notice. */
export interface MessageMap {
  greeting: { fields: Greeting; reply: GreetingReply };
  acquire: { fields: Acquire; reply: AcquireReply };
  revoke: { fields: Revoke; reply: null };
  release: { fields: Release; reply: null };
  closed: { fields: Closed; reply: null };
  done: { fields: Empty; reply: null };
  hurry: { fields: Hurry; reply: null };
  batch: { fields: Batch; reply: BatchReply };
  sync: { fields: Sync; reply: SyncReply };
  readData: { fields: ReadData; reply: ReadDataReply };
  statfs: { fields: Empty; reply: StatfsReply };
  ping: { fields: Empty; reply: PingReply };
  goodbye: { fields: Goodbye; reply: null };
  stats: { fields: Empty; reply: StatsReply };
}

/** What was wanted patiently is needed now. */
export interface Hurry {
  /** Which patient acquire of the session, counted from 1. */
  readonly patience: number;
}

export type MessageName = keyof MessageMap;
export type NoticeName = {
  [Name in MessageName]: MessageMap[Name]['reply'] extends null ? Name : never;
}[MessageName];
export type RequestName = Exclude<MessageName, NoticeName>;
export type FieldsOf<Name extends MessageName> = MessageMap[Name]['fields'];
export type ReplyOf<Name extends RequestName> = NonNullable<MessageMap[Name]['reply']>;

export type Side = 'client' | 'server';

/** One message of the list. The `doc` strings stand word for word in docs/protocol.md. */
export interface MessageSpec<Fields, Reply> {
  readonly kind: number;
  readonly doc: {
    readonly name: string;
    readonly sender: string;
    readonly fields: string;
    readonly body: string;
    readonly reply: string;
  };
  readonly senders: readonly Side[];
  readonly fields: FieldType<Fields>;
  /** Longest body of the message, and of its reply, in bytes. */
  readonly bodyMax: number;
  readonly reply: Reply extends null ? null : FieldType<Reply>;
  readonly replyBodyMax: number;
  /** What an error reply may say, beside EIO, which any may. */
  readonly errors: readonly ErrnoName[];
}

const tree: FieldType<number> = uint();
const ino: FieldType<number> = uint();
const mode: FieldType<Mode> = {
  toWire: (value) => value,
  fromWire(raw, name) {
    return uint(Mode.write).fromWire(raw, name) as Mode;
  },
};
const errno: FieldType<number> = uint(0xffff);
const u32: FieldType<number> = uint(0xffff_ffff);
const byteLength: FieldType<number> = uint(BODY_BYTES_MAX);

function startBeforeEnd(range: TreeRange): string | undefined {
  return compareKey(range.start, range.end) < 0 ? undefined : 'the range is empty or runs backwards';
}

const wantType: FieldType<Want> = record({ tree, start: key, end: key, mode, flags: uint(255) }, (want) => {
  if (want.mode === Mode.none || want.mode === Mode.merge) return `mode ${want.mode} cannot be asked for`;
  return startBeforeEnd(want);
});
const grantType: FieldType<GrantRange> = record<GrantRange>(
  { tree, start: key, end: key, mode },
  startBeforeEnd,
);
const modeChangeType: FieldType<ModeChange> = record(
  { tree, start: key, end: key, oldMode: mode, newMode: mode },
  (change) => (change.newMode > change.oldMode ? 'the new mode is the greater one' : startBeforeEnd(change)),
);
const pageType: FieldType<PageEntry> = record<PageEntry>(
  { tree, start: key, end: key, length: byteLength },
  startBeforeEnd,
);
const extentType: FieldType<FileExtent> = record({ tree, ino, offset: uint(), length: byteLength });
const treeInodeType: FieldType<TreeInode> = record({ tree, ino });
const closedInodeType: FieldType<ClosedInode> = record({ tree, ino, isNameless: bool });
const subvolumeType: FieldType<Subvolume> = record({
  tree,
  isReadOnly: bool,
  parentTree: tree,
  parentDir: ino,
});
const runType: FieldType<InodeRun> = record({ tree, first: ino, count: uint(INODE_RUN_MAX) });
const runWantedType: FieldType<InodeRunWanted> = record({ tree, count: uint(INODE_RUN_MAX) });
const limitsType: FieldType<SessionLimits> = record({
  frameBodyBytes: byteLength,
  batchBytes: byteLength,
  batchesInFlight: uint(65_536),
});
const refusalType: FieldType<Refusal> = record({ index: u32, errno, text: text(TEXT_MAX) });
const featureList: FieldType<readonly string[]> = list(text(64), FEATURES_MAX);
const noFields: FieldType<Empty> = record<Empty>({});

function fieldsOf<T extends object>(fields: FieldTypes<T>): FieldType<T> {
  return record<T>(fields);
}

/** The list. */
export const messages: {
  readonly [Name in MessageName]: MessageSpec<FieldsOf<Name>, MessageMap[Name]['reply']>;
} = {
  greeting: {
    kind: 1,
    doc: {
      name: 'greeting',
      sender: 'c',
      fields: 'version min, version max, features [text], client name text, path bytes, read only bool',
      body: '-',
      reply:
        'version, features, session, epoch, server time ns, lease ms, limits [frame body bytes, batch bytes, batches in flight], root [tree, ino], fsid bytes, sector size, max inline bytes, max xattr item bytes, max hash-bucket item bytes, device total bytes',
    },
    senders: ['client'],
    fields: fieldsOf<Greeting>({
      versionMin: uint(255),
      versionMax: uint(255),
      features: featureList,
      clientName: text(TEXT_MAX),
      path: bytes(0, PATH_BYTES_MAX),
      readOnly: bool,
    }),
    bodyMax: 0,
    reply: fieldsOf<GreetingReply>({
      version: uint(255),
      features: featureList,
      session: u64,
      epoch: u64,
      serverTimeNs: u64,
      leaseMs: u32,
      limits: limitsType,
      root: treeInodeType,
      fsid: bytes(16, 16),
      sectorSize: uint(65_536),
      maxInline: uint(65_536),
      maxXattrItem: uint(65_536),
      maxHashBucketItem: uint(65_536),
      deviceTotal: uint(),
    }),
    replyBodyMax: 0,
    errors: ['EPROTONOSUPPORT', 'ENOENT', 'ENOTDIR', 'EBUSY'],
  },
  acquire: {
    kind: 2,
    doc: {
      name: 'acquire',
      sender: 'c',
      fields:
        'wants [[tree, start, end, mode, flags]], space wanted, inode numbers wanted [tree, count] or null, data bytes wanted',
      body: '-',
      reply:
        'grants [[tree, start, end, mode]], pages [[tree, start, end, length]], space, inode run [tree, first, count] or null, data [[tree, ino, offset, length]], open elsewhere [[tree, ino]], subvolumes [[tree, read only bool, parent tree, parent directory]]',
    },
    senders: ['client'],
    fields: fieldsOf<Acquire>({
      wants: list(wantType, WANTS_MAX),
      spaceWanted: uint(),
      inodesWanted: nullable(runWantedType),
      dataBytesWanted: uint(),
    }),
    bodyMax: 0,
    reply: fieldsOf<AcquireReply>({
      grants: list(grantType, RANGES_MAX),
      pages: list(pageType, RANGES_MAX),
      space: uint(),
      inodeRun: nullable(runType),
      data: list(extentType, RANGES_MAX),
      openElsewhere: list(treeInodeType, OPEN_INODES_MAX),
      subvolumes: list(subvolumeType, WANTS_MAX + 1),
    }),
    replyBodyMax: BODY_BYTES_MAX,
    errors: ['ENOSPC', 'EROFS', 'EINVAL', 'ENOENT'],
  },
  revoke: {
    kind: 3,
    doc: {
      name: 'revoke',
      sender: 's',
      fields: 'ranges [[tree, start, end, old mode, new mode]]',
      body: '-',
      reply: 'none; answered by release',
    },
    senders: ['server'],
    fields: fieldsOf<Revoke>({ ranges: list(modeChangeType, RANGES_MAX) }),
    bodyMax: 0,
    reply: null,
    replyBodyMax: 0,
    errors: [],
  },
  release: {
    kind: 4,
    doc: {
      name: 'release',
      sender: 'c',
      fields:
        'ranges [[tree, start, end, old mode, new mode]], after batch, refused seen, open inodes [[tree, ino]]',
      body: '-',
      reply: 'none',
    },
    senders: ['client'],
    fields: fieldsOf<Release>({
      ranges: list(modeChangeType, RANGES_MAX),
      afterBatch: uint(),
      refusedSeen: uint(),
      openInodes: list(treeInodeType, OPEN_INODES_MAX),
    }),
    bodyMax: 0,
    reply: null,
    replyBodyMax: 0,
    errors: [],
  },
  batch: {
    kind: 5,
    doc: {
      name: 'batch',
      sender: 'c',
      fields: 'number, change count, changes length, changes crc32c, data length, refused seen',
      body: 'changes, checksums (u32 each), data',
      reply: 'applied, durable, refused [index, errno, text] or null',
    },
    senders: ['client'],
    fields: fieldsOf<Batch>({
      number: uint(),
      changeCount: uint(BATCH_CHANGES_MAX),
      changesLength: uint(BATCH_BYTES_MAX),
      changesCrc32c: u32,
      dataLength: uint(BATCH_BYTES_MAX),
      refusedSeen: uint(),
    }),
    bodyMax: BATCH_BYTES_MAX,
    reply: fieldsOf<BatchReply>({ applied: uint(), durable: uint(), refused: nullable(refusalType) }),
    replyBodyMax: 0,
    errors: [],
  },
  sync: {
    kind: 6,
    doc: { name: 'sync', sender: 'c', fields: 'batch number', body: '-', reply: 'durable' },
    senders: ['client'],
    fields: fieldsOf<Sync>({ batch: uint() }),
    bodyMax: 0,
    reply: fieldsOf<SyncReply>({ durable: uint() }),
    replyBodyMax: 0,
    errors: ['EIO'],
  },
  readData: {
    kind: 7,
    doc: {
      name: 'read data',
      sender: 'c',
      fields: 'extents [[tree, ino, offset, length]]',
      body: '-',
      reply: 'lengths [length] ; body: checksums of all extents (u32 a sector), then the bytes',
    },
    senders: ['client'],
    fields: fieldsOf<ReadData>({ extents: list(extentType, READ_EXTENTS_MAX) }),
    bodyMax: 0,
    reply: fieldsOf<ReadDataReply>({ lengths: list(byteLength, READ_EXTENTS_MAX) }),
    replyBodyMax: BODY_BYTES_MAX,
    errors: ['EIO', 'EINVAL'],
  },
  statfs: {
    kind: 8,
    doc: {
      name: 'statfs',
      sender: 'c',
      fields: '-',
      body: '-',
      reply: 'total bytes, free bytes, available bytes, inodes used',
    },
    senders: ['client'],
    fields: noFields,
    bodyMax: 0,
    reply: fieldsOf<StatfsReply>({ total: uint(), free: uint(), available: uint(), inodesUsed: uint() }),
    replyBodyMax: 0,
    errors: [],
  },
  ping: {
    kind: 9,
    doc: { name: 'ping', sender: 'c, s', fields: '-', body: '-', reply: 'server time ns' },
    senders: ['client', 'server'],
    fields: noFields,
    bodyMax: 0,
    reply: fieldsOf<PingReply>({ serverTimeNs: u64 }),
    replyBodyMax: 0,
    errors: [],
  },
  goodbye: {
    kind: 10,
    doc: { name: 'goodbye', sender: 'c, s', fields: 'errno, text', body: '-', reply: 'none' },
    senders: ['client', 'server'],
    fields: fieldsOf<Goodbye>({ errno, text: text(TEXT_MAX) }),
    bodyMax: 0,
    reply: null,
    replyBodyMax: 0,
    errors: [],
  },
  stats: {
    kind: 11,
    doc: { name: 'stats', sender: 'c', fields: '-', body: '-', reply: 'JSON text' },
    senders: ['client'],
    fields: noFields,
    bodyMax: 0,
    reply: fieldsOf<StatsReply>({ json: text(STATS_TEXT_MAX) }),
    replyBodyMax: 0,
    errors: [],
  },
  closed: {
    kind: 12,
    doc: {
      name: 'closed',
      sender: 'c',
      fields: 'inodes [[tree, ino, nameless bool]], after batch',
      body: '-',
      reply: 'none',
    },
    senders: ['client'],
    fields: fieldsOf<Closed>({ inodes: list(closedInodeType, OPEN_INODES_MAX), afterBatch: uint() }),
    bodyMax: 0,
    reply: null,
    replyBodyMax: 0,
    errors: [],
  },
  done: {
    kind: 13,
    doc: { name: 'done', sender: 'c', fields: '-', body: '-', reply: 'none' },
    senders: ['client'],
    fields: fieldsOf<Empty>({}),
    bodyMax: 0,
    reply: null,
    replyBodyMax: 0,
    errors: [],
  },
  hurry: {
    kind: 14,
    doc: { name: 'hurry', sender: 'c', fields: 'patience', body: '-', reply: 'none' },
    senders: ['client'],
    fields: fieldsOf<Hurry>({ patience: uint() }),
    bodyMax: 0,
    reply: null,
    replyBodyMax: 0,
    errors: [],
  },
};

/** Kinds are below this. */
export const KINDS_END = 15;

const names: readonly (MessageName | undefined)[] = namesByKind();

function namesByKind(): (MessageName | undefined)[] {
  const byKind: (MessageName | undefined)[] = new Array<undefined>(KINDS_END).fill(undefined);
  for (const name of Object.keys(messages) as MessageName[]) byKind[messages[name].kind] = name;
  return byKind;
}

/** The message with this kind; undefined for an unknown one. */
export function messageName(kind: number): MessageName | undefined {
  return names[kind];
}

/** The control part of an error reply. */
export const errorReply: FieldType<Goodbye> = record({ errno, text: text(TEXT_MAX) });
