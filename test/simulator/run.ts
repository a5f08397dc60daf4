// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run simulate -- [--long] [--seed N] [--seeds COUNT] [--events N] [--clients MIN-MAX] [--crowd N]
//    [--seconds BUDGET] [--jobs N] [--fault NAME] [--verbose] [--lines N]`
//
// Runs seeds N, N + 1, ... until COUNT of them have run or BUDGET seconds are over, on several processes with --jobs; with
// --crowd one seed in N has a thousand clients. --long is 10,000 seeds of 10,000 events with crowds.
// A seed that breaks a rule is told with the command that runs it again and what happened last; the exit code is then 1.
// A run of many seeds also fails if a transition of a state machine, a kind of message or a trouble never came about.

import { parseArgs } from 'node:util';
import { CROWD_ONE_IN, LONG_EVENTS, LONG_SEEDS, type Plan, reportLines, runJobs, runPlan } from './runner.ts';
import { FAULTS } from './scenario.ts';

function oneOf<Name extends string>(name: string, names: readonly Name[]): Name {
  const found = names.find((other) => other === name);
  if (found === undefined) throw new Error(`no ${name}; there are: ${names.join(', ')}`);
  return found;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      long: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      seeds: { type: 'string' },
      events: { type: 'string', default: String(LONG_EVENTS) },
      clients: { type: 'string', default: '2-64' },
      crowd: { type: 'string' },
      seconds: { type: 'string' },
      jobs: { type: 'string', default: '1' },
      fault: { type: 'string' },
      verbose: { type: 'boolean', default: false },
      lines: { type: 'string', default: '60' },
      plan: { type: 'string' },
    },
  });
  if (values.plan !== undefined) {
    process.send!(await runPlan(JSON.parse(values.plan) as Plan));
    process.disconnect();
    return;
  }
  const [min = 2, max = min] = values.clients.split('-').map(Number);
  const usual = values.seconds === undefined ? 1 : Number.MAX_SAFE_INTEGER;
  const seeds = Number(values.seeds ?? (values.long ? LONG_SEEDS : usual));
  const plan: Plan = {
    seed: Number(values.seed),
    seeds,
    step: 1,
    events: Number(values.events),
    clientsMin: min,
    clientsMax: max,
    crowdOneIn: Number(values.crowd ?? (values.long ? CROWD_ONE_IN : 0)),
    seconds: Number(values.seconds ?? 1e9),
    fault: values.fault === undefined ? null : oneOf(values.fault, FAULTS),
    isVerbose: values.verbose,
    lines: Number(values.lines),
  };
  const report = await runJobs(plan, Math.max(1, Math.min(Number(values.jobs), seeds)));
  for (const line of reportLines(report)) process.stdout.write(`${line}\n`);
  process.exitCode = report.tally.failed > 0 || report.missing.length > 0 ? 1 : 0;
}

await main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
