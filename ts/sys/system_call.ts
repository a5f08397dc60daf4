// SPDX-License-Identifier: GPL-2.0-or-later
//
// In which system call a thread waits. What Linux does with an answer depends on it: a lookup that is answered ESTALE makes
// nearly every call begin anew, once; those that make a name other than by open hand on what the lookup of that name says
// (filename_create in fs/namei.c; the request that makes the name is retried). And a rename looks two names up.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { native } from '../../native/index.js';

export interface SystemCall {
  /** Number, arguments and stack: the same while it is the same call, or an equal one that follows. */
  readonly text: string;
  /** `make`: mkdir, mknod, symlink, link or bind. */
  readonly kind: 'make' | 'rename' | 'other';
}

interface Numbers {
  readonly make: ReadonlySet<number>;
  readonly rename: ReadonlySet<number>;
}

const NUMBERS: Readonly<Partial<Record<NodeJS.Architecture, Numbers>>> = {
  x64: { make: new Set([83, 258, 133, 259, 88, 266, 86, 265, 49]), rename: new Set([82, 264, 316]) },
  arm64: { make: new Set([34, 33, 36, 37, 200]), rename: new Set([38, 276]) },
};

/** Reads /proc, which is memory. Null where it cannot be told: threads of the kernel, other machines, containers. */
export function systemCallOf(tid: number): SystemCall | null {
  const numbers = NUMBERS[process.arch];
  if (numbers === undefined) return null;
  try {
    const text = readFileSync(`/proc/${tid}/syscall`, 'latin1');
    const number = Number(/^\d+(?= 0x)/.exec(text)?.[0] ?? Number.NaN);
    if (Number.isNaN(number)) return null;
    const kind = numbers.make.has(number) ? 'make' : numbers.rename.has(number) ? 'rename' : 'other';
    return { text, kind };
  } catch {
    return null;
  }
}

/** One of the two names of a rename. */
export interface RenamedName {
  /** The last part of its path. */
  readonly name: Uint8Array;
  /** The inode number of the directory that holds it, as far as the kernel has that cached; else null. */
  readonly directory: () => number | null;
  /** The last part of the path of that directory; null if the path does not name it. */
  readonly directoryName: Uint8Array | null;
}

export interface RenamedNames {
  readonly source: RenamedName;
  readonly target: RenamedName;
}

/** rename(2), whose paths are its first two arguments; renameat and renameat2 have a directory before each. */
const RENAME_X64 = 82;
const AT_FDCWD = -100;
const PATH_MAX = 4096;
const PAGE = 4096;
const SLASH = 0x2f;

/**
 * Reads the names out of the memory of a thread that waits in a rename.
 *
 * @param text - of its call. @returns null where they cannot be read.
 */
export function renamedNames(tid: number, text: string): RenamedNames | null {
  const [number, ...words] = text.split(' ').map(Number);
  const isPlain = process.arch === 'x64' && number === RENAME_X64;
  // Both are C's int; the upper half of a register that holds one can be anything.
  const at = (word: number): number => (isPlain ? AT_FDCWD : word | 0);
  let memory: number | null = null;
  try {
    memory = openSync(`/proc/${tid}/mem`, 'r');
    const source = renamedName(tid, at(words[0]!), pathAt(memory, words[isPlain ? 0 : 1]!));
    const target = renamedName(tid, at(words[2]!), pathAt(memory, words[isPlain ? 1 : 3]!));
    return source === null || target === null ? null : { source, target };
  } catch {
    return null;
  } finally {
    if (memory !== null) closeSync(memory);
  }
}

/** @param directory - a descriptor, or AT_FDCWD. */
function renamedName(tid: number, directory: number, path: Uint8Array | null): RenamedName | null {
  if (path === null) return null;
  const [begin, end] = lastPart(path, path.length);
  if (begin === end) return null;
  const [dirBegin, dirEnd] = lastPart(path, begin);
  return {
    name: path.subarray(begin, end),
    directoryName: dirBegin === dirEnd ? null : path.subarray(dirBegin, dirEnd),
    directory: () => {
      const isAbsolute = path[0] === SLASH;
      const from = isAbsolute ? 'root' : directory === AT_FDCWD ? 'cwd' : `fd/${directory}`;
      let first = 0;
      while (first < begin && path[first] === SLASH) first++;
      return native.cachedInode(`/proc/${tid}/${from}`, path.subarray(first, begin));
    },
  };
}

/** Where the last part of the first `length` bytes of a path begins and ends. */
function lastPart(path: Uint8Array, length: number): [number, number] {
  let end = length;
  while (end > 0 && path[end - 1] === SLASH) end--;
  return [end === 0 ? 0 : path.lastIndexOf(SLASH, end - 1) + 1, end];
}

/** The path at an address of a thread's memory, null if there is none. */
function pathAt(memory: number, address: number): Uint8Array | null {
  const path = new Uint8Array(PATH_MAX);
  let length = 0;
  while (length < PATH_MAX) {
    // Not over the end of a page: the next one may be none.
    const at = address + length;
    const read = readSync(memory, path, length, Math.min(PAGE - (at % PAGE), PATH_MAX - length), at);
    if (read === 0) return null;
    const end = path.indexOf(0, length);
    length += read;
    if (end >= 0 && end < length) return path.subarray(0, end);
  }
  return null;
}
