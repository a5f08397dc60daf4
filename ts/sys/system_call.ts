// SPDX-License-Identifier: GPL-2.0-or-later
//
// In which system call a thread waits. What Linux does with an answer depends on it: a lookup that is answered ESTALE makes
// nearly every call begin anew, once; those that make a name other than by open hand on what the lookup of that name says
// (filename_create in fs/namei.c; the request that makes the name is retried). And a rename looks two names up.

import { readFileSync } from 'node:fs';

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
