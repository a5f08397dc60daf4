// SPDX-License-Identifier: GPL-2.0-or-later
// The acceptance lines of "all of POSIX", in the order in which they run.

import type { AcceptanceLine } from '../acceptance.ts';
import { RULES } from './rules.ts';

export const POSIX: readonly AcceptanceLine[] = [RULES];
