// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether the system call in which a thread waits begins anew when the lookup of a name is answered ESTALE. Nearly all do,
// once. Those that make a name other than by open do not: Linux hands on what the lookup of that name says.
// (filename_create in fs/namei.c; the request that makes the name is retried, only its lookup is not.)

import { readFileSync } from 'node:fs';

/** The numbers of mkdir, mknod, symlink, link, each with and without -at, and bind. */
const MAKING_NAMES: Readonly<Partial<Record<NodeJS.Architecture, ReadonlySet<number>>>> = {
  x64: new Set([83, 258, 133, 259, 88, 266, 86, 265, 49]),
  arm64: new Set([34, 33, 36, 37, 200]),
};

/** Reads /proc, which is memory. False where it cannot be told: threads of the kernel, other machines, containers. */
export function retriesStaleLookup(tid: number): boolean {
  const making = MAKING_NAMES[process.arch];
  if (making === undefined) return false;
  try {
    const number = /^\d+/.exec(readFileSync(`/proc/${tid}/syscall`, 'latin1'))?.[0];
    return number !== undefined && !making.has(Number(number));
  } catch {
    return false;
  }
}
