// SPDX-License-Identifier: GPL-2.0-or-later
// Creating and walking 1,000,000 files with -o cache=64M keeps mount.crfs, and crfsd with its option, under 400 MB.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import { usageOf } from '../../harness/processes.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

const LIMIT_BYTES = 400_000_000;
const TIMEOUT_MS = 3_600_000;

async function peaks(column: Column, what: string, measure: (line: string) => void): Promise<boolean> {
  const mount = await usageOf(column.mount.pid);
  const server = await usageOf(column.server.pid);
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  measure(
    `${what}: peak resident mount.crfs ${megabytes(mount.peakBytes)}, crfsd ${megabytes(server.peakBytes)}; ` +
      `CPU ${mount.cpuSeconds.toFixed(1)} s and ${server.cpuSeconds.toFixed(1)} s`,
  );
  return mount.peakBytes < LIMIT_BYTES && server.peakBytes < LIMIT_BYTES;
}

async function memory(context: AcceptanceContext): Promise<void> {
  const files = context.quick ? 50_000 : 1_000_000;
  const work = join(context.directory, 'column');
  await mkdir(work);
  const column = await Column.start(work, context.cleanup, {
    size: '16G',
    serveOptions: ['--cache', '64M'],
    mountOptions: ['cache=64M'],
  });
  const numbers = ['--count', String(files), '--size', '100', '--per-directory', '1000', '--fsync'];
  const made = await run([testProgram('small-files'), column.mountPoint, ...numbers], {
    timeoutMs: TIMEOUT_MS,
  });
  const created = await peaks(column, `create ${files} (${made.stdout.trim()})`, context.measure);
  await column.restart();
  const seen = await run([testProgram('walk-tree'), column.mountPoint], { timeoutMs: TIMEOUT_MS });
  const entries = Number(/^(\d+) entries/.exec(seen.stdout)?.[1]);
  const walked = await peaks(column, `walk (${seen.stdout.trim()})`, context.measure);
  require(entries === files + Math.ceil(files / 1000), `the walk saw ${entries} entries`);
  await column.stop();
  await column.check();
  require(created && walked, `more than ${LIMIT_BYTES / 1e6} MB resident`);
}

export const MEMORY: AcceptanceLine = {
  name: 'memory',
  title: '1,000,000 files created and walked with cache=64M: under 400 MB resident on both sides',
  run: memory,
};
