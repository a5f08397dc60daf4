// SPDX-License-Identifier: GPL-2.0-or-later
// `crfs-bench visibility` on two mounts over loopback, its figures beside those of one local BTRFS, and what is promised.

import { join, resolve } from 'node:path';
import { type Visibility, visibilityTable } from '../../../ts/bench/visibility.ts';
import { run } from '../../../ts/dev/command.ts';
import { localDirectories, SeveralMounts } from '../../harness/several_mounts.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

/** Promised, in microseconds, hand-overs a second, and part of a fair share. */
const LOOK_P50 = 400;
const LOOK_P99 = 5_000;
const CLOSE_P50 = 100;
const HANDOVERS = 300;
const PART_OF_SHARE = 1 / 4;
const LONGEST_WAIT = 5_000_000;

/** Through the command, as users run it. @param warmUp - rounds before those that are timed; the command's own if left out. */
export async function visibility(
  directories: readonly string[],
  rounds: number,
  seconds: number,
  warmUp?: number,
): Promise<Visibility> {
  const numbers = ['--rounds', String(rounds), '--seconds', String(seconds)];
  if (warmUp !== undefined) numbers.push('--warm-up', String(warmUp));
  const program = resolve('dist/bench/crfs-bench.js');
  const sides = ['--a', directories[0]!, '--b', directories[1]!];
  const argv = [process.execPath, program, 'visibility', ...sides, ...numbers, '--json'];
  const { stdout } = await run(argv, { timeoutMs: 120_000 + rounds * 200 + seconds * 4_000 });
  return JSON.parse(stdout) as Visibility;
}

/** What of the promises the figures do not keep. */
function broken(figures: Visibility): string[] {
  const faults: string[] = [];
  const check = (kept: boolean, what: string): void => {
    if (!kept) faults.push(what);
  };
  for (const [name, times] of Object.entries(figures.looks)) {
    check(times.stale === 0, `${name}: ${times.stale} looks did not see the change`);
    check(times.p50 < LOOK_P50, `${name}: p50 ${times.p50} us, promised ${LOOK_P50}`);
    check(times.p99 < LOOK_P99, `${name}: p99 ${times.p99} us, promised ${LOOK_P99}`);
  }
  check(figures.close.p50 < CLOSE_P50, `close: p50 ${figures.close.p50} us, promised ${CLOSE_P50}`);
  for (const [name, handed] of Object.entries(figures.handover)) {
    check(handed.perSecond >= HANDOVERS, `${name}: ${handed.perSecond} hand-overs a second`);
    const share = handed.slowerShare * 2;
    check(share >= PART_OF_SHARE, `${name}: the slower side has ${share.toFixed(2)} of its share`);
    const longest = Math.max(...handed.longest);
    check(longest < LONGEST_WAIT, `${name}: a wait of ${(longest / 1e6).toFixed(1)} s`);
  }
  return faults;
}

async function line(context: AcceptanceContext): Promise<void> {
  const { cleanup, directory, quick, measure } = context;
  const [rounds, seconds] = quick ? [200, 5] : [2_000, 60];
  const print = (name: string, figures: Visibility): void => {
    for (const text of visibilityTable(figures).trimEnd().split('\n')) measure(`${name}: ${text}`);
  };
  const local = await localDirectories(join(directory, 'local'), cleanup, 2);
  print('local btrfs', await visibility(local, rounds, quick ? 1 : 5));
  const several = await SeveralMounts.start(join(directory, 'crfs'), cleanup, { count: 2 });
  const figures = await visibility(several.paths, rounds, seconds);
  print('crfs', figures);
  measure(await several.figures());
  await several.stop();
  await several.check();
  const faults = broken(figures);
  require(faults.length === 0, faults.join('\n'));
}

export const VISIBILITY: AcceptanceLine = {
  name: 'visibility',
  title:
    'crfs-bench visibility: looks under 0.4 ms, close under 0.1 ms, 300 hand-overs a second, nobody starved',
  run: line,
};
