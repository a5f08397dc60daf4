// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run demo`: makes an image, serves it, mounts it, unpacks a real tree in it (what npm installed for this
// project), reads it back, compares, and leaves it mounted. `node dist/dev/demo.js --stop` ends it.
//
// What runs is noted in dist/demo.json, so that the stop finds it.

import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from './command.ts';
import { ensureCommands, ensureFuse } from './prerequisites.ts';
import { buildTestPrograms, testProgram } from './test_programs.ts';

const NOTE = 'dist/demo.json';

/** The tree: some 7,000 real files. Packed from the working tree, so that the demo needs no network. */
const TREE = ['node_modules', 'ts', 'crates', 'docs', 'test', 'package.json', 'LICENSE'];

interface Demo {
  readonly directory: string;
  readonly mountPoint: string;
  readonly image: string;
  readonly serverPid: number;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const cli = (name: string): string => resolve('dist/cli', `${name}.js`);
const node = process.execPath;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function readNote(): Promise<Demo | undefined> {
  const text = await readFile(NOTE, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Demo);
}

/** Starts crfsd in the background and waits until it listens. */
async function startServer(image: string, socket: string, log: string): Promise<number> {
  const fd = openSync(log, 'a');
  const argv = [cli('crfsd'), 'serve', image, '--listen', `unix:${socket}`];
  const child = spawn(node, argv, { detached: true, stdio: ['ignore', fd, fd] });
  closeSync(fd);
  child.unref();
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const said = await readFile(log, 'utf8');
    if (said.includes('listening on')) return child.pid!;
    if (child.exitCode !== null) throw new Error(`crfsd ended:\n${said}`);
    await sleep(100);
  }
  throw new Error(`crfsd does not listen, see ${log}`);
}

async function manifest(directory: string, file: string): Promise<void> {
  const script = 'out="$1"; shift; exec "$@" > "$out"';
  await run(['sh', '-c', script, 'sh', file, testProgram('tree-manifest'), directory, '--skip-root']);
}

async function fillAndCompare(directory: string, mountPoint: string): Promise<void> {
  const tar = join(directory, 'tree.tar');
  const local = join(directory, 'local');
  const tree = join(mountPoint, 'tree');
  await mkdir(local);
  await run(['tar', '--format=pax', '-cf', tar, ...TREE]);
  await run(['tar', '-C', local, '-xpf', tar]);
  await run(['mkdir', tree]);
  const start = performance.now();
  await run(['tar', '-C', tree, '-xpf', tar], { timeoutMs: 600_000 });
  await run(['sync', tree]);
  say(`unpacked a tree in ${((performance.now() - start) / 1000).toFixed(1)} s, durable`);
  await manifest(local, join(directory, 'expected'));
  await manifest(tree, join(directory, 'found'));
  await run(['cmp', join(directory, 'expected'), join(directory, 'found')]);
  const entries = (await readFile(join(directory, 'found'), 'utf8')).split('\n').length - 1;
  say(`read it back: all ${entries} entries equal the local copy, contents and attributes`);
  await rm(local, { recursive: true });
  await rm(tar);
}

async function start(): Promise<void> {
  const running = await readNote();
  if (running !== undefined && isAlive(running.serverPid)) {
    throw new Error('a demo is running already; stop it with: node dist/dev/demo.js --stop');
  }
  await ensureFuse();
  await ensureCommands(['tar', 'cc']);
  await buildTestPrograms();
  const directory = await mkdtemp(join(tmpdir(), 'crfs-demo-'));
  const mountPoint = join(directory, 'mnt');
  const image = join(directory, 'image');
  const socket = join(directory, 'crfsd.sock');
  await mkdir(mountPoint);
  await run([node, cli('crfsd'), 'mkfs', image, '--size', '4G', '--label', 'demo']);
  say(`made a BTRFS image: ${image}`);
  const serverPid = await startServer(image, socket, join(directory, 'crfsd.log'));
  const demo: Demo = { directory, mountPoint, image, serverPid };
  await writeFile(NOTE, JSON.stringify(demo));
  const log = `log=${join(directory, 'mount.log')}`;
  await run([node, cli('mount.crfs'), `unix:${socket}:/`, mountPoint, '-o', log], { timeoutMs: 60_000 });
  say(`serving and mounted on ${mountPoint}`);
  await fillAndCompare(directory, mountPoint);
  say('');
  say('Look at it:');
  say(`  ls -l ${mountPoint}/tree`);
  say(`  node dist/cli/mount.crfs.js stats ${mountPoint}`);
  say('Stop it:');
  say('  node dist/dev/demo.js --stop');
}

async function stop(): Promise<void> {
  const demo = await readNote();
  if (demo === undefined) throw new Error('no demo is running');
  await run([node, cli('umount.crfs'), demo.mountPoint], { allow: [0, 32], timeoutMs: 120_000 });
  if (isAlive(demo.serverPid)) process.kill(demo.serverPid, 'SIGTERM');
  while (isAlive(demo.serverPid)) await sleep(50);
  await rm(NOTE);
  say('Stopped. The image is plain BTRFS, Linux can mount it:');
  say(`  mount -o loop,ro ${demo.image} ${demo.mountPoint}`);
  say('Remove everything:');
  say(`  rm -r ${demo.directory}`);
}

await (process.argv.includes('--stop') ? stop() : start()).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
