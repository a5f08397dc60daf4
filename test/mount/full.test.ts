// SPDX-License-Identifier: GPL-2.0-or-later
// A full image, small: the scenario of test/acceptance/one_column/full_image.ts.

import { afterEach, expect, test } from 'vitest';
import { fillAndEmpty } from '../acceptance/one_column/full_image.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test.each([
  { size: 65_536, image: '256M', least: 2000 },
  { size: 1000, image: '128M', least: 8000 },
])('full with files of $size bytes: ENOSPC in the call, nothing lost', async ({ size, image, least }) => {
  const column = await Column.start(await temporaryDirectory(cleanup), cleanup, { size: image });
  expect(await fillAndEmpty(column, size)).toBeGreaterThan(least);
  await column.stop();
});
