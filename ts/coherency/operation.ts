// SPDX-License-Identifier: GPL-2.0-or-later
//
// One acquire in the grant table: what it wants and what it was given, and how lists of either are worked on. Pure.

import {
  compareKey,
  compareRange,
  earlierKey,
  laterKey,
  rangesOverlap,
  type TreeRange,
} from '../util/range.ts';
import { RangeForest } from '../util/range_map.ts';
import type { GrantRange, Mode, ModeChange } from '../wire/message.ts';
import { modeSatisfies } from './mode.ts';

/** A range that an operation was newly given. */
export interface NewGrant extends GrantRange {
  /** The mode in which the session held it before; Mode.none when the client knows nothing of its items. */
  readonly before: Mode;
}

/** One acquire. `order` and `grants` are the table's to change. */
export interface Operation {
  /** Place among those that wait; 0 before it came to wait. */
  order: number;
  readonly session: number;
  readonly wants: readonly GrantRange[];
  /** It keeps what it is given until its session is done. */
  readonly keeps: boolean;
  /** It waits for what others give back by themselves. */
  isPatient: boolean;
  /** Which patient one of its session it is, counted from 1; 0 if it never was one. */
  readonly patience: number;
  /** Everybody who stood in its way was asked. Who comes to stand there later is asked when it is their turn. */
  hasAsked: boolean;
  /** What it was given beyond what its session held already. */
  readonly grants: NewGrant[];
}

/** Sorts wants and makes them disjoint; where they overlap the greater mode counts. */
export function normalise(wants: readonly GrantRange[]): readonly GrantRange[] {
  const sorted = [...wants].sort(compareRange);
  const disjoint = sorted.every((want, at) => at === 0 || !rangesOverlap(sorted[at - 1]!, want));
  if (disjoint) return sorted;
  const forest = new RangeForest<Mode>();
  for (const want of sorted) {
    forest.update(want, (old) => (old === undefined || modeSatisfies(want.mode, old) ? want.mode : old));
  }
  const normal: GrantRange[] = [];
  forest.forEach((tree, start, end, mode) => {
    normal.push({ tree, start, end, mode });
  });
  return normal;
}

/** Visits those of sorted, disjoint ranges that overlap `range`, until `visit` returns false. */
export function forEachOverlapping(
  sorted: readonly GrantRange[],
  range: TreeRange,
  visit: (other: GrantRange) => boolean,
): void {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { tree, end } = sorted[middle]!;
    const isBefore = tree < range.tree || (tree === range.tree && compareKey(end, range.start) <= 0);
    if (isBefore) low = middle + 1;
    else high = middle;
  }
  for (; low < sorted.length && rangesOverlap(sorted[low]!, range); low++) {
    if (!visit(sorted[low]!)) return;
  }
}

/** The parts of `pieces` that were not newly given in `mode` by `grants`. */
export function withoutNew(pieces: TreeRange[], grants: readonly NewGrant[], mode: Mode): TreeRange[] {
  let left = pieces;
  for (const grant of grants) {
    if (grant.mode !== mode || grant.before === mode) continue;
    left = left.flatMap((piece) => (rangesOverlap(piece, grant) ? outside(piece, grant) : [piece]));
  }
  return left;
}

/** The parts of a range before and behind another one. */
function outside(range: TreeRange, other: TreeRange): TreeRange[] {
  const parts: TreeRange[] = [];
  if (compareKey(range.start, other.start) < 0) parts.push({ ...range, end: other.start });
  if (compareKey(other.end, range.end) < 0) parts.push({ ...range, start: other.end });
  return parts;
}

/** Notes a release in what grants would fall back to. */
export function lowerBefore(grants: NewGrant[], range: ModeChange): void {
  for (let at = grants.length - 1; at >= 0; at--) {
    const grant = grants[at]!;
    if (grant.before !== range.oldMode || !rangesOverlap(grant, range)) continue;
    const start = laterKey(grant.start, range.start);
    const end = earlierKey(grant.end, range.end);
    const pieces: NewGrant[] = [{ ...grant, start, end, before: range.newMode }];
    if (compareKey(grant.start, start) < 0) pieces.unshift({ ...grant, end: start });
    if (compareKey(end, grant.end) < 0) pieces.push({ ...grant, start: end });
    grants.splice(at, 1, ...pieces);
  }
}
