// SPDX-License-Identifier: GPL-2.0-or-later
//
// In which system call a thread waits. What Linux does with an answer depends on it: a lookup that is answered ESTALE makes
// nearly every call begin anew, once; those that make a name other than by open hand on what the lookup of that name says
// (filename_create in fs/namei.c; the request that makes the name is retried). And a rename looks two names up.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

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

/** The last parts of the two paths of a rename. */
export interface RenamedNames {
  readonly source: Uint8Array;
  readonly target: Uint8Array;
}

/** rename(2), whose paths are its first two arguments; of renameat and renameat2 they are the second and fourth. */
const RENAME_X64 = 82;
const PATH_MAX = 4096;
const PAGE = 4096;

/**
 * Reads the names out of the memory of a thread that waits in a rename.
 *
 * @param text - of its call. @returns null where they cannot be read.
 */
export function renamedNames(tid: number, text: string): RenamedNames | null {
  const [number, ...words] = text.split(' ').map(Number);
  const isPlain = process.arch === 'x64' && number === RENAME_X64;
  let memory: number | null = null;
  try {
    memory = openSync(`/proc/${tid}/mem`, 'r');
    const source = lastPart(memory, words[isPlain ? 0 : 1]!);
    const target = lastPart(memory, words[isPlain ? 1 : 3]!);
    return source === null || target === null ? null : { source, target };
  } catch {
    return null;
  } finally {
    if (memory !== null) closeSync(memory);
  }
}

/** The last part of the path at an address; null if there is none. */
function lastPart(memory: number, address: number): Uint8Array | null {
  const path = new Uint8Array(PATH_MAX);
  let length = 0;
  while (length < PATH_MAX) {
    // Not over the end of a page: the next one may be none.
    const at = address + length;
    const read = readSync(memory, path, length, Math.min(PAGE - (at % PAGE), PATH_MAX - length), at);
    if (read === 0) return null;
    const end = path.indexOf(0, length);
    length += read;
    if (end < 0 || end >= length) continue;
    let last = end;
    while (last > 0 && path[last - 1] === SLASH) last--;
    return last === 0 ? null : path.subarray(path.lastIndexOf(SLASH, last - 1) + 1, last);
  }
  return null;
}

const SLASH = 0x2f;
