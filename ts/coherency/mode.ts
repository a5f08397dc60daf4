// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the modes of grants allow. Per key there is one `write` grant, or any number of `read` grants, or (when it is
// built) any number of `merge` grants. The wire's `Mode.none` is the absence of a grant.

import { Mode } from '../wire/message.ts';

/** Whether a session that holds `held` may do what needs `wanted`. Directional. */
export function modeSatisfies(held: Mode, wanted: Mode): boolean {
  return held === wanted || held === Mode.write || wanted === Mode.none;
}

/** Whether two sessions may not hold these modes of one key at a time. */
export function modesConflict(a: Mode, b: Mode): boolean {
  if (a === Mode.none || b === Mode.none) return false;
  return a !== b || a === Mode.write;
}

/** The greatest mode that a holder of `held` may keep beside another session's `wanted`. */
export function modeBeside(held: Mode, wanted: Mode): Mode {
  if (!modesConflict(held, wanted)) return held;
  return wanted === Mode.read && held === Mode.write ? Mode.read : Mode.none;
}
