// SPDX-License-Identifier: GPL-2.0-or-later
// Manual pages, help texts and completions name what the commands know, all of it and nothing else.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ProgramDescription, SubcommandDescription } from '../../../ts/cli/command_line.ts';
import { Exit } from '../../../ts/cli/exit.ts';
import { MOUNT_OPTIONS } from '../../../ts/cli/mount_options.ts';
import { run } from '../../../ts/dev/command.ts';
import { completionFiles, makeCompletions } from '../../../ts/dev/completions.ts';
import { describe as describeProgram, PAGE_DIRECTORY, PAGES, PROGRAMS } from '../../../ts/dev/programs.ts';
import { Cleanup } from '../../harness/images.ts';
import { temporaryDirectory } from '../../harness/processes.ts';

const cleanup = new Cleanup();
let directory: string;
const descriptions = new Map<string, ProgramDescription>();

beforeAll(async () => {
  directory = await temporaryDirectory(cleanup);
  for (const program of PROGRAMS) descriptions.set(program.name, await describeProgram(program));
  await makeCompletions(join(directory, 'completions'));
});
afterAll(() => cleanup.run());

const names = PROGRAMS.map(({ name }) => name);

function subcommandsOf(program: string): readonly SubcommandDescription[] {
  return descriptions.get(program)!.subcommands;
}

function fullName(program: string, { name }: SubcommandDescription): string {
  return name === '' ? program : `${program} ${name}`;
}

/** The macro lines of a page, as words, under the heading that they stand under. */
interface PageLine {
  readonly section: string;
  readonly subsection: string;
  readonly words: readonly string[];
}

async function linesOf(page: string): Promise<PageLine[]> {
  const text = await readFile(join(PAGE_DIRECTORY, page), 'utf8');
  const lines: PageLine[] = [];
  let section = '';
  let subsection = '';
  for (const line of text.split('\n')) {
    if (!line.startsWith('.') || line.startsWith('.\\"')) continue;
    const words = line.slice(1).replaceAll('\\-', '-').split(/ +/);
    if (words[0] === 'Sh') [section, subsection] = [words.slice(1).join(' '), ''];
    if (words[0] === 'Ss') subsection = words.slice(1).join(' ');
    lines.push({ section, subsection, words });
  }
  return lines;
}

function pageOf(program: string): string {
  return PAGES.find((page) => page.replace(/\.\d$/, '') === program)!;
}

/** The options that a line names: `Fl -size` is --size, `Fl fn` is -f and -n. */
function optionsIn({ words }: PageLine): string[] {
  return words.flatMap((word, at) => {
    if (words[at - 1] !== 'Fl') return [];
    return word.startsWith('-') ? [`-${word}`] : [...word].map((letter) => `-${letter}`);
  });
}

/** The words after each `Cm`, and whether a value follows. */
function literalsIn({ words }: PageLine): { name: string; takes: boolean }[] {
  const found: { name: string; takes: boolean }[] = [];
  let isLiteral = false;
  for (const [at, word] of words.entries()) {
    if (/^[A-Z][a-z]$/.test(word)) isLiteral = word === 'Cm';
    else if (isLiteral && word !== ',') found.push({ name: word, takes: words[at + 2] === '=' });
  }
  return found;
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1;
}

