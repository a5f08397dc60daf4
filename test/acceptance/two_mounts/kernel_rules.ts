// SPDX-License-Identifier: GPL-2.0-or-later
// Each rule about what the kernel keeps (docs/architecture.md) is needed and holds: crates/crfs-testkit's kernel-rules
// brings about the race or deadlock that the rule is there for, on two mounts. With the rules everything comes out
// right; with one rule taken out (CRFS_TEST_FAULTS, ts/util/test_faults.ts) the same scenario must come out wrong or hang.

import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Cleanup } from '../../harness/images.ts';
import { SeveralMounts } from '../../harness/several_mounts.ts';
import { SlowLink } from '../../harness/slow_link.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

export interface Scenario {
  /** As kernel-rules knows it. */
  readonly name: string;
  /** Length of the first mount's link, one way, milliseconds. */
  readonly delayMs: number;
  /** Times that the race is run, plain and with a fault. */
  readonly rounds: number;
  /** Rules without each of which it must not come out right. Several together where one stands in for another. */
  readonly faults: readonly string[];
  /** It needs a third mount, which it stops. */
  readonly hasThird?: boolean;
  /** It ends with the server. */
  readonly endsServer?: boolean;
}

export const SCENARIOS: readonly Scenario[] = [
  { name: 'changes-seen', delayMs: 0, rounds: 3, faults: ['keep-kernel-caches'] },
  {
    name: 'handed-over',
    delayMs: 0,
    rounds: 5,
    faults: ['release-before-flush', 'grant-not-split', 'data-after-metadata'],
  },
  { name: 'absent-names', delayMs: 0, rounds: 3, faults: ['forget-absent-names'] },
  { name: 'listings', delayMs: 0, rounds: 3, faults: ['keep-listings'] },
  { name: 'evicted-names', delayMs: 0, rounds: 2, faults: ['evicted-names-stay'] },
  {
    name: 'create-waits',
    delayMs: 50,
    rounds: 8,
    faults: ['no-stale-answers', 'no-stale-answers,wait-for-names', 'answering-thread-notifies'],
  },
  { name: 'chmod-waits', delayMs: 30, rounds: 5, faults: ['wait-for-names', 'one-notifier'] },
  { name: 'fresh-inodes', delayMs: 20, rounds: 30, faults: ['inodes-first'] },
  { name: 'fresh-names', delayMs: 10, rounds: 20, faults: ['expire-young-names'] },
  { name: 'removed-other', delayMs: 5, rounds: 10, faults: ['removed-directories-stay'] },
  { name: 'torn-renames', delayMs: 2, rounds: 10, faults: ['torn-renames-pass'] },
  { name: 'other-pages', delayMs: 0, rounds: 2, faults: ['whole-files'] },
  { name: 'read-waits', delayMs: 30, rounds: 3, faults: ['locked-pages-too'] },
  { name: 'write-waits', delayMs: 50, rounds: 8, faults: ['leave-out-all-writes'] },
  { name: 'direct-read-waits', delayMs: 30, rounds: 5, faults: ['direct-requests-lock'] },
  { name: 'late-pages', delayMs: 0, rounds: 3, faults: ['late-pages'] },
  { name: 'late-attributes', delayMs: 0, rounds: 3, faults: ['always-lasting'] },
  { name: 'leaving-read', delayMs: 5, rounds: 3, faults: ['leaving-reads-wait'] },
  { name: 'stores-seen', delayMs: 0, rounds: 5, faults: ['dirty-under-read'] },
  { name: 'stores-after-stat', delayMs: 0, rounds: 2, faults: ['derived-alone'] },
  { name: 'full-background', delayMs: 0, rounds: 1, faults: ['few-background-requests'], hasThird: true },
  { name: 'signals', delayMs: 50, rounds: 3, faults: ['any-signal-ends'] },
  { name: 'session-ends', delayMs: 0, rounds: 1, faults: ['keep-after-end'], endsServer: true },
];

/** A call that takes longer hangs, as the program says itself: with the rules, on a machine that is busy. */
const HANGS_SECONDS = 15;
/** Without a rule, where something is to be seen anyway. */
const HANGS_SECONDS_WITHOUT = 5;
/** No scenario takes longer. */
const SCENARIO_MS = 60_000;

interface Outcome {
  readonly isRight: boolean;
  /** The program's own words, if it was not. */
  readonly said: string;
}

/** Two mounts of one server, the first over a slow link, and a third. */
export class Ground {
  readonly #cleanup: Cleanup;
  readonly #several: SeveralMounts;
  readonly #link: SlowLink;
  readonly #seed: number;

  private constructor(cleanup: Cleanup, several: SeveralMounts, link: SlowLink, seed: number) {
    this.#cleanup = cleanup;
    this.#several = several;
    this.#link = link;
    this.#seed = seed;
  }

  /** @param faults - planted in the mounts, or an empty text. */
  static async start(
    directory: string,
    outer: Cleanup,
    faults: string,
    seed: number,
    count = 2,
  ): Promise<Ground> {
    const cleanup = new Cleanup();
    outer.add(() => cleanup.run());
    await mkdir(directory, { recursive: true });
    const slow = join(directory, 'slow.sock');
    const several = await SeveralMounts.serve(directory, cleanup, {
      count,
      sockets: new Map([[0, slow]]),
      environment: { CRFS_TEST_FAULTS: faults },
    });
    const link = await SlowLink.start(slow, several.socket);
    cleanup.add(() => link.stop());
    // Last of all, after the mounts were taken away by force: a process that a fault keeps alive.
    cleanup.add(async () => {
      for (const mount of several.mounts) endProcess(mount.pid);
    });
    for (let index = 0; index < count; index += 1) await several.mount(index);
    return new Ground(cleanup, several, link, seed);
  }

