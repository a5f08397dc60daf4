// SPDX-License-Identifier: GPL-2.0-or-later
// The acceptance lines of "two mounts, one truth", in the order in which they run.

import type { AcceptanceLine } from '../acceptance.ts';
import { KERNEL_RULES } from './kernel_rules.ts';
import { NEXT_CALL } from './next_call.ts';
import { PROGRAMS } from './programs.ts';
import { QUIET } from './quiet.ts';
import { SIMULATOR } from './simulator.ts';
import { STRESS } from './stress.ts';
import { VISIBILITY } from './visibility.ts';

export const TWO_MOUNTS: readonly AcceptanceLine[] = [
  NEXT_CALL,
  KERNEL_RULES,
  STRESS,
  PROGRAMS,
  QUIET,
  VISIBILITY,
  SIMULATOR,
];
