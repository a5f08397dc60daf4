// SPDX-License-Identifier: GPL-2.0-or-later
// A user who is not root mounts and unmounts, by fusermount3 and its rules.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CommandResult } from '../../ts/dev/command.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { NOBODY, PrivateMachine, whenGone } from '../harness/private_machine.ts';
import { startServer, temporaryDirectory } from '../harness/processes.ts';
import { freePort } from '../harness/sshd.ts';

const SILENT = { code: 0, stdout: '', stderr: '' };

/** Where the system would make a directory for the user's session. */
const SESSION = `/run/user/${NOBODY}`;

const cleanup = new Cleanup();
let machine: PrivateMachine;
let source: string;

beforeAll(async () => {
  const directory = await temporaryDirectory(cleanup);
  const column = await Column.make(directory, cleanup, { size: '256M' });
  const port = await freePort();
  source = `127.0.0.1:${port}:/`;
  await startServer(column.image, `127.0.0.1:${port}`, cleanup);
  machine = await PrivateMachine.start(directory, cleanup);
  // Root lets users in.
  const root = await machine.makeDirectory('root');
  await machine.run(['/sbin/mount.crfs', source, root, '-o', `log=${directory}/log`]);
  await machine.shell('chmod 777 "$1" && umount "$1"', root);
});

afterAll(() => cleanup.run());

const mountAsUser = (directory: string, ...options: string[]): Promise<CommandResult> =>
  machine.runAsUser(['/sbin/mount.crfs', source, directory, ...options.flatMap((option) => ['-o', option])]);

test('mounts for itself alone; what it writes is there for others, and each way to unmount works', async () => {
  const directory = await machine.makeDirectory('own', NOBODY);
  const first = await mountAsUser(directory, 'noatime');
  expect(first).toEqual(SILENT);
  expect(await machine.mountOn(directory)).toMatchObject({ type: 'fuse.crfs', source, userId: NOBODY });
  const options = await machine.optionsOf(directory);
  expect(options).toEqual(
    expect.arrayContaining(['nosuid', 'nodev', 'noatime', 'default_permissions', `user_id=${NOBODY}`]),
  );
  expect(options).not.toContain('allow_other');
  await machine.shellAsUser('cd "$1" && mkdir d && echo mine > d/file && mv d/file d/moved', directory);
  expect((await machine.run(['ls', directory])).stderr).toMatch(/permission denied/i);
  const log = (await machine.run(['cat', `/tmp/crfs-${NOBODY}/mount.log`])).stdout;
  expect(log).toMatch(/ info: 127\.0\.0\.1:\d+:\/ mounted on \S+\/own$/m);

  // Each as the user, without an answer before the process has ended; fusermount3 does not know of it.
  const ways = [
    ['/sbin/umount.crfs', directory],
    ['umount', directory],
    ['fusermount3', '-u', directory],
  ];
  for (const way of ways) {
    if ((await machine.mountOn(directory)) === undefined)
      expect(await mountAsUser(directory)).toEqual(SILENT);
    expect((await machine.runAsUser(['cat', `${directory}/d/moved`])).stdout).toBe('mine\n');
    const pid = await machine.pidOf(directory);
    expect(await machine.runAsUser(way)).toEqual(SILENT);
    expect(await machine.mountOn(directory)).toBeUndefined();
    await whenGone(pid);
  }
});

