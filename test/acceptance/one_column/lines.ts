// SPDX-License-Identifier: GPL-2.0-or-later
// The acceptance lines of "one column, end to end", in the order in which they run.

import type { AcceptanceLine } from '../acceptance.ts';
import { COMPARISON } from './comparison.ts';
import { FULL_IMAGE } from './full_image.ts';
import { KILL_SWEEP } from './kill_sweep.ts';
import { MEMORY } from './memory.ts';
import { MESSAGE_COUNTS } from './message_counts.ts';
import { MUTATED_BATCHES } from './mutated_batches.ts';
import { RANDOM_WRITES } from './random_writes.ts';
import { README_COMMANDS } from './readme_commands.ts';
import { REAL_TREES } from './real_trees.ts';

export const ONE_COLUMN: readonly AcceptanceLine[] = [
  README_COMMANDS,
  REAL_TREES,
  KILL_SWEEP,
  MUTATED_BATCHES,
  FULL_IMAGE,
  MEMORY,
  MESSAGE_COUNTS,
  RANDOM_WRITES,
  COMPARISON,
];
