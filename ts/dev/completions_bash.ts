// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a completion for bash. It needs nothing but bash: not the package bash-completion, which only loads such files
// when they are first needed.
//
// Bash breaks the line into words at = and : too, which addresses and mount options contain. So the generated code reads
// the line by itself, and answers with what follows the last of them (`__crfs_finish`).

import type { ProgramDescription, SubcommandDescription } from '../cli/command_line.ts';
import type { List, Value } from '../cli/values.ts';

const RUNTIME = `
# Sets words, the line up to the cursor without its quotes, and cur, the last of them.
__crfs_words() {
  local line=\${COMP_LINE:0:COMP_POINT} word='' quote='' begun='' char i
  words=()
  for ((i = 0; i < \${#line}; i++)); do
    char=\${line:i:1}
    if [[ $quote ]]; then
      if [[ $char == "$quote" ]]; then quote=''; else word+=$char; fi
    elif [[ $char == [\\'\\"] ]]; then
      quote=$char begun=1
    elif [[ $char == \\\\ ]]; then
      i=$((i + 1))
      word+=\${line:i:1} begun=1
    elif [[ $char == [[:space:]] ]]; then
      [[ $begun ]] && words+=("$word")
      word='' begun=''
    else
      word+=$char begun=1
    fi
  done
  words+=("$word")
  cur=$word
}

# Offers the arguments that begin with $part; $lead is what stands before it in the same word.
__crfs_choose() {
  local word
  for word; do
    [[ $word == "$part"* ]] && COMPREPLY+=("$lead$word")
  done
}

# $1: f for files, d for directories.
__crfs_paths() {
  local path
  while IFS= read -r path; do COMPREPLY+=("$lead$path"); done < <(compgen "-$1" -- "$part")
  compopt -o filenames 2> /dev/null
}

__crfs_address() {
  if [[ $part == unix:* ]]; then
    lead+=unix: part=\${part#unix:}
    __crfs_paths f
    compopt -o nospace 2> /dev/null
  elif [[ unix: == "$part"* ]]; then
    __crfs_choose unix:
    compopt -o nospace 2> /dev/null
  fi
}

# Of NAME=PATH, the path: a name is whatever one likes.
__crfs_named_directory() {
  [[ $part == *=* ]] || return 0
  lead+=\${part%%=*}= part=\${part#*=}
  __crfs_paths d
}

# Of a list, name,name=value,..., leaves the last item in $part, or its value, and then its name in $item.
__crfs_item() {
  compopt -o nospace 2> /dev/null
  [[ $part == *,* ]] && lead+=\${part%,*}, part=\${part##*,}
  [[ $part == *=* ]] && item=\${part%%=*} lead+=\${part%%=*}= part=\${part#*=}
}

# Bash replaces only what follows the last : or =.
__crfs_finish() {
  local breaks='' prefix
  [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
  [[ $COMP_WORDBREAKS == *=* ]] && breaks+='='
  [[ $breaks && $cur == *["$breaks"]* ]] || return 0
  prefix=\${cur%"\${cur##*["$breaks"]}"}
  COMPREPLY=("\${COMPREPLY[@]#"$prefix"}")
}
`;

