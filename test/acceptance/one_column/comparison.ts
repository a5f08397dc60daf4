// SPDX-License-Identifier: GPL-2.0-or-later
// Untar, cold read-back and rm of the kernel tree on CRFS, sshfs to localhost and local BTRFS on a loop image, side by
// side in one run, each phase ended by an fsync of the tree's root. Cold: client mounted afresh, server restarted,
// page caches dropped.
//
// The first 20,000 entries of the tree go in several times, the contenders taking turns, so that a machine that is
// busy for a while does not decide; what counts is the median. The whole tree follows once, without sshfs. With the
// times: messages of CRFS, CPU seconds of both sides, and a profile of one more untar.

import { spawn } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { type CommandResult, run } from '../../../ts/dev/command.ts';
import { ensureCommands, PROFILE_COMMANDS, SSHFS_COMMANDS } from '../../../ts/dev/prerequisites.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import { type Cleanup, dropCaches, type LoopMount, loopMount, makeLinuxImage } from '../../harness/images.ts';
import { usageOf } from '../../harness/processes.ts';
import { SshServer } from '../../harness/sshd.ts';
import { linuxPart, linuxTar, unpackArguments } from '../../harness/trees.ts';
import { type AcceptanceContext, type AcceptanceLine, require, seconds } from '../acceptance.ts';

const TIMEOUT_MS = 3_600_000;
const IMAGE_SIZE = '8G';
const ENTRIES = 20_000;
const ROUNDS = 5;

/** What both sides of a contender have used since its start; local BTRFS works in the kernel and cannot tell. */
interface Usage {
  readonly clientCpu: number;
  readonly serverCpu: number;
  readonly messages?: number;
}

/** One file system in the race. */
interface Contender {
  readonly name: string;
  readonly root: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  usage(): Promise<Usage | undefined>;
  unpack(tar: string, directory: string): Promise<void>;
}

async function unpackStrictly(tar: string, directory: string): Promise<void> {
  await run(unpackArguments(tar, directory), { timeoutMs: TIMEOUT_MS });
}

class Crfs implements Contender {
  readonly name = 'crfs';
  readonly column: Column;
  readonly root: string;
  readonly unpack = unpackStrictly;

  constructor(column: Column) {
    this.column = column;
    this.root = column.mountPoint;
  }

  async start(): Promise<void> {
    await this.column.startServer();
    await this.column.startMount();
  }

  stop(): Promise<void> {
    return this.column.stop();
  }

  async usage(): Promise<Usage> {
    const { messages } = await this.column.mount.stats();
    const sum = (counts: Readonly<Record<string, number>>): number =>
      Object.values(counts).reduce((total, count) => total + count, 0);
    return {
      messages: sum(messages.sent) + sum(messages.received),
      clientCpu: (await usageOf(this.column.mount.pid)).cpuSeconds,
      serverCpu: (await usageOf(this.column.server.pid)).cpuSeconds,
    };
  }
}

class LocalBtrfs implements Contender {
  readonly name = 'local btrfs';
  readonly root: string;
  readonly unpack = unpackStrictly;
  readonly #image: string;
  readonly #cleanup: Cleanup;
  #mounted: LoopMount | undefined;

  private constructor(directory: string, cleanup: Cleanup) {
    this.#image = join(directory, 'btrfs.img');
    this.root = join(directory, 'btrfs');
    this.#cleanup = cleanup;
  }

  static async make(directory: string, cleanup: Cleanup): Promise<LocalBtrfs> {
    const made = new LocalBtrfs(directory, cleanup);
    await makeLinuxImage(made.#image, IMAGE_SIZE);
    return made;
  }

  async start(): Promise<void> {
    this.#mounted = await loopMount(this.#image, this.root, this.#cleanup);
  }

  async stop(): Promise<void> {
    await this.#mounted?.unmount();
  }

  async usage(): Promise<undefined> {}
}

/** What tar says of an entry whose times or owner it could not set, or at its end because of that. */
const REFUSED_ATTRIBUTE = /^tar: (.*): Cannot (?:utime|change ownership to uid \d+, gid \d+): /;
const TAR_END = 'tar: Exiting with failure status due to previous errors';

/**
 * Accepts an end of tar with faults only if every one is about times or owner of a symbolic link: sshfs sets those of
 * the link's target instead, and fails where there is none.
 *
 * @throws Error - with the first other fault.
 */
async function requireOnlyRefusedLinks(result: CommandResult, directory: string): Promise<void> {
  if (result.code === 0) return;
  const { stdout } = await run(['find', directory, '-type', 'l', '-printf', './%P\n']);
  const links = new Set(stdout.split('\n'));
  for (const line of result.stderr.trim().split('\n')) {
    const name = REFUSED_ATTRIBUTE.exec(line)?.[1];
    const refusedLink = name !== undefined && links.has(name);
    require(refusedLink || line === TAR_END, `tar ended with ${result.code}: ${line}`);
  }
}

/** sshfs over a directory of a local BTRFS of its own. */
class Sshfs implements Contender {
  readonly name = 'sshfs';
  readonly root: string;
  readonly #backing: LocalBtrfs;
  readonly #server: SshServer;

