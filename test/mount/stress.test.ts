// SPDX-License-Identifier: GPL-2.0-or-later
// A slice of test/acceptance/two_mounts/stress.ts: the judge itself on one local BTRFS, then two mounts for some seconds.

import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { requireClean, stress } from '../acceptance/two_mounts/stress.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { localDirectories, SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const SETTINGS = { seconds: 6, workers: 4, seed: 1, groups: 2, restMicroseconds: 1_000 };

test('the judge finds an order for what a local file system does', async () => {
  const directory = await temporaryDirectory(cleanup);
  const paths = await localDirectories(directory, cleanup, 4);
  requireClean(await stress(paths, 'stress', join(directory, 'histories'), cleanup, SETTINGS));
});

test('every answer that programs on two mounts get is one that a single file system could give', async () => {
  const directory = await temporaryDirectory(cleanup);
  const several = await SeveralMounts.start(directory, cleanup, { count: 2 });
  requireClean(await stress(several.paths, 'stress', join(directory, 'histories'), cleanup, SETTINGS));
  await several.stop();
  await several.check();
});
