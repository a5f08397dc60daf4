// SPDX-License-Identifier: GPL-2.0-or-later
// How vitest finds and runs the tests. `npm test` (ts/dev/run_tests.ts) calls it with the JSON reporter.
//
// Unit tests run in parallel. Tests under test/mount and test/image share the machine's /dev/fuse, loop devices and
// kernel log, so their files run one after the other, after the unit tests.

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/mount/**', 'test/image/**'],
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'mount',
          include: ['test/mount/**/*.test.ts', 'test/image/**/*.test.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
