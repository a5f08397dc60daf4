// SPDX-License-Identifier: GPL-2.0-or-later
// Makes the completions of all commands for bash, zsh and fish, from what the commands say of themselves.
//
// They are files rather than questions to the commands: a shell that waits for Node at each tab is no help.

import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { bashCompletion } from './completions_bash.ts';
import { fishCompletion } from './completions_fish.ts';
import { zshCompletion } from './completions_zsh.ts';
import { describe, PROGRAMS } from './programs.ts';

/** Where they are made, from the top of the tree. */
export const COMPLETION_DIRECTORY = 'dist/completions';

/** The files of one command below that directory, as each shell looks for them. */
export function completionFiles(program: string): { bash: string; fish: string; zsh: string } {
  return { bash: `bash/${program}`, fish: `fish/${program}.fish`, zsh: `zsh/_${program}` };
}

/** Makes them below `directory`. */
export async function makeCompletions(directory: string = COMPLETION_DIRECTORY): Promise<void> {
  for (const program of PROGRAMS) {
    const description = await describe(program);
    const files = completionFiles(program.name);
    const texts: readonly (readonly [string, string])[] = [
      [files.bash, bashCompletion(description)],
      [files.fish, fishCompletion(description)],
      [files.zsh, zshCompletion(description)],
    ];
    for (const [file, text] of texts) {
      const path = join(directory, file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
    }
  }
}
