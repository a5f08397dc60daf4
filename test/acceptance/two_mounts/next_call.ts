// SPDX-License-Identifier: GPL-2.0-or-later
// A change made on either of two mounts is seen by the very next call on the other: crates/crfs-testkit's next-call on
// two mounts whose kernels are warm with the old state.

import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { SeveralMounts } from '../../harness/several_mounts.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

/**
 * @param without - kinds of changes and looks that one of the mounts lacks.
 * @throws Error - with the program's own words, when a look saw anything but the state of now.
 */
export async function nextCall(
  directories: readonly string[],
  rounds: number,
  measure: (line: string) => void,
  without: readonly string[] = [],
): Promise<void> {
  const lacks = without.flatMap((kind) => ['--without', kind]);
  const argv = [
    testProgram('next-call'),
    directories[0]!,
    directories[1]!,
    '--rounds',
    String(rounds),
    ...lacks,
  ];
  const result = await run(argv, {
    allow: [0, 1, 3, 4],
    timeoutMs: 120_000 + rounds * 5_000,
  });
  const lines = result.stdout.trimEnd().split('\n');
  const failures = lines.filter((line) => /^ |SIGBUS|HANGS/.test(line));
  for (const line of lines) if (!failures.includes(line)) measure(line);
  const said = [`${result.stderr.trim()} (exit code ${result.code})`, ...failures];
  require(result.code === 0, said.join('\n'));
}

async function line(context: AcceptanceContext): Promise<void> {
  const several = await SeveralMounts.start(context.directory, context.cleanup, { count: 2 });
  await nextCall(several.paths, context.quick ? 50 : 1_000, context.measure);
  context.measure(await several.figures());
  await several.stop();
  await several.check();
}

export const NEXT_CALL: AcceptanceLine = {
  name: 'next_call',
  title: 'a change on either of two mounts is seen by the very next call on the other',
  run: line,
};
