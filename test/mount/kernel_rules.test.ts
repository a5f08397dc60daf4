// SPDX-License-Identifier: GPL-2.0-or-later
// The rules about what the kernel keeps: a slice of test/acceptance/two_mounts/kernel_rules.ts. Most scenarios with the
// rules as they are, and a few without one, so that the scenarios themselves are known to see something.

import { afterEach, expect, test } from 'vitest';
import { ruleIsNeeded, rulesHold, SCENARIOS, type Scenario } from '../acceptance/two_mounts/kernel_rules.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

/** Scenarios and the rounds that take a second or two each. */
const SLICE: Readonly<Record<string, number>> = {
  'changes-seen': 3,
  'handed-over': 3,
  'absent-names': 2,
  listings: 2,
  'create-waits': 3,
  'chmod-waits': 2,
  'removed-other': 2,
  'torn-renames': 2,
  'read-waits': 1,
  'direct-read-waits': 2,
  'late-pages': 1,
  'late-attributes': 1,
  'stores-seen': 3,
  'stores-after-stat': 1,
  signals: 2,
};

function scenario(name: string): Scenario {
  const found = SCENARIOS.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no scenario ${name}`);
  return found;
}

test('with the rules every race comes out right', async () => {
  const scenarios = Object.entries(SLICE).map(([name, rounds]) => ({ ...scenario(name), rounds }));
  await rulesHold(await temporaryDirectory(cleanup), cleanup, scenarios, 1, () => {});
}, 180_000);

test.each([
  ['changes-seen', 'keep-kernel-caches', 'WRONG'],
  ['listings', 'keep-listings', 'WRONG'],
  ['removed-other', 'removed-directories-stay', 'WRONG'],
  ['direct-read-waits', 'direct-requests-lock', 'WRONG'],
  ['create-waits', 'no-stale-answers,wait-for-names', 'HANGS'],
])(
  '%s comes out wrong with %s',
  async (name, faults, how) => {
    const directory = await temporaryDirectory(cleanup);
    const said = await ruleIsNeeded(directory, cleanup, scenario(name), faults, 1);
    expect(said).toContain(how);
  },
  120_000,
);
