// SPDX-License-Identifier: GPL-2.0-or-later
//
// What happens when the server refuses a batch: nothing of it was applied, and one change is named. That change goes,
// and with it what builds on it: changes of an inode that does not come to be, of a name that does not come to be or
// is still there, of bytes behind bytes that were refused. The rest is sent again. If no change is named, all go (a
// batch for which there was no space is first cut down to one operation; write_back.ts).
//
// The objects concerned are predicted wrongly now: the client gives their ranges back, so that the next look at them
// asks the server. Their errno is told once, at the next fsync and close.

import { ChangeKind, ChangeReader, FieldMask } from '../item/change.ts';
import { ItemType } from '../item/key.ts';
import { nameHash } from '../item/name_hash.ts';
import { Mode } from '../wire/message.ts';
import { changesCost } from '../wire/space.ts';
import type { Batch } from './batch.ts';
import type { PendingRun } from './file_state.ts';
import type { Giving } from './giver.ts';
import type { BatchFilter } from './write_back.ts';

/** An entry of a directory whose prediction is wrong. */
export interface LostName {
  readonly tree: number;
  readonly dir: number;
  readonly hash: number;
  readonly index: number;
  readonly name: Uint8Array;
}

/** What went: for reports, and for giving ranges back. Inodes by node. */
export interface Losses {
  readonly inodes: ReadonlySet<number>;
  readonly names: readonly LostName[];
  /** Changes that were dropped. */
  readonly changes: number;
  /** What they would have cost of the reservation, bytes. */
  readonly cost: number;
}

function nameId(tree: number, dir: number, bytes: Uint8Array, start: number, length: number): string {
  let id = `${tree}/${dir}/`;
  for (let at = start; at < start + length; at++) id += String.fromCharCode(bytes[at]!);
  return id;
}

export class RefusalFilter implements BatchFilter {
  /** Inodes that do not come to be. */
  readonly #unborn = new Set<number>();
  /** Inodes whose bytes after the refused change are lost. */
  readonly #torn = new Set<number>();
  readonly #names = new Set<string>();
  readonly #inodes = new Set<number>();
  readonly #lostNames: LostName[] = [];
  #changes = 0;
  #cost = 0;
  readonly #refused: Batch;
  readonly #refusedIndex: number;
  /** No change is named: the batch as a whole cannot be applied. */
  readonly #isWhole: boolean;
  readonly #nodeOf: (tree: number, ino: number) => number;
  readonly #onFinish: (losses: Losses) => void;

  /** @param nodeOf - the kernel's number of an inode */
  constructor(
    batch: Batch,
    index: number,
    nodeOf: (tree: number, ino: number) => number,
    onFinish: (losses: Losses) => void,
  ) {
    this.#nodeOf = nodeOf;
    this.#refused = batch;
    this.#refusedIndex = index;
    this.#isWhole = index >= batch.log.count;
    this.#onFinish = onFinish;
    this.#findUnborn(batch, index);
  }

