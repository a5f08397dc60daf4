// SPDX-License-Identifier: GPL-2.0-or-later
//
// Assertions, on in production too. They check what can only be our own bug, never what a peer, an image or a user
// supplied. A failed one ends the process; its supervisor restarts it and recovery takes over.

import { AssertionError } from './errors.ts';

/** Throws unless `condition` holds. @param text - the broken rule, as a sentence */
export function assert(condition: boolean, text: string): asserts condition {
  if (!condition) throw new AssertionError(text);
}
