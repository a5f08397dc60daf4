// SPDX-License-Identifier: GPL-2.0-or-later
//
// Takes written bytes in, joins them into runs of whole sectors, and puts runs into the change log.
//
// A sector that is written in part is filled up first with what it holds (the client does read-modify-write under its
// grant); what lies beyond the end of the file is zero. A run lies within one window of 1 MiB; a write apart from the
// window's run sends that run into the log.
//
// INVARIANT: a file's runs enter the log before any other change of the same inode that stamps times or moves its
// name, so that the times which the server ends up with are those that the client showed, and a rename takes its
// data along.

import { applyCut, applyPutData, sectorCeil, sectorFloor } from '../item/apply_extent.ts';
import { applySetFields } from '../item/apply_inode.ts';
import { FieldMask, InodeFields } from '../item/change.ts';
import { EXTENT_HEAD_BYTES, ExtentType, extentType } from '../item/extent_data.ts';
import {
  InodeField,
  inodeSize,
  inodeTimeNsec,
  inodeTimeSec,
  setInodeSize,
  setInodeTime,
} from '../item/inode_item.ts';
import { ItemType } from '../item/key.ts';
import { assert } from '../util/assert.ts';
import { Batch } from './batch.ts';
import type { Core } from './core.ts';
import { readBytes } from './file_reader.ts';
import type { FileState, PendingRun, Run } from './file_state.ts';
import { RUN_BYTES } from './limits.ts';

const SECTOR = 4096;

const fields: InodeFields = new InodeFields();

/** The run in the window that holds `offset`. */
function runOfWindow(file: FileState, offset: number): Run | undefined {
  const window = Math.floor(offset / RUN_BYTES);
  for (const run of file.runs) if (Math.floor(run.start / RUN_BYTES) === window) return run;
  return undefined;
}

function isCovered(file: FileState, sector: number): boolean {
  for (const run of file.runs) if (run.start <= sector && sector < run.end) return true;
  return false;
}

const probe = new Uint8Array(SECTOR);

/** Whether the sector's old content is at hand, for a write of part of it. */
function hasSector(core: Core, file: FileState, sector: number, size: number): boolean {
  if (sector >= size || isCovered(file, sector)) return true;
  const end = Math.min(size, sector + SECTOR);
  return readBytes(core, file, file.tree, file.ino, sector, end, probe, 0, true);
}

/**
 * Whether everything is at hand for a write of `[start, end)`.
 *
 * @param size - of the file before.
 */
export function canWrite(core: Core, file: FileState, start: number, end: number, size: number): boolean {
  const first = sectorFloor(start);
  const last = sectorFloor(end);
  let isReady = true;
  if (start > first || (end < first + SECTOR && end < size)) isReady = hasSector(core, file, first, size);
  if (last > first && end > last && end < size) isReady = hasSector(core, file, last, size) && isReady;
  return isReady;
}

/** Sectors that a write adds to runs, in bytes: what it costs of the reservation. */
export function growthOf(file: FileState, start: number, end: number): number {
  const first = sectorFloor(start);
  const last = sectorCeil(end);
  let bytes = last - first;
  for (const run of file.runs) bytes -= Math.max(0, Math.min(last, run.end) - Math.max(first, run.start));
  return bytes;
}

/** Takes a write in, for which `canWrite` said yes and space is spent. Updates size and times of the inode item. */
export function writeBytes(
  core: Core,
  file: FileState,
  start: number,
  data: Uint8Array,
  size: number,
  sec: number,
  nsec: number,
): void {
  const end = start + data.length;
  // With the size and the times that they have: what is sent may end there.
  logRunsApart(core, file, start, end);
  file.writtenSec = sec;
  file.writtenNsec = nsec;
  stampWritten(core, file, Math.max(size, end), sec, nsec);
  let at = start;
  while (at < end) {
    const to = Math.min(end, (Math.floor(at / RUN_BYTES) + 1) * RUN_BYTES);
    writeWindow(core, file, at, data, at - start, to - at, size);
    at = to;
  }
  core.writeBack.dataWritten();
}

