// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes on command lines: what is read, what is refused, how they are shown.

import { expect, test } from 'vitest';
import { formatSize, parseCount, parseSize } from '../../../ts/cli/size.ts';

test.each([
  ['0', 0],
  ['4096', 4096],
  ['64M', 64 * 1024 ** 2],
  ['10g', 10 * 1024 ** 3],
  ['1T', 1024 ** 4],
  ['16KiB', 16 * 1024],
  ['512B', 512],
])('%s is %i bytes', (text, bytes) => {
  expect(parseSize(text, '--size')).toBe(bytes);
});

test.each(['', 'M', '-1', '1.5G', '10MB', '5X', '0x10', '1 G', '9P9', '99999999P'])(
  '%j is refused',
  (text) => {
    expect(() => parseSize(text, '--size')).toThrow(/^--size: /);
  },
);

test('sizes are shown in powers of 1,024', () => {
  expect(formatSize(0)).toBe('0 B');
  expect(formatSize(1023)).toBe('1023 B');
  expect(formatSize(1536)).toBe('1.5 KiB');
  expect(formatSize(300 * 1024 ** 2)).toBe('300 MiB');
});

test('counts are whole numbers within their bound', () => {
  expect(parseCount('1', '--sessions', 10)).toBe(1);
  expect(parseCount('10', '--sessions', 10)).toBe(10);
  for (const text of ['0', '11', '-1', '1.5', '', 'x', '1e1'])
    expect(() => parseCount(text, '--sessions', 10)).toThrow(/^--sessions: .* from 1 to 10/);
});
