// SPDX-License-Identifier: GPL-2.0-or-later
// How mounts begin and end: refused ones, busy ones, flags, several at once.

import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MountError, mountNative } from '../../ts/fuse/native_driver.ts';
import { Errno } from '../../ts/util/errno.ts';
import { delay, FuseMount, start } from '../fixtures/fuse_mount.ts';

function errnoOfMounting(target: string, flags: readonly string[] = []): number {
  try {
    mountNative({ source: 'x', target, flags, allowOther: true }).close();
  } catch (error) {
    expect(error).toBeInstanceOf(MountError);
    return (error as MountError).errno;
  }
  return 0;
}

async function mountedHere(): Promise<string> {
  return (await start(['grep', 'fuse.crfs', '/proc/mounts']).outcome).stdout;
}

describe('a mount', () => {
  it('is refused with a reason, and leaves nothing behind', async () => {
    expect(errnoOfMounting('/nonexistent/directory')).toBe(Errno.ENOENT);
    expect(errnoOfMounting('/proc/self/status')).toBe(Errno.ENOTDIR);
    const directory = await mkdtemp(join(tmpdir(), 'crfs-fuse-'));
    expect(errnoOfMounting(directory, ['bogus'])).toBe(Errno.EINVAL);
    expect(await mountedHere()).not.toContain(directory);
    await rmdir(directory);
  });

  it('obeys its flags', async () => {
    const mount = await FuseMount.create(['ro', 'nosuid', 'nodev', 'noexec', 'noatime']);
    try {
      expect((await mount.shell('touch f')).stderr).toContain('Read-only file system');
      expect(await mountedHere()).toMatch(/fuse\.crfs ro,nosuid,nodev,noexec,noatime,/);
    } finally {
      await mount.destroy();
    }
  });

  it('reads ahead and writes by the megabyte', async () => {
    const mount = await FuseMount.create();
    try {
      expect(mount.driver.wideReadahead).toBe(true);
      const before = mount.server.counters().requests['write'] ?? 0;
      const { code } = await mount.shell('dd if=/dev/zero of=f bs=4M count=8 status=none');
      expect(code).toBe(0);
      expect((mount.server.counters().requests['write'] ?? 0) - before).toBe(32);
      await mount.shell('echo 1 > /proc/sys/vm/drop_caches; cat f > /dev/null');
      expect(mount.server.counters().requests['read']).toBeLessThan(45);
    } finally {
      await mount.destroy();
    }
  });

  it('refuses to go while it is in use, and goes lazily', async () => {
    const mount = await FuseMount.create();
    try {
      const program = mount.startShell('sleep 1; echo x > f; cat f');
      await delay(300);
      expect(await mount.driver.unmount('plain')).toBe(Errno.EBUSY);
      expect(await mount.driver.unmount('lazy')).toBe(0);
      // The program keeps its working directory, and with it the connection.
      expect((await program.outcome).stdout).toBe('x\n');
      expect(await mount.closed).toBeNull();
    } finally {
      await mount.destroy();
    }
  });

  it('stands beside others', async () => {
    const mounts = [await FuseMount.create(), await FuseMount.create(), await FuseMount.create()];
    try {
      const [first, second] = mounts;
      const copied = await first!.shell(`head -c 5000000 /dev/urandom > f; cp f ${second!.directory}/g;
        cmp f ${second!.directory}/g && echo same`);
      expect(copied.stdout).toBe('same\n');
    } finally {
      for (const mount of mounts) await mount.destroy();
    }
  });
});
