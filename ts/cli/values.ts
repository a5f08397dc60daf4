// SPDX-License-Identifier: GPL-2.0-or-later
// What options and operands take: the word that stands for it in help texts and manual pages (SIZE, FILE), and what a
// shell may offer there. Plain data: `--describe` prints it for the generators of completions (ts/dev/completions.ts).

export interface Value {
  /** In capitals, as in `--size SIZE`. */
  readonly name: string;
  /** `addresses`: unix:PATH, or a host that no shell can guess. `named directories`: NAME=PATH. */
  readonly offers: 'nothing' | 'files' | 'directories' | 'named directories' | 'addresses' | Words | List;
}

/** One of these words. */
export interface Words {
  readonly words: readonly string[];
}

/** `name` or `name=value`, any number of them, separated by commas. */
export interface List {
  readonly list: readonly ListOption[];
}

export interface ListOption {
  readonly name: string;
  readonly description: string;
  readonly value?: Value;
}

/** The values of a command's options, by their names. */
export type Values = Readonly<Record<string, Value>>;

export const SIZE: Value = { name: 'SIZE', offers: 'nothing' };
export const NUMBER: Value = { name: 'N', offers: 'nothing' };
export const TEXT: Value = { name: 'TEXT', offers: 'nothing' };
export const FILE: Value = { name: 'FILE', offers: 'files' };
export const DIRECTORY: Value = { name: 'DIR', offers: 'directories' };
export const NAMED_DIRECTORY: Value = { name: 'NAME=PATH', offers: 'named directories' };
export const ADDRESS: Value = { name: 'ADDRESS', offers: 'addresses' };

/** What mount(8) and umount(8) may pass on to their helpers. */
export const NAMESPACE: Value = { name: 'NAMESPACE', offers: 'files' };
export const TYPE: Value = { name: 'TYPE', offers: 'nothing' };

export function oneOf(name: string, words: readonly string[]): Value {
  return { name, offers: { words } };
}

/** Operands, by the names that all commands use for them. */
export const OPERANDS: Values = {
  ADDRESS,
  DIR: DIRECTORY,
  IMAGE: { name: 'IMAGE', offers: 'files' },
  SOURCE: { name: 'SOURCE', offers: 'addresses' },
};
