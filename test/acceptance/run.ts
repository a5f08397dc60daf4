// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run acceptance -- TOPIC [--only NAME] [--quick] [--seed N] [--mounts N,N] [--minutes N]`: runs the acceptance lines
// of a topic one after the other, and prints for each PASS or FAIL with what was measured. The exit code is 0 when all passed.
//
// TOPIC is a folder beside this file or the number of the issue that asked for it.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  ACCEPTANCE_COMMANDS,
  ensureCommands,
  ensureFuse,
  ensureKernelBtrfs,
  TEST_COMMANDS,
} from '../../ts/dev/prerequisites.ts';
import { buildTestPrograms } from '../../ts/dev/test_programs.ts';
import { Cleanup } from '../harness/images.ts';
import type { AcceptanceLine } from './acceptance.ts';
import { ONE_COLUMN } from './one_column/lines.ts';
import { POSIX } from './posix/lines.ts';
import { TWO_MOUNTS } from './two_mounts/lines.ts';

const TOPICS: Readonly<Record<string, readonly AcceptanceLine[]>> = {
  one_column: ONE_COLUMN,
  '3': ONE_COLUMN,
  two_mounts: TWO_MOUNTS,
  '4': TWO_MOUNTS,
  posix: POSIX,
  '5': POSIX,
};

interface Settings {
  readonly quick: boolean;
  readonly seed: number;
  readonly mounts?: readonly number[];
  readonly minutes?: number;
  readonly shared: string;
}

/** What a line that is running must undo: a run that is interrupted leaves no mounts behind. */
let current: Cleanup | undefined;

function onInterrupt(): void {
  process.stderr.write('interrupted: cleaning up\n');
  void (current?.run() ?? Promise.resolve()).finally(() => process.exit(130));
}

async function runLine(line: AcceptanceLine, settings: Settings): Promise<boolean> {
  const cleanup = new Cleanup();
  const directory = await mkdtemp(join(tmpdir(), `crfs-${line.name}-`));
  cleanup.add(() => rm(directory, { recursive: true, force: true }));
  current = cleanup;
  const start = performance.now();
  const measured: string[] = [];
  const measure = (text: string): void => {
    measured.push(text);
    process.stderr.write(`  ${text}\n`);
  };
  process.stderr.write(`${line.name}: ${line.title}\n`);
  let fault: string | undefined;
  try {
    await line.run({ ...settings, cleanup, directory, measure });
  } catch (error) {
    fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  await cleanup.run();
  const took = ((performance.now() - start) / 1000).toFixed(1);
  process.stdout.write(`${fault === undefined ? 'PASS' : 'FAIL'} ${line.name} (${took} s): ${line.title}\n`);
  for (const text of measured) process.stdout.write(`    ${text}\n`);
  if (fault !== undefined) process.stdout.write(`    ${fault.replaceAll('\n', '\n    ')}\n`);
  return fault === undefined;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true },
      quick: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      mounts: { type: 'string' },
      minutes: { type: 'string' },
    },
  });
  const all = TOPICS[positionals[0] ?? ''];
  if (all === undefined) throw new Error(`which topic? one of: ${Object.keys(TOPICS).join(', ')}`);
  const unknown = values.only?.find((name) => !all.some((line) => line.name === name));
  if (unknown !== undefined) {
    throw new Error(`no line ${unknown}; there are: ${all.map((line) => line.name).join(', ')}`);
  }
  await ensureFuse();
  await ensureCommands([...TEST_COMMANDS, ...ACCEPTANCE_COMMANDS]);
  await ensureKernelBtrfs();
  await buildTestPrograms();
  const shared = await mkdtemp(join(tmpdir(), 'crfs-acceptance-'));
  const settings: Settings = {
    quick: values.quick,
    seed: Number(values.seed),
    shared,
    ...(values.mounts === undefined ? {} : { mounts: values.mounts.split(',').map(Number) }),
    ...(values.minutes === undefined ? {} : { minutes: Number(values.minutes) }),
  };
  process.once('SIGINT', onInterrupt).once('SIGTERM', onInterrupt);
  let passed = 0;
  let failed = 0;
  try {
    for (const line of all) {
      if (values.only !== undefined && !values.only.includes(line.name)) continue;
      if (await runLine(line, settings)) passed += 1;
      else failed += 1;
    }
  } finally {
    await rm(shared, { recursive: true, force: true });
  }
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 ? 1 : 0;
}

await main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
