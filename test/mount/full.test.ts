// SPDX-License-Identifier: GPL-2.0-or-later
// A full image, small: the scenario of test/acceptance/one_column/full_image.ts.

import { afterEach, expect, test } from 'vitest';
import { fillAndEmpty } from '../acceptance/one_column/full_image.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('full with files of 65,536 bytes: ENOSPC in the call, nothing lost', async () => {
  const column = await Column.start(await temporaryDirectory(cleanup), cleanup, { size: '256M' });
  expect(await fillAndEmpty(column, 65_536)).toBeGreaterThan(100);
  await column.stop();
});
