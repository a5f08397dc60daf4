// SPDX-License-Identifier: GPL-2.0-or-later
// Random writes, truncates, holes and maps on files in a mount, compared with a copy in memory as they happen, after
// a restart of both processes, and with Linux mounting the image.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import type { AcceptanceContext, AcceptanceLine } from '../acceptance.ts';

async function randomWrites(context: AcceptanceContext): Promise<void> {
  const seeds = Array.from({ length: context.quick ? 6 : 50 }, (_, index) => index + 1);
  const work = join(context.directory, 'column');
  await mkdir(work);
  const column = await Column.start(work, context.cleanup, { size: '2G' });
  const reference = (seed: number): string => join(context.directory, `reference_${seed}`);
  const compareIn = async (root: string): Promise<void> => {
    for (const seed of seeds) await run(['cmp', join(root, `file_${seed}`), reference(seed)]);
  };
  for (const seed of seeds) {
    const file = join(column.mountPoint, `file_${seed}`);
    const options = ['--seed', String(seed), '--operations', '400', '--reference', reference(seed)];
    await run([testProgram('random-writes'), file, '--drop-caches', ...options], { timeoutMs: 60_000 });
  }
  await column.restart();
  await compareIn(column.mountPoint);
  await column.stop();
  await column.check();
  await column.inLinux('ro', compareIn);
  context.measure(`${seeds.length} files equal their copies at every step, after a restart and in Linux`);
}

export const RANDOM_WRITES: AcceptanceLine = {
  name: 'random_writes',
  title: 'files changed at random equal their copies',
  run: randomWrites,
};
