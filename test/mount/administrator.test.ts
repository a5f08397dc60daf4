// SPDX-License-Identifier: GPL-2.0-or-later
// mount(8) as an administrator uses it: /etc/fstab, remount, a mount whose process was killed, exit codes, the journal,
// and either process told to end.

import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { PrivateMachine, whenGone } from '../harness/private_machine.ts';
import { command, temporaryDirectory } from '../harness/processes.ts';
import { freePort } from '../harness/sshd.ts';

const SILENT = { code: 0, stdout: '', stderr: '' };

const cleanup = new Cleanup();
let column: Column;
let machine: PrivateMachine;
let source: string;
let logFile: string;

beforeAll(async () => {
  const directory = await temporaryDirectory(cleanup);
  column = await Column.make(directory, cleanup, { size: '256M' });
  await column.startServer();
  machine = await PrivateMachine.start(directory, cleanup);
  source = `unix:${column.socket}:/`;
  logFile = join(directory, 'log');
});

afterAll(() => cleanup.run());

/** A table for `mount -T`. */
async function fstab(...lines: string[]): Promise<string> {
  const path = join(machine.directory, 'fstab');
  await writeFile(path, `${lines.join('\n')}\n`);
  return path;
}

async function mount(directory: string, options = ''): Promise<void> {
  const all = `log=${logFile}${options === '' ? '' : `,${options}`}`;
  expect(await machine.run(['mount', '-t', 'crfs', source, directory, '-o', all])).toEqual(SILENT);
}

async function umount(directory: string): Promise<void> {
  expect(await machine.run(['umount', directory])).toEqual(SILENT);
}

/** A program that stands in `directory` or has a file of it open, until it is told to end. */
async function occupy(directory: string, how: 'stands' | 'writes'): Promise<() => Promise<void>> {
  const sign = `${directory}.occupied`;
  const begin = how === 'stands' ? 'cd "$1"' : 'exec > "$1/open"';
  const ended = machine.shell(`${begin}; touch "$2"; while [ -e "$2" ]; do sleep 0.1; done`, directory, sign);
  await machine.shell('until [ -e "$1" ]; do sleep 0.05; done', sign);
  return async () => {
    await machine.run(['rm', sign]);
    await ended;
  };
}

test('mount -a mounts what /etc/fstab says, once, with its flags; what is wrong is named', async () => {
  const all = await machine.makeDirectory('all');
  const plain = await machine.makeDirectory('plain');
  const later = await machine.makeDirectory('later');
  const good = [
    `${source} ${all} crfs ro,nosuid,nodev,noexec,noatime,_netdev,nofail,x-systemd.automount,x-any=1,log=${logFile} 0 0`,
    `${source} ${plain} crfs defaults,comment=ours,cache=64M,log=${logFile} 0 0`,
    `${source} ${later} crfs noauto,log=${logFile} 0 0`,
  ];
  expect(await machine.run(['mount', '-a', '-T', await fstab(...good)])).toEqual(SILENT);
  expect(await machine.optionsOf(all)).toEqual(
    expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec', 'noatime']),
  );
  const defaults = await machine.optionsOf(plain);
  expect(defaults).toEqual(expect.arrayContaining(['rw', 'relatime', 'default_permissions', 'allow_other']));
  expect(defaults).not.toContain('nosuid');
  expect(await machine.mountOn(later)).toBeUndefined();
  const ran = await machine.shell('cp /bin/true "$1/true" && "$1/true"', plain);
  expect(ran).toEqual(SILENT);
  expect((await machine.shell('"$1/true"', all)).stderr).toMatch(/permission denied/i);
  expect((await machine.run(['touch', join(all, 'new')])).stderr).toMatch(/read-only file system/i);

  // What is there is not mounted again; a line that is wrong does not keep the others away.
  const { device } = (await machine.mountOn(plain))!;
  await umount(all);
  const bad = [
    `${source} ${later} crfs rw,frobnicate=1,log=${logFile} 0 0`,
    `unix:/nowhere/sock:/ ${later} crfs nofail,log=${logFile} 0 0`,
  ];
  const some = await machine.run(['mount', '-a', '-T', await fstab(...bad, ...good)]);
  expect(some.stderr.trim().split('\n')).toEqual([
    'mount.crfs: unknown mount option: frobnicate',
    expect.stringMatching(/^mount\.crfs: cannot connect to unix:\/nowhere\/sock: .*ENOENT/),
  ]);
  // "Some mounts succeeded", of mount(8).
  expect(some.code).toBe(64);
  expect((await machine.mountOn(plain))?.device).toBe(device);
  expect(await machine.mountOn(all)).toMatchObject({ type: 'fuse.crfs', source });
  expect(await machine.mountOn(later)).toBeUndefined();
  await umount(all);
  await umount(plain);
});

