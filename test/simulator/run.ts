// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run simulate -- [--seed N] [--seeds COUNT] [--events N] [--clients MIN-MAX] [--seconds BUDGET] [--jobs N]`
import { parseArgs } from 'node:util';
import type { Settings, Switch } from './scenario.ts';
import { simulate } from './simulation.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    events: { type: 'string', default: '10000' },
    clients: { type: 'string', default: '2-64' },
    on: { type: 'string', multiple: true, default: [] },
  },
});
const [min, max] = values.clients.split('-').map(Number);
const start = performance.now();
let total = 0;
const counts = new Map<string, number>();
for (let seed = Number(values.seed); seed < Number(values.seed) + Number(values.seeds); seed++) {
  const settings: Settings = {
    seed,
    events: Number(values.events),
    clientsMin: min!,
    clientsMax: max ?? min!,
    on: new Set(values.on as Switch[]),
    fault: null,
    isVerbose: process.env['VERBOSE'] !== undefined,
  };
  const t0 = performance.now();
  const outcome = await simulate(settings);
  total += outcome.events;
  for (const [k, v] of outcome.counts) counts.set(k, (counts.get(k) ?? 0) + v);
  const ms = performance.now() - t0;
  if (Number(values.seeds) < 20 || outcome.violation)
  process.stdout.write(`seed ${seed}: ${outcome.events} events ${ms.toFixed(0)} ms, virtual ${outcome.virtualMs.toFixed(0)}, digest ${outcome.digest} ${outcome.violation?.message ?? 'ok'}\n`);
  if (outcome.violation !== null && Number(values.seeds) === 1) process.stdout.write(`${outcome.lines.join('\n')}\n`);
}
const s = (performance.now() - start) / 1000;
process.stdout.write(`${total} events in ${s.toFixed(1)} s: ${(total / s).toFixed(0)}/s\n`);
if (Number(values.seeds)===1) process.stdout.write([...counts].map(([k,v])=>`${k}: ${v}`).join('\n')+'\n');
