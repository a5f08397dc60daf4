// SPDX-License-Identifier: GPL-2.0-or-later
// Who does not meet does not pay: a slice of test/acceptance/two_mounts/quiet.ts.

import { afterEach, expect, test } from 'vitest';
import { idleSecond, separateTrees, sharedTree } from '../acceptance/two_mounts/quiet.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

async function start(count: number): Promise<SeveralMounts> {
  return SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count });
}

test('mounts on separate trees cause no revoke after the first', async () => {
  const several = await start(3);
  expect((await separateTrees(several, 150)).later).toBe(0);
  await several.stop();
});

test('a warm tree that several mounts read costs no revokes and no messages', async () => {
  const several = await start(3);
  expect(await sharedTree(several, 300)).toEqual({ revokes: 0, messages: 0 });
  await several.stop();
});

test('10,000 small files and a warm listing cost as before beside an idle second mount', async () => {
  const idle = await idleSecond(await temporaryDirectory(cleanup), cleanup, 10_000, 1_000);
  expect(idle.messages).toBeLessThan(100);
  expect(idle.bytes).toBeLessThanOrEqual(idle.bytesAllowed);
  expect([idle.atOnce, idle.later]).toEqual([0, 0]);
});
