// SPDX-License-Identifier: GPL-2.0-or-later
// The closing line of `npm test`: sums, and no way for a broken run to look good.

import { expect, test } from 'vitest';
import { cargoTotals, totalsLine, vitestFailures, vitestTotals } from '../../../ts/dev/test_totals.ts';

const report = (passed: number, failed: number, pending: number, success: boolean) =>
  JSON.stringify({
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: pending,
    numTodoTests: 0,
    success,
  });

test('vitest: passed and failed, left-out tests count as failed', () => {
  expect(vitestTotals(report(5, 0, 0, true), 0)).toEqual({ passed: 5, failed: 0 });
  expect(vitestTotals(report(5, 2, 1, false), 1)).toEqual({ passed: 5, failed: 3 });
});

test('vitest: a file that does not load, or no report at all, is a failure', () => {
  expect(vitestTotals(report(5, 0, 0, false), 1)).toEqual({ passed: 5, failed: 1 });
  expect(vitestTotals(undefined, 1)).toEqual({ passed: 0, failed: 1 });
});

test('vitest: what failed is named, with its reason', () => {
  const testResults = [
    {
      name: 'a.test.ts',
      message: '',
      assertionResults: [
        { fullName: 'is right', status: 'passed', failureMessages: [] },
        { fullName: 'is wrong', status: 'failed', failureMessages: ['x'.repeat(3_000)] },
        { fullName: 'is left out', status: 'skipped', failureMessages: null },
      ],
    },
    { name: 'b.test.ts', message: 'does not load', assertionResults: [] },
  ];
  expect(vitestFailures(JSON.stringify({ testResults }))).toEqual([
    `failed: a.test.ts: is wrong\n${'x'.repeat(2_000)}`,
    'skipped: a.test.ts: is left out',
    'b.test.ts: does not load',
  ]);
  expect(vitestFailures(undefined)).toHaveLength(1);
});

test('cargo: all result lines are summed, ignored tests count as failed', () => {
  const output = [
    'running 3 tests',
    'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s',
    'test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s',
  ].join('\n');
  expect(cargoTotals(output, 101)).toEqual({ passed: 4, failed: 3 });
});

test('cargo: a crate that does not compile is a failure', () => {
  expect(cargoTotals('', 101)).toEqual({ passed: 0, failed: 1 });
});

test('the closing line sums all parts', () => {
  const line = totalsLine([
    { passed: 4, failed: 1 },
    { passed: 6, failed: 0 },
  ]);
  expect(line).toBe('10 passed, 1 failed');
});
