// SPDX-License-Identifier: GPL-2.0-or-later
// kill -9 of crfsd in the middle of work, three times on one image: the scenario of test/acceptance/one_column/kill_sweep.ts.

import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { killRepeatedly } from '../acceptance/one_column/kill_sweep.ts';
import { Cleanup, loopMount, makeLinuxImage } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
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
