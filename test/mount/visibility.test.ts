// SPDX-License-Identifier: GPL-2.0-or-later
// `crfs-bench visibility` runs, sees every change at once, and starves no side: a slice of
// test/acceptance/two_mounts/visibility.ts. Times are not judged here.

import { afterEach, expect, test } from 'vitest';
import { visibility } from '../acceptance/two_mounts/visibility.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('crfs-bench visibility on two mounts sees every change at the first look', async () => {
  const several = await SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count: 2 });
  const figures = await visibility(several.paths, 30, 2, 10);
  for (const [name, times] of Object.entries(figures.looks)) expect(times.stale, name).toBe(0);
  expect(figures.handover.file.handovers).toBeGreaterThan(0);
  expect(figures.handover.names.handovers).toBeGreaterThan(0);
  await several.stop();
  await several.check();
});
