// SPDX-License-Identifier: GPL-2.0-or-later
// The commands as people meet them: what they print, how they end, what they say when something is wrong.

import { spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { type CommandResult, run } from '../../ts/dev/command.ts';
import { Column } from '../harness/column.ts';
import { Cleanup, makeLinuxImage, makeSparse } from '../harness/images.ts';
import { command, mountStats, startServer, temporaryDirectory, withTimeout } from '../harness/processes.ts';
import { freePort } from '../harness/sshd.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const ANY = Array.from({ length: 256 }, (_, code) => code);

function call(name: 'crfsd' | 'mount.crfs' | 'umount.crfs', ...rest: string[]): Promise<CommandResult> {
  return run([process.execPath, command(name), ...rest], { allow: ANY, timeoutMs: 60_000 });
}

async function isMounted(directory: string): Promise<boolean> {
  return (await run(['findmnt', '-n', directory], { allow: [0, 1] })).code === 0;
}

/** Waits until something is so; the test's own time limit ends it. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(50);
}

/** A failure is one line on stderr that says what is wrong, with an exit code. */
function expectFailure(result: CommandResult, exitCode: number, words: RegExp): void {
  expect(result.stderr).toMatch(words);
  expect(result.stderr.trim().split('\n')).toHaveLength(1);
  expect(result.code).toBe(exitCode);
}

describe('crfsd', () => {
  test('mkfs makes an image that info describes, and that Linux knows', async () => {
    const image = join(await temporaryDirectory(cleanup), 'image');
    expect((await call('crfsd', 'mkfs', image, '--size', '256M', '--label', 'my label')).code).toBe(0);
    const info = JSON.parse((await call('crfsd', 'info', image, '--json')).stdout);
    expect(info).toMatchObject({ label: 'my label', totalBytes: 256 * 1024 ** 2, sectorSizeBytes: 4096 });
    const { stdout } = await run(['blkid', '-p', '-o', 'value', '-s', 'LABEL', '-s', 'TYPE', image]);
    expect(stdout).toBe('my label\nbtrfs\n');
  });

  test('mkfs leaves a file system alone unless --force', async () => {
    const image = join(await temporaryDirectory(cleanup), 'image');
    await makeLinuxImage(image, '256M');
    expectFailure(await call('crfsd', 'mkfs', image, '--size', '256M'), 1, /BTRFS.*--force/);
    expect((await call('crfsd', 'mkfs', image, '--size', '256M', '--force')).code).toBe(0);
  });

  test('an image that is not BTRFS is refused', async () => {
    const image = join(await temporaryDirectory(cleanup), 'image');
    await makeSparse(image, 256 * 1024 ** 2);
    expectFailure(await call('crfsd', 'info', image), 1, /not .*BTRFS/i);
    const serve = await call('crfsd', 'serve', image, '--listen', `unix:${image}.sock`);
    expect(serve.stderr).toMatch(/not .*BTRFS/i);
    expect(serve.code).toBe(1);
    expectFailure(await call('crfsd', 'info', `${image}.missing`), 1, /no such file/i);
  });

  test('an image that another crfsd serves is busy', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.make(directory, cleanup, { size: '256M' });
    await column.startServer();
    const second = await call('crfsd', 'serve', column.image, '--listen', `unix:${directory}/second.sock`);
    expect(second.stderr).toMatch(/busy|in use/i);
    expect(second.code).toBe(1);
    await column.server.stop();
  });

  test('an address that others can reach needs --insecure', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.make(directory, cleanup, { size: '256M' });
    const refused = await call('crfsd', 'serve', column.image, '--listen', '0.0.0.0:1');
    expectFailure(refused, 1, /--insecure/);
  });

  test('stats of a server, and of one that is not there', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M' });
    const stats = JSON.parse((await call('crfsd', 'stats', `unix:${column.socket}`, '--json')).stdout);
    expect(stats.messages.received.greeting).toBe(1);
    expect((await call('crfsd', 'stats', `unix:${column.socket}`)).stdout).toMatch(
      /^messages\.received\.greeting +1$/m,
    );
    await column.stop();
    expectFailure(await call('crfsd', 'stats', `unix:${column.socket}`), 1, /crfsd\.sock/);
  });

  test('a word that it does not know is an error on stderr', async () => {
    const result = await call('crfsd', 'frobnicate');
    expect(result.code).toBe(1);
    expect(result.stdout).toBe('');
    expect(result.stderr).not.toBe('');
  });
});

