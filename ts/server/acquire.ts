// SPDX-License-Identifier: GPL-2.0-or-later
//
// Acquire: collects the ranges of one operation through the grant table, reads the items that the client does not
// have, widens where that is cheap, adds small files' data, reserves space and inode numbers.
//
// Between the grant and the reply nothing of it is revoked (the table sees to that), so the pages show the state under
// the grant. A range whose items do not fit into one reply is granted from its start on as far as they do; the
// client asks for the rest.

import type { NewGrant, Operation } from '../coherency/operation.ts';
import { Errno } from '../util/errno.ts';
import { FsError, ProtocolError } from '../util/errors.ts';
import {
  ACQUIRE_DATA_BYTES_MAX,
  ACQUIRE_PAGE_BYTES_MAX,
  INODE_NUMBER_MAX,
  OPEN_INODES_MAX,
  PATIENT_WANTS_MAX,
  RANGES_MAX,
  SPACE_WANTED_MAX,
  WAITERS_MAX,
  WIDE_INODES_MAX,
  WRITER_MS,
} from '../util/limits.ts';
import {
  compareKey,
  formatRange,
  inodeRange,
  type Key,
  rangesOverlap,
  type TreeRange,
} from '../util/range.ts';
import {
  type Acquire,
  type FileExtent,
  type GrantRange,
  type Hurry,
  type InodeRun,
  Mode,
  type Subvolume,
  type TreeInode,
  type Want,
  WantFlags,
} from '../wire/message.ts';
import type { RequestFrom } from '../wire/peer.ts';
import { type PageRead, readPiece } from './page_reader.ts';
import type { Session } from './session.ts';
import { findSmallFiles } from './small_files.ts';
import type { ServerState } from './state.ts';

/** The first inode number that clients see. */
const FIRST_INO = 256;
/** Pages in one reply: what a client lacks may lie in many small gaps between what it holds. */
const PAGES_MAX = 4096;
/** Ranges that a wide want raises: as many as join into few of the reply. */
const RAISED_RANGES_MAX = 256;
/** Pieces read at a time: each may overrun the budget by a page, and the body holds that. */
const READS_AT_ONCE = 8;

export async function onAcquire(
  state: ServerState,
  session: Session,
  request: RequestFrom<'acquire'>,
): Promise<void> {
  const asked = request.fields;
  checkWants(state, session, asked);
  // The stream's order is the order of the table: the operation enters it before anything is awaited.
  const run = takeRun(state, session, asked);
  const wants = widened(state, session, asked.wants);
  const needed: GrantRange[] = run === null ? [...wants] : [...wants, { ...runRange(run), mode: Mode.write }];
  if (needed.length === 0) {
    const space = await reserveSpace(state, session, asked);
    request.reply({
      grants: [],
      pages: [],
      space,
      inodeRun: null,
      data: [],
      openElsewhere: [],
      subvolumes: [],
    });
    return;
  }
  const operation = await granted(state, session, needed, asked.wants);
  try {
    await answer(state, session, request, { operation, wants, run });
  } catch (error) {
    if (!session.closing) state.table.abandon(operation);
    state.deliver();
    throw error;
  }
}

/** What a session wanted patiently it needs now. What was answered meanwhile is on its way. */
export function onHurry(state: ServerState, session: Session, { patience }: Hurry): void {
  state.table.hurry(session.id, patience);
  state.deliver();
}

interface Granted {
  readonly operation: Operation;
  readonly wants: readonly Want[];
  readonly run: InodeRun | null;
}

