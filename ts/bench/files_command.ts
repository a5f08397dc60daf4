// SPDX-License-Identifier: GPL-2.0-or-later
// `crfs-bench files`: reads the options, shows how far it is, prints what was measured.

import { Command, Option, type Usage } from 'clipanion';
import { CrfsCommand } from '../cli/command_line.ts';
import { Exit } from '../cli/exit.ts';
import { NAMED_DIRECTORY, NUMBER, SIZE, type Values } from '../cli/values.ts';
import { benchFiles } from './files.ts';
import { parseFilesOptions } from './files_settings.ts';
import { filesTable } from './files_table.ts';
import { Interrupt } from './interrupt.ts';
import { loopsProgram } from './loops.ts';
import { ProgressBar } from './progress.ts';
import { TestDirectories } from './test_directories.ts';

export class FilesCommand extends CrfsCommand {
  static override paths: string[][] = [['files']];
  static override usage: Usage = Command.Usage({
    description:
      'how fast files are made, looked at, read, written, renamed and removed, in directories side by side',
    details: `
      In each directory: makes small files, stats them, opens and reads them, lists them (and with a stat of each, as
      \`ls -l\` does), renames and removes them; then writes and reads one large file, the last time after the kernel was
      asked to drop its pages of it (what a file system keeps of its own stays). What only reads is done on warm caches but
      for that. Between two measurements everything is written back.

      All this is repeated, the directories taking turns in each phase and beginning in another order each time. The table
      shows rates, so more is better: the median of the repetitions, the least and the greatest; with --base also the
      medians divided by those of the base (above 1 is faster), with the least and the greatest of the ratios of each
      repetition. One directory under two names shows how much is noise.

      With --json: the settings, and for each row the rates in its unit and all samples, times in microseconds.

      The test directories are new ones inside those that are named, and are removed in the end, also after SIGINT.
    `,
    examples: [
      [
        'A mount beside a local directory',
        'crfs-bench files --dir crfs=/mnt --dir local=/var/tmp --base local',
      ],
      [
        'Many small files, a large stream from cold caches',
        'crfs-bench files --dir crfs=/mnt --files 100000 --directories 100 --size 4G --drop-caches',
      ],
    ],
  });

  static override values: Values = {
    '--dir': NAMED_DIRECTORY,
    '--base': { name: 'NAME', offers: 'nothing' },
    '--files': NUMBER,
    '--directories': NUMBER,
    '--bytes': SIZE,
    '--size': SIZE,
    '--block': SIZE,
    '--repetitions': NUMBER,
    '--warm-up': NUMBER,
  };

  dir: string[] = Option.Array('--dir', [], {
    description: 'a directory to measure in, and its name in the table; any number',
  });
  base: string | undefined = Option.String('--base', {
    description: 'the directory that the others are compared with',
  });
  files: string = Option.String('--files', '1000', { description: 'small files (1000)' });
  directories: string = Option.String('--directories', '10', {
    description: 'that the small files are spread over (10)',
  });
  bytes: string = Option.String('--bytes', '4K', { description: 'size of a small file (4K)' });
  size: string = Option.String('--size', '64M', { description: 'size of the streamed file (64M)' });
  block: string = Option.String('--block', '1M', { description: 'of the stream, for each call (1M)' });
  repetitions: string = Option.String('--repetitions', '5', { description: 'that are measured (5)' });
  warmUp: string = Option.String('--warm-up', '1', {
    description: 'repetitions before those: programs that serve get faster (1)',
  });
  dropCaches: boolean = Option.Boolean('--drop-caches', false, {
    description:
      'before a cold read, drop all that the kernel keeps (root; slows down everything on the machine)',
  });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object, times in microseconds' });

  async work(): Promise<number> {
    const settings = parseFilesOptions(this, process.getuid?.() === 0);
    const program = await loopsProgram('bench-loops');
    const tests = new TestDirectories(program);
    const bar = new ProgressBar(process.stderr);
    const interrupt = new Interrupt(() =>
      tests.left.map((path) => `\ncrfs-bench: ${path} is left behind\n`).join(''),
    );
    try {
      const figures = await benchFiles(program, settings, tests, {
        interrupt: interrupt.signal,
        onStep: (done, total, label) => bar.show(done, total, label),
      });
      bar.end();
      this.context.stdout.write(this.json ? `${JSON.stringify(figures)}\n` : filesTable(figures));
    } finally {
      bar.end();
      interrupt.end();
    }
    return Exit.ok;
  }
}
