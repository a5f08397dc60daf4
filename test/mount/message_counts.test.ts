// SPDX-License-Identifier: GPL-2.0-or-later
// The round-trip budget: the scenario of test/acceptance/one_column/message_counts.ts. Its first half is the promise in
// full, the listing is of a smaller tree.

import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { testProgram } from '../../ts/dev/test_programs.ts';
import { CountedColumn, smallFilesCost, warmListingCost } from '../acceptance/one_column/message_counts.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

test('10,000 files of 1 KiB cost fewer than 100 messages and 1.5 times their bytes', async () => {
  const counted = await CountedColumn.start(await temporaryDirectory(cleanup), cleanup);
  const { cost, bytesAllowed } = await smallFilesCost(counted, 10_000);
  expect(cost.messages, cost.kinds).toBeLessThan(100);
  expect(cost.bytes, cost.kinds).toBeLessThanOrEqual(bytesAllowed);
  await counted.column.stop();
});

test('a second ls -lR of a warm tree sends nothing, then and later', async () => {
  const counted = await CountedColumn.start(await temporaryDirectory(cleanup), cleanup);
  const tree = join(counted.column.mountPoint, 'tree');
  await run(['mkdir', tree]);
  await run([testProgram('small-files'), tree, '--count', '5000', '--size', '300', '--per-directory', '50']);
  await counted.remount();
  const [atOnce, later] = await warmListingCost(counted, 3_000);
  expect(atOnce.messages, atOnce.kinds).toBe(0);
  expect(later.messages, later.kinds).toBe(0);
  await counted.column.stop();
});