test('is refused what fusermount3 does not allow, in its words', async () => {
  const directory = await machine.makeDirectory('allowed', NOBODY);
  const foreign = await machine.makeDirectory('foreign');
  const failure = (result: CommandResult): string => `${result.code} ${result.stderr.trim()}`;
  expect(failure(await mountAsUser(directory, 'allow_other'))).toMatch(
    /^1 mount\.crfs: .*option allow_other only allowed if 'user_allow_other' is set in \/etc\/fuse\.conf$/,
  );
  expect(failure(await mountAsUser(foreign))).toMatch(/^1 mount\.crfs: .*no write access to mountpoint/);
  expect(failure(await mountAsUser(directory, 'strictatime'))).toBe(
    '1 mount.crfs: only root can mount with strictatime',
  );
  expect(failure(await mountAsUser(directory, 'remount,ro'))).toBe('1 mount.crfs: only root can remount');
  const without = ['/usr/bin/env', 'PATH=/nowhere', process.execPath, '/sbin/mount.crfs', source, directory];
  expect(failure(await machine.runAsUser(without))).toMatch(
    /^2 mount\.crfs: .*cannot run fusermount3: .*fuse3/,
  );
  expect(await machine.mountOn(directory)).toBeUndefined();

  await machine.replaceFile('/etc/fuse.conf', 'user_allow_other\n');
  expect(await mountAsUser(directory, 'allow_other')).toEqual(SILENT);
  expect(await machine.optionsOf(directory)).toContain('allow_other');
  expect(await machine.run(['ls', directory])).toMatchObject({ code: 0 });
  // Root may unmount and remount what is a user's.
  expect(await machine.run(['mount', '-o', 'remount,ro', directory])).toEqual(SILENT);
  const touched = await machine.runAsUser(['touch', join(directory, 'x')]);
  expect(touched.stderr).toMatch(/read-only file system/i);
  expect(await machine.run(['umount', directory])).toEqual(SILENT);
});

test('a line of /etc/fstab with "user" is mounted by mount(8); SIGKILL, SIGTERM and -f of it', async () => {
  const directory = await machine.makeDirectory('line', NOBODY);
  await machine.replaceFile('/etc/fstab', `${source} ${directory} crfs noauto,user 0 0\n`);
  const mount = (): Promise<CommandResult> => machine.runAsUser(['mount', directory]);
  // As for a user who has logged in.
  await machine.shell(
    'mkdir -p -m 755 /run/user && mkdir -m 700 "$1" && chown "$2" "$1"',
    SESSION,
    `${NOBODY}`,
  );
  expect(await mount()).toEqual(SILENT);
  expect((await machine.run(['ls', `${SESSION}/crfs`])).stdout).toMatch(/^\d+:\d+\.sock\nmount\.log\n$/);
  expect(await machine.optionsOf(directory)).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'noexec']));
  const killed = await machine.pidOf(directory);
  process.kill(killed, 'SIGKILL');
  await whenGone(killed);
  const dead = await machine.runAsUser(['ls', directory]);
  expect(dead.stderr).toMatch(/transport endpoint is not connected|connection abort/i);
  expect(await mount()).toEqual(SILENT);

  await machine.shellAsUser('echo kept > "$1/kept"', directory);
  const ended = await machine.pidOf(directory);
  process.kill(ended, 'SIGTERM');
  await whenGone(ended);
  expect(await machine.mountOn(directory)).toBeUndefined();
  expect(await mount()).toEqual(SILENT);
  expect((await machine.runAsUser(['cat', `${directory}/kept`])).stdout).toBe('kept\n');

  const forced = await machine.pidOf(directory);
  expect(await machine.runAsUser(['/sbin/umount.crfs', '-f', directory])).toEqual(SILENT);
  await whenGone(forced);
  expect(await machine.mountOn(directory)).toBeUndefined();
});

test('another user cannot put the place of the control sockets there first', async () => {
  const uid = 61_234;
  const place = `/tmp/crfs-${uid}`;
  cleanup.add(() => rm(place, { recursive: true, force: true }));
  const directory = await machine.makeDirectory('trapped', uid);
  await machine.runAsUser(['mkdir', '-m', '777', place]);
  const argv = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'];
  const result = await machine.run([...argv, '/sbin/mount.crfs', source, directory, '-o', 'log=/dev/null']);
  expect(result.stderr).toBe(`mount.crfs: ${place} must be a directory that belongs to user ${uid} alone\n`);
  expect(result.code).toBe(2);
  expect(await machine.mountOn(directory)).toBeUndefined();
});
