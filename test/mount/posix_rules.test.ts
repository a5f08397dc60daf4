// SPDX-License-Identifier: GPL-2.0-or-later
// The rules of POSIX: a slice of test/acceptance/posix/rules.ts without its longest checks and without what is not done yet.

import { afterEach, test } from 'vitest';
import { NOT_YET, rulesOnLocal, rulesOnMounts } from '../acceptance/posix/rules.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const QUICK = ['--large', '2000', '--skip', 'link-limit'];

test('the checks come out right on a local file system', async () => {
  await rulesOnLocal(await temporaryDirectory(cleanup), cleanup, QUICK);
}, 60_000);

test('the rules hold on two mounts', async () => {
  const skipped = NOT_YET.flatMap((name) => ['--skip', name]);
  await rulesOnMounts(await temporaryDirectory(cleanup), cleanup, [...QUICK, ...skipped], () => {});
}, 120_000);
