// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the clipanion commands of one program: usage errors and failures go to stderr, the exit code is ours.
//
// (Left to itself clipanion prints errors on stdout, always with 1, and colours even a pipe.)

import { Builtins, Cli, Command, type CommandClass } from 'clipanion';
import { CliError, Exit, messageOf } from './exit.ts';

/** A command whose failures end in one line and an exit code. */
export abstract class CrfsCommand extends Command {
  abstract work(): Promise<number>;

  async execute(): Promise<number> {
    try {
      return await this.work();
    } catch (error) {
      const known = error instanceof CliError;
      // Anything else is our own bug, and only a stack helps to find it.
      const said = known ? error.message : error instanceof Error ? error.stack : String(error);
      this.context.stderr.write(`${this.cli.binaryLabel}: ${said}\n`);
      return known ? error.exitCode : Exit.bug;
    }
  }
}

function useColors(stream: { isTTY?: boolean }): boolean {
  return stream.isTTY === true && (process.env['NO_COLOR'] ?? '') === '';
}

/** Parses the command line, runs the command it names, and sets the exit code of the process. */
export async function runProgram(name: string, commands: readonly CommandClass[]): Promise<void> {
  const cli = new Cli({
    binaryName: name,
    binaryLabel: name,
    enableColors: useColors(process.stdout),
  });
  cli.register(Builtins.HelpCommand);
  for (const command of commands) cli.register(command);
  const context = Cli.defaultContext;
  let command: Command;
  try {
    command = cli.process({ input: process.argv.slice(2), context });
  } catch (error) {
    process.stderr.write(
      `${name}: ${messageOf(error)
        .replace(/^Unknown Syntax Error: /, '')
        .trimEnd()}\n`,
    );
    process.exitCode = Exit.usage;
    return;
  }
  process.exitCode = await cli.run(command, context);
}
