// SPDX-License-Identifier: GPL-2.0-or-later
//
// A slice of the simulator (test/simulator/): seeds that failed once, a few new ones, and that a seed gives the same run
// again. `npm run simulate` runs as many as one likes.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Fault, Settings } from '../simulator/scenario.ts';
import { type Outcome, simulate } from '../simulator/simulation.ts';

interface KnownSeed {
  readonly seed: number;
  readonly events: number;
  readonly clients: string;
  readonly why: string;
}

const known = JSON.parse(
  readFileSync(new URL('../simulator/seeds.json', import.meta.url), 'utf8'),
) as KnownSeed[];

function run(seed: number, events: number, clients = '2-64', fault: Fault | null = null): Promise<Outcome> {
  const [clientsMin = 2, clientsMax = clientsMin] = clients.split('-').map(Number);
  const settings: Settings = {
    seed,
    events,
    clientsMin,
    clientsMax,
    on: new Set(),
    fault,
    isVerbose: false,
    lines: 60,
  };
  return simulate(settings);
}

function report(outcome: Outcome): string {
  return outcome.violation === null ? '' : [outcome.violation.message, ...outcome.lines].join('\n');
}

describe('simulator', () => {
  for (const { seed, events, clients, why } of known) {
    test(`seed ${seed}: ${why}`, async () => {
      expect(report(await run(seed, events, clients))).toBe('');
    });
  }

  test('some seeds keep every rule', async () => {
    for (let seed = 1; seed <= 12; seed++) expect(report(await run(seed, 2500))).toBe('');
  });

  test('a seed gives the same run again', async () => {
    const first = await run(7, 2500);
    const second = await run(7, 2500);
    expect(second.digest).toBe(first.digest);
    expect(second.events).toBe(first.events);
  });
});