test('remount makes a mount read-only and writable again', async () => {
  const directory = await machine.makeDirectory('remounted');
  const remount = (options: string) => machine.run(['mount', '-o', `remount,${options}`, directory]);
  await mount(directory, 'nosuid');
  await machine.shell('echo written > "$1/file"', directory);

  // Not under somebody's hands.
  const release = await occupy(directory, 'writes');
  const busy = await remount('ro');
  expect(busy).toMatchObject({ code: 32, stderr: expect.stringMatching(/files are open for writing/) });
  expect(await machine.optionsOf(directory)).toContain('rw');
  expect(await machine.run(['touch', join(directory, 'meanwhile')])).toEqual(SILENT);
  await release();

  expect(await remount('ro')).toEqual(SILENT);
  expect(await machine.optionsOf(directory)).toEqual(expect.arrayContaining(['ro', 'nosuid']));
  expect((await machine.run(['touch', join(directory, 'x')])).stderr).toMatch(/read-only file system/i);
  const { stdout } = await machine.run(['/sbin/mount.crfs', 'stats', directory, '--json']);
  expect(JSON.parse(stdout).session).toMatchObject({ dirtyBytes: 0, unsentChanges: 0, batchesInFlight: 0 });
  // The kernel alone is not what keeps changes away: the client refuses them too.
  expect(await machine.run(['mount', '-i', '-o', 'remount,rw', source, directory])).toEqual(SILENT);
  expect((await machine.run(['touch', join(directory, 'x')])).stderr).toMatch(/read-only file system/i);

  expect(await remount('rw')).toEqual(SILENT);
  expect(await machine.run(['touch', join(directory, 'file')])).toEqual(SILENT);
  const cache = await remount('rw,cache=64M');
  expect(cache).toMatchObject({
    code: 32,
    stderr: expect.stringMatching(/cache cannot be changed by a remount/),
  });
  await umount(directory);

  await mount(directory, 'ro');
  const refused = await remount('rw');
  expect(refused).toMatchObject({ code: 32, stderr: expect.stringMatching(/was mounted read-only/) });
  expect(await machine.optionsOf(directory)).toContain('ro');
  await umount(directory);
  const absent = await machine.run(['/sbin/mount.crfs', source, directory, '-o', 'remount,ro']);
  expect(absent).toMatchObject({ code: 32, stderr: expect.stringMatching(/not a mount point/) });
});

test('the mount of a process that was killed is replaced by the next one, one that lives is not', async () => {
  const directory = await machine.makeDirectory('killed');
  await mount(directory);
  await machine.shell('echo kept > "$1/file" && sync "$1/file"', directory);
  const release = await occupy(directory, 'stands');
  const pid = await machine.pidOf(directory);
  process.kill(pid, 'SIGKILL');
  await whenGone(pid);
  const dead = await machine.run(['ls', directory]);
  expect(dead.stderr).toMatch(/transport endpoint is not connected|connection abort/i);

  await mount(directory);
  expect((await machine.run(['cat', join(directory, 'file')])).stdout).toBe('kept\n');
  expect((await machine.run(['cat', logFile])).stdout).toMatch(
    / mount\.crfs\[\d+\] warning: \S+\/killed: the dead mount of unix:\S+ is replaced$/m,
  );
  await release();
  await mount(directory);
  await umount(directory);
  expect(await machine.run(['touch', join(directory, 'works')])).toEqual(SILENT);
  await umount(directory);
  expect(await machine.mountOn(directory)).toBeUndefined();
});

test('exit codes are those of mount(8)', async () => {
  const directory = await machine.makeDirectory('exits');
  const exitOf = async (options: string, ...before: string[]): Promise<string> => {
    const argv = [...before, 'mount', '-t', 'crfs', source, directory, '-o', options];
    const { code, stderr } = await machine.run(argv);
    return `${code} ${stderr.trim()}`;
  };
  expect(await exitOf('frobnicate')).toBe('1 mount.crfs: unknown mount option: frobnicate');
  expect(await exitOf('log=/nowhere/log')).toMatch(/^2 mount\.crfs: cannot open the log file: ENOENT/);
  // A device that no driver is behind.
  const withoutFuse = 'mknod "$1" c 10 254 && mount --bind "$1" /dev/fuse && shift && exec "$@"';
  const device = join(machine.directory, 'machine/no-fuse');
  const system = await exitOf(`log=${logFile}`, 'unshare', '--mount', 'sh', '-c', withoutFuse, 'sh', device);
  expect(system).toMatch(
    /^2 mount\.crfs: \S+: cannot open \/dev\/fuse: .* \(is the fuse kernel module loaded\?\)$/,
  );
  const missing = await machine.run(['mount', '-t', 'crfs', source, `${directory}/missing`]);
  expect(missing.code).toBe(32);
  expect(await machine.mountOn(directory)).toBeUndefined();
});

