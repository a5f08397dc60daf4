// SPDX-License-Identifier: GPL-2.0-or-later
//
// Tables for people: columns aligned, numbers to the right.

import { expect, test } from 'vitest';
import { table } from '../../../ts/cli/status.ts';

test('columns are as wide as their widest cell', () => {
  expect(
    table([
      ['name', 'count'],
      ['a long name', '7'],
      ['b', '12345'],
    ]),
  ).toBe('name         count\na long name      7\nb            12345\n');
});