describe('manual pages', () => {
  test('every command has one', () => {
    expect(names.filter((name) => pageOf(name) === undefined)).toEqual([]);
  });

  test.each(PAGES)('%s is well formed', async (page) => {
    const path = join(PAGE_DIRECTORY, page);
    const shown = await run(['man', '--warnings', '-l', path], {
      env: { MANWIDTH: '80', LC_ALL: 'C.UTF-8' },
    });
    expect(shown.stderr).toBe('');
    expect(shown.stdout).toContain('SEE ALSO');
    const lint = await run(['mandoc', '-Tlint', path], { allow: [0, 1, 2, 3, 4, 5, 6] });
    expect(lint.stdout.split('\n').filter((line) => /: (WARNING|ERROR|UNSUPP|SYSERR):?/.test(line))).toEqual(
      [],
    );
    const title = (await linesOf(page)).find(({ words }) => words[0] === 'Dt')!;
    expect(title.words.slice(1).join('.').toLowerCase()).toBe(page);
  });

  test.each(names)('%s: the options of each subcommand', async (program) => {
    const lines = await linesOf(pageOf(program));
    for (const subcommand of subcommandsOf(program)) {
      const title = fullName(program, subcommand);
      const items = lines.filter(({ subsection, words }) => subsection === title && words[0] === 'It');
      const known = subcommand.options.flatMap((option) => option.names);
      expect(items.flatMap(optionsIn).sort(), title).toEqual([...known].sort());
      for (const { names: optionNames, value } of subcommand.options) {
        if (value === undefined) continue;
        const line = items.find((item) => optionsIn(item).includes(optionNames[0]!))!;
        expect(line.words.join(' '), title).toContain(` Ar ${value.name}`);
        if (typeof value.offers !== 'object' || !('words' in value.offers)) continue;
        const literals = lines.filter(({ subsection }) => subsection === title).flatMap(literalsIn);
        expect(literals.map(({ name }) => name)).toEqual(expect.arrayContaining([...value.offers.words]));
      }
    }
  });

  test.each(names)('%s: its synopsis', async (program) => {
    const lines = (await linesOf(pageOf(program))).filter(({ section }) => section === 'SYNOPSIS');
    const subcommands = subcommandsOf(program);
    const options = subcommands.flatMap((subcommand) => subcommand.options.flatMap((option) => option.names));
    expect([...new Set(lines.flatMap(optionsIn))].sort()).toEqual([...new Set(options)].sort());
    const literals = lines.flatMap(literalsIn).map(({ name }) => name);
    const named = subcommands.map(({ name }) => name).filter((name) => name !== '');
    expect(literals).toEqual(expect.arrayContaining(named));
  });

  test.each(names)('%s names no option that it does not know, no other exit code', async (program) => {
    const lines = await linesOf(pageOf(program));
    const options = subcommandsOf(program).flatMap((subcommand) =>
      subcommand.options.flatMap((option) => option.names),
    );
    const known = new Set([...options, '-h', '--help']);
    expect(lines.flatMap(optionsIn).filter((option) => !known.has(option))).toEqual([]);
    const codes = lines
      .filter(({ section, words }) => section === 'EXIT STATUS' && words[0] === 'It')
      .map(({ words }) => Number(words[1]));
    expect(codes.slice(0, 2)).toEqual([Exit.ok, Exit.usage]);
    expect(codes.filter((code) => !Object.values<number>(Exit).includes(code))).toEqual([]);
  });

  test('mount.crfs: the mount options', async () => {
    const lines = await linesOf(pageOf('mount.crfs'));
    const items = lines.filter(
      ({ subsection, words }) => subsection === 'Mount options' && words[0] === 'It',
    );
    const known = MOUNT_OPTIONS.map(({ name, value }) => ({ name, takes: value !== undefined }));
    expect(items.flatMap(literalsIn).sort(byName)).toEqual(known.sort(byName));
    const literals = lines.flatMap(literalsIn).map(({ name }) => name);
    for (const { value } of MOUNT_OPTIONS) {
      if (typeof value?.offers !== 'object' || !('words' in value.offers)) continue;
      expect(literals).toEqual(expect.arrayContaining([...value.offers.words]));
    }
  });

  test('a page refers only to pages of ours that there are', async () => {
    for (const page of PAGES) {
      const references = (await linesOf(page)).filter(({ words }) => words[0] === 'Xr');
      const ours = references
        .map(({ words }) => `${words[1]}.${words[2]}`)
        .filter((name) => /crfs/.test(name));
      expect(ours.length).toBeGreaterThan(0);
      expect(PAGES).toEqual(expect.arrayContaining(ours));
    }
  });
});