  async run(scenario: Scenario, hangsSeconds: number): Promise<Outcome> {
    const { mounts, server } = this.#several;
    const argv = [testProgram('kernel-rules'), scenario.name, mounts[0]!.directory, mounts[1]!.directory];
    const option = (name: string, value: string | number): number => argv.push(`--${name}`, String(value));
    option('delay-ms', scenario.delayMs);
    option('rounds', scenario.rounds);
    option('seed', this.#seed);
    option('limit-seconds', hangsSeconds);
    const third = scenario.hasThird === true ? mounts[2]! : undefined;
    if (third !== undefined) {
      option('third', third.directory);
      option('third-pid', third.pid);
    }
    this.#link.delayMs = scenario.delayMs;
    const onReady = (): void => {
      if (scenario.endsServer === true) void server.kill();
    };
    const outcome = await runProgram(argv, this.#cleanup, onReady);
    if (third !== undefined) signalProcess(third.pid, 'SIGCONT');
    this.#link.delayMs = 0;
    return outcome;
  }

  /** Unmounts, and lets the image and the kernel's log be judged. */
  async end(): Promise<void> {
    await this.#several.stop();
    await this.#several.check();
    await this.#cleanup.run();
  }

  /** Takes everything away, whatever state it is in. */
  abandon(): Promise<void> {
    return this.#cleanup.run();
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

function endProcess(pid: number): void {
  signalProcess(pid, 'SIGCONT');
  signalProcess(pid, 'SIGKILL');
}

/** A program that hangs in a mount does not end: what it said counts. */
function runProgram(argv: readonly string[], cleanup: Cleanup, onReady: () => void): Promise<Outcome> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  cleanup.add(async () => void child.kill('SIGKILL'));
  let said = '';
  return new Promise((resolve) => {
    const end = (isRight: boolean): void => {
      clearTimeout(timer);
      resolve({ isRight, said: said.trim() });
    };
    const hear = (chunk: Buffer): void => {
      said += chunk.toString();
      if (/^ready$/m.test(chunk.toString())) onReady();
      if (/^HANGS .*$/m.test(said)) end(false);
    };
    const timer = setTimeout(() => {
      said += `no end after ${SCENARIO_MS} ms`;
      child.kill('SIGKILL');
      end(false);
    }, SCENARIO_MS);
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.once('error', (error) => {
      said += error.message;
      end(false);
    });
    child.once('close', (code) => end(code === 0));
  });
}

/** All scenarios with the rules as they are. @throws Error - with what came out wrong. */
export async function rulesHold(
  directory: string,
  cleanup: Cleanup,
  scenarios: readonly Scenario[],
  seed: number,
  measure: (line: string) => void,
): Promise<void> {
  const wrong: string[] = [];
  const run = async (ground: Ground, scenario: Scenario): Promise<void> => {
    const start = performance.now();
    const { isRight, said } = await ground.run(scenario, HANGS_SECONDS);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    measure(`${scenario.name}: ${isRight ? 'right' : said} (${seconds} s)`);
    if (!isRight) wrong.push(`${scenario.name}: ${said}`);
  };
  const ground = await Ground.start(join(directory, 'together'), cleanup, '', seed, 3);
  for (const scenario of scenarios) {
    if (scenario.endsServer !== true && wrong.length === 0) await run(ground, scenario);
  }
  if (wrong.length === 0) await ground.end();
  else await ground.abandon();
  for (const scenario of scenarios.filter((each) => each.endsServer === true)) {
    const own = await Ground.start(join(directory, scenario.name), cleanup, '', seed);
    await run(own, scenario);
    await own.abandon();
  }
  require(wrong.length === 0, wrong.join('\n'));
}

/** One scenario without a rule. @returns what came out wrong. @throws Error - when nothing did. */
export async function ruleIsNeeded(
  directory: string,
  cleanup: Cleanup,
  scenario: Scenario,
  faults: string,
  seed: number,
): Promise<string> {
  const count = scenario.hasThird === true ? 3 : 2;
  const ground = await Ground.start(directory, cleanup, faults, seed, count);
  const { isRight, said } = await ground.run(scenario, HANGS_SECONDS_WITHOUT);
  await ground.abandon();
  require(!isRight, `${scenario.name} without ${faults} comes out right`);
  // Only what a scenario judges counts, not that it could not be run.
  require(/^(WRONG|HANGS)/m.test(said), `${scenario.name} without ${faults}: ${said}`);
  return said;
}

async function line(context: AcceptanceContext): Promise<void> {
  const { cleanup, directory, seed, measure } = context;
  await rulesHold(directory, cleanup, SCENARIOS, seed, measure);
  const wrong: string[] = [];
  for (const scenario of SCENARIOS) {
    for (const [index, faults] of scenario.faults.entries()) {
      const place = join(directory, `${scenario.name}_${index}`);
      try {
        const said = await ruleIsNeeded(place, cleanup, scenario, faults, seed);
        measure(`${scenario.name}, planted ${faults}: ${said}`);
      } catch (error) {
        wrong.push((error as Error).message);
        measure((error as Error).message);
      }
    }
  }
  require(wrong.length === 0, wrong.join('\n'));
}

export const KERNEL_RULES: AcceptanceLine = {
  name: 'kernel_rules',
  title: 'every rule about what the kernel keeps holds on real mounts, and is needed',
  run: line,
};
