// SPDX-License-Identifier: GPL-2.0-or-later
// Counters for people and for programs.

import { expect, test } from 'vitest';
import { report } from '../../../ts/cli/report.ts';

const STATS = { messages: { sent: { batch: 3 }, received: {} }, cache: { dataBytes: 4096 }, pid: 7 };

test('for people: aligned lines, one a value', () => {
  expect(report(STATS, false)).toBe(
    'messages.sent.batch  3\ncache.dataBytes      4096\npid                  7\n',
  );
});

test('for programs: one JSON object', () => {
  expect(JSON.parse(report(STATS, true))).toEqual(STATS);
});
