// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a session that ended without a goodbye leaves behind: a past state of its client. Names, modes, links and xattrs
// are those after some prefix of its operations; each file's bytes are those after some prefix of the operations on that
// file, and one that was renamed or linked has all bytes that were written before. Nobody has seen what is lost, since the
// grants over it stood until the end.
//
// Each operation is kept with the objects that it changed, as texts, until it is known to be applied. At the end of the
// session the volume is looked at, the prefix is searched, and the model follows the volume.

import { crc32 } from 'node:zlib';
import type { Client } from '../../ts/client/client.ts';
import { entryObjectid, findEntry } from '../../ts/item/dir_item.ts';
import {
  InodeField,
  inodeMode,
  inodeNlink,
  inodeSize,
  inodeTimeNsec,
  inodeTimeSec,
} from '../../ts/item/inode_item.ts';
import { ItemType } from '../../ts/item/key.ts';
import type { MemoryVolume } from '../../ts/store/memory_volume.ts';
import type { Step } from './history.ts';
import { nameOf } from './kernel.ts';
import { type Model, PAGE } from './model.ts';

/** The names of all xattrs that programs use (programs.ts). */
export const XATTRS: readonly string[] = ['user.x', 'user.y'];

const TREE = 5;
const ROOT_INO = 256;
const NONE = 'none';

interface Change {
  readonly key: string;
  readonly before: string;
  readonly after: string;
}

interface Entry {
  /** Of bytes and size of a file: these join in their own order. */
  readonly isData: boolean;
  readonly node: number;
  /** Takes the file's data along. */
  readonly takesData: boolean;
  readonly changes: readonly Change[];
  /** Inodes that it changes. */
  readonly nodes: ReadonlySet<number>;
  /** Batch after which it is applied; Infinity while its file is dirty. */
  place: number;
}

/** The objects that a step changes, and the inode that it is about. */
export function objectsOf(
  model: Model,
  step: Step,
): { keys: string[]; node: number; isData: boolean } | null {
  const at = (dir: number, name: string): number => model.get(dir)?.names.get(name) ?? 0;
  switch (step.kind) {
    case 'make':
      return {
        keys: [`n ${step.dir}/${step.name}`, `m ${step.node}`, `m ${step.dir}`],
        node: step.node,
        isData: false,
      };
    case 'link':
      return {
        keys: [`n ${step.dir}/${step.name}`, `m ${step.node}`, `m ${step.dir}`],
        node: step.node,
        isData: false,
      };
    case 'remove': {
      const node = at(step.dir, step.name);
      return { keys: [`n ${step.dir}/${step.name}`, `m ${node}`, `m ${step.dir}`], node, isData: false };
    }
    case 'rename': {
      const { sourceDir, sourceName, targetDir, targetName } = step;
      const node = at(sourceDir, sourceName);
      const victim = at(targetDir, targetName);
      const keys = [`n ${sourceDir}/${sourceName}`, `n ${targetDir}/${targetName}`, `m ${node}`];
      keys.push(`m ${sourceDir}`);
      if (targetDir !== sourceDir) keys.push(`m ${targetDir}`);
      if (victim !== 0 && victim !== node) keys.push(`m ${victim}`);
      return { keys, node, isData: false };
    }
    case 'write':
    case 'resize':
      return { keys: [`d ${step.node}`], node: step.node, isData: true };
    case 'open':
      return step.truncate ? { keys: [`d ${step.node}`], node: step.node, isData: true } : null;
    case 'chmod':
    case 'utimens':
      return { keys: [`m ${step.node}`], node: step.node, isData: false };
    case 'setxattr':
      return { keys: [`x ${step.node}/${step.name}`], node: step.node, isData: false };
    default:
      return null;
  }
}

/** An object of the model as text. */
export function modelText(model: Model, key: string): string {
  const [kind, rest] = [key[0]!, key.slice(2)];
  const slash = rest.indexOf('/');
  const node = Number(slash < 0 ? rest : rest.slice(0, slash));
  const inode = model.get(node);
  if (kind === 'n') return String(inode?.names.get(rest.slice(slash + 1)) ?? 0);
  if (inode === undefined || inode.nlink === 0) return NONE;
  if (kind === 'm') return metaText(inode.mode, inode.nlink, inode.isDirectory ? inode.size : 0);
  if (kind === 'x') return inode.xattrs.get(rest.slice(slash + 1)) ?? '';
  let sum = 0;
  for (let index = 0; index * PAGE < inode.size; index++) sum = crc32(inode.pages.get(index) ?? ZEROS, sum);
  return dataText(inode.size, sum);
}

