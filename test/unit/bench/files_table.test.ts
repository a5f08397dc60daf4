// SPDX-License-Identifier: GPL-2.0-or-later
// From samples to figures and to the table: rates in the row's unit, ratios only to a base.

import { expect, test } from 'vitest';
import { figuresOf, type Sample, type Samples } from '../../../ts/bench/files.ts';
import type { FilesSettings } from '../../../ts/bench/files_settings.ts';
import { filesTable } from '../../../ts/bench/files_table.ts';

const SETTINGS: FilesSettings = {
  directories: [
    { name: 'crfs', path: '/mnt' },
    { name: 'local', path: '/var/tmp' },
  ],
  base: 'local',
  files: 1000,
  subdirectories: 10,
  fileBytes: 4096,
  streamBytes: 1024 ** 2,
  blockBytes: 1024 ** 2,
  repetitions: 3,
  warmUp: 1,
  dropCaches: false,
};

const OPERATIONS = ['create', 'stat', 'open+read', 'readdir', 'readdir+stat', 'rename', 'unlink'] as const;
const STREAMS = ['write', 'write+fsync', 'read', 'read cold'] as const;

/** Every row alike: 1,000 files, or a MiB. */
function samples(times: Readonly<Record<string, readonly number[]>>): Samples {
  const ofRow = (count: number): Map<string, Sample[]> =>
    new Map(
      Object.entries(times).map(([name, all]) => [
        name,
        all.map((microseconds) => ({ count, microseconds })),
      ]),
    );
  return new Map([
    ...OPERATIONS.map((row) => [row, ofRow(1000)] as const),
    ...STREAMS.map((row) => [row, ofRow(1024 ** 2)] as const),
  ]);
}

const TIMES = { crfs: [20_000, 10_000, 40_000], local: [10_000, 10_000, 10_000] };

test('figures are rates in the unit of their row, ratios above 1 are faster', () => {
  const { rows } = figuresOf(SETTINGS, samples(TIMES));
  expect(rows.map(({ row }) => row)).toEqual([...OPERATIONS, ...STREAMS]);
  const create = rows[0]!;
  expect(create.unit).toBe('files/s');
  expect(create.directories[0]).toMatchObject({
    name: 'crfs',
    rate: { median: 50_000, min: 25_000, max: 100_000 },
    ratio: { ofMedians: 0.5, min: 0.25, max: 1 },
  });
  expect(create.directories[1]!.ratio).toEqual({ ofMedians: 1, min: 1, max: 1 });
  const read = rows.find(({ row }) => row === 'read')!;
  expect(read.unit).toBe('MiB/s');
  expect(read.directories[0]!.rate).toEqual({ median: 50, min: 25, max: 100 });
});

test('the table has a line for each row and directory', () => {
  const lines = filesTable(figuresOf(SETTINGS, samples(TIMES))).split('\n');
  expect(lines).toHaveLength(1 + 2 * (OPERATIONS.length + STREAMS.length) + 1);
  expect(lines[0]!.trim().split(/ {2,}/)).toEqual(['median', 'min', 'max', 'ratio to local', 'min', 'max']);
  const words = (index: number): string[] => lines[index]!.trim().split(/ {2,}/);
  expect(words(1)).toEqual(['create', 'files/s', 'crfs', '50000', '25000', '100000', '0.50', '0.25', '1.00']);
  expect(words(2)).toEqual(['local', '100000', '100000', '100000']);
  expect(words(15)).toEqual(['write', 'MiB/s', 'crfs', '50.0', '25.0', '100', '0.50', '0.25', '1.00']);
  // Numbers end where their heading ends.
  expect(lines[1]!.indexOf('50000') + 5).toBe(lines[0]!.indexOf('median') + 6);
});

test('without a base nothing is compared', () => {
  const { base: _, ...settings } = SETTINGS;
  const figures = figuresOf(settings, samples(TIMES));
  expect(figures.rows[0]!.directories[0]).not.toHaveProperty('ratio');
  expect(filesTable(figures)).not.toMatch(/ratio/);
});
