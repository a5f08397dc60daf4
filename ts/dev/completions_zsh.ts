// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a completion for zsh: a function that compinit finds by its first line.

import type { ProgramDescription, SubcommandDescription } from '../cli/command_line.ts';
import type { Value } from '../cli/values.ts';

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A description within [...] of a specification. */
function described(text: string): string {
  return text.replace(/[[\]:\\]/g, '\\$&');
}

/** The last part of a specification, `:message:action`. @param list - the function that offers the items of a list */
function action({ name, offers }: Value, list: string): string {
  if (offers === 'nothing') return `:${name}: `;
  if (offers === 'files') return `:${name}:_files`;
  if (offers === 'directories') return `:${name}:_files -/`;
  if (offers === 'named directories') return `:${name}:_crfs_named_directory`;
  if (offers === 'addresses') return `:${name}:_crfs_address`;
  if ('words' in offers) return `:${name}:(${offers.words.join(' ')})`;
  return `:${name}:${list}`;
}

/** The call that offers the items of a list. */
function listCall({ name, offers }: Value, list: string): string[] {
  if (typeof offers !== 'object' || !('list' in offers)) return [];
  const items = offers.list.map(({ name: word, description, value }) =>
    quoted(`${word}[${described(description)}]${value === undefined ? '' : action(value, list)}`),
  );
  return [`_values -s , ${name} \\\n    ${items.join(' \\\n    ')}`];
}

/** The specifications of `_arguments`, quoted. */
function specifications(
  { operands, options }: SubcommandDescription,
  list: string,
  first?: string,
): string[] {
  return [
    ...options.flatMap(({ names, description, value }) =>
      names.map((option) => {
        const equals = value !== undefined && option.startsWith('--') ? '=' : '';
        const takes = value === undefined ? '' : action(value, list);
        return quoted(`*${option}${equals}[${described(description)}]${takes}`);
      }),
    ),
    ...operands.map((operand, at) =>
      quoted(
        `${at + 1}${at === 0 && first !== undefined ? `:${operand.name}:${first}` : action(operand, list)}`,
      ),
    ),
    `'(- *)'{-h,--help}'[show help]'`,
  ];
}

function call(specs: readonly string[], indent: string): string {
  return `${indent}_arguments -S \\\n${specs.map((spec) => `${indent}  ${spec}`).join(' \\\n')}\n`;
}

/** The text of a file that zsh reads as `_PROGRAM`. */
export function zshCompletion({ name: program, subcommands }: ProgramDescription): string {
  const name = `_${program}`;
  const named = subcommands.filter((subcommand) => subcommand.name !== '');
  const main = subcommands.find((subcommand) => subcommand.name === '');
  const list = named.map((subcommand) => quoted(`${subcommand.name}:${described(subcommand.description)}`));
  const listFunction = `${name}_list`;
  const lists = subcommands.flatMap(({ options }) =>
    options.flatMap(({ value }) => (value === undefined ? [] : listCall(value, listFunction))),
  );
  let text = `#compdef ${program}
# Completion of ${program} for zsh, made by CRFS from what the command says of itself.
# SPDX-License-Identifier: GPL-2.0-or-later

_crfs_address() {
  if compset -P 'unix:'; then _files; else compadd -S '' unix:; fi
}

_crfs_named_directory() {
  if compset -P '*='; then _files -/; fi
}

${name}_first() {
  local -a subcommands=(${list.join(' ')})
  _describe -t commands ${quoted(`${program} command`)} subcommands
${main === undefined ? '' : '  _crfs_address\n'}}
${lists.length === 0 ? '' : `\n${listFunction}() {\n  ${lists.join('\n  ')}\n}\n`}
${name}() {
`;
  if (named.length > 0) {
    text += `  if ((CURRENT > 2)); then\n    case $words[2] in\n`;
    for (const subcommand of named) {
      text += `      ${subcommand.name})\n        shift words\n        ((CURRENT--))\n`;
      text += `${call(specifications(subcommand, listFunction), '        ')}        return\n        ;;\n`;
    }
    text += '    esac\n  fi\n';
  }
  const nothing: SubcommandDescription = {
    name: '',
    description: '',
    details: '',
    examples: [],
    operands: [{ name: 'COMMAND', offers: 'nothing' }],
    options: [],
  };
  const first = named.length > 0 ? `${name}_first` : undefined;
  text += call(specifications(main ?? nothing, listFunction, first), '  ');
  return `${text}}\n\n${name} "$@"\n`;
}