const ZEROS = new Uint8Array(PAGE);

/** The journal's texts of one inode: mode, links; the size of a directory, which counts its names. */
function metaText(mode: number, nlink: number, size: number): string {
  return `${mode.toString(8)} ${nlink} ${size}`;
}

function dataText(size: number, sum: number): string {
  return size === 0 ? 'empty' : `${size} bytes ${sum.toString(16)}`;
}

/** The inode whose write grant covers an object. */
function nodeOfKey(key: string): number {
  const rest = key.slice(2);
  const slash = rest.indexOf('/');
  return Number(slash < 0 ? rest : rest.slice(0, slash));
}

/** Which session changed an inode last, by node. */
export type LastChangers = Map<number, Journal>;

/** The unapplied operations of one session. */
export class Journal {
  #entries: Entry[] = [];
  readonly #client: Client;
  readonly #last: LastChangers;

  constructor(client: Client, last: LastChangers) {
    this.#client = client;
    this.#last = last;
  }

  /** Somebody else has changed an inode: so what this session did to it, and all before that, was applied. */
  #appliedUpTo(node: number): void {
    const least = this.#entries.findLastIndex((entry) => !entry.isData && entry.nodes.has(node));
    this.#entries = this.#entries.filter(
      (entry, at) => !(entry.isData ? entry.nodes.has(node) : at <= least),
    );
  }

  /** @param before - the texts of the step's objects before it */
  add(
    model: Model,
    step: Step,
    keys: readonly string[],
    before: readonly string[],
    node: number,
    isData: boolean,
    isLost: (key: string) => boolean,
  ): void {
    const nodes = new Set(keys.map(nodeOfKey));
    for (const touched of nodes) {
      if (this.#last.get(touched) !== this) this.#appliedUpTo(touched);
      this.#last.set(touched, this);
    }
    const changes: Change[] = [];
    for (const [at, key] of keys.entries()) {
      if (isLost(key)) continue;
      const after = modelText(model, key);
      if (after !== before[at]) changes.push({ key, before: before[at]!, after });
    }
    const { writeBack } = this.#client.inner;
    const takesData = step.kind === 'rename' || step.kind === 'link';
    const place = isData ? Infinity : writeBack.open.place;
    this.#entries.push({ isData, node, takesData, changes, nodes, place });
    if (this.#entries.length % 64 === 0) this.#prune();
  }

  /** Objects that a refused batch concerned: what is left of them is no past state. */
  forget(isLost: (key: string) => boolean): void {
    this.#entries = this.#entries
      .map((entry) => ({ ...entry, changes: entry.changes.filter(({ key }) => !isLost(key)) }))
      .filter((entry) => entry.changes.length > 0);
  }

  #prune(): void {
    const { writeBack, files } = this.#client.inner;
    if (writeBack.isClean) {
      this.#entries = [];
      return;
    }
    for (const entry of this.#entries) {
      if (entry.place === Infinity && files.get(entry.node)?.isDirty !== true)
        entry.place = writeBack.open.place;
    }
    // Only from the front: what is kept must be a whole suffix.
    let gone = 0;
    while (gone < this.#entries.length && this.#entries[gone]!.place <= writeBack.appliedPlace) gone++;
    this.#entries.splice(0, gone);
  }

  /**
   * The session is over: finds out what of it was applied, and lets the model follow.
   *
   * @param isKnownElsewhere - whether another client has seen an inode: it may have it open, nameless or not
   * @returns what is wrong, or null
   */
  settle(model: Model, volume: MemoryVolume, isKnownElsewhere: (node: number) => boolean): string | null {
    const entries = this.#entries;
    this.#entries = [];
    const last = new Map<string, string>();
    const first = new Map<string, string>();
    for (const entry of entries) {
      for (const { key, before, after } of entry.changes) {
        if (!first.has(key)) first.set(key, before);
        last.set(key, after);
      }
    }
    const now = new Map<string, string>();
    const fixed = new Set<string>();
    for (const key of last.keys()) {
      now.set(key, volumeText(volume, key));
      if (this.#last.get(nodeOfKey(key)) !== this) fixed.add(key);
    }
    const wrong = findPrefix(entries, first, now, fixed);
    if (wrong !== null) return wrong;
    const nodes = new Set<number>();
    for (const entry of entries) {
      for (const node of entry.nodes) if (this.#last.get(node) === this) nodes.add(node);
    }
    follow(model, volume, last.keys(), nodes);
    for (const [key, text] of first) {
      if (key[0] !== 'm' || text !== NONE || fixed.has(key)) continue;
      // Never seen by anybody else: its number may be given again.
      const node = Number(key.slice(2));
      if (model.get(node)?.nlink === 0 && !isKnownElsewhere(node)) model.inodes.delete(node);
    }
    return null;
  }
}

/** @returns what is wrong, or null if some prefix explains what the volume holds */
function findPrefix(
  entries: readonly Entry[],
  first: ReadonlyMap<string, string>,
  now: ReadonlyMap<string, string>,
  fixed: ReadonlySet<string>,
): string | null {
  let least = 0;
  for (const [at, entry] of entries.entries()) {
    if (!entry.isData && entry.changes.some(({ key }) => fixed.has(key))) least = at + 1;
  }
  const state = new Map<string, string>();
  for (const [key, text] of first) if (key[0] !== 'd') state.set(key, text);
  let difference = '';
  for (let cut = 0; cut <= entries.length; cut++) {
    if (cut > 0) {
      const entry = entries[cut - 1]!;
      if (!entry.isData)
        for (const { key, after } of entry.changes) if (key[0] !== 'd') state.set(key, after);
    }
    if (cut < least) continue;
    const other = [...state].find(([key, text]) => !fixed.has(key) && differs(key, text, now.get(key)!));
    if (other === undefined) {
      const torn = tornFile(entries, first, now, fixed, cut);
      if (torn === null) return null;
      difference = torn;
    } else if (difference === '') difference = `${other[0]} is ${now.get(other[0])}, not ${other[1]}`;
  }
  return `what is left of it is no past state (${entries.length} operations): ${difference}`;
}

/** Of an inode that is gone the xattrs do not count. */
function differs(key: string, text: string, now: string): boolean {
  return text !== now && !(key[0] === 'x' && now === NONE);
}

/** A file whose bytes fit no prefix of its operations, given how many operations on names were applied. */
function tornFile(
  entries: readonly Entry[],
  first: ReadonlyMap<string, string>,
  now: ReadonlyMap<string, string>,
  fixed: ReadonlySet<string>,
  cut: number,
): string | null {
  for (const [key, start] of first) {
    if (key[0] !== 'd' || fixed.has(key)) continue;
    const seen = now.get(key)!;
    // A file that did not come to be, or is gone, has no bytes.
    if (seen === NONE) continue;
    const node = Number(key.slice(2));
    let least = 0;
    const versions = [start];
    for (const [at, entry] of entries.entries()) {
      if (entry.node !== node) continue;
      if (entry.takesData && at < cut) least = versions.length - 1;
      for (const change of entry.changes) if (change.key === key) versions.push(change.after);
    }
    const found = versions.lastIndexOf(seen);
    // What was made in this session begins empty.
    if (found < 0 && seen === 'empty' && start === NONE && least === 0) continue;
    if (found < 0) return `file ${node} holds ${seen}, none of ${versions.join(', ')}`;
    if (found < least) return `file ${node} holds ${seen}, but it was renamed with ${versions[least]}`;
  }
  return null;
}

function inoOf(node: number): number {
  return node === 1 ? ROOT_INO : node;
}

function nodeOfIno(ino: number): number {
  return ino === ROOT_INO ? 1 : ino;
}

/** An object of the volume as text. */
function volumeText(volume: MemoryVolume, key: string): string {
  const { items } = volume;
  const rest = key.slice(2);
  const slash = rest.indexOf('/');
  const node = Number(slash < 0 ? rest : rest.slice(0, slash));
  const ino = inoOf(node);
  const text = rest.slice(slash + 1);
  if (key[0] === 'n') return String(volumeName(volume, ino, text));
  if (!items.find(TREE, ino, ItemType.inodeItem, 0)) return NONE;
  const mode = inodeMode(items.view, items.start);
  const nlink = inodeNlink(items.view, items.start);
  const size = inodeSize(items.view, items.start);
  if (nlink === 0) return NONE;
  if (key[0] === 'm') return metaText(mode, nlink, (mode & 0o170000) === 0o040000 ? size : 0);
  if (key[0] === 'x') return volumeXattr(volume, ino, text) ?? '';
  let sum = 0;
  for (const page of volumePages(volume, ino, size)) sum = crc32(page, sum);
  return dataText(size, sum);
}

function volumeName(volume: MemoryVolume, ino: number, text: string): number {
  const { items } = volume;
  const name = nameOf(text);
  if (!items.find(TREE, ino, ItemType.dirItem, name.hash)) return 0;
  const at = findEntry(items.bytes, items.view, items.start, items.size, name.bytes, 0, name.bytes.length);
  return at < 0 ? 0 : nodeOfIno(entryObjectid(items.view, at));
}

function volumeXattr(volume: MemoryVolume, ino: number, text: string): string | undefined {
  const { items } = volume;
  const name = nameOf(text);
  if (!items.find(TREE, ino, ItemType.xattrItem, name.hash)) return undefined;
  const at = findEntry(items.bytes, items.view, items.start, items.size, name.bytes, 0, name.bytes.length);
  if (at < 0) return undefined;
  const length = items.view.getUint16(at + 25, true);
  const start = at + 30 + name.bytes.length;
  return Buffer.from(items.bytes.subarray(start, start + length)).toString('latin1');
}

function volumePages(volume: MemoryVolume, ino: number, size: number): Uint8Array[] {
  if (size === 0) return [];
  const bytes = volume.fileBytes(TREE, ino, 0, Math.ceil(size / PAGE) * PAGE);
  const pages: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PAGE) pages.push(Uint8Array.from(bytes.subarray(at, at + PAGE)));
  const last = pages.at(-1)!;
  if (size % PAGE !== 0) last.fill(0, size % PAGE);
  return pages;
}

/** Makes the model hold what the volume holds of some inodes, as far as it can be different. */
function follow(
  model: Model,
  volume: MemoryVolume,
  keys: Iterable<string>,
  nodes: ReadonlySet<number>,
): void {
  for (const key of keys) {
    const node = nodeOfKey(key);
    if (!nodes.has(node)) continue;
    const text = key.slice(key.indexOf('/') + 1);
    if (key[0] === 'n') followName(model, volume, node, text);
    else if (key[0] === 'x') followXattr(model, volume, node, text);
  }
  for (const node of nodes) followInode(model, volume, node);
}

/** Makes the model hold what the volume holds under a name. */
export function followName(model: Model, volume: MemoryVolume, dir: number, text: string): void {
  const inode = model.get(dir);
  if (inode === undefined) return;
  const target = volumeName(volume, inoOf(dir), text);
  if (target === 0) inode.names.delete(text);
  else inode.names.set(text, target);
  model.onName(dir, text, target !== 0);
  const child = model.get(target);
  if (child?.isDirectory === true) child.parent = dir;
}

/** Makes the model hold what the volume holds of an inode, but for a directory's names. */
export function followNode(model: Model, volume: MemoryVolume, node: number): void {
  for (const text of XATTRS) followXattr(model, volume, node, text);
  followInode(model, volume, node);
}

function followXattr(model: Model, volume: MemoryVolume, node: number, text: string): void {
  const inode = model.get(node);
  if (inode === undefined) return;
  const value = volumeXattr(volume, inoOf(node), text);
  if (value === undefined) inode.xattrs.delete(text);
  else inode.xattrs.set(text, value);
}

function followInode(model: Model, volume: MemoryVolume, node: number): void {
  const { items } = volume;
  const ino = inoOf(node);
  const inode = model.get(node);
  if (inode === undefined) return;
  if (!items.find(TREE, ino, ItemType.inodeItem, 0)) {
    inode.nlink = 0;
    return;
  }
  const { view, start } = items;
  inode.mode = inodeMode(view, start);
  inode.nlink = inodeNlink(view, start);
  inode.size = inodeSize(view, start);
  inode.atimeSec = inodeTimeSec(view, start, InodeField.atime);
  inode.atimeNsec = inodeTimeNsec(view, start, InodeField.atime);
  inode.mtimeSec = inodeTimeSec(view, start, InodeField.mtime);
  inode.mtimeNsec = inodeTimeNsec(view, start, InodeField.mtime);
  inode.ctimeSec = inodeTimeSec(view, start, InodeField.ctime);
  inode.ctimeNsec = inodeTimeNsec(view, start, InodeField.ctime);
  if (!inode.isFile) return;
  const pages = volumePages(volume, ino, inode.size);
  inode.pages = new Map(pages.map((page, index) => [index, page]));
}
