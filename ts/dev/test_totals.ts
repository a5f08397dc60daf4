// SPDX-License-Identifier: GPL-2.0-or-later
// Adds up what vitest (its JSON report) and cargo (its closing lines) say about passed and failed tests.
//
// A run that ends badly without naming a failed test (a file that does not load, a crate that does not compile)
// counts as one failure, so that the totals never look better than the run was.

export interface Totals {
  readonly passed: number;
  readonly failed: number;
}

/** Longest part of an error that is told again at the end, characters. */
const TOLD_CHARACTERS = 2_000;

interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    /** What kept the file from being loaded. */
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[] | null;
    }[];
  }[];
}

/** A test that was left out counts as failed: the project has none. */
export function vitestTotals(json: string | undefined, exitCode: number): Totals {
  if (json === undefined) return { passed: 0, failed: 1 };
  const report = JSON.parse(json) as VitestReport;
  const failed = report.numFailedTests + report.numPendingTests + report.numTodoTests;
  const silent = failed === 0 && (exitCode !== 0 || !report.success) ? 1 : 0;
  return { passed: report.numPassedTests, failed: failed + silent };
}

/** The tests that failed or were left out, and why: for who sees only the end of a long output. */
export function vitestFailures(json: string | undefined): string[] {
  if (json === undefined) return ['vitest ended without a report'];
  const told: string[] = [];
  for (const { name, message, assertionResults } of (JSON.parse(json) as VitestReport).testResults) {
    const failed = assertionResults.filter(({ status }) => status !== 'passed');
    for (const { fullName, status, failureMessages } of failed) {
      const why = (failureMessages ?? []).join('\n').slice(0, TOLD_CHARACTERS);
      told.push(`${status}: ${name}: ${fullName}\n${why}`.trimEnd());
    }
    if (failed.length === 0 && message !== '') told.push(`${name}: ${message.slice(0, TOLD_CHARACTERS)}`);
  }
  return told;
}

/** Sums the `test result:` lines of `cargo test`; ignored tests count as failed. */
export function cargoTotals(output: string, exitCode: number): Totals {
  let passed = 0;
  let failed = 0;
  for (const match of output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;/gm)) {
    passed += Number(match[1]);
    failed += Number(match[2]) + Number(match[3]);
  }
  return { passed, failed: failed === 0 && exitCode !== 0 ? 1 : failed };
}

export function totalsLine(all: readonly Totals[]): string {
  const passed = all.reduce((sum, totals) => sum + totals.passed, 0);
  const failed = all.reduce((sum, totals) => sum + totals.failed, 0);
  return `${passed} passed, ${failed} failed`;
}