  constructor(directory: string, backing: LocalBtrfs, server: SshServer, cleanup: Cleanup) {
    this.root = join(directory, 'sshfs');
    this.#backing = backing;
    this.#server = server;
    cleanup.add(() => run(['umount', '-l', this.root], { allow: [0, 1, 32] }));
  }

  async start(): Promise<void> {
    await this.#backing.start();
    await this.#server.start();
    await this.#server.mount(this.#backing.root, this.root);
  }

  async stop(): Promise<void> {
    await run(['umount', this.root]);
    await this.#server.stop();
    await this.#backing.stop();
  }

  async usage(): Promise<Usage> {
    const { client, server } = await this.#server.cpuSeconds();
    return { clientCpu: client, serverCpu: server };
  }

  async unpack(tar: string, directory: string): Promise<void> {
    const result = await run(unpackArguments(tar, directory), { timeoutMs: TIMEOUT_MS, allow: [0, 2] });
    await requireOnlyRefusedLinks(result, directory);
  }
}

const PHASES = ['untar', 'cold read', 'rm'] as const;
type Phase = (typeof PHASES)[number];

interface Lap {
  readonly seconds: number;
  readonly usage: Usage | undefined;
}

interface Race {
  readonly laps: Readonly<Record<Phase, Lap>>;
  /** What the cold read found. */
  readonly entries: number;
  readonly bytes: number;
}

async function lap(contender: Contender, body: () => Promise<unknown>): Promise<Lap> {
  const before = await contender.usage();
  const took = await seconds(body);
  const after = await contender.usage();
  if (before === undefined || after === undefined) return { seconds: took, usage: undefined };
  const usage = {
    clientCpu: after.clientCpu - before.clientCpu,
    serverCpu: after.serverCpu - before.serverCpu,
    ...(after.messages !== undefined && { messages: after.messages - (before.messages ?? 0) }),
  };
  return { seconds: took, usage };
}

async function race(contender: Contender, tar: string): Promise<Race> {
  const tree = join(contender.root, 'tree');
  const sync = (path: string): Promise<unknown> => run(['sync', path], { timeoutMs: TIMEOUT_MS });
  const startCold = async (): Promise<void> => {
    await dropCaches();
    await contender.start();
  };
  await startCold();
  const untar = await lap(contender, async () => {
    await run(['mkdir', tree]);
    await contender.unpack(tar, tree);
    await sync(tree);
  });
  await contender.stop();
  await startCold();
  let said = '';
  const read = await lap(contender, async () => {
    said = (await run([testProgram('walk-tree'), tree, '--read'], { timeoutMs: TIMEOUT_MS })).stdout;
    await sync(tree);
  });
  const rm = await lap(contender, async () => {
    await run(['rm', '-rf', tree], { timeoutMs: TIMEOUT_MS });
    await sync(contender.root);
  });
  await contender.stop();
  const [entries, bytes] = [/(\d+) entries/, /(\d+) bytes/].map((what) => Number(what.exec(said)?.[1]));
  const laps = { untar, 'cold read': read, rm };
  const times = PHASES.map((phase) => `${phase} ${laps[phase].seconds.toFixed(2)} s`);
  process.stderr.write(`  ${contender.name}: ${times.join(', ')}; load ${loadavg()[0]!.toFixed(2)}\n`);
  return { laps, entries: entries!, bytes: bytes! };
}

function describe(lap: Lap): string {
  const { usage } = lap;
  if (usage === undefined) return '';
  const messages = usage.messages === undefined ? '' : `${usage.messages} messages, `;
  return `; ${messages}CPU client ${usage.clientCpu.toFixed(1)} s, server ${usage.serverCpu.toFixed(1)} s`;
}

/** The lap with the median time: its costs go with it. */
function medianLap(races: readonly Race[], phase: Phase): Lap {
  const sorted = races.map((one) => one.laps[phase]).sort((left, right) => left.seconds - right.seconds);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/**
 * Lets the contenders take turns, `rounds` times, and notes the median of each phase.
 *
 * @returns the median seconds of each contender's untar, in their order.
 */
async function compete(
  contenders: readonly Contender[],
  tar: string,
  rounds: number,
  measure: (line: string) => void,
): Promise<number[]> {
  const races = contenders.map((): Race[] => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, contender] of contenders.entries()) races[at]!.push(await race(contender, tar));
  }
  const { entries, bytes } = races[0]![0]!;
  const same = races.flat().every((one) => one.entries === entries && one.bytes === bytes);
  require(same, `the contenders read different trees: ${JSON.stringify(races)}`);
  measure(
    `${entries} entries, ${bytes} bytes, ${rounds} rounds; load average now ${loadavg()[0]!.toFixed(2)}`,
  );
  for (const phase of PHASES) {
    const own = medianLap(races[0]!, phase).seconds;
    for (const [at, contender] of contenders.entries()) {
      const median = medianLap(races[at]!, phase);
      const all = races[at]!.map((one) => one.laps[phase].seconds.toFixed(2)).join(', ');
      const ratio = at === 0 ? '' : `, ${(median.seconds / own).toFixed(2)} times crfs's`;
      measure(
        `${phase}, ${contender.name}: ${median.seconds.toFixed(2)} s (${all})${ratio}${describe(median)}`,
      );
    }
  }
  return races.map((one) => medianLap(one, 'untar').seconds);
}

