// SPDX-License-Identifier: GPL-2.0-or-later
// A synthetic tree through the whole column, small: the scenario of test/acceptance/one_column/real_trees.ts.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import {
  linuxWritesAndBack,
  referenceTrees,
  removeEverything,
  treesGoIn,
} from '../acceptance/one_column/real_trees.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { pack, syntheticTar } from '../harness/trees.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

/** A plain tree with known names, for what Linux does to it afterwards. */
async function plainTree(directory: string): Promise<void> {
  for (const name of ['one', 'two', 'three']) {
    await mkdir(join(directory, 'top', name), { recursive: true });
    for (let number = 0; number < 40; number += 1) {
      await writeFile(
        join(directory, 'top', name, `file${number}`),
        `${name} ${number}\n`.repeat(number * 31),
      );
    }
  }
  await writeFile(join(directory, 'top', 'file'), 'some content\n'.repeat(2_000));
}

test('a tree goes in by tar and is the same everywhere; Linux writes; CRFS serves and changes it; rm -rf', async () => {
  const directory = await temporaryDirectory(cleanup);
  const trees = await referenceTrees(directory, cleanup, {
    plain: async (scratch) => {
      await plainTree(scratch);
      await pack(scratch, join(directory, 'plain.tar'));
      return join(directory, 'plain.tar');
    },
    synthetic: async (scratch) => {
      await syntheticTar(scratch, join(directory, 'synthetic.tar'), { seed: 20, entries: 800 });
      return join(directory, 'synthetic.tar');
    },
  });
  const work = join(directory, 'column');
  await mkdir(work);
  const column = await Column.start(work, cleanup, { size: '2G' });
  const figures: string[] = [];
  await treesGoIn(column, trees, (line) => figures.push(line));
  await linuxWritesAndBack(column, { top: 'plain/top', file: 'file', directories: ['one', 'two'] });
  await removeEverything(column, (line) => figures.push(line));
  expect(figures.length).toBeGreaterThan(5);
});
