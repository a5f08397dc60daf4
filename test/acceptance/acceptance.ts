// SPDX-License-Identifier: GPL-2.0-or-later
// What an acceptance line is: one promise of the project, checked through the real commands, with the figures seen.
//
// `npm run acceptance` (run.ts) runs the lines of a topic in full; tests under test/mount run the same scenarios small.

import type { Cleanup } from '../harness/images.ts';

export interface AcceptanceContext {
  /** A slice that takes seconds instead of minutes. */
  readonly quick: boolean;
  readonly seed: number;
  /** Numbers of mounts and minutes to run, where a line lets them be chosen (`--mounts`, `--minutes`). */
  readonly mounts?: readonly number[];
  readonly minutes?: number;
  /** Undone when the line ends, passed or not. */
  readonly cleanup: Cleanup;
  /** For this line alone; removed when it ends. */
  readonly directory: string;
  /** For all lines of a run: what is expensive to make. */
  readonly shared: string;
  /** Notes a figure for the report. */
  measure(line: string): void;
}

export interface AcceptanceLine {
  readonly name: string;
  readonly title: string;
  /** @throws Error - when the promise is not kept. */
  run(context: AcceptanceContext): Promise<void>;
}

/** @throws Error - with `what`, when it is not so. */
export function require(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

/** Runs `body` and returns its seconds. */
export async function seconds(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return (performance.now() - start) / 1000;
}
