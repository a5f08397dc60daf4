// SPDX-License-Identifier: GPL-2.0-or-later
// Shows what `crfs-bench files` measured, for people: a line for each row and directory.

import type { FilesFigures } from './files.ts';

/** Three digits that count, no more: repetitions differ by more than that. */
function number(value: number): string {
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

/** Columns as wide as they must be; the first two to the left, numbers to the right. */
function aligned(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const shown = lines.map((line) =>
    line
      .map((cell, column) => (column < 3 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  return `${shown.join('\n')}\n`;
}

export function filesTable({ settings, rows }: FilesFigures): string {
  const { base } = settings;
  const head = ['', '', '', 'median', 'min', 'max'];
  const lines = [base === undefined ? head : [...head, `ratio to ${base}`, 'min', 'max']];
  for (const { row, unit, directories } of rows) {
    for (const [index, { name, rate, ratio }] of directories.entries()) {
      const line = [index === 0 ? row : '', index === 0 ? unit : '', name];
      line.push(...[rate.median, rate.min, rate.max].map(number));
      if (base !== undefined) {
        const compared = ratio !== undefined && name !== base;
        line.push(...(compared ? [ratio.ofMedians, ratio.min, ratio.max].map(number) : ['', '', '']));
      }
      lines.push(line);
    }
  }
  return aligned(lines);
}
