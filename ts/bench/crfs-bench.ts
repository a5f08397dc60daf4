#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
// crfs-bench: how fast files are worked with, in any directories side by side, and what coherency costs, on any two
// directories that are one file system; so that CRFS and others can be compared.
//
//   crfs-bench files --dir NAME=PATH... [--base NAME] [--json]
//   crfs-bench visibility --a DIR --b DIR [--rounds N] [--warm-up N] [--seconds S] [--json]
//
// The loops that are timed are programs of their own (loops.ts).

import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import { CrfsCommand, runProgram } from '../cli/command_line.ts';
import { Exit } from '../cli/exit.ts';
import { parseCount } from '../cli/size.ts';
import { DIRECTORY, NUMBER } from '../cli/values.ts';
import { FilesCommand } from './files_command.ts';
import { measureVisibility, visibilityTable } from './visibility.ts';

const COUNT_MAX = 1_000_000;

class VisibilityCommand extends CrfsCommand {
  static override paths = [['visibility']];
  static override usage = Command.Usage({
    description: 'how soon a change on one side is seen on the other, and how often things change hands',
    details: `
      Writes and closes a file on A and looks at it on B in each way (open and read, stat, readdir, mmap), the size
      changing each time; then has both sides write one file, and rename one name, as fast as they can.
    `,
    examples: [
      ['Two mounts of one server', 'crfs-bench visibility --a /mnt/a --b /mnt/b'],
      [
        'A quick look, for programs',
        'crfs-bench visibility --a /mnt/a --b /mnt/b --rounds 100 --seconds 2 --json',
      ],
    ],
  });
  static override values = {
    '--a': DIRECTORY,
    '--b': DIRECTORY,
    '--rounds': NUMBER,
    '--warm-up': NUMBER,
    '--seconds': NUMBER,
  };

  a: string = Option.String('--a', { required: true, description: 'the directory that is changed' });
  b: string = Option.String('--b', { required: true, description: 'the same directory, as another sees it' });
  rounds: string = Option.String('--rounds', '1000', { description: 'changes for each way of looking' });
  warmUp: string = Option.String('--warm-up', '1000', {
    description:
      'changes before those that are timed, for each way of looking: programs that serve get faster',
  });
  seconds: string = Option.String('--seconds', '10', { description: 'for each kind of hand-over' });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object, times in microseconds' });

  async work(): Promise<number> {
    const figures = await measureVisibility({
      a: resolve(this.a),
      b: resolve(this.b),
      rounds: parseCount(this.rounds, '--rounds', COUNT_MAX),
      warmUp: parseCount(this.warmUp, '--warm-up', COUNT_MAX),
      seconds: parseCount(this.seconds, '--seconds', COUNT_MAX),
    });
    this.context.stdout.write(this.json ? `${JSON.stringify(figures)}\n` : visibilityTable(figures));
    return Exit.ok;
  }
}

await runProgram('crfs-bench', [FilesCommand, VisibilityCommand]);