  /** A name refused in the batch that makes its inode takes the inode with it. */
  #findUnborn(batch: Batch, index: number): void {
    const reader = new ChangeReader(batch.changes());
    const born = new Set<number>();
    for (let at = 0; at <= index && reader.next(); at++) {
      const node = this.#nodeOf(reader.tree, reader.ino);
      if (reader.kind === ChangeKind.newInode) born.add(node);
      if (at === index && reader.kind === ChangeKind.addName && born.has(node)) this.#unborn.add(node);
    }
  }

  filter(batch: Batch): Batch {
    const dropped = this.#choose(batch);
    if (dropped.size === 0 && batch !== this.#refused) return batch;
    const rest = batch.part((at) => !dropped.has(at));
    for (const pending of batch.pending) {
      if (this.#unborn.has(pending.file.node) || this.#torn.has(pending.file.node)) forgetPending(pending);
      else rest.pending.push(pending);
    }
    return rest;
  }

  /** Which changes of a batch must go, by place. */
  #choose(batch: Batch): Set<number> {
    const dropped = new Set<number>();
    const reader = new ChangeReader(batch.changes());
    for (let at = 0; reader.next(); at++) {
      const isNamed = batch === this.#refused && (at === this.#refusedIndex || this.#isWhole);
      if (!isNamed && !this.#dependsOnLost(reader)) continue;
      dropped.add(at);
      this.#changes++;
      this.#cost += changesCost(reader.bytes.subarray(reader.at, reader.at + reader.size));
      this.#lose(reader);
    }
    return dropped;
  }

  #dependsOnLost(reader: ChangeReader): boolean {
    const { tree, bytes, kind } = reader;
    const node = this.#nodeOf(tree, reader.ino);
    if (this.#unborn.has(node)) return true;
    if (this.#torn.has(node)) {
      if (kind === ChangeKind.putData || kind === ChangeKind.cut || kind === ChangeKind.preallocate)
        return true;
      if (kind === ChangeKind.setFields && (reader.fields.mask & FieldMask.size) !== 0) return true;
    }
    if (kind !== ChangeKind.addName && kind !== ChangeKind.removeName && kind !== ChangeKind.rename) {
      return false;
    }
    if (this.#unborn.has(this.#nodeOf(tree, reader.dir))) return true;
    if (this.#names.has(nameId(tree, reader.dir, bytes, reader.nameStart, reader.nameLength))) return true;
    if (kind !== ChangeKind.rename) return false;
    return (
      this.#unborn.has(this.#nodeOf(tree, reader.targetDir)) ||
      this.#names.has(nameId(tree, reader.targetDir, bytes, reader.targetStart, reader.targetLength))
    );
  }

  /** Remembers what a dropped change leaves wrong. */
  #lose(reader: ChangeReader): void {
    const { tree, kind } = reader;
    const node = this.#nodeOf(tree, reader.ino);
    this.#inodes.add(node);
    if (kind === ChangeKind.newInode) {
      this.#unborn.add(node);
    } else if (kind === ChangeKind.putData || kind === ChangeKind.cut || kind === ChangeKind.preallocate) {
      this.#torn.add(node);
    } else if (kind === ChangeKind.addName || kind === ChangeKind.removeName || kind === ChangeKind.rename) {
      this.#loseName(reader, reader.dir, reader.index, reader.nameStart, reader.nameLength);
      if (kind === ChangeKind.rename) {
        const { targetDir, targetIndex, targetStart, targetLength } = reader;
        this.#loseName(reader, targetDir, targetIndex, targetStart, targetLength);
      }
    }
  }

  #loseName(reader: ChangeReader, dir: number, index: number, start: number, length: number): void {
    const { tree, bytes } = reader;
    this.#names.add(nameId(tree, dir, bytes, start, length));
    this.#inodes.add(this.#nodeOf(tree, dir));
    const name = bytes.slice(start, start + length);
    this.#lostNames.push({ tree, dir, index, name, hash: nameHash(name) });
  }

  finish(): void {
    this.#onFinish({
      inodes: this.#inodes,
      names: this.#lostNames,
      changes: this.#changes,
      cost: this.#cost,
    });
  }
}

/** What must be asked of the server again. */
export function lostRanges(
  losses: Losses,
  treeOf: (node: number) => number,
  inoOf: (node: number) => number,
): Giving[] {
  const ranges: Giving[] = [];
  const add = (tree: number, objectid: number, type: number, from: number, to: number): void => {
    const start = { objectid, type, offset: from };
    ranges.push({ tree, start, end: { objectid, type, offset: to }, newMode: Mode.none });
  };
  for (const node of losses.inodes) {
    const tree = treeOf(node);
    const ino = inoOf(node);
    // Not the names of a directory: those that are wrong are named by themselves.
    add(tree, ino, ItemType.inodeItem, 0, 2);
    ranges.push({
      tree,
      start: { objectid: ino, type: ItemType.inodeRef, offset: 0 },
      end: { objectid: ino, type: ItemType.xattrItem + 1, offset: 0 },
      newMode: Mode.none,
    });
    ranges.push({
      tree,
      start: { objectid: ino, type: ItemType.extentData, offset: 0 },
      end: { objectid: ino, type: ItemType.extentData + 1, offset: 0 },
      newMode: Mode.none,
    });
  }
  for (const { tree, dir, hash, index } of losses.names) {
    add(tree, dir, ItemType.dirItem, hash, hash + 1);
    add(tree, dir, ItemType.dirIndex, index, index + 1);
  }
  return ranges;
}

/** Takes bytes that will never be applied out of what can be read of their file. */
function forgetPending(pending: PendingRun): void {
  const list = pending.file.pending;
  const at = list.indexOf(pending);
  if (at >= 0) list.splice(at, 1);
}