describe('help texts', () => {
  test.each(names)('%s explains each subcommand, with examples of it', (program) => {
    for (const subcommand of subcommandsOf(program)) {
      const title = fullName(program, subcommand);
      expect(subcommand.description, title).not.toBe('');
      expect(subcommand.details, title).not.toBe('');
      expect(subcommand.examples.length, title).toBeGreaterThan(0);
      const calls = subcommand.examples.map(([, line]) =>
        line.replace(/^(u?mount)(?!\.crfs)( -t crfs)?/, '$1.crfs'),
      );
      for (const call of calls) expect(call.startsWith(`${title} `), call).toBe(true);
      const known = new Set(subcommand.options.flatMap((option) => option.names));
      const used = calls.flatMap((call) =>
        call
          .split(' | ')[0]!
          .split(' ')
          .filter((word) => /^-/.test(word)),
      );
      expect(used.filter((option) => !known.has(option))).toEqual([]);
    }
  });

  test.each(PROGRAMS)('$name --help shows values by name, and every subcommand', async ({ name, script }) => {
    const { stdout } = await run([process.execPath, script, '--help']);
    expect(stdout).not.toMatch(/#\d|VALUE/);
    for (const subcommand of subcommandsOf(name)) expect(stdout).toContain(fullName(name, subcommand));
  });

  test('mount.crfs --help explains every option of its own', async () => {
    const { stdout } = await run([process.execPath, 'dist/cli/mount.crfs.js', '--help']);
    const ours = MOUNT_OPTIONS.filter(({ description }) => !/^(as in mount\(8\)|accepted)/.test(description));
    expect(ours.map(({ name }) => name)).toEqual(expect.arrayContaining(['cache', 'ro', 'noallow_other']));
    const words = stdout.split(/[\s=]+/);
    expect(ours.filter(({ name }) => !words.includes(name))).toEqual([]);
  });
});

/** What bash offers at the end of `line`. */
async function bashOffers(program: string, line: string): Promise<string[]> {
  const file = join(directory, 'completions', completionFiles(program).bash);
  const script = `
    . "$1"
    [[ $(complete -p "$2") =~ -F\\ ([^ ]+) ]]
    COMP_LINE=$3 COMP_POINT=\${#3}
    "\${BASH_REMATCH[1]}" "$2"
    for reply in "\${COMPREPLY[@]}"; do printf '%s\\n' "$reply"; done
  `;
  const argv = ['bash', '--norc', '-c', script, 'bash', file, program, line];
  const { stdout, stderr } = await run(argv, { cwd: directory, timeoutMs: 30_000 });
  expect(stderr).toBe('');
  return stdout
    .split('\n')
    .filter((word) => word !== '')
    .sort();
}

describe('completions', () => {
  test.each(names)('%s: bash offers every subcommand and option', async (program) => {
    const subcommands = subcommandsOf(program);
    const named = subcommands.map(({ name }) => name).filter((name) => name !== '');
    expect(await bashOffers(program, `${program} `)).toEqual(expect.arrayContaining(named));
    for (const subcommand of subcommands) {
      const options = subcommand.options.flatMap((option) => option.names);
      const offered = await bashOffers(program, `${fullName(program, subcommand)} -`);
      expect(offered).toEqual([...options, '-h', '--help'].sort());
    }
  });

  test('bash offers every mount option', async () => {
    const all = MOUNT_OPTIONS.map(({ name, value }) => (value === undefined ? name : `${name}=`));
    expect(await bashOffers('mount.crfs', 'mount.crfs host:/ /mnt -o ')).toEqual(all.sort());
  });

  test('bash offers what fits', async () => {
    await run(['mkdir', '-p', join(directory, 'work/a directory'), join(directory, 'work/other')]);
    await run(['touch', join(directory, 'work/a.img'), join(directory, 'work/sock')]);
    const lines: readonly (readonly [string, string, readonly string[]])[] = [
      ['crfsd', 'crfsd st', ['stats', 'status']],
      ['crfsd', 'crfsd mkfs work/a', ['work/a directory', 'work/a.img']],
      ['crfsd', "crfsd mkfs 'work/a ", ['work/a directory']],
      ['crfsd', 'crfsd mkfs work/a\\ d', ['work/a directory']],
      ['crfsd', 'crfsd mkfs --checksum ', ['blake2', 'crc32c', 'sha256', 'xxhash64']],
      ['crfsd', 'crfsd mkfs work/a.img --checksum=b', ['blake2']],
      ['crfsd', 'crfsd mkfs --size ', []],
      ['crfsd', 'crfsd mkfs --label stats --fo', ['--force']],
      ['crfsd', 'crfsd serve work/a.img --listen ', ['unix:']],
      ['crfsd', 'crfsd serve work/a.img --listen unix:work/s', ['work/sock']],
      ['crfsd', 'crfsd serve --cpuidle p', ['poll']],
      ['crfsd', 'crfsd status u', ['unix:']],
      ['mount.crfs', 'mount.crfs st', ['stats', 'status']],
      ['mount.crfs', 'mount.crfs unix:work/s', ['work/sock']],
      ['mount.crfs', 'mount.crfs unix:work/sock:/ work/', ['work/a directory', 'work/other']],
      ['mount.crfs', 'mount.crfs -o ro host:/ work/o', ['work/other']],
      ['mount.crfs', 'mount.crfs host:/ /mnt -o ro,cpu', ['ro,cpuidle=']],
      ['mount.crfs', 'mount.crfs host:/ /mnt -o ro,cpuidle=', ['auto', 'poll', 'sleep']],
      ['mount.crfs', 'mount.crfs host:/ /mnt -o cpuidle=poll,noat', ['poll,noatime']],
      ['mount.crfs', 'mount.crfs host:/ /mnt -o log=work/s', ['work/sock']],
      ['mount.crfs', 'mount.crfs stats work/o', ['work/other']],
      ['mount.crfs', 'mount.crfs stats work/other --j', ['--json']],
      ['umount.crfs', 'umount.crfs -l work/o', ['work/other']],
      ['crfs-bench', 'crfs-bench visibility --a work/o', ['work/other']],
      ['crfs-bench', 'crfs-bench files --dir crfs=work/o', ['work/other']],
    ];
    for (const [program, line, offers] of lines)
      expect(await bashOffers(program, line), line).toEqual(offers);
  });

  test.each(names)('%s: zsh and fish can read theirs, and fish offers the options', async (program) => {
    const files = completionFiles(program);
    const zsh = join(directory, 'completions', files.zsh);
    expect((await run(['zsh', '-f', '-n', zsh])).stderr).toBe('');
    const text = await readFile(zsh, 'utf8');
    for (const subcommand of subcommandsOf(program)) {
      const options = subcommand.options.flatMap((option) => option.names);
      for (const option of options) expect(text).toMatch(new RegExp(`'\\*${option}=?\\[`));
      const script = 'source $argv[1]; complete -C $argv[2]';
      const offered = await run([
        'fish',
        '--no-config',
        '-c',
        script,
        join(directory, 'completions', files.fish),
        `${fullName(program, subcommand)} -`,
      ]);
      expect(offered.stderr).toBe('');
      const words = offered.stdout.split('\n').map((line) => line.split('\t')[0]!);
      expect(words).toEqual(expect.arrayContaining(options));
    }
  });
});
