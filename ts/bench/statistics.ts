// SPDX-License-Identifier: GPL-2.0-or-later
// What several repetitions of one measurement say together. No mean: one repetition that was disturbed would move it.

/** Of values of one unit. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Of two series that were measured side by side. */
export interface Ratio {
  /** The one median divided by the other. */
  readonly ofMedians: number;
  /** The least and the greatest of the ratios of each repetition. */
  readonly min: number;
  readonly max: number;
}

/** @param values - at least one. */
export function spreadOf(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError('no values');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** @param values, base - of the same repetitions in the same order, greater than 0. */
export function ratioOf(values: readonly number[], base: readonly number[]): Ratio {
  if (values.length !== base.length) throw new RangeError('series of different lengths');
  const each = spreadOf(values.map((value, index) => value / base[index]!));
  return { ofMedians: spreadOf(values).median / spreadOf(base).median, min: each.min, max: each.max };
}
