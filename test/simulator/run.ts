// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run simulate -- [--seed N] [--seeds COUNT] [--events N] [--clients MIN-MAX] [--seconds BUDGET] [--jobs N]
//    [--off SWITCH]... [--fault NAME] [--verbose] [--lines N]`
//
// Runs seeds N, N + 1, ... until COUNT of them have run or BUDGET seconds are over, on several processes with --jobs.
// A seed that breaks a rule is told with the command that runs it again and what happened last; the exit code is then 1.
// A run of many seeds also fails if a transition of a state machine, a kind of message or a trouble never came about.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { missingCounts } from './coverage.ts';
import { FAULTS, type Fault, OFF_BY_DEFAULT, type Settings, SWITCHES, type Switch } from './scenario.ts';
import { type Outcome, simulate } from './simulation.ts';

/** A run of that many events at least is expected to see everything that there is to see. */
const COMPLETE_EVENTS = 3_000_000;

interface Plan {
  readonly seed: number;
  readonly seeds: number;
  /** Distance between the seeds of one process. */
  readonly step: number;
  readonly events: number;
  readonly clientsMin: number;
  readonly clientsMax: number;
  readonly seconds: number;
  readonly off: readonly Switch[];
  readonly fault: Fault | null;
  readonly isVerbose: boolean;
  readonly lines: number;
}

interface Tally {
  seeds: number;
  failed: number;
  events: number;
  virtualMs: number;
  counts: Record<string, number>;
}

function settingsOf(plan: Plan, seed: number): Settings {
  const { events, clientsMin, clientsMax, off, fault, isVerbose, lines } = plan;
  return { seed, events, clientsMin, clientsMax, off: new Set(off), fault, isVerbose, lines };
}

function commandOf(plan: Plan, seed: number): string {
  const off = plan.off
    .filter((name) => !OFF_BY_DEFAULT.includes(name))
    .map((name) => ` --off ${name}`)
    .join('');
  const fault = plan.fault === null ? '' : ` --fault ${plan.fault}`;
  return `npm run simulate -- --seed ${seed} --events ${plan.events} --clients ${plan.clientsMin}-${plan.clientsMax}${off}${fault}`;
}

function tell(plan: Plan, outcome: Outcome): void {
  const { violation } = outcome;
  if (violation === null) return;
  const head = [
    `seed ${outcome.seed} breaks a rule: ${violation.message}`,
    `  ${commandOf(plan, outcome.seed)}`,
  ];
  process.stdout.write(`${[...head, ...outcome.lines.map((line) => `    ${line}`)].join('\n')}\n`);
}

async function runPlan(plan: Plan): Promise<Tally> {
  const tally: Tally = { seeds: 0, failed: 0, events: 0, virtualMs: 0, counts: {} };
  const untilMs = performance.now() + plan.seconds * 1000;
  for (let at = 0; at < plan.seeds && performance.now() < untilMs; at += plan.step) {
    const outcome = await simulate(settingsOf(plan, plan.seed + at));
    tell(plan, outcome);
    tally.seeds++;
    if (outcome.violation !== null) tally.failed++;
    tally.events += outcome.events;
    tally.virtualMs += outcome.virtualMs;
    for (const [name, count] of outcome.counts) tally.counts[name] = (tally.counts[name] ?? 0) + count;
  }
  return tally;
}

/** Runs a part of the seeds in a process of its own. */
function runElsewhere(plan: Plan): Promise<Tally> {
  return new Promise((resolve, reject) => {
    let tally: Tally | null = null;
    const child = fork(fileURLToPath(import.meta.url), ['--plan', JSON.stringify(plan)]);
    child.on('message', (message) => {
      tally = message as Tally;
    });
    child.on('error', reject);
    child.on('exit', (code) => {
      if (tally === null) reject(new Error(`a process ended with ${code} before it was done`));
      else resolve(tally);
    });
  });
}

function joined(tallies: readonly Tally[]): Tally {
  const sum: Tally = { seeds: 0, failed: 0, events: 0, virtualMs: 0, counts: {} };
  for (const tally of tallies) {
    sum.seeds += tally.seeds;
    sum.failed += tally.failed;
    sum.events += tally.events;
    sum.virtualMs += tally.virtualMs;
    for (const [name, count] of Object.entries(tally.counts))
      sum.counts[name] = (sum.counts[name] ?? 0) + count;
  }
  return sum;
}

function oneOf<Name extends string>(name: string, names: readonly Name[]): Name {
  const found = names.find((other) => other === name);
  if (found === undefined) throw new Error(`no ${name}; there are: ${names.join(', ')}`);
  return found;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      seeds: { type: 'string' },
      events: { type: 'string', default: '10000' },
      clients: { type: 'string', default: '2-64' },
      seconds: { type: 'string' },
      jobs: { type: 'string', default: '1' },
      off: { type: 'string', multiple: true, default: [...OFF_BY_DEFAULT] },
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
  const seeds = Number(values.seeds ?? (values.seconds === undefined ? 1 : Number.MAX_SAFE_INTEGER));
  const jobs = Math.max(1, Math.min(Number(values.jobs), seeds));
  const plan: Plan = {
    seed: Number(values.seed),
    seeds,
    step: jobs,
    events: Number(values.events),
    clientsMin: min,
    clientsMax: max,
    seconds: Number(values.seconds ?? 1e9),
    off: values.off.map((name) => oneOf(name, SWITCHES)),
    fault: values.fault === undefined ? null : oneOf(values.fault, FAULTS),
    isVerbose: values.verbose,
    lines: Number(values.lines),
  };
  const start = performance.now();
  const parts = Array.from({ length: jobs }, (_, at) => ({
    ...plan,
    seed: plan.seed + at,
    seeds: seeds - at,
  }));
  const tally = joined(await Promise.all(parts.map(jobs === 1 ? runPlan : runElsewhere)));
  const took = (performance.now() - start) / 1000;
  for (const name of Object.keys(tally.counts).sort()) {
    process.stdout.write(`${String(tally.counts[name]).padStart(12)}  ${name}\n`);
  }
  process.stdout.write(
    `${tally.seeds} seeds, ${tally.failed} failed, ${tally.events} events in ${took.toFixed(1)} s ` +
      `(${Math.round(tally.events / took)} a second), ${Math.round(tally.virtualMs / 1000)} s of virtual time\n`,
  );
  const missing = tally.events >= COMPLETE_EVENTS && plan.fault === null ? missingCounts(tally.counts) : [];
  if (missing.length > 0) process.stdout.write(`never seen: ${missing.join('; ')}\n`);
  process.exitCode = tally.failed > 0 || missing.length > 0 ? 1 : 0;
}

await main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
