// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run check`: every source file must open with its licence line and a comment that says what the file is for.
// (Formatting, types, layers and unused code have tools of their own; no tool knows this rule.)

import { readFile } from 'node:fs/promises';
import { run } from './command.ts';

const SOURCE = /\.(ts|rs|cjs|mjs|js|sh)$|^\.ci\/run$/;
const GENERATED = new Set(['native/binding.d.ts']);
const LICENCE = /^(\/\/|#) SPDX-License-Identifier: GPL-2\.0-or-later$/;
const COMMENT = /^(\/\/!?|\/\*\*?|#) ?\S/;
const BLANK = /^(\/\/!?|#)?\s*$/;

/** What is wrong with the head of a file, or undefined. */
export function headFault(text: string): string | undefined {
  const lines = text.split('\n');
  const first = lines[0]?.startsWith('#!') === true ? 1 : 0;
  if (!LICENCE.test(lines[first] ?? '')) return 'no SPDX line at the top';
  const next = lines.slice(first + 1).find((line) => !BLANK.test(line));
  if (next === undefined || !COMMENT.test(next)) return 'no comment that says what the file is for';
  return undefined;
}

async function main(): Promise<void> {
  const listed = await run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']);
  const files = listed.stdout.split('\0').filter((file) => SOURCE.test(file) && !GENERATED.has(file));
  let faults = 0;
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => undefined); // Deleted, but still in the index.
    const fault = text === undefined ? undefined : headFault(text);
    if (fault === undefined) continue;
    faults += 1;
    process.stderr.write(`${file}: ${fault}\n`);
  }
  process.exitCode = faults > 0 ? 1 : 0;
}

if (import.meta.filename === process.argv[1]) await main();
