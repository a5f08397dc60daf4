// SPDX-License-Identifier: GPL-2.0-or-later
// README.md's first command in a copy of the working tree as a fresh clone has it: it must end with a mounted CRFS and
// say how to look at it and how to stop it. (Its second command is what CI runs.)

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { type AcceptanceContext, type AcceptanceLine, require, seconds } from '../acceptance.ts';

/** Copies what git knows or would take, so that neither build products nor node_modules come along. */
const COPY =
  'git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1" 2>/dev/null; :';

async function readmeCommands(context: AcceptanceContext): Promise<void> {
  const clone = join(context.directory, 'clone');
  await mkdir(clone);
  await run(['sh', '-c', COPY, 'sh', clone]);
  await run(['git', 'init', '-q'], { cwd: clone });
  const readme = await readFile('README.md', 'utf8');
  const first = /^npm ci && npm run demo$/m.exec(readme)?.[0];
  const second = /^npm ci && npm test$/m.exec(readme)?.[0];
  require(first !== undefined && second !== undefined, 'README.md does not name the two commands');
  let said = '';
  const took = await seconds(async () => {
    const { stdout } = await run(['sh', '-c', first!], { cwd: clone, timeoutMs: 1_200_000 });
    said = stdout;
  });
  const mountPoint = /^ {2}ls -l (\S+)\/tree$/m.exec(said)?.[1];
  const stop = /^ {2}(node dist\/dev\/demo\.js --stop)$/m.exec(said)?.[1];
  require(mountPoint !== undefined && stop !== undefined, `it does not say how to look and stop:\n${said}`);
  context.cleanup.add(() => run(['sh', '-c', stop!], { cwd: clone, allow: [0, 1], timeoutMs: 120_000 }));
  const listed = await run(['ls', '-l', mountPoint!], { timeoutMs: 60_000 });
  require(listed.stdout.split('\n').length > 2, 'the mount is empty');
  const mounted = await run(['findmnt', '-n', '-o', 'FSTYPE', mountPoint!]);
  require(mounted.stdout.trim() === 'fuse.crfs', `mounted is ${mounted.stdout}`);
  await run(['sh', '-c', stop!], { cwd: clone, timeoutMs: 120_000 });
  const after = await run(['findmnt', '-n', mountPoint!], { allow: [1] });
  require(after.stdout === '', 'still mounted after the stop command');
  context.measure(`${first}: ${took.toFixed(0)} s with the build, then stopped by its own command`);
}

export const README_COMMANDS: AcceptanceLine = {
  name: 'readme_commands',
  title: "README's command in a fresh clone ends with a mounted CRFS that holds a compared tree",
  run: readmeCommands,
};