/** Reads what the reply needs, sends it, lets revokes follow. */
async function answer(
  state: ServerState,
  session: Session,
  request: RequestFrom<'acquire'>,
  { operation, wants, run }: Granted,
): Promise<void> {
  const asked = request.fields;
  const [pages, space] = await Promise.all([
    readPages(state, operation, wants, run),
    reserveSpace(state, session, asked),
  ]);
  const grants = joined(operation.grants);
  for (const { tree, start, end } of grants)
    state.runs.granted(session.id, tree, start.objectid, end.objectid + 1);
  const data = await readSmallFiles(state, pages, asked.dataBytesWanted);
  if (session.closing) return;
  const body: Uint8Array[] = pages.map((page) => page.bytes);
  for (const part of data.body) body.push(part);
  request.reply(
    {
      grants,
      pages: pages.map(({ tree, start, end, bytes }) => ({ tree, start, end, length: bytes.length })),
      space,
      inodeRun: run,
      data: data.files,
      openElsewhere: openElsewhere(state, session, grants),
      subvolumes: subvolumesToTell(state, session, asked),
    },
    body,
  );
  state.table.announce(operation);
  const { sessionRangesMax } = state;
  const excess = state.table.heldBy(session.id) - sessionRangesMax;
  if (excess > 0) state.table.shed(session.id, excess + Math.floor(sessionRangesMax / 8));
  state.deliver();
}

function checkWants(state: ServerState, session: Session, asked: Acquire): void {
  for (const { tree, start, end, mode } of asked.wants) {
    if (!state.subvolumes.has(tree)) throw new FsError(Errno.ENOENT, `there is no subvolume ${tree}`);
    if (start.objectid < FIRST_INO || end.objectid > INODE_NUMBER_MAX + 1) {
      throw new FsError(Errno.EINVAL, `not a range of inodes: ${formatRange({ tree, start, end })}`);
    }
    if (end.objectid - start.objectid > WIDE_INODES_MAX)
      throw new FsError(Errno.EINVAL, 'a range of too many inodes');
    if (mode === Mode.write) requireWritable(state, session, tree);
  }
  if (asked.inodesWanted !== null) requireWritable(state, session, asked.inodesWanted.tree);
  if (asked.wants.some(({ flags }) => (flags & WantFlags.patient) !== 0)) checkPatience(asked);
  if (state.table.waiting >= WAITERS_MAX) throw new ProtocolError('too many operations wait for grants');
}

function requireWritable(state: ServerState, session: Session, tree: number): void {
  if (state.mayWriteTree(session, tree)) return;
  const what = state.mayWrite(session) ? `subvolume ${tree}` : 'the file system';
  throw new FsError(Errno.EROFS, `${what} is read-only`);
}

/** The subvolumes of an acquire that the session hears of for the first time. */
function subvolumesToTell(state: ServerState, session: Session, { wants }: Acquire): Subvolume[] {
  const told: Subvolume[] = [];
  for (const { tree } of wants) {
    const subvolume = state.subvolumes.get(tree);
    if (subvolume === undefined || session.toldSubvolumes.has(tree)) continue;
    session.toldSubvolumes.add(tree);
    const { parentTree, parentDir } = subvolume;
    told.push({ tree, isReadOnly: !state.mayWriteTree(session, tree), parentTree, parentDir });
  }
  return told;
}

/** Both sides count patient acquires: one that is none ends the connection. */
function checkPatience({ wants, spaceWanted, inodesWanted }: Acquire): void {
  const isAll = wants.every(({ mode, flags }) => mode === Mode.read && flags === WantFlags.patient);
  const isMore = spaceWanted > 0 || inodesWanted !== null;
  if (!isAll || isMore || wants.length > PATIENT_WANTS_MAX)
    throw new ProtocolError('patience is for few ranges to read');
}

/**
 * A client that writes will soon write where it reads widely: it gets the greater mode at once of what nobody else has.
 * One that is alone is not asked whether it writes.
 */
function widened(state: ServerState, session: Session, wants: readonly Want[]): readonly Want[] {
  if (!state.mayWrite(session)) return wants;
  const nowMs = state.clock.nowMs();
  if (wants.some((want) => want.mode === Mode.write)) session.wroteMs = nowMs;
  if (state.sessions.size > 1 && nowMs - session.wroteMs > WRITER_MS) return wants;
  return wants.map((want) => {
    const isWide = want.mode === Mode.read && (want.flags & WantFlags.wide) !== 0;
    return isWide && state.writableTrees.has(want.tree) && state.table.isFree(session.id, want)
      ? { ...want, mode: Mode.write }
      : want;
  });
}

function takeRun(state: ServerState, session: Session, asked: Acquire): InodeRun | null {
  const wanted = asked.inodesWanted;
  if (wanted === null || wanted.count === 0) return null;
  const run = state.runs.take(session.id, wanted.tree, wanted.count);
  if (run === null) throw new FsError(Errno.ENOSPC, `tree ${wanted.tree} has no free inode numbers`);
  return run;
}