/** Puts the runs into the log that lie in the windows of a write and apart from it. */
function logRunsApart(core: Core, file: FileState, start: number, end: number): void {
  for (let at = start; at < end; at = (Math.floor(at / RUN_BYTES) + 1) * RUN_BYTES) {
    const run = runOfWindow(file, at);
    if (run !== undefined && (sectorFloor(at) > run.end || sectorCeil(end) < run.start))
      logRun(core, file, run);
  }
}

/** What a write does to the inode item at once. The item is not dirty by itself: the file is, and holds it. */
function stampWritten(core: Core, file: FileState, size: number, sec: number, nsec: number): void {
  const items = core.items;
  items.find(file.tree, file.ino, ItemType.inodeItem, 0);
  setInodeSize(items.view, items.start, size);
  setInodeTime(items.view, items.start, InodeField.mtime, sec, nsec);
  setInodeTime(items.view, items.start, InodeField.ctime, sec, nsec);
}

/** Writes within one window. @param size - of the file before the write. */
function writeWindow(
  core: Core,
  file: FileState,
  start: number,
  data: Uint8Array,
  dataAt: number,
  length: number,
  size: number,
): void {
  const first = sectorFloor(start);
  const last = sectorCeil(start + length);
  let run = runOfWindow(file, start);
  const headSector = start > first && !isCovered(file, first) ? first : -1;
  const tail = start + length;
  const tailSector =
    tail < last && last - SECTOR !== headSector && !isCovered(file, last - SECTOR) ? last - SECTOR : -1;
  run = run === undefined ? newRun(core, file, first, last) : growRun(core, run, first, last);
  if (headSector >= 0) fillSector(core, file, run, headSector, size);
  if (tailSector >= 0 && tail < size) fillSector(core, file, run, tailSector, size);
  // Up to the end of the file the write replaces everything: `canWrite` did not ask for the old content.
  else if (tailSector >= 0) run.bytes.fill(0, tail - run.start, last - run.start);
  if (length === data.length) run.bytes.set(data, start - run.start);
  else run.bytes.set(data.subarray(dataAt, dataAt + length), start - run.start);
  if (run.end - run.start === RUN_BYTES) logRun(core, file, run);
}

/** The file gets something that is not in the log. */
function setDirty(core: Core, file: FileState): void {
  if (file.isDirty) return;
  file.dirtySinceMs = core.clock.nowMs();
  core.files.dirty.add(file);
}

function newRun(core: Core, file: FileState, start: number, end: number): Run {
  const run = { start, end, bytes: core.files.buffers.take(end - start) };
  setDirty(core, file);
  file.runs.push(run);
  core.files.unloggedBytes += end - start;
  return run;
}

/** Makes a run reach over `[start, end)` as well, which it touches or overlaps. */
function growRun(core: Core, run: Run, start: number, end: number): Run {
  const first = Math.min(run.start, start);
  const last = Math.max(run.end, end);
  const old = run.end - run.start;
  if (last - first === old) return run;
  core.files.unloggedBytes += last - first - old;
  if (first === run.start && last - first <= run.bytes.length) {
    run.end = last;
    return run;
  }
  const larger = core.files.buffers.take(last - first);
  larger.set(run.bytes.subarray(0, old), run.start - first);
  core.files.buffers.give(run.bytes);
  run.bytes = larger;
  run.start = first;
  run.end = last;
  return run;
}

/** Fills a sector of a run with what the file holds there below the run. */
function fillSector(core: Core, file: FileState, run: Run, sector: number, size: number): void {
  const at = sector - run.start;
  const end = Math.max(sector, Math.min(size, sector + SECTOR));
  if (end > sector) {
    const isThere = readBytes(core, file, file.tree, file.ino, sector, end, run.bytes, at, false);
    assert(isThere, 'the old content of a sector that is written in part is at hand');
  }
  run.bytes.fill(0, at + end - sector, at + SECTOR);
}