function quoted(text: string): string {
  return /^[\w.,:=/+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function isList(offers: Value['offers']): offers is List {
  return typeof offers === 'object' && 'list' in offers;
}

/** The last item of a list: a name, or the value of the name that is there. */
function listLines({ list }: List): string[] {
  const names = list.map(({ name, value }) => (value === undefined ? name : `${name}=`));
  const values = list.flatMap(({ name, value }) =>
    value === undefined || value.offers === 'nothing' ? [] : [`  ${name}) ${offer(value)} ;;`],
  );
  return ['__crfs_item', 'case $item in', `  '') __crfs_choose ${names.join(' ')} ;;`, ...values, 'esac'];
}

/** The call that offers a value; a list has lines of its own. */
function offer({ name, offers }: Value): string {
  if (offers === 'nothing') return ':';
  if (offers === 'files') return '__crfs_paths f';
  if (offers === 'directories') return '__crfs_paths d';
  if (offers === 'named directories') return '__crfs_named_directory';
  if (offers === 'addresses') return '__crfs_address';
  if (isList(offers)) throw new Error(`${name}: a list within a list`);
  return `__crfs_choose ${offers.words.map(quoted).join(' ')}`;
}

function valueCases({ name, options }: SubcommandDescription): string[] {
  return options.flatMap(({ names, value }) => {
    if (value === undefined) return [];
    const pattern = names.map((option) => `${name}:${option}`).join(' | ');
    const lines = isList(value.offers) ? listLines(value.offers) : [offer(value)];
    return [`${pattern})`, ...lines.map((line) => `  ${line}`), '  ;;'];
  });
}

/** What may stand where no option does. @param named - the names of the subcommands */
function operandCases({ name, operands }: SubcommandDescription, named: readonly string[]): string[] {
  const offers = operands.map((operand) => [offer(operand)]);
  if (name === '' && named.length > 0) {
    offers[0] = [`__crfs_choose ${named.join(' ')}`, ...(offers[0] ?? [])];
  }
  return offers.map((calls, at) => `${name}:${at}) ${calls.join('; ')} ;;`);
}

function optionCase({ name, options }: SubcommandDescription): string {
  const words = [...options.flatMap(({ names }) => names), '-h', '--help'];
  return `${quoted(name)}) __crfs_choose ${words.join(' ')} ;;`;
}

/** What a word before the cursor's does: it takes the next one as its value, names the subcommand, or is an operand. */
function wordCases(all: readonly SubcommandDescription[], named: readonly string[]): string[] {
  const takers = all.flatMap(({ name, options }) =>
    options
      .filter(({ value }) => value !== undefined)
      .flatMap(({ names }) => names.map((option) => `${name}:${option}`)),
  );
  return [
    ...(takers.length > 0 ? [`${takers.join(' | ')}) expect=$word ;;`] : []),
    '*:-*) ;;',
    ...(named.length > 0
      ? [
          `${named.map((name) => `:${name}`).join(' | ')})`,
          '  if ((operands == 0)); then command=$word; else operands=$((operands + 1)); fi',
          '  ;;',
        ]
      : []),
    '*) operands=$((operands + 1)) ;;',
  ];
}

/** The text of a file that bash reads. */
export function bashCompletion({ name: program, subcommands }: ProgramDescription): string {
  const named = subcommands.map(({ name }) => name).filter((name) => name !== '');
  const nothing = { name: '', description: '', details: '', examples: [], operands: [], options: [] };
  const all = named.length === subcommands.length ? [nothing, ...subcommands] : subcommands;
  const complete = `_crfs_${program.replace(/\W/g, '_')}`;
  const lines = (cases: readonly string[]): string => cases.map((line) => `      ${line}`).join('\n');
  return `# Completion of ${program} for bash, made by CRFS from what the command says of itself.
# SPDX-License-Identifier: GPL-2.0-or-later
${RUNTIME}
${complete}() {
  local words cur lead='' part command='' expect='' item='' operands=0 word
  COMPREPLY=()
  __crfs_words
  for word in "\${words[@]:1:\${#words[@]}-2}"; do
    if [[ $expect ]]; then
      expect=''
      continue
    fi
    case $command:$word in
${lines(wordCases(all, named))}
    esac
  done
  part=$cur
  if [[ -z $expect && $cur == --*=* ]]; then
    expect=\${cur%%=*} lead=\${cur%%=*}= part=\${cur#*=}
  fi
  if [[ $expect ]]; then
    case $command:$expect in
${lines(all.flatMap(valueCases))}
    esac
  elif [[ $cur == -* ]]; then
    case $command in
${lines(all.map(optionCase))}
    esac
  else
    case $command:$operands in
${lines(all.flatMap((subcommand) => operandCases(subcommand, named)))}
    esac
  fi
  __crfs_finish
}
complete -F ${complete} ${program}
`;
}
