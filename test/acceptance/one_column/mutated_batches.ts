// SPDX-License-Identifier: GPL-2.0-or-later
// Random and mutated batches against the engine: it takes or refuses each whole, and every image passes both checks.
// The work is a Rust test of crates/crfs-engine, which needs no kernel and no Node; here it runs with its full count.

import { run } from '../../../ts/dev/command.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

async function mutatedBatches(context: AcceptanceContext): Promise<void> {
  const batches = context.quick ? 5_000 : 100_000;
  const argv = ['cargo', 'test', '--release', '--locked', '-p', 'crfs-engine', '--test', 'mutated_batches'];
  const result = await run([...argv, '--', '--nocapture'], {
    env: { CRFS_BATCHES: String(batches), CRFS_SEED: String(context.seed) },
    timeoutMs: 7_200_000,
  });
  const totals = /test result: ok\. (\d+) passed/.exec(result.stdout);
  require(totals !== null && Number(totals[1]) > 0, `no test ran:\n${result.stdout.slice(-2000)}`);
  for (const line of result.stdout.split('\n').filter((text) => text.startsWith('measured: '))) {
    context.measure(line.slice('measured: '.length));
  }
}

export const MUTATED_BATCHES: AcceptanceLine = {
  name: 'mutated_batches',
  title: '100,000 random and mutated batches: each taken or refused whole, every image clean',
  run: mutatedBatches,
};
