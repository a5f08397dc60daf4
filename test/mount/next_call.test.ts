// SPDX-License-Identifier: GPL-2.0-or-later
// The next call on another mount sees every change: a slice of test/acceptance/two_mounts/next_call.ts. The judge itself is
// tried on two bind mounts of one local BTRFS, which are coherent for sure.

import { afterEach, test } from 'vitest';
import { nextCall } from '../acceptance/two_mounts/next_call.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { localDirectories, SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('the judge finds nothing on one local file system', async () => {
  const directories = await localDirectories(await temporaryDirectory(cleanup), cleanup, 2);
  await nextCall(directories, 20, () => {});
});

test('a change on either of two mounts is seen by the very next call on the other', async () => {
  const several = await SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count: 2 });
  await nextCall(several.paths, 15, () => {});
  await several.stop();
  await several.check();
});