/** Puts all of a file's written bytes into the log. The caller calls `writeBack.changed` when its operation is done. */
export function logFile(core: Core, file: FileState): void {
  if (!file.isDirty) return;
  const isNameless = core.orphans.has(file.node) && findTimes(core, file);
  logCut(core, file);
  if (file.runs.length > 1) file.runs.sort((a, b) => a.start - b.start);
  while (file.runs.length > 0) logRun(core, file, file.runs[0]!);
  if (isNameless) keepCtime(core, file);
}

const times: InodeFields = new InodeFields();

/** Notes in `times` when an inode last changed. */
function findTimes(core: Core, { tree, ino }: FileState): boolean {
  const { items } = core;
  if (!items.find(tree, ino, ItemType.inodeItem, 0)) return false;
  times.mask = FieldMask.ctime;
  times.ctimeSec = inodeTimeSec(items.view, items.start, InodeField.ctime);
  times.ctimeNsec = inodeTimeNsec(items.view, items.start, InodeField.ctime);
  return true;
}

/**
 * The last name of a file goes without its bytes, which mostly need not be sent at all. When they are after all, their time
 * must not replace that at which the name went.
 */
function keepCtime(core: Core, { tree, ino }: FileState): void {
  core.writeBack.setFields(tree, ino, times);
  applySetFields(core.items, core.limits.maxInlineBytes, tree, ino, times);
}

/** Puts a file's bytes into the log if it has any that are not there. */
export function logInode(core: Core, node: number): void {
  const file = core.files.get(node);
  if (file !== undefined) logFile(core, file);
}

/** A rewrite's cut to nothing goes right before its first bytes. */
function logCut(core: Core, file: FileState): void {
  if (!file.isCutPending) return;
  file.isCutPending = false;
  if (file.runs.length === 0) core.files.dirty.delete(file);
  fields.mask = FieldMask.size | FieldMask.mtime | FieldMask.ctime;
  fields.size = 0;
  fields.mtimeSec = file.writtenSec;
  fields.mtimeNsec = file.writtenNsec;
  fields.ctimeSec = file.writtenSec;
  fields.ctimeNsec = file.writtenNsec;
  core.writeBack.setFields(file.tree, file.ino, fields);
  // The items were cut before; from now on they wait for this batch.
  if (core.items.find(file.tree, file.ino, ItemType.inodeItem, 0)) core.items.touch();
}

/** Puts one run into the log and predicts its extents. */
function logRun(core: Core, file: FileState, run: Run): void {
  logCut(core, file);
  const { items, files } = core;
  const { tree, ino } = file;
  const padded = run.end - run.start;
  files.dropRun(file, run);
  if (!items.find(tree, ino, ItemType.inodeItem, 0)) {
    core.space.refund(padded);
    return;
  }
  const size = inodeSize(items.view, items.start);
  const length = Math.min(padded, size - run.start);
  if (length <= 0) {
    core.space.refund(padded);
    files.buffers.give(run.bytes);
    return;
  }
  run.bytes.fill(0, length, padded);
  const batch = core.writeBack.open;
  const sums = batch.takeSums(padded / SECTOR);
  core.sectorSums(run.bytes.subarray(0, padded), batch.sums, sums);
  const end = run.start + length;
  batch.log.putData(tree, ino, run.start, length, end, file.writtenSec, file.writtenNsec);
  const bytes = batch.addData(run.bytes, length);
  const isGathered = Batch.gathers(length);
  if (run.start > 0) keepInline(core, file);
  file.markStale(run.start, run.end);
  files.dropCleanRange(file, run.start, run.end);
  applyPutData(
    items,
    core.limits.maxInlineBytes,
    tree,
    ino,
    run.start,
    length,
    end,
    file.writtenSec,
    file.writtenNsec,
    bytes,
    0,
  );
  if (isGathered) files.buffers.give(run.bytes);
  // Inline bytes are in the items, where they are read from unless an older piece (of a cut, say) hides them.
  const isHidden = file.pending.some((piece) => piece.start < run.end && piece.end > run.start);
  if (isGathered && !isHidden && isInline(core, tree, ino)) return;
  addPending(core, file, run.start, run.end, bytes, isGathered ? null : run.bytes);
}

