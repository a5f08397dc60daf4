// SPDX-License-Identifier: GPL-2.0-or-later
// Programs that share a tree from several mounts lose nothing: slices of test/acceptance/two_mounts/programs.ts. The
// scenarios themselves are tried on one local BTRFS.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { ensureCommands, PROGRAM_COMMANDS } from '../../ts/dev/prerequisites.ts';
import { git, make, sqlite } from '../acceptance/two_mounts/programs.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { localDirectories, SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

async function share(paths: readonly string[], scratch: string): Promise<void> {
  await ensureCommands(PROGRAM_COMMANDS);
  await mkdir(scratch);
  await sqlite(paths, 4);
  await git(paths, 2, scratch);
  await make(paths, 10, scratch);
}

test('the scenarios are right on one local file system', async () => {
  const directory = await temporaryDirectory(cleanup);
  await share(await localDirectories(directory, cleanup, 3), join(directory, 'scratch'));
});

test('SQLite, git and make lose nothing on several mounts', async () => {
  const directory = await temporaryDirectory(cleanup);
  const several = await SeveralMounts.start(directory, cleanup, { count: 3 });
  await share(several.paths, join(directory, 'scratch'));
  await several.stop();
  await several.check();
});
