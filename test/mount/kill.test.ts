// SPDX-License-Identifier: GPL-2.0-or-later
// kill -9 of crfsd in the middle of work, three times on one image: the scenario of test/acceptance/one_column/kill_sweep.ts.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { killRepeatedly } from '../acceptance/one_column/kill_sweep.ts';
import { Column } from '../harness/column.ts';
import { Cleanup, loopMount, makeLinuxImage } from '../harness/images.ts';
import { forceUnmount, temporaryDirectory } from '../harness/processes.ts';
import { syntheticTar } from '../harness/trees.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('after kill -9 the image is clean and holds what was fsynced', async () => {
  const directory = await temporaryDirectory(cleanup);
  const tar = join(directory, 'tree.tar');
  await makeLinuxImage(join(directory, 'scratch'), '1G');
  const scratch = await loopMount(join(directory, 'scratch'), join(directory, 'scratch-mount'), cleanup);
  await syntheticTar(join(scratch.directory, 'made'), tar, { seed: 3, entries: 3_000 });
  await scratch.unmount();
  await run(['rm', join(directory, 'scratch')]);
  const kills = await killRepeatedly(join(directory, 'killed'), cleanup, tar, [150, 600, 2_500]);
  expect(kills.some((kill) => kill.acknowledged > 0)).toBe(true);
});

/** How many orphan items an image has that nobody serves. */
async function orphansIn(image: string): Promise<number> {
  const { stdout } = await run(['btrfs', 'inspect-internal', 'dump-tree', '-t', '5', image]);
  return stdout.split('\n').filter((line) => line.includes('ORPHAN_ITEM')).length;
}

test('what was open without a name when crfsd was killed is gone after its next start', async () => {
  const column = await Column.start(await temporaryDirectory(cleanup), cleanup, { size: '1G' });
  const held =
    'exec 3> "$1/big" && head -c 20000000 /dev/zero >&3 && rm "$1/big" && sync "$1" && kill -9 "$2"';
  const argv = ['bash', '-c', held, 'bash', column.mountPoint, String(column.server.pid)];
  await run(argv, { timeoutMs: 60_000 });
  await forceUnmount(column.mountPoint);
  expect(await orphansIn(column.image)).toBe(1);
  for (let left = 1; left > 0; left = await orphansIn(column.image)) {
    await column.startServer();
    await sleep(500);
    await column.server.stop();
  }
  await column.startServer();
  await column.startMount();
  await run(['bash', '-c', '[ -z "$(ls -A "$1")" ]', 'bash', column.mountPoint], { timeoutMs: 20_000 });
  await column.stop();
  await column.check();
}, 120_000);
