// SPDX-License-Identifier: GPL-2.0-or-later
// How commands end: failures that are meant for the user are one line, bugs of ours have a stack and exit code 4.

import { PassThrough } from 'node:stream';
import { Cli } from 'clipanion';
import { expect, test } from 'vitest';
import { CrfsCommand } from '../../../ts/cli/command_line.ts';
import { CliError, Exit } from '../../../ts/cli/exit.ts';

async function end(failure: unknown): Promise<{ code: number; said: string }> {
  class FailingCommand extends CrfsCommand {
    async work(): Promise<number> {
      throw failure;
    }
  }
  const cli = new Cli({ binaryName: 'x', binaryLabel: 'x' });
  cli.register(FailingCommand);
  const stderr = new PassThrough();
  const code = await cli.run([], { stderr });
  return { code, said: String(stderr.read()) };
}

test('a failure that the user can understand', async () => {
  expect(await end(new CliError('no such thing', Exit.failed))).toEqual({
    code: 32,
    said: 'x: no such thing\n',
  });
  expect((await end(new CliError('wrong'))).code).toBe(1);
});

test('a bug', async () => {
  const { code, said } = await end(new TypeError('undefined is not a function'));
  expect(code).toBe(4);
  expect(said).toMatch(/^x: TypeError: undefined is not a function\n +at /);
});
