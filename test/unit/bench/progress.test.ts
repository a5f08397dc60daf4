// SPDX-License-Identifier: GPL-2.0-or-later
// The progress bar: what it shows, that it fits its line and goes away, and that a pipe never sees it.

import { expect, test } from 'vitest';
import { type BarStream, ProgressBar, progressLine } from '../../../ts/bench/progress.ts';

function stream(options: { isTTY?: boolean; columns?: number }): BarStream & { readonly said: string[] } {
  const said: string[] = [];
  return { ...options, said, write: (text: string) => said.push(text) };
}

test('a line says what is done, how long it took and what is left', () => {
  const line = progressLine(5, 20, 'create in crfs', 75, 200);
  expect(line).toBe(`[${'#'.repeat(5)}${'.'.repeat(15)}] 5/20 1:15, about 3:45 left  create in crfs`);
  expect(progressLine(0, 20, 'x', 0, 200)).toBe(`[${'.'.repeat(20)}] 0/20 0:00  x`);
  expect(progressLine(20, 20, 'x', 60, 200)).toBe(`[${'#'.repeat(20)}] 20/20 1:00, about 0:00 left  x`);
});

test('on a terminal it is drawn over itself, within one line, and taken away', () => {
  const terminal = stream({ isTTY: true, columns: 40 });
  let now = 0;
  const bar = new ProgressBar(terminal, () => now);
  bar.show(0, 2, 'a label that is longer than what is left of the line');
  now = 5_000;
  bar.show(1, 2, 'the second');
  bar.end();
  bar.end();
  expect(terminal.said).toHaveLength(3);
  for (const text of terminal.said.slice(0, 2)) {
    expect(text).toMatch(/^\r\[/);
    expect(text.slice(1).replace('\x1b[K', '').length).toBeLessThan(40);
  }
  expect(terminal.said[1]).toContain('1/2 0:05');
  expect(terminal.said[2]).toBe('\r\x1b[K');
});

test('elsewhere nothing is written', () => {
  const pipe = stream({});
  const bar = new ProgressBar(pipe);
  bar.show(1, 2, 'x');
  bar.end();
  expect(pipe.said).toEqual([]);
});
