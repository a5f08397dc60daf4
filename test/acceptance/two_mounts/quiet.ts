// SPDX-License-Identifier: GPL-2.0-or-later
// Who does not meet does not pay: mounts on separate trees, many readers of one tree, and an idle second mount cost no
// revokes and no messages. All by counters.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import type { Cleanup } from '../../harness/images.ts';
import { mountCrfs } from '../../harness/processes.ts';
import { SeveralMounts } from '../../harness/several_mounts.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';
import { CountedColumn, smallFilesCost, warmListingCost } from '../one_column/message_counts.ts';

const TIMEOUT_MS = 600_000;

/** Work in one tree: files, listings, reads, renames, removals. */
async function work(directory: string, count: number): Promise<void> {
  const numbers = ['--count', String(count), '--size', '1024', '--per-directory', '50'];
  await run([testProgram('small-files'), directory, ...numbers], { timeoutMs: TIMEOUT_MS });
  const script =
    'ls -lR "$1" > /dev/null && cat "$1"/*/* > /dev/null && mv "$1/000000" "$1/moved" && rm -r "$1/moved"';
  await run(['sh', '-c', script, 'sh', directory], { timeoutMs: TIMEOUT_MS });
}

export interface SeparateTrees {
  /** Revokes while each mount made its own directory and worked in it for the first time. */
  readonly first: number;
  /** Revokes while all worked on at once. */
  readonly later: number;
}

/** Each mount works in a tree of its own, all at once. */
export async function separateTrees(several: SeveralMounts, files: number): Promise<SeparateTrees> {
  const trees = several.paths.map((path, index) => join(path, `own_${index}`));
  const revokes = async (): Promise<number> => (await several.stats()).grants.revokes;
  const before = await revokes();
  for (const tree of trees) await run(['mkdir', tree], { timeoutMs: TIMEOUT_MS });
  await Promise.all(
    trees.map(async (tree) => {
      await run(['mkdir', join(tree, 'warm')], { timeoutMs: TIMEOUT_MS });
      await work(join(tree, 'warm'), 50);
    }),
  );
  const warm = await revokes();
  await Promise.all(
    trees.map(async (tree) => {
      await run(['mkdir', join(tree, 'work')], { timeoutMs: TIMEOUT_MS });
      await work(join(tree, 'work'), files);
    }),
  );
  return { first: warm - before, later: (await revokes()) - warm };
}

export interface SharedTree {
  /** Revokes while all walked the tree again. */
  readonly revokes: number;
  /** Messages of all mounts meanwhile, keep-alive apart. */
  readonly messages: number;
}

/** All mounts read one tree, again and again. */
export async function sharedTree(several: SeveralMounts, files: number): Promise<SharedTree> {
  const paths = several.paths;
  const tree = join(paths[0]!, 'shared');
  await run(['mkdir', tree], { timeoutMs: TIMEOUT_MS });
  const numbers = ['--count', String(files), '--size', '1024', '--per-directory', '50'];
  await run([testProgram('small-files'), tree, ...numbers], { timeoutMs: TIMEOUT_MS });
  const walk = async (): Promise<void> => {
    await Promise.all(
      paths.map((path) =>
        run([testProgram('walk-tree'), join(path, 'shared'), '--read'], { timeoutMs: TIMEOUT_MS }),
      ),
    );
  };
  const messages = async (): Promise<number> => {
    let sum = 0;
    for (const mount of several.mounts) {
      const { sent, received } = (await mount.stats()).messages;
      for (const counts of [sent, received]) {
        for (const [name, count] of Object.entries(counts)) if (name !== 'ping') sum += count;
      }
    }
    return sum;
  };
  await walk();
  await walk();
  const before = { revokes: (await several.stats()).grants.revokes, messages: await messages() };
  await walk();
  await sleep(1_500); // A walk must not leave anything to be written either (times of access).
  await walk();
  return {
    revokes: (await several.stats()).grants.revokes - before.revokes,
    messages: (await messages()) - before.messages,
  };
}

export interface IdleSecond {
  readonly messages: number;
  readonly bytes: number;
  readonly bytesAllowed: number;
  readonly atOnce: number;
  readonly later: number;
}

/** The message counts of one column, with a second mount that has looked at everything and is idle. */
export async function idleSecond(
  directory: string,
  cleanup: Cleanup,
  count: number,
  waitMs: number,
): Promise<IdleSecond> {
  const counted = await CountedColumn.start(directory, cleanup, ['cache=1G']);
  const second = await mountCrfs(`unix:${counted.column.socket}:/`, join(directory, 'second'), cleanup);
  await run(['sh', '-c', 'ls -lR "$1" > /dev/null', 'sh', second.directory], { timeoutMs: TIMEOUT_MS });
  const { cost, bytesAllowed } = await smallFilesCost(counted, count);
  const [atOnce, later] = await warmListingCost(counted, waitMs);
  await second.unmount();
  await counted.column.stop();
  await counted.column.check();
  return {
    messages: cost.messages,
    bytes: cost.bytes,
    bytesAllowed,
    atOnce: atOnce.messages,
    later: later.messages,
  };
}

async function line(context: AcceptanceContext): Promise<void> {
  const { cleanup, directory, measure, quick } = context;
  const faults: string[] = [];
  const check = (kept: boolean, what: string): void => {
    if (!kept) faults.push(what);
  };
  const count = 16;
  const start = (name: string): Promise<SeveralMounts> =>
    SeveralMounts.start(join(directory, name), cleanup, { count });

  const separate = await start('separate');
  const apart = await separateTrees(separate, quick ? 200 : 2_000);
  measure(`${count} mounts on separate trees: ${apart.first} revokes at first, ${apart.later} while working`);
  check(apart.later === 0, `${apart.later} revokes between mounts on separate trees`);
  await separate.stop();
  await separate.check();

  const together = await start('together');
  const shared = await sharedTree(together, quick ? 500 : 5_000);
  measure(`${count} mounts reading one tree, warm: ${shared.revokes} revokes, ${shared.messages} messages`);
  check(shared.revokes === 0, `${shared.revokes} revokes between readers`);
  check(shared.messages === 0, `${shared.messages} messages of warm readers`);
  await together.stop();
  await together.check();

  const idle = await idleSecond(join(directory, 'idle'), cleanup, 10_000, quick ? 3_000 : 60_000);
  measure(`10,000 small files beside an idle mount: ${idle.messages} messages, ${idle.bytes} bytes`);
  measure(`warm ls -lR beside an idle mount: ${idle.atOnce} messages at once, ${idle.later} later`);
  check(idle.messages < 100, `${idle.messages} messages for 10,000 small files`);
  check(idle.bytes <= idle.bytesAllowed, `${idle.bytes} bytes, allowed ${idle.bytesAllowed}`);
  check(
    idle.atOnce === 0 && idle.later === 0,
    `a warm ls -lR sent ${idle.atOnce} and ${idle.later} messages`,
  );
  require(faults.length === 0, faults.join('\n'));
}

export const QUIET: AcceptanceLine = {
  name: 'quiet',
  title: 'separate trees, shared readers and an idle second mount cost no revokes and no messages',
  run: line,
};