test('a signal before the mount stands ends it with 8', async () => {
  const directory = await machine.makeDirectory('interrupted');
  const port = await freePort();
  // Takes the connection and says nothing.
  const server = createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((listening) => server.listen(port, '127.0.0.1', listening));
  cleanup.add(async () => void server.close());
  const connected = new Promise<void>((done) => server.once('connection', () => done()));
  const argv = [command('mount.crfs'), `127.0.0.1:${port}:/`, directory, '-o', 'log=/dev/null'];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise<number | null>((done) => child.once('close', done));
  await connected;
  child.kill('SIGINT');
  expect(await ended).toBe(8);
  expect(said).toBe('mount.crfs: interrupted by SIGINT\n');
});

/** Prints what comes to a datagram socket, a message a line, until `$2` lines have come. */
const SYSLOGD = `
  use Socket; my ($path, $count) = @ARGV;
  socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die; bind($socket, pack_sockaddr_un($path)) or die;
  chmod 0666, $path;
  for (1..$count) { recv($socket, my $message, 10000, 0); print "$message\\n"; }
`;

test('in the background it logs to the journal, and to a file where there is none', async () => {
  const directory = await machine.makeDirectory('logged');
  const place = '/run/systemd/journal';
  const socket = `${place}/dev-log`;
  await machine.run(['mkdir', '-p', place]);
  const messages = machine.run(['perl', '-e', SYSLOGD, socket, '2']);
  await machine.shell('until [ -S "$1" ]; do sleep 0.05; done', socket);
  const argv = ['mount', '-t', 'crfs', source, directory];
  expect(await machine.run(argv)).toEqual(SILENT);
  await umount(directory);
  const form = (text: string) =>
    new RegExp(`^<30>\\w{3} [ \\d]\\d \\d\\d:\\d\\d:\\d\\d mount\\.crfs\\[\\d+\\]: ${text}$`);
  const lines = (await messages).stdout.trim().split('\n');
  expect(lines).toEqual([
    expect.stringMatching(form(`${source} mounted on ${directory}`)),
    expect.stringMatching(form(`${source} unmounted from ${directory}`)),
  ]);
  // The socket is still there, but nobody listens any more.
  const file = '/var/log/crfs-mount.log';
  expect(await machine.run(argv)).toEqual(SILENT);
  await umount(directory);
  // umount(8), given an absolute path, has waited for the end.
  const events = (await machine.run(['cat', file])).stdout
    .split('\n')
    .filter((line) => line.includes(directory));
  expect(events).toEqual([
    expect.stringMatching(/^\S+Z mount\.crfs\[\d+\] info: unix:\S+ mounted on /),
    expect.stringMatching(/^\S+Z mount\.crfs\[\d+\] info: unix:\S+ unmounted from /),
  ]);
});

test('SIGTERM of mount.crfs and then of crfsd: nothing is lost, and every call returns', async () => {
  const first = await machine.makeDirectory('first');
  const second = await machine.makeDirectory('second');
  await mount(first);
  await mount(second);
  const release = await occupy(first, 'stands');
  await machine.shell('echo first > "$1/from-first"', first);
  const pid = await machine.pidOf(first);
  process.kill(pid, 'SIGTERM');
  // One in use is detached, and served until nobody uses it.
  await machine.shell('while mountpoint -q "$1"; do sleep 0.05; done', first);
  expect((await machine.run(['cat', join(second, 'from-first')])).stdout).toBe('first\n');
  await release();
  await whenGone(pid);

  await machine.shell('echo second > "$1/from-second" && sync "$1/from-second"', second);
  // The process that has ended keeps no place in the table of util-linux, the other one does.
  const table = (await machine.run(['cat', '/run/mount/utab'])).stdout.trim().split('\n');
  expect(table).toEqual([expect.stringContaining(`TARGET=${second} `)]);
  await column.server.stop();
  const lost = await machine.run(['ls', second]);
  expect(lost.stderr).toMatch(/input\/output error/i);
  expect(await machine.run(['umount', second])).toMatchObject({ code: 0 });
  expect((await machine.run(['cat', logFile])).stdout).toMatch(/ error: unix:.*every call fails with EIO/);
  await column.check();
  await column.inLinux('ro', async (linux) => {
    const { stdout } = await run(['cat', join(linux, 'from-first'), join(linux, 'from-second')]);
    expect(stdout).toBe('first\nsecond\n');
  });
});