function isInline(core: Core, tree: number, ino: number): boolean {
  const { items } = core;
  return (
    items.find(tree, ino, ItemType.extentData, 0) && extentType(items.view, items.start) === ExtentType.inline
  );
}

const NO_BYTES = new Uint8Array(0);

/** Remembers what a file reads as in a range until the open batch is applied. */
function addPending(
  core: Core,
  file: FileState,
  start: number,
  end: number,
  bytes: Uint8Array<ArrayBuffer>,
  buffer: Uint8Array<ArrayBuffer> | null,
): void {
  const pending: PendingRun = { file, start, end, bytes, buffer };
  file.pending.push(pending);
  core.writeBack.open.pending.push(pending);
}

/**
 * A change is about to turn an inline extent into a regular one: the server has the bytes then, but not before the
 * open batch is applied.
 */
export function keepInline(core: Core, file: FileState): void {
  const { tree, ino } = file;
  if (!isInline(core, tree, ino)) return;
  const { bytes, start, size } = core.items;
  addPending(core, file, 0, SECTOR, bytes.slice(start + EXTENT_HEAD_BYTES, start + size), null);
}

/** A cut or a truncate: what is under way in the range reads as zeros from now on. */
function hidePending(core: Core, file: FileState, start: number, end: number): void {
  if (file.pending.some((piece) => piece.start < end && piece.end > start)) {
    addPending(core, file, start, end, NO_BYTES, null);
  }
}

/** Drops written bytes from `size` on, for a truncate, and zeroes what is left of the last sector. */
export function cutRuns(core: Core, file: FileState, size: number): void {
  for (let at = file.runs.length - 1; at >= 0; at--) {
    const run = file.runs[at]!;
    if (run.end <= size) continue;
    if (run.start >= size) {
      core.space.refund(run.end - run.start);
      core.files.dropRun(file, run);
      core.files.buffers.give(run.bytes);
      continue;
    }
    const end = sectorCeil(size);
    core.space.refund(run.end - end);
    core.files.unloggedBytes -= run.end - end;
    run.end = end;
    run.bytes.fill(0, size - run.start, end - run.start);
  }
}

/** The file's bytes and sizes on the server are out of date, or its inode is going: forgets what was read ahead. */
export function bytesChanged(core: Core, file: FileState, start: number, end: number): void {
  file.markStale(start, end);
  core.files.dropCleanRange(file, start, end);
  hidePending(core, file, start, end);
}

/** Cuts a file's content to nothing now, and lets the change wait for the new content. */
export function cutToNothing(core: Core, file: FileState, sec: number, nsec: number): void {
  cutRuns(core, file, 0);
  bytesChanged(core, file, 0, Infinity);
  setDirty(core, file);
  file.isCutPending = true;
  file.writtenSec = sec;
  file.writtenNsec = nsec;
  fields.mask = FieldMask.size | FieldMask.mtime | FieldMask.ctime;
  fields.size = 0;
  fields.mtimeSec = sec;
  fields.mtimeNsec = nsec;
  fields.ctimeSec = sec;
  fields.ctimeNsec = nsec;
  applySetFields(core.items, core.limits.maxInlineBytes, file.tree, file.ino, fields);
}

/** Makes a hole of whole sectors, in the log and in the items. */
export function cutBytes(
  core: Core,
  file: FileState,
  start: number,
  length: number,
  sec: number,
  nsec: number,
): void {
  core.writeBack.open.log.cut(file.tree, file.ino, start, length, sec, nsec);
  applyCut(core.items, file.tree, file.ino, start, length, sec, nsec);
  bytesChanged(core, file, start, start + length);
}
