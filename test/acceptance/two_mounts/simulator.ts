// SPDX-License-Identifier: GPL-2.0-or-later
// The simulator's long run: 10,000 seeds of at least 10,000 events each, with 2 to 64 clients, now and then 1,000; every
// transition of a state machine, every message and every trouble must have come about. The short form is a slice of it.

import { availableParallelism } from 'node:os';
import { CROWD_ONE_IN, LONG_EVENTS, LONG_SEEDS, reportLines, runJobs } from '../../simulator/runner.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

/** Processes at a time. */
const JOBS_MAX = 2;
/** Seeds of the short form: enough to see everything. */
const QUICK_SEEDS = 300;
/** Time that the whole run may take, seconds, and the short one. */
const LONG_SECONDS = 4 * 3600;
const QUICK_SECONDS = 600;

async function line({ quick, seed, measure }: AcceptanceContext): Promise<void> {
  const seeds = quick ? QUICK_SEEDS : LONG_SEEDS;
  const report = await runJobs(
    {
      seed,
      seeds,
      step: 1,
      events: LONG_EVENTS,
      clientsMin: 2,
      clientsMax: 64,
      crowdOneIn: CROWD_ONE_IN,
      seconds: quick ? QUICK_SECONDS : LONG_SECONDS,
      fault: null,
      isVerbose: false,
      lines: 60,
    },
    Math.min(JOBS_MAX, availableParallelism()),
  );
  for (const text of reportLines(report)) measure(text);
  const { tally, missing } = report;
  require(tally.failed === 0, `${tally.failed} seeds break a rule`);
  require(missing.length === 0, `never seen: ${missing.join('; ')}`);
  require(tally.seeds === seeds, `only ${tally.seeds} of ${seeds} seeds in time`);
}

export const SIMULATOR: AcceptanceLine = {
  name: 'simulator',
  title: 'random clients, a bad network and a bad volume in virtual time break no rule',
  run: line,
};