function runRange({ tree, first, count }: InodeRun): TreeRange {
  return {
    tree,
    start: { objectid: first, type: 0, offset: 0 },
    end: { objectid: first + count, type: 0, offset: 0 },
  };
}

function granted(
  state: ServerState,
  session: Session,
  needed: readonly GrantRange[],
  wants: readonly Want[],
): Promise<Operation> {
  const has = (flag: number): boolean => wants.some((want) => (want.flags & flag) !== 0);
  return new Promise((resolve) => {
    const operation = state.table.acquire(session.id, needed, has(WantFlags.keep), has(WantFlags.patient));
    session.operations.add(operation);
    state.whenGranted(operation, () => {
      session.operations.delete(operation);
      resolve(operation);
    });
    state.deliver();
  });
}

async function reserveSpace(state: ServerState, session: Session, asked: Acquire): Promise<number> {
  if (asked.spaceWanted === 0 || !state.mayWrite(session)) return 0;
  const given = await state.volume.promise(Math.min(asked.spaceWanted, SPACE_WANTED_MAX));
  if (session.closing) {
    await state.volume.withdraw(given);
    return 0;
  }
  state.credits.add(session.id, given);
  return given;
}

/** Reads the items of what was newly granted; gives back what did not fit and what was widened in vain. */
async function readPages(
  state: ServerState,
  operation: Operation,
  wants: readonly Want[],
  run: InodeRun | null,
): Promise<PageRead[]> {
  for (const want of wants) {
    if ((want.flags & WantFlags.flushOnly) !== 0) giveBack(state, operation, want);
    else raiseBehind(state, operation, want);
  }
  giveBackBehind(state, operation, RANGES_MAX);
  const pieces = piecesToRead(operation, run);
  const wide = pieces.map((piece) => widen(state, operation, piece, wants));
  const pages: PageRead[] = [];
  let budget = ACQUIRE_PAGE_BYTES_MAX;
  for (let at = 0; at < pieces.length; at += READS_AT_ONCE) {
    const group = pieces.slice(at, at + READS_AT_ONCE);
    const reads = group.map((piece, place) =>
      budget > 0 && pages.length < PAGES_MAX
        ? readPiece(state.volume, { ...piece, wideEnd: wide[at + place]! }, budget)
        : [],
    );
    for (const [place, read] of (await Promise.all(reads)).entries()) {
      const { tree, start } = group[place]!;
      const wideEnd = wide[at + place]!;
      for (const page of read) budget -= page.bytes.length;
      const end = read.at(-1)?.end ?? start;
      pages.push(...read);
      if (compareKey(end, wideEnd) < 0) state.table.trim(operation, { tree, start: end, end: wideEnd });
    }
  }
  return pages;
}

/** The ranges whose items the client does not have, neighbours joined whatever their modes. */
function piecesToRead(operation: Operation, run: InodeRun | null): TreeRange[] {
  const known = run === null ? null : runRange(run);
  const pieces: { tree: number; start: Key; end: Key }[] = [];
  for (const { tree, start, end, before } of operation.grants) {
    if (before !== Mode.none || (known !== null && rangesOverlap(known, { tree, start, end }))) continue;
    const last = pieces.at(-1);
    if (last !== undefined && last.tree === tree && compareKey(last.end, start) === 0) last.end = end;
    else pieces.push({ tree, start, end });
  }
  return pieces;
}

/** Of what lies in more ranges than a reply names nothing stays granted behind those: the client asks for the rest. */
function giveBackBehind(state: ServerState, operation: Operation, count: number): void {
  if (operation.grants.length <= count) return;
  for (const range of joined(operation.grants).slice(count)) state.table.trim(operation, range);
}

/** Of a want that only flushes others nothing stays granted. */
function giveBack(state: ServerState, operation: Operation, want: Want): void {
  const given = operation.grants.filter((grant) => grant.before === Mode.none && rangesOverlap(grant, want));
  for (const grant of given) state.table.trim(operation, grant);
}

