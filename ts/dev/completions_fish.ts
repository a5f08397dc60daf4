// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a completion for fish.

import type { ProgramDescription, SubcommandDescription } from '../cli/command_line.ts';
import type { ListOption, Value } from '../cli/values.ts';

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

/** Lines for one -o list, as `printf` prints them: a word, a tab, what it is. */
function listWords(list: readonly ListOption[]): string[] {
  return list.flatMap(({ name, description, value }) => {
    if (value === undefined) return [`${name}\t${description}`];
    const { offers } = value;
    if (typeof offers === 'object' && 'words' in offers) {
      return offers.words.map((word) => `${name}=${word}\t${description}`);
    }
    return [`${name}=\t${description}`];
  });
}

/** The arguments of `complete` that say what a value may be. */
function offer({ offers }: Value, listFunction: string): string {
  if (offers === 'nothing') return '-x';
  if (offers === 'files') return '-r -F';
  if (offers === 'directories') return "-x -a '(__fish_complete_directories)'";
  if (offers === 'named directories') return "-x -a '(__crfs_named_directories)'";
  if (offers === 'addresses') return "-x -a '(__crfs_addresses)'";
  if ('list' in offers) return `-x -a '(__fish_complete_list , ${listFunction})'`;
  return `-x -a ${quoted(offers.words.join(' '))}`;
}

function optionName(option: string): string {
  return option.startsWith('--') ? `-l ${option.slice(2)}` : `-s ${option.slice(1)}`;
}

/** The text of a file that fish reads. */
export function fishCompletion({ name: program, subcommands }: ProgramDescription): string {
  const listFunction = `__crfs_${program.replace(/\W/g, '_')}_list`;
  const named = subcommands.filter(({ name }) => name !== '');
  const names = named.map(({ name }) => name).join(' ');
  const none = names === '' ? 'true' : `not __fish_seen_subcommand_from ${names}`;
  const when = ({ name }: SubcommandDescription): string =>
    quoted(name === '' ? none : `__fish_seen_subcommand_from ${name}`);
  const lines = [
    `# Completion of ${program} for fish, made by CRFS from what the command says of itself.`,
    '# SPDX-License-Identifier: GPL-2.0-or-later',
    '',
    'function __crfs_addresses',
    '    set -l token (commandline -ct)',
    "    if string match -q 'unix:*' -- $token",
    "        for path in (__fish_complete_path (string replace 'unix:' '' -- $token))",
    '            echo unix:$path',
    '        end',
    '    else',
    '        echo unix:',
    '    end',
    'end',
    '',
    'function __crfs_named_directories',
    "    set -l parts (string split -m 1 '=' -- (commandline -ct))",
    '    if set -q parts[2]',
    '        for path in (__fish_complete_directories $parts[2])',
    '            echo $parts[1]=$path',
    '        end',
    '    end',
    'end',
  ];
  for (const { options } of subcommands) {
    for (const { value } of options) {
      if (value === undefined || typeof value.offers !== 'object' || !('list' in value.offers)) continue;
      const words = listWords(value.offers.list).map(quoted).join(' \\\n        ');
      lines.push('', `function ${listFunction}`, `    printf '%s\\n' \\\n        ${words}`, 'end');
    }
  }
  lines.push('', `complete -c ${program} -f`, `complete -c ${program} -s h -l help -d 'show help'`);
  for (const { name, description } of named) {
    lines.push(`complete -c ${program} -n ${quoted(none)} -a ${name} -d ${quoted(description)}`);
  }
  for (const subcommand of subcommands) {
    const start = `complete -c ${program} -n ${when(subcommand)}`;
    for (const kind of new Set(subcommand.operands.map((operand) => offer(operand, listFunction)))) {
      lines.push(`${start} ${kind.replace(/^-[rx] /, '')}`);
    }
    for (const { names: optionNames, description, value } of subcommand.options) {
      const takes = value === undefined ? '' : ` ${offer(value, listFunction)}`;
      lines.push(`${start} ${optionNames.map(optionName).join(' ')}${takes} -d ${quoted(description)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