describe('mount.crfs', () => {
  test('mounts over TCP, returns when mounted, shows counters, unmounts', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.make(directory, cleanup, { size: '256M' });
    const port = await freePort();
    const server = await startServer(column.image, `127.0.0.1:${port}`, cleanup);
    const options = `port=${port},log=${directory}/log,noatime,nosuid`;
    const mounted = await call(
      'mount.crfs',
      '127.0.0.1:/',
      directory,
      '-o',
      options,
      '-v',
      '-n',
      '-t',
      'crfs',
    );
    expect(mounted.stderr).toBe('');
    expect(mounted.code).toBe(0);
    cleanup.add(() => run(['umount', '-i', '-l', directory], { allow: [0, 32] }));
    const { stdout } = await run(['findmnt', '-n', '-o', 'FSTYPE,SOURCE,OPTIONS', directory]);
    expect(stdout).toMatch(/^fuse\.crfs 127\.0\.0\.1:\/ +rw,nosuid,noatime/);
    await run(['touch', join(directory, 'file')]);
    const stats = await mountStats(directory);
    expect(stats.requests['create']).toBe(1);
    expect(Object.keys(stats.messages.sent)).toContain('greeting');
    expect((await call('mount.crfs', 'stats', directory)).stdout).toMatch(/^requests\.create +1$/m);
    expect((await call('umount.crfs', directory, '-n')).code).toBe(0);
    expect(await isMounted(directory)).toBe(false);
    // Gone, or a zombie that init has not looked at yet.
    const stat = await readFile(`/proc/${stats.pid}/stat`, 'utf8').catch(() => ') Z ');
    expect(stat).toMatch(/\) Z /);
    await server.stop();
  });

  test('mounts a directory of the image; one that is missing is an error', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M' });
    await run(['mkdir', '-p', join(column.mountPoint, 'a/b')]);
    await run(['touch', join(column.mountPoint, 'a/b/inside'), join(column.mountPoint, 'file')]);
    await column.mount.unmount();
    await column.startMount('/a/b');
    expect((await run(['ls', column.mountPoint])).stdout).toBe('inside\n');
    await column.mount.unmount();
    const at = (path: string): Promise<CommandResult> =>
      call('mount.crfs', `unix:${column.socket}:${path}`, column.mountPoint, '-o', `log=${directory}/log`);
    expectFailure(await at('/missing'), 32, /missing.*(no such|ENOENT)/i);
    expectFailure(await at('/file'), 32, /file.*(not a directory|ENOTDIR)/i);
    await column.server.stop();
  });

  test.each([
    [['host:/', '/tmp', '-o', 'cahce=64M'], 1, /unknown mount option: cahce/],
    [['host', '/tmp'], 1, /a source is/],
    [['no-such-host.invalid:/', '/tmp', '-o', 'log=/dev/null'], 32, /no-such-host\.invalid/],
    [['127.0.0.1:1:/', '/tmp', '-o', 'log=/dev/null'], 32, /127\.0\.0\.1:1.*(refused|ECONNREFUSED)/i],
    [['unix:/nowhere/sock:/', '/tmp', '-o', 'log=/dev/null'], 32, /\/nowhere\/sock/],
    [['stats', '/tmp'], 32, /not a mount point/],
    [['stats', '/proc'], 32, /not CRFS/],
  ])('%j fails with %i', async (argv, exitCode, words) => {
    expectFailure(await call('mount.crfs', ...argv), exitCode, words);
  });

  test('a mount point that is none is an error, and the server is free again', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.make(directory, cleanup, { size: '256M' });
    await column.startServer();
    await writeFile(join(directory, 'file'), '');
    for (const target of ['missing', 'file']) {
      const argv = [`unix:${column.socket}:/`, join(directory, target), '-o', `log=${directory}/log`];
      expectFailure(await call('mount.crfs', ...argv), 32, new RegExp(target));
    }
    await column.startMount();
    await column.stop();
  });

  test('only so many mounts at a time', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, {
      size: '256M',
      serveOptions: ['--sessions', '1'],
    });
    await run(['mkdir', join(directory, 'second')]);
    const argv = [`unix:${column.socket}:/`, join(directory, 'second'), '-o', `log=${directory}/log`];
    expectFailure(await call('mount.crfs', ...argv), 32, /EBUSY: .*1 of 1 sessions/);
    await column.stop();
  });

  test('-f checks without mounting, -s leaves unknown options out', async () => {
    const directory = await temporaryDirectory(cleanup);
    expect((await call('mount.crfs', 'host:/', directory, '-f', '-s', '-o', 'frob=1,rw')).code).toBe(0);
    expect(await isMounted(directory)).toBe(false);
  });

  test('SIGTERM flushes, unmounts and ends', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M' });
    await run(['sh', '-c', 'echo kept > "$1"/file', 'sh', column.mountPoint]);
    process.kill(column.mount.pid, 'SIGTERM');
    await withTimeout(
      (async () => {
        while (await isMounted(column.mountPoint)) await new Promise((next) => setTimeout(next, 50));
      })(),
      30_000,
      'still mounted',
    );
    await column.startMount();
    expect((await run(['cat', join(column.mountPoint, 'file')])).stdout).toBe('kept\n');
    await column.stop();
    await column.check();
  });

  test('a read-only mount, and a read-only server', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M', mountOptions: ['ro'] });
    const touched = await run(['touch', join(column.mountPoint, 'x')], { allow: [1] });
    expect(touched.stderr).toMatch(/read-only file system/i);
    await column.stop();
    const server = await startServer(column.image, `unix:${column.socket}`, cleanup, ['--read-only']);
    await column.startMount();
    const again = await run(['touch', join(column.mountPoint, 'x')], { allow: [1] });
    expect(again.stderr).toMatch(/read-only file system/i);
    await column.mount.unmount();
    await server.stop();
  });
});

