// SPDX-License-Identifier: GPL-2.0-or-later
// A full image: the call that does not fit answers ENOSPC, nothing accepted is lost, deleting works, the check is clean.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

async function fill(directory: string, size: number): Promise<number> {
  const { stdout } = await run([testProgram('fill'), directory, '--size', String(size)], {
    timeoutMs: 900_000,
  });
  return Number(/^(\d+) files accepted/.exec(stdout)?.[1]);
}

/**
 * Fills the column's image with files of `size` bytes, and looks at every promise about a full image. The server runs
 * before and after.
 */
export async function fillAndEmpty(column: Column, size: number): Promise<number> {
  const directory = join(column.mountPoint, `files_of_${size}`);
  await run(['mkdir', directory]);
  const accepted = await fill(directory, size);
  require(accepted > 0, 'not a single file was accepted');
  const numbers = ['--size', String(size), '--verify', String(accepted)];
  const verify = (at: string): Promise<unknown> =>
    run([testProgram('fill'), join(at, `files_of_${size}`), ...numbers], { timeoutMs: 900_000 });
  await verify(column.mountPoint);
  await column.stop();
  await column.check();
  await column.inLinux('ro', verify as (at: string) => Promise<void>);
  await column.startServer();
  await column.startMount();
  await verify(column.mountPoint);
  // Deleting needs room for its own metadata, and gives back what it freed.
  await run(['find', directory, '-name', 'fill_*1', '-delete'], { timeoutMs: 900_000 });
  await run(['sync', directory]);
  const again = join(directory, 'again');
  await run(['mkdir', again]);
  const second = await fill(again, size);
  require(second > 0, 'nothing was accepted after files were deleted');
  await run(['rm', '-rf', directory], { timeoutMs: 900_000 });
  await run(['sync', column.mountPoint]);
  await column.stop();
  await column.check();
  await column.startServer();
  await column.startMount();
  return accepted;
}

async function fullImage(context: AcceptanceContext): Promise<void> {
  const work = join(context.directory, 'column');
  await mkdir(work);
  const column = await Column.start(work, context.cleanup, { size: context.quick ? '256M' : '1G' });
  for (const size of [65_536, 1_000_000, 1_000]) {
    const accepted = await fillAndEmpty(column, size);
    context.measure(`files of ${size} bytes: ${accepted} accepted, then ENOSPC in the call; emptied again`);
  }
  await column.stop();
}

export const FULL_IMAGE: AcceptanceLine = {
  name: 'full_image',
  title: 'a full image answers ENOSPC in the call, loses nothing, and can be emptied',
  run: fullImage,
};
