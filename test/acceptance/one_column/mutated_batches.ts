// SPDX-License-Identifier: GPL-2.0-or-later
// Random and mutated batches against the engine: it takes or refuses each whole, and every image passes both checks.
// The work is a Rust test of crates/crfs-engine (tests/batches.rs), which needs no mount; here it runs with its full count.

import { run } from '../../../ts/dev/command.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

async function mutatedBatches(context: AcceptanceContext): Promise<void> {
  const batches = context.quick ? 5_000 : 100_000;
  const argv = ['cargo', 'test', '--release', '--locked', '-p', 'crfs-engine', '--test', 'batches'];
  const result = await run([...argv, '--', '--nocapture'], {
    env: { CRFS_BATCHES: String(batches), CRFS_SEED: String(context.seed) },
    timeoutMs: 7_200_000,
  });
  const totals = /test result: ok\. (\d+) passed/.exec(result.stdout);
  require(totals !== null && Number(totals[1]) > 0, `no test ran:\n${result.stdout.slice(-2000)}`);
  const figures = /^seed \d+: .*$/m.exec(result.stdout)?.[0];
  require(figures !== undefined, `it does not say what it did:\n${result.stdout.slice(-2000)}`);
  context.measure(figures!);
}

export const MUTATED_BATCHES: AcceptanceLine = {
  name: 'mutated_batches',
  title: '100,000 random and mutated batches: each taken or refused whole, every image clean',
  run: mutatedBatches,
};
