// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the clipanion commands of one program: usage errors and failures go to stderr, the exit code is ours.
//
// (Left to itself clipanion prints errors on stdout, always with 1, colours even a pipe, and calls every value `#0`.)
//
// `PROGRAM --describe` prints its commands and options as JSON (`ProgramDescription`): shell completions are made from it
// (ts/dev/completions.ts), and a test holds the manual pages against it. It is not meant for users.

import { Builtins, Cli, Command, type CommandClass } from 'clipanion';
import { CliError, Exit, messageOf } from './exit.ts';
import { OPERANDS, type Value, type Values } from './values.ts';

/** A command whose failures end in one line and an exit code. */
export abstract class CrfsCommand extends Command {
  /** What each option with a value takes. */
  static values: Values = {};

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

export interface OptionDescription {
  readonly names: readonly string[];
  readonly description: string;
  readonly value?: Value;
}

export interface SubcommandDescription {
  /** Empty: what the program does without the name of a subcommand. */
  readonly name: string;
  readonly description: string;
  readonly details: string;
  /** What each shows, and the command line. */
  readonly examples: readonly (readonly [string, string])[];
  readonly operands: readonly Value[];
  readonly options: readonly OptionDescription[];
}

/** What `--describe` prints. */
export interface ProgramDescription {
  readonly name: string;
  readonly subcommands: readonly SubcommandDescription[];
}

type Usage = ReturnType<Cli['getUsageByIndex']>;

function valuesOf(command: CommandClass | undefined): Values {
  return (command as typeof CrfsCommand | undefined)?.values ?? {};
}

function isDefault(command: CommandClass): boolean {
  return command.paths === undefined || command.paths.some((path) => path.length === 0);
}

/** `--size #0` -> `--size SIZE` */
function withValueNames(text: string, values: Values): string {
  return text.replace(/(--?[\w-]+) #0/g, (_, name: string) => `${name} ${values[name]?.name ?? 'VALUE'}`);
}

/** Clipanion's Cli, with names for values, and help for a program that does something without a subcommand too. */
class Program extends Cli {
  protected override getUsageByIndex(...args: Parameters<Cli['getUsageByIndex']>): Usage {
    const { usage, options } = super.getUsageByIndex(...args);
    const command = [...this.registrations].find(([, { index }]) => index === args[0])?.[0];
    const named = (text: string): string => withValueNames(text, valuesOf(command));
    return {
      usage: named(usage),
      options: options.map((option) => ({ ...option, definition: named(option.definition) })),
    };
  }

  override usage(...[command = null, settings]: Parameters<Cli['usage']>): string {
    const documented = [...this.registrations.keys()].filter(({ usage }) => usage !== undefined);
    const main = documented.find(isDefault);
    if (command !== null || main === undefined) return super.usage(command, settings);
    const others = documented.filter((other) => other !== main);
    const lines = others.map((other) => `  ${super.usage(other, settings)}    ${other.usage?.description}\n`);
    const more = lines.length === 0 ? '' : `\nOther commands, each with its own --help\n\n${lines.join('')}`;
    return super.usage(main, { ...settings, detailed: true }) + more;
  }

  /** A usage error as people can read it: without the commands that only show help, values by their names. */
  usageError(error: unknown): string {
    const lines = messageOf(error)
      .replace(/^Unknown Syntax Error: /, '')
      .trimEnd()
      .split('\n')
      .filter((line) => !line.endsWith(`${this.binaryName} -h`));
    let text = lines.join('\n');
    for (const [command, { index }] of this.registrations) {
      const { usage } = super.getUsageByIndex(index);
      text = text.replaceAll(usage, withValueNames(usage, valuesOf(command)));
    }
    return `${text}\n`;
  }

  /** @throws Error - an option or operand of which nothing says what it takes: a bug of ours. */
  describe(): ProgramDescription {
    const subcommands = [...this.registrations.keys()].flatMap((command) => {
      const definition = this.definition(command);
      if (definition === null) return [];
      const name = command.paths?.find((path) => path.length > 0)?.join(' ') ?? '';
      const known = (values: Values, what: string): Value => {
        const value = values[what];
        if (value === undefined) throw new Error(`${this.binaryName} ${name}: what does ${what} take?`);
        return value;
      };
      const options = definition.options.map(({ nameSet, definition: text, description = '' }) => {
        const takes = text !== nameSet.join(',');
        const value = takes ? { value: known(valuesOf(command), nameSet.at(-1)!) } : {};
        return { names: nameSet, description, ...value };
      });
      return {
        name,
        description: definition.description?.trim() ?? '',
        details: definition.details?.trim() ?? '',
        examples: (definition.examples ?? []).map(([what, line]) => [what.trim(), line] as const),
        operands: [...definition.usage.matchAll(/<(\w+)>/g)].map((match) => known(OPERANDS, match[1]!)),
        options,
      };
    });
    return { name: this.binaryName, subcommands };
  }
}

/** Parses the command line, runs the command it names, and sets the exit code of the process. */
export async function runProgram(name: string, commands: readonly CommandClass[]): Promise<void> {
  const cli = new Program({
    binaryName: name,
    binaryLabel: name,
    enableColors: useColors(process.stdout),
  });
  cli.register(Builtins.HelpCommand);
  for (const command of commands) cli.register(command);
  const context = Cli.defaultContext;
  const input = process.argv.slice(2);
  if (input.length === 1 && input[0] === '--describe') {
    process.stdout.write(`${JSON.stringify(cli.describe())}\n`);
    return;
  }
  let command: Command;
  try {
    command = cli.process({ input, context });
  } catch (error) {
    process.stderr.write(`${name}: ${cli.usageError(error)}`);
    process.exitCode = Exit.usage;
    return;
  }
  process.exitCode = await cli.run(command, context);
}
