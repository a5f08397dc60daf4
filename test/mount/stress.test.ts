// SPDX-License-Identifier: GPL-2.0-or-later
// The judge of test/acceptance/two_mounts/stress.ts, tried on a local BTRFS and on mounts with a planted fault. The run on
// mounts as they are still finds something now and then (docs/status.md), so it is not among these.

import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { control, plantedFault } from '../acceptance/two_mounts/stress.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('the judge finds nothing on one local file system', async () => {
  await control(await temporaryDirectory(cleanup), cleanup, 5, 1);
});

test('the judge reports dirty state that is sent after the grant is gone', async () => {
  await plantedFault(join(await temporaryDirectory(cleanup), 'mounts'), cleanup, 'data-after-metadata', 5);
});
