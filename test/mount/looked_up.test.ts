// SPDX-License-Identifier: GPL-2.0-or-later
// What a program has looked up and not opened lives for a while without its last name, and not for ever.

import { open, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

/** Names a file without opening it: no request tells of it. */
const O_PATH = 0o10000000;

test('a file that was looked up is there when another mount has just removed it', async () => {
  const several = await SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count: 2 });
  const [here, there] = several.paths as [string, string];
  for (let round = 0; round < 20; round += 1) {
    await writeFile(join(there, `file${round}`), 'text');
    const path = await open(join(here, `file${round}`), O_PATH);
    await unlink(join(there, `file${round}`));
    const { nlink, size } = await path.stat();
    expect([nlink, size]).toEqual([0, 4]);
    await path.close();
  }
  const openInodes = async (): Promise<number> =>
    ((await several.stats()).grants as unknown as { openInodes: number }).openInodes;
  const deadline = performance.now() + 20_000;
  while ((await openInodes()) > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  expect(await openInodes()).toBe(0);
  await several.stop();
  await several.check();
});