/** A wide want to write raises what the session can only read behind it: one message for many inodes. */
function raiseBehind(state: ServerState, operation: Operation, want: Want): void {
  const { tree, end, mode, flags } = want;
  if (mode !== Mode.write || (flags & WantFlags.wide) === 0 || end.type !== 0 || end.offset !== 0) return;
  const last = { objectid: Math.min(end.objectid + WIDE_INODES_MAX, INODE_NUMBER_MAX), type: 0, offset: 0 };
  state.table.raise(operation, { tree, start: end, end: last, mode }, RAISED_RANGES_MAX);
}

/** Takes the inodes behind a wide want into the grant. @returns where the grant ends now */
function widen(state: ServerState, operation: Operation, piece: TreeRange, wants: readonly Want[]): Key {
  const { tree, end } = piece;
  const isWide = (want: Want): boolean =>
    (want.flags & WantFlags.wide) !== 0 && want.tree === tree && compareKey(want.end, end) === 0;
  const want = wants.find(isWide);
  if (want === undefined || end.type !== 0 || end.offset !== 0) return end;
  // Numbers that nobody was given yet are left out: a run over them must not meet a grant.
  const next = state.runs.knows(tree) ? state.runs.next(tree) : INODE_NUMBER_MAX;
  const last = Math.min(end.objectid + WIDE_INODES_MAX, next);
  if (last <= end.objectid) return end;
  const reached = state.table.extend(operation, {
    tree,
    start: end,
    end: { objectid: last, type: 0, offset: 0 },
    mode: want.mode,
  });
  const boundary = { objectid: reached.objectid, type: 0, offset: 0 };
  if (compareKey(boundary, reached) < 0) state.table.trim(operation, { tree, start: boundary, end: reached });
  return boundary;
}

/** What the operation was given, neighbours of one mode joined. */
function joined(grants: readonly NewGrant[]): GrantRange[] {
  const sorted = [...grants].sort((a, b) =>
    a.tree === b.tree ? compareKey(a.start, b.start) : a.tree - b.tree,
  );
  const list: { tree: number; start: Key; end: Key; mode: Mode }[] = [];
  for (const { tree, start, end, mode } of sorted) {
    const last = list.at(-1);
    if (last !== undefined && last.tree === tree && last.mode === mode && compareKey(last.end, start) === 0) {
      last.end = end;
    } else list.push({ tree, start, end, mode });
  }
  return list;
}

/** Inodes that other sessions have open, of those that the session may unlink now. */
function openElsewhere(state: ServerState, session: Session, grants: readonly GrantRange[]): TreeInode[] {
  const found: TreeInode[] = [];
  state.openInodes.forEachElsewhere(session.id, (tree, ino) => {
    const range = inodeRange(tree, ino);
    const isGranted = grants.some((grant) => grant.mode === Mode.write && rangesOverlap(grant, range));
    if (isGranted && found.length < OPEN_INODES_MAX) found.push({ tree, ino });
  });
  return found;
}

interface SmallFiles {
  readonly files: readonly FileExtent[];
  /** Checksums and bytes of each file in turn. */
  readonly body: readonly Uint8Array[];
}

const NO_FILES: SmallFiles = { files: [], body: [] };

async function readSmallFiles(
  state: ServerState,
  pages: readonly PageRead[],
  wanted: number,
): Promise<SmallFiles> {
  if (wanted === 0 || pages.length === 0) return NO_FILES;
  const sector = state.volume.info.sectorSize;
  const files = findSmallFiles(pages, sector, Math.min(wanted, ACQUIRE_DATA_BYTES_MAX));
  if (files.length === 0) return NO_FILES;
  try {
    const { bytes, checksums } = await state.volume.readData(files);
    const body: Uint8Array[] = [];
    let at = 0;
    for (const { length } of files) {
      body.push(
        checksums.subarray((at / sector) * 4, ((at + length) / sector) * 4),
        bytes.subarray(at, at + length),
      );
      at += length;
    }
    return { files, body };
  } catch (error) {
    // One damaged file must not keep the others' items back: who reads it asks again and gets its errno.
    if (!(error instanceof FsError)) throw error;
    state.log(`data beside items left out: ${error.message}`, 'warning');
    return NO_FILES;
  }
}
