// SPDX-License-Identifier: GPL-2.0-or-later
// Untar, cold read-back and rm of the kernel tree on CRFS, sshfs to localhost and local BTRFS on a loop image, side by
// side in one run, each phase ended by an fsync of the tree's root. Cold: client mounted afresh, server restarted,
// page caches dropped.
//
// For CRFS also messages and CPU seconds of both processes, and a profile of a second untar.

import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { ensureCommands, PROFILE_COMMANDS, SSHFS_COMMANDS } from '../../../ts/dev/prerequisites.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { Column } from '../../harness/column.ts';
import { type Cleanup, dropCaches, type LoopMount, loopMount, makeLinuxImage } from '../../harness/images.ts';
import { usageOf } from '../../harness/processes.ts';
import { SshServer } from '../../harness/sshd.ts';
import { linuxTar, unpackArguments } from '../../harness/trees.ts';
import { type AcceptanceContext, type AcceptanceLine, require, seconds } from '../acceptance.ts';

const TIMEOUT_MS = 3_600_000;
const IMAGE_SIZE = '8G';

/** One file system in the race. */
interface Contender {
  readonly name: string;
  readonly root: string;
  start(): Promise<void>;
  /** Ends and starts everything, so that nothing is cached. */
  chill(): Promise<void>;
  stop(): Promise<void>;
  /** Exit codes of tar that count as success: sshfs cannot set the times of symbolic links, and tar says so with 2. */
  readonly tarCodes: readonly number[];
  /** What the phase has cost, for those who can tell. */
  cost?(): Promise<string>;
}

class Crfs implements Contender {
  readonly name = 'crfs';
  readonly tarCodes = [0];
  readonly column: Column;
  readonly root: string;
  #last = { messages: 0, mountCpu: 0, serverCpu: 0 };

  constructor(column: Column) {
    this.column = column;
    this.root = column.mountPoint;
  }

  async start(): Promise<void> {
    await this.column.startServer();
    await this.column.startMount();
  }

  async chill(): Promise<void> {
    await this.column.stop();
    await dropCaches();
    await this.start();
    this.#last = { messages: 0, mountCpu: 0, serverCpu: 0 };
  }

  stop(): Promise<void> {
    return this.column.stop();
  }

  async cost(): Promise<string> {
    const { messages } = await this.column.mount.stats();
    const sum = (counts: Readonly<Record<string, number>>): number =>
      Object.values(counts).reduce((total, count) => total + count, 0);
    const now = {
      messages: sum(messages.sent) + sum(messages.received),
      mountCpu: (await usageOf(this.column.mount.pid)).cpuSeconds,
      serverCpu: (await usageOf(this.column.server.pid)).cpuSeconds,
    };
    const last = this.#last;
    this.#last = now;
    const cpu = (from: number, to: number): string => (to - from).toFixed(1);
    return (
      `${now.messages - last.messages} messages, CPU mount.crfs ${cpu(last.mountCpu, now.mountCpu)} s, ` +
      `crfsd ${cpu(last.serverCpu, now.serverCpu)} s`
    );
  }
}

class LocalBtrfs implements Contender {
  readonly name: string = 'local btrfs';
  readonly tarCodes = [0];
  readonly root: string;
  readonly #image: string;
  readonly #cleanup: Cleanup;
  #mounted: LoopMount | undefined;

  constructor(directory: string, cleanup: Cleanup) {
    this.#image = join(directory, 'btrfs.img');
    this.root = join(directory, 'btrfs');
    this.#cleanup = cleanup;
  }

  async start(): Promise<void> {
    this.#mounted = await loopMount(this.#image, this.root, this.#cleanup);
  }

  async make(): Promise<void> {
    await makeLinuxImage(this.#image, IMAGE_SIZE);
  }

  async chill(): Promise<void> {
    await this.stop();
    await dropCaches();
    await this.start();
  }

  async stop(): Promise<void> {
    await this.#mounted?.unmount();
  }
}

/** sshfs over a directory of a local BTRFS of its own. */
class Sshfs implements Contender {
  readonly name = 'sshfs';
  readonly tarCodes = [0, 2];
  readonly root: string;
  readonly #backing: LocalBtrfs;
  readonly #server: SshServer;
  readonly #cleanup: Cleanup;

  constructor(directory: string, backing: LocalBtrfs, server: SshServer, cleanup: Cleanup) {
    this.root = join(directory, 'sshfs');
    this.#backing = backing;
    this.#server = server;
    this.#cleanup = cleanup;
  }

