// SPDX-License-Identifier: GPL-2.0-or-later
//
// Runs many seeds, on several processes if asked, and adds up what happened. A seed gives the same run in any of them.
//
// Now and then a seed has a thousand clients, if the plan says so: as many as a server takes.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { missingCounts } from './coverage.ts';
import type { Fault, Settings } from './scenario.ts';
import { type Outcome, simulate } from './simulation.ts';

/** The long run. */
export const LONG_SEEDS = 10_000;
export const LONG_EVENTS = 10_000;
/** One seed in so many has a crowd of so many clients. */
export const CROWD_ONE_IN = 500;
const CROWD = 1000;
/** A run of that many events at least is expected to see everything that there is to see. */
const COMPLETE_EVENTS = 3_000_000;

export interface Plan {
  readonly seed: number;
  readonly seeds: number;
  /** Distance between the seeds of one process. */
  readonly step: number;
  readonly events: number;
  readonly clientsMin: number;
  readonly clientsMax: number;
  /** One seed in so many has a thousand clients; 0: none. */
  readonly crowdOneIn: number;
  readonly seconds: number;
  readonly fault: Fault | null;
  readonly isVerbose: boolean;
  readonly lines: number;
}

export interface Tally {
  seeds: number;
  failed: number;
  events: number;
  virtualMs: number;
  counts: Record<string, number>;
}

export interface Report {
  readonly tally: Tally;
  /** What never came about, if the run was long enough to expect everything. */
  readonly missing: readonly string[];
  readonly seconds: number;
}

function isCrowded(plan: Plan, seed: number): boolean {
  return plan.crowdOneIn > 0 && seed % plan.crowdOneIn === 0;
}

function settingsOf(plan: Plan, seed: number): Settings {
  const { events, clientsMin, clientsMax, fault, isVerbose, lines } = plan;
  if (isCrowded(plan, seed))
    return { seed, events, clientsMin: CROWD, clientsMax: CROWD, fault, isVerbose, lines };
  return { seed, events, clientsMin, clientsMax, fault, isVerbose, lines };
}

function commandOf(plan: Plan, seed: number): string {
  const { events, clientsMin, clientsMax, fault } = settingsOf(plan, seed);
  const planted = fault === null ? '' : ` --fault ${fault}`;
  return `npm run simulate -- --seed ${seed} --events ${events} --clients ${clientsMin}-${clientsMax}${planted}`;
}

/** Tells of a seed that broke a rule: the command that runs it again, and what happened last. */
function tell(plan: Plan, outcome: Outcome): void {
  const { violation } = outcome;
  if (violation === null) return;
  const head = [
    `seed ${outcome.seed} breaks a rule: ${violation.message}`,
    `  ${commandOf(plan, outcome.seed)}`,
  ];
  process.stdout.write(`${[...head, ...outcome.lines.map((line) => `    ${line}`)].join('\n')}\n`);
}

/** Runs the seeds of a plan in this process. */
export async function runPlan(plan: Plan): Promise<Tally> {
  const tally = noTally();
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

/** Runs a part of the seeds in a process of its own (run.ts). */
function runElsewhere(plan: Plan): Promise<Tally> {
  return new Promise((resolve, reject) => {
    let tally: Tally | null = null;
    const program = fileURLToPath(new URL('run.js', import.meta.url));
    const child = fork(program, ['--plan', JSON.stringify(plan)]);
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

/** Runs all seeds of a plan. */
export async function runJobs(plan: Plan, jobs: number): Promise<Report> {
  const start = performance.now();
  const parts = Array.from({ length: jobs }, (_, at) => ({
    ...plan,
    step: jobs,
    seed: plan.seed + at,
    seeds: plan.seeds - at,
  }));
  const tally = joined(await Promise.all(parts.map(jobs === 1 ? runPlan : runElsewhere)));
  const isComplete = tally.events >= COMPLETE_EVENTS && plan.fault === null;
  return {
    tally,
    missing: isComplete ? missingCounts(tally.counts) : [],
    seconds: (performance.now() - start) / 1000,
  };
}

function noTally(): Tally {
  return { seeds: 0, failed: 0, events: 0, virtualMs: 0, counts: {} };
}

function joined(tallies: readonly Tally[]): Tally {
  const sum = noTally();
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

/** The lines of a report: each count, then the sums. */
export function reportLines({ tally, missing, seconds }: Report): string[] {
  const { seeds, failed, events, virtualMs, counts } = tally;
  const lines = Object.keys(counts)
    .sort()
    .map((name) => `${String(counts[name]).padStart(12)}  ${name}`);
  lines.push(
    `${seeds} seeds, ${failed} failed, ${events} events in ${seconds.toFixed(1)} s ` +
      `(${Math.round(events / seconds)} a second), ${Math.round(virtualMs / 1000)} s of virtual time`,
  );
  if (missing.length > 0) lines.push(`never seen: ${missing.join('; ')}`);
  return lines;
}