/** The heaviest of one kind (`dso`: program, library or kernel) in one process, in hundredths of that process. */
async function perfReport(data: string, pid: number, sort: 'dso' | 'symbol'): Promise<string[]> {
  const shape = ['--stdio', '--sort', sort, '-g', 'none', '--percentage', 'relative'];
  const { stdout } = await run(['perf', 'report', '-i', data, '--pid', String(pid), ...shape]);
  const lines = stdout.split('\n').filter((line) => /^\s+\d+\.\d+%/.test(line));
  return lines.map((line) => line.trim().slice(0, 100));
}

/** What V8 leaves behind when it writes down for perf where its code lies: in `/tmp`, and where a process was started. */
async function perfLeftovers(): Promise<string[]> {
  const found: string[] = [];
  for (const directory of ['.', '/', '/tmp']) {
    const names = await readdir(directory);
    const left = names.filter((name) => /^(?:isolate-0x[0-9a-f]+-\d+-v8\.log|perf-\d+\.map)$/.test(name));
    found.push(...left.map((name) => join(directory, name)));
  }
  return found;
}

/** Where the time of an untar goes in both processes: the heaviest symbols by perf. */
async function profile(column: Column, tar: string, measure: (line: string) => void): Promise<void> {
  const others = await perfLeftovers();
  const environment = process.env['NODE_OPTIONS'];
  process.env['NODE_OPTIONS'] = '--perf-basic-prof';
  await column.startServer();
  await column.startMount();
  if (environment === undefined) delete process.env['NODE_OPTIONS'];
  else process.env['NODE_OPTIONS'] = environment;
  const data = join(column.directory, 'perf.data');
  const pids = `${column.mount.pid},${column.server.pid}`;
  const perf = spawn('perf', ['record', '-q', '-F', '499', '-o', data, '-p', pids], { stdio: 'ignore' });
  const ended = new Promise((done) => perf.once('exit', done));
  const tree = join(column.mountPoint, 'profiled');
  await run(['mkdir', tree]);
  await run(unpackArguments(tar, tree), { timeoutMs: TIMEOUT_MS });
  await run(['sync', tree]);
  perf.kill('SIGINT');
  await ended;
  for (const [what, pid] of [
    ['mount.crfs', column.mount.pid],
    ['crfsd', column.server.pid],
  ] as const) {
    for (const [sort, count] of [
      ['dso', 5],
      ['symbol', 15],
    ] as const) {
      const heaviest = await perfReport(data, pid, sort);
      for (const line of heaviest.slice(0, count)) measure(`profile ${what}, ${sort}: ${line}`);
    }
  }
  await column.stop();
  const ours = (await perfLeftovers()).filter((path) => !others.includes(path));
  await Promise.all(ours.map((path) => rm(path, { force: true })));
}

async function comparison(context: AcceptanceContext): Promise<void> {
  await ensureCommands([...SSHFS_COMMANDS, ...PROFILE_COMMANDS]);
  const { directory, cleanup, measure, shared, quick } = context;
  const part = await linuxPart(shared, quick ? 1_000 : ENTRIES);
  const folder = async (name: string): Promise<string> => {
    const path = join(directory, name);
    await mkdir(path);
    return path;
  };
  const column = await Column.make(await folder('crfs'), cleanup, { size: IMAGE_SIZE });
  const local = await LocalBtrfs.make(await folder('local'), cleanup);
  const backing = await LocalBtrfs.make(await folder('backing'), cleanup);
  const sshd = await SshServer.create(join(directory, 'sshd'), cleanup);
  const crfs = new Crfs(column);
  const sshfs = new Sshfs(directory, backing, sshd, cleanup);
  const untars = await compete([crfs, sshfs, local], part, quick ? 1 : ROUNDS, measure);
  await column.check();
  const factor = untars[1]! / untars[0]!;
  measure(
    `untar: ${factor.toFixed(1)} times as fast as sshfs, ${(untars[0]! / untars[2]!).toFixed(1)} times the time of local btrfs`,
  );
  await profile(column, part, measure);
  // A slice of two seconds is mostly the start of the compilers; it shows that the comparison works.
  if (quick) return;
  await compete([crfs, local], await linuxTar(shared), 1, measure);
  await column.check();
  require(factor >= 10, `untar is only ${factor.toFixed(1)} times as fast as sshfs`);
}

export const COMPARISON: AcceptanceLine = {
  name: 'comparison',
  title: 'untar, cold read and rm beside sshfs and local btrfs; untar at least 10 times as fast as sshfs',
  run: comparison,
};