describe('umount', () => {
  test('refuses while the mount is in use, and everything goes on', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M' });
    const held = run(['sh', '-c', 'cd "$1"; sleep 3', 'sh', column.mountPoint]);
    await new Promise((next) => setTimeout(next, 500));
    expectFailure(await call('umount.crfs', column.mountPoint), 32, /busy/);
    await run(['touch', join(column.mountPoint, 'still-works')]);
    await held;
    await column.stop();
    await column.check();
  });

  test('of a mount whose process was killed works', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M' });
    process.kill(column.mount.pid, 'SIGKILL');
    await new Promise((next) => setTimeout(next, 300));
    expectFailure(await call('mount.crfs', 'stats', column.mountPoint), 32, /has ended/);
    expect((await call('umount.crfs', column.mountPoint)).code).toBe(0);
    expect(await isMounted(column.mountPoint)).toBe(false);
    await column.startMount();
    await column.stop();
  });

  test('returns though another mount namespace has the mount too, which is served on', async () => {
    const column = await Column.start(await temporaryDirectory(cleanup), cleanup, { size: '256M' });
    await run(['sh', '-c', 'echo text > "$1/file"', 'sh', column.mountPoint], { timeoutMs: 20_000 });
    const { pid } = await mountStats(column.mountPoint);
    // In a namespace of its own, to which an unmount does not spread.
    const other = spawn('unshare', ['-m', 'sleep', '60'], { stdio: 'ignore' });
    cleanup.add(async () => void other.kill('SIGKILL'));
    const inside = (...argv: string[]): Promise<CommandResult> =>
      run(['nsenter', '-m', '-t', String(other.pid), ...argv], { allow: ANY, timeoutMs: 20_000 });
    await until(async () => (await inside('cat', join(column.mountPoint, 'file'))).stdout === 'text\n');
    expect(await call('umount.crfs', column.mountPoint)).toMatchObject({ code: 0, stderr: '' });
    expect(await isMounted(column.mountPoint)).toBe(false);
    await inside('sh', '-c', `echo more >> ${join(column.mountPoint, 'file')}`);
    expect((await inside('cat', join(column.mountPoint, 'file'))).stdout).toBe('text\nmore\n');
    other.kill('SIGKILL');
    await until(async () => (await run(['test', '-d', `/proc/${pid}`], { allow: [0, 1] })).code === 1);
  }, 60_000);

  test('after the server was killed: calls fail with EIO at once, umount returns and says what was lost', async () => {
    const directory = await temporaryDirectory(cleanup);
    const column = await Column.start(directory, cleanup, { size: '256M' });
    await run(['touch', join(column.mountPoint, 'before')]);
    await column.server.kill();
    // The process hears of it through its socket, which may take a moment.
    while ((await mountStats(column.mountPoint)).connected) await new Promise((next) => setTimeout(next, 20));
    const listed = await run(['stat', join(column.mountPoint, 'unseen')], { allow: [1], timeoutMs: 10_000 });
    expect(listed.stderr).toMatch(/input\/output error/i);
    const result = await call('umount.crfs', column.mountPoint);
    expect(await isMounted(column.mountPoint)).toBe(false);
    expect([0, 2]).toContain(result.code);
    if (result.code === 2) expect(result.stderr).toMatch(/lost/);
  });

  test('of something else is refused', async () => {
    expectFailure(await call('umount.crfs', '/proc'), 32, /not CRFS/);
  });
});
