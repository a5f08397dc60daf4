// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes as people write them on a command line: `4096`, `64M`, `10G`. Powers of 1,024, as in mkfs.btrfs and
// truncate(1). Fractions and the powers of 1,000 (`MB`) are refused rather than guessed at.

import { CliError } from './exit.ts';

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'];

/**
 * Returns the number of bytes that `text` names.
 *
 * @param what - named in the error, for example `--size`.
 * @throws CliError - not a size, or beyond 2^53 - 1 bytes.
 */
export function parseSize(text: string, what: string): number {
  const match = /^(\d+)([KMGTP]?)(?:i?B)?$/i.exec(text);
  const powersOf1000 = /[KMGTP]B$/i.test(text);
  if (match === null || powersOf1000) {
    throw new CliError(`${what}: ${text} is not a size; write bytes, or a number with K, M, G, T or P`);
  }
  const bytes = Number(match[1]) * 1024 ** UNITS.indexOf(match[2]!.toUpperCase());
  if (!Number.isSafeInteger(bytes)) throw new CliError(`${what}: ${text} is too large`);
  return bytes;
}

/** `1.5 GiB`: for people; programs get bytes. */
export function formatSize(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${bytes} B`;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}iB`;
}

/**
 * Returns the whole number from `min` to `max` that `text` names.
 *
 * @param what - named in the error, for example `--rounds`. @throws CliError
 */
export function parseCount(text: string, what: string, max: number, min = 1): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : -1;
  if (count < min || count > max) {
    throw new CliError(`${what}: ${text} is not a number from ${min} to ${max}`);
  }
  return count;
}
