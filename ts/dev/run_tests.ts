// SPDX-License-Identifier: GPL-2.0-or-later
// `npm test`: makes sure of the prerequisites, builds the Rust programs that tests call, runs vitest and cargo test,
// and ends with the line `N passed, N failed` over both.
//
// The addon and dist/ were built by the npm script before this started. Arguments go to vitest, and then cargo's
// tests are left out: `npm test -- test/mount/names.test.ts`.

import { mkdir, readFile, rm } from 'node:fs/promises';
import { run, runShown, runTeed } from './command.ts';
import { ensureCommands, ensureFuse, ensureKernelBtrfs, TEST_COMMANDS } from './prerequisites.ts';
import { buildTestPrograms } from './test_programs.ts';
import { cargoTotals, type Totals, totalsLine, vitestFailures, vitestTotals } from './test_totals.ts';

const REPORT = 'dist/test_report.json';

async function runVitest(filters: readonly string[]): Promise<{ totals: Totals; failures: string[] }> {
  await mkdir('dist', { recursive: true });
  await rm(REPORT, { force: true });
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${REPORT}`];
  const code = await runShown(['node_modules/.bin/vitest', 'run', ...reporters, ...filters]);
  const json = await readFile(REPORT, 'utf8').catch(() => undefined);
  return { totals: vitestTotals(json, code), failures: vitestFailures(json) };
}

const CARGO_TEST = ['cargo', 'test', '--workspace', '--locked'];

/** Builds cargo's tests with what processors the others leave; what fails there fails, and is shown, when they are run. */
function buildCargoTests(): Promise<unknown> {
  return run(['nice', '-n', '19', ...CARGO_TEST, '--no-run', '--quiet'], { allow: [0, 101] });
}

async function runCargo(built: Promise<unknown>): Promise<Totals> {
  await built;
  const { code, output } = await runTeed([...CARGO_TEST, '--no-fail-fast']);
  return cargoTotals(output, code);
}

async function main(): Promise<void> {
  const filters = process.argv.slice(2);
  await ensureFuse();
  await ensureCommands(TEST_COMMANDS);
  await ensureKernelBtrfs();
  await buildTestPrograms();
  const isWhole = filters.length === 0;
  const built = isWhole ? buildCargoTests() : Promise.resolve();
  const vitest = await runVitest(filters);
  const totals = [vitest.totals];
  if (isWhole) totals.push(await runCargo(built));
  // Once more: cargo has said much since.
  for (const failure of vitest.failures) process.stdout.write(`${failure}\n`);
  process.stdout.write(`${totalsLine(totals)}\n`);
  process.exitCode = totals.some((part) => part.failed > 0) ? 1 : 0;
}

await main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n0 passed, 1 failed\n`);
  process.exitCode = 1;
});
