// SPDX-License-Identifier: GPL-2.0-or-later
// The rules of POSIX and Linux for a file system, each checked through one mount and looked at through another by the
// program posix-rules. On a local BTRFS all come out right, so that the checks themselves are known to be.

import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import type { Cleanup } from '../../harness/images.ts';
import { localDirectories, SeveralMounts } from '../../harness/several_mounts.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

/** What CRFS does not do yet. The line fails and names them; only the slice of test/mount leaves them out. */
export const NOT_YET: readonly string[] = ['relatime', 'file-size-limit', 'sgid-without-x'];

/** The program's own time limit: the largest directory is the longest part. */
const LIMIT_MS = 1_800_000;

/** @param options - of posix-rules. @returns its lines, one a check. */
async function judge(paths: readonly string[], options: readonly string[]): Promise<readonly string[]> {
  const argv = [testProgram('posix-rules'), paths[0]!, paths[1]!, ...options];
  const { stdout, stderr } = await run(argv, { timeoutMs: LIMIT_MS, allow: [0, 1] });
  require(stdout !== '', `posix-rules said nothing: ${stderr}`);
  return stdout.trim().split('\n');
}

function requireRight(lines: readonly string[], where: string): void {
  const wrong = lines.filter((line) => !line.endsWith(': right'));
  require(wrong.length === 0, `${where}:\n${wrong.join('\n')}`);
}

/** @throws Error - with the checks that come out wrong on a local BTRFS. */
export async function rulesOnLocal(
  directory: string,
  cleanup: Cleanup,
  options: readonly string[],
): Promise<void> {
  requireRight(await judge(await localDirectories(directory, cleanup, 2), options), 'local btrfs');
}

/** @throws Error - with the checks that come out wrong on two mounts, or when the image is not clean. */
export async function rulesOnMounts(
  directory: string,
  cleanup: Cleanup,
  options: readonly string[],
  measure: (line: string) => void,
): Promise<void> {
  const several = await SeveralMounts.start(directory, cleanup, { count: 2 });
  const lines = await judge(several.paths, options);
  for (const line of lines) measure(line);
  await several.stop();
  await several.check();
  requireRight(lines, 'two mounts');
}

async function line(context: AcceptanceContext): Promise<void> {
  const { cleanup, directory, quick, measure } = context;
  const options = ['--large', quick ? '10000' : '1000000'];
  await rulesOnLocal(join(directory, 'btrfs'), cleanup, options);
  await rulesOnMounts(join(directory, 'crfs'), cleanup, options, measure);
}

export const RULES: AcceptanceLine = {
  name: 'rules',
  title: 'the rules of POSIX hold on two mounts as on a local btrfs',
  run: line,
};