  async start(): Promise<void> {
    await this.#backing.start();
    await this.#server.start();
    await this.#server.mount(this.#backing.root, this.root);
    this.#cleanup.add(() => run(['umount', '-l', this.root], { allow: [0, 32] }));
  }

  async chill(): Promise<void> {
    await this.stop();
    await dropCaches();
    await this.start();
  }

  async stop(): Promise<void> {
    await run(['umount', this.root]);
    await this.#server.stop();
    await this.#backing.stop();
  }
}

type Times = Record<'untar' | 'cold read' | 'rm', number>;

async function race(contender: Contender, tar: string, measure: (line: string) => void): Promise<Times> {
  const tree = join(contender.root, 'tree');
  const phase = async (name: keyof Times, body: () => Promise<unknown>): Promise<number> => {
    const took = await seconds(body);
    const cost = contender.cost === undefined ? '' : `; ${await contender.cost()}`;
    measure(`${contender.name}, ${name}: ${took.toFixed(2)} s${cost}`);
    return took;
  };
  const sync = (path: string): Promise<unknown> => run(['sync', path], { timeoutMs: TIMEOUT_MS });
  await contender.start();
  await dropCaches();
  const untar = await phase('untar', async () => {
    await run(['mkdir', tree]);
    await run(unpackArguments(tar, tree), { timeoutMs: TIMEOUT_MS, allow: contender.tarCodes });
    await sync(tree);
  });
  await contender.chill();
  const read = await phase('cold read', async () => {
    await run([testProgram('walk-tree'), tree, '--read'], { timeoutMs: TIMEOUT_MS });
    await sync(tree);
  });
  const rm = await phase('rm', async () => {
    await run(['rm', '-rf', tree], { timeoutMs: TIMEOUT_MS });
    await sync(contender.root);
  });
  await contender.stop();
  return { untar, 'cold read': read, rm };
}

/** Where the time of an untar goes in both processes: the heaviest symbols by perf. */
async function profile(column: Column, tar: string, measure: (line: string) => void): Promise<void> {
  const environment = process.env['NODE_OPTIONS'];
  process.env['NODE_OPTIONS'] = '--perf-basic-prof --interpreted-frames-native-stack';
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
    const argv = [
      'perf',
      'report',
      '-i',
      data,
      '--stdio',
      '--pid',
      String(pid),
      '--sort',
      'symbol',
      '-g',
      'none',
    ];
    const { stdout } = await run(argv);
    const lines = stdout.split('\n').filter((line) => /^\s+\d+\.\d+%/.test(line));
    for (const line of lines.slice(0, 15)) measure(`profile ${what}: ${line.trim().slice(0, 100)}`);
  }
  await column.stop();
}

async function comparison(context: AcceptanceContext): Promise<void> {
  await ensureCommands([...SSHFS_COMMANDS, ...PROFILE_COMMANDS]);
  const { directory, cleanup, measure } = context;
  const tar = await linuxTar(context.shared, context.quick ? 'fs' : undefined);
  const folder = async (name: string): Promise<string> => {
    const path = join(directory, name);
    await mkdir(path);
    return path;
  };
  const column = await Column.make(await folder('crfs'), cleanup, { size: IMAGE_SIZE });
  const local = new LocalBtrfs(await folder('local'), cleanup);
  const backing = new LocalBtrfs(await folder('backing'), cleanup);
  await local.make();
  await backing.make();
  const sshd = await SshServer.create(join(directory, 'sshd'), cleanup);
  const contenders = [new Crfs(column), new Sshfs(directory, backing, sshd, cleanup), local];
  const results: Times[] = [];
  for (const contender of contenders) results.push(await race(contender, tar, measure));
  for (const phase of ['untar', 'cold read', 'rm'] as const) {
    const cells = contenders.map((contender, at) => `${contender.name} ${results[at]![phase].toFixed(2)} s`);
    measure(`| ${phase} | ${cells.join(' | ')} |`);
  }
  await column.check();
  await profile(column, tar, measure);
  const factor = results[1]!.untar / results[0]!.untar;
  measure(`untar: ${factor.toFixed(1)} times as fast as sshfs`);
  // A slice of two seconds is mostly the start of the compilers; it shows that the comparison works.
  if (context.quick) return;
  require(factor >= 10, `untar is only ${factor.toFixed(1)} times as fast as sshfs`);
}

export const COMPARISON: AcceptanceLine = {
  name: 'comparison',
  title: 'untar, cold read and rm beside sshfs and local btrfs; untar at least 10 times as fast as sshfs',
  run: comparison,
};
