// SPDX-License-Identifier: GPL-2.0-or-later
// Everything at once on shared names is linearizable: a slice of test/acceptance/two_mounts/stress.ts. The judge itself is
// tried on a local BTRFS, and on mounts with a planted fault.

import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { control, plantedFault, requireClean, stress } from '../acceptance/two_mounts/stress.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('the judge finds nothing on one local file system', async () => {
  await control(await temporaryDirectory(cleanup), cleanup, 5, 1);
});

test('the judge reports dirty state that is sent after the grant is gone', async () => {
  await plantedFault(join(await temporaryDirectory(cleanup), 'mounts'), cleanup, 'data-after-metadata', 5);
});

test('two mounts answer four programs as one file system would', async () => {
  const directory = await temporaryDirectory(cleanup);
  const several = await SeveralMounts.start(join(directory, 'mounts'), cleanup, { count: 2 });
  const settings = { seconds: 20, workers: 4, seed: 1, groups: 3, restMicroseconds: 1_000 };
  requireClean(await stress(several.paths, 'stress', join(directory, 'histories'), cleanup, settings));
  await several.stop();
  await several.check();
});
