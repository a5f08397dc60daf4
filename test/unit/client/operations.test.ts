// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations of one client on a server of its own, one by one.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import {
  type DirSink,
  OpenFlags,
  SetAttr,
  SetAttrMask,
  UMASK_SHIFT,
  WriteFlags,
  XattrFlags,
} from '../../../ts/client/operations.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { AttrOut, bytes, connect, must, newVolume, run, type Session } from './harness.ts';

const ROOT = 1;
const attr = new AttrOut();

async function create(session: Session, dir: number, name: string, mode = 0o644): Promise<number> {
  const { ops } = session;
  await must(ops, () => ops.create(dir, bytes(name), mode, 0, 0, 1, attr));
  return attr.node;
}

async function mkdir(session: Session, dir: number, name: string): Promise<number> {
  const { ops } = session;
  await must(ops, () => ops.mkdir(dir, bytes(name), 0o755, 0, 0, attr));
  return attr.node;
}

async function readAll(session: Session, node: number, size = 1 << 20): Promise<Buffer> {
  const { ops } = session;
  const target = Buffer.alloc(size);
  const length = await must(ops, () => ops.read(node, 0, size, target, 0));
  return target.subarray(0, length);
}

async function list(session: Session, dir: number): Promise<string[]> {
  const { ops } = session;
  const names: string[] = [];
  let cookie = 0;
  const sink: DirSink = {
    add(from, start, length, _node, _ino, _type, next) {
      names.push(Buffer.from(from.subarray(start, start + length)).toString('latin1'));
      cookie = next;
      return true;
    },
  };
  for (;;) {
    const before = cookie;
    await must(ops, () => ops.readdir(dir, cookie, Infinity, sink, new AttrOut()));
    if (cookie === before) return names;
  }
}

describe('operations', () => {
  test('a file is created, written, read back here and by the next client', { timeout: 10_000 }, async () => {
    const volume = newVolume();
    const one = await connect(volume);
    const dir = await mkdir(one, ROOT, 'dir');
    const small = await create(one, dir, 'small');
    await must(one.ops, () => one.ops.write(small, 0, bytes('hello'), 0));
    const large = await create(one, dir, 'large');
    const content = Buffer.alloc(3_000_000, 'abcdefghijk');
    for (let at = 0; at < content.length; at += 100_000) {
      await must(one.ops, () => one.ops.write(large, at, content.subarray(at, at + 100_000), 0));
    }
    expect((await readAll(one, small)).toString()).toBe('hello');
    expect((await readAll(one, large, 4_000_000)).equals(content)).toBe(true);
    one.ops.release(small, 1);
    one.ops.release(large, 1);
    expect((await readAll(one, small)).toString()).toBe('hello');
    expect((await readAll(one, large, 4_000_000)).equals(content)).toBe(true);
    expect(await one.ops.fsync(large)).toBe(0);
    expect((await readAll(one, large, 4_000_000)).equals(content)).toBe(true);
    expect(await one.client.close()).toBe(0);

    const two = await connect(volume);
    await must(two.ops, () => two.ops.lookup(ROOT, bytes('dir'), attr));
    const again = attr.node;
    expect(await list(two, again)).toEqual(['.', '..', 'small', 'large']);
    await must(two.ops, () => two.ops.lookup(again, bytes('small'), attr));
    expect(attr.size).toBe(5);
    expect(attr.mode).toBe(0o100644);
    expect((await readAll(two, attr.node)).toString()).toBe('hello');
    await must(two.ops, () => two.ops.lookup(again, bytes('large'), attr));
    expect(attr.size).toBe(content.length);
    expect(attr.blocks).toBe(Math.ceil(content.length / 4096) * 8);
    expect((await readAll(two, attr.node, 4_000_000)).equals(content)).toBe(true);
    expect(await run(two.ops, () => two.ops.lookup(again, bytes('none'), attr))).toBe(-Errno.ENOENT);
    expect(attr.cacheable).toBe(true);
    await two.client.close();
  });

  test('two names change places, whatever they lead to, for the next client too', async () => {
    const volume = newVolume();
    const one = await connect(volume);
    const { ops } = one;
    const dir = await mkdir(one, ROOT, 'dir');
    const deep = await mkdir(one, dir, 'deep');
    await create(one, deep, 'inside');
    const file = await create(one, ROOT, 'file');
    await must(ops, () => ops.write(file, 0, bytes('text'), 0));
    // A name that stands in the way of the one by which they pass each other.
    await create(one, dir, `.crfs-exchange-${deep}-0`);
    await must(ops, () => ops.rename(dir, bytes('deep'), ROOT, bytes('file'), 2));
    await must(ops, () => ops.lookup(dir, bytes('deep'), attr));
    expect(attr.node).toBe(file);
    const names = async (session: Session): Promise<string[][]> => {
      await must(session.ops, () => session.ops.lookup(ROOT, bytes('dir'), attr));
      const below = await list(session, attr.node);
      await must(session.ops, () => session.ops.lookup(ROOT, bytes('file'), attr));
      return [await list(session, ROOT), below, await list(session, attr.node)];
    };
    const expected = [
      ['.', '..', 'dir', 'file'],
      ['.', '..', 'deep', `.crfs-exchange-${deep}-0`],
      ['.', '..', 'inside'],
    ];
    expect(await names(one)).toEqual(expected);
    expect(await one.client.close()).toBe(0);
    const two = await connect(volume);
    expect(await names(two)).toEqual(expected);
    expect((await readAll(two, file)).toString()).toBe('text');
    await two.client.close();
  });

  test('a file without a name can be given one, and is gone with its last handle otherwise', async () => {
    const volume = newVolume();
    const one = await connect(volume);
    const { ops } = one;
    const make = async (): Promise<number> => {
      await must(ops, () => ops.tmpfile(ROOT, 0o600, 0, 0, OpenFlags.write, attr));
      return attr.node;
    };
    const [kept, lost] = [await make(), await make()];
    expect(attr.nlink).toBe(0);
    for (const node of [kept, lost]) await must(ops, () => ops.write(node, 0, bytes('text'), 0));
    await must(ops, () => ops.link(kept, ROOT, bytes('kept'), attr));
    expect([attr.node, attr.nlink]).toEqual([kept, 1]);
    for (const node of [kept, lost]) ops.release(node, OpenFlags.write);
    ops.forget(lost);
    expect(await run(ops, () => ops.getattr(lost, attr))).toBe(-Errno.ESTALE);
    // What has lost its last name is not given another.
    await must(ops, () => ops.open(kept, 0));
    await must(ops, () => ops.unlink(ROOT, bytes('kept')));
    ops.release(kept, 0);
    expect(await one.client.close()).toBe(0);
    const two = await connect(volume);
    expect(await list(two, ROOT)).toEqual(['.', '..']);
    await two.client.close();
  });

  test('ACLs: what is made inherits, chmod changes them, setting one changes the mode', async () => {
    const volume = newVolume();
    const one = await connect(volume);
    const { ops } = one;
    const dir = await mkdir(one, ROOT, 'dir');
    const acl = (...entries: readonly (readonly [number, number, number])[]): Buffer => {
      const value = Buffer.alloc(4 + 8 * entries.length);
      value.writeUInt32LE(2, 0);
      entries.forEach(([tag, permissions, id], at) => {
        value.writeUInt16LE(tag, 4 + 8 * at);
        value.writeUInt16LE(permissions, 6 + 8 * at);
        value.writeUInt32LE(id, 8 + 8 * at);
      });
      return value;
    };
    const none = 0xffff_ffff;
    const of = (user: number, named: number, group: number, mask: number, other: number): Buffer =>
      acl([1, user, none], [2, named, 1000], [4, group, none], [16, mask, none], [32, other, none]);
    const [access, byDefault] = ['system.posix_acl_access', 'system.posix_acl_default'].map(bytes);
    const get = async (session: Session, node: number, name: Uint8Array): Promise<string> => {
      const target = Buffer.alloc(100);
      const length = await run(session.ops, () => session.ops.getxattr(node, name, target));
      return length < 0 ? String(length) : target.toString('hex', 0, length);
    };
    await must(ops, () => ops.setxattr(dir, byDefault!, of(7, 6, 5, 7, 0), 0));
    // The umask does not count where there is a default ACL.
    const mode = 0o666 | (0o077 << UMASK_SHIFT);
    await must(ops, () => ops.create(dir, bytes('file'), mode, 0, 0, 1, attr));
    const file = attr.node;
    expect(attr.mode & 0o777).toBe(0o660);
    expect(await get(one, file, access!)).toBe(of(6, 6, 5, 6, 0).toString('hex'));
    await must(ops, () => ops.mkdir(dir, bytes('sub'), 0o755, 0, 0, attr));
    expect(await get(one, attr.node, byDefault!)).toBe(of(7, 6, 5, 7, 0).toString('hex'));
    expect(await get(one, attr.node, access!)).toBe(of(7, 6, 5, 5, 0).toString('hex'));
    await must(ops, () => ops.create(ROOT, bytes('plain'), mode, 0, 0, 1, attr));
    expect(attr.mode & 0o777).toBe(0o600);

    const set = new SetAttr();
    set.mask = SetAttrMask.mode;
    set.mode = 0o741;
    await must(ops, () => ops.setattr(file, set, attr));
    expect(await get(one, file, access!)).toBe(of(7, 6, 5, 4, 1).toString('hex'));
    set.mode = 0o2750;
    await must(ops, () => ops.setattr(file, set, attr));
    // One that the mode says all of is not kept, and a caller outside of the group loses set-group-ID.
    const short = acl([1, 6, none], [4, 4, none], [32, 0, none]);
    await must(ops, () => ops.setxattr(file, access!, short, XattrFlags.killSetGid));
    await must(ops, () => ops.getattr(file, attr));
    expect(attr.mode & 0o7777).toBe(0o640);
    expect(await get(one, file, access!)).toBe(String(-Errno.ENODATA));
    expect(await run(ops, () => ops.setxattr(file, access!, bytes('no ACL'), 0))).toBe(-Errno.EINVAL);
    expect(await run(ops, () => ops.setxattr(file, byDefault!, short, 0))).toBe(-Errno.EACCES);
    expect(await one.client.close()).toBe(0);
    const two = await connect(volume);
    await must(two.ops, () => two.ops.lookup(ROOT, bytes('dir'), attr));
    expect(await get(two, attr.node, byDefault!)).toBe(of(7, 6, 5, 7, 0).toString('hex'));
    await two.client.close();
  });

  test('errors of names', { timeout: 10_000 }, async () => {
    const session = await connect(newVolume());
    const { ops } = session;
    const dir = await mkdir(session, ROOT, 'dir');
    const file = await create(session, dir, 'file');
    const sub = await mkdir(session, dir, 'sub');
    await mkdir(session, sub, 'deep');
    const answers = async (operation: () => number): Promise<number> => -(await run(ops, operation));
    expect(await answers(() => ops.mkdir(dir, bytes('file'), 0o755, 0, 0, attr))).toBe(Errno.EEXIST);
    expect(await answers(() => ops.unlink(dir, bytes('none')))).toBe(Errno.ENOENT);
    expect(await answers(() => ops.unlink(dir, bytes('sub')))).toBe(Errno.EISDIR);
    expect(await answers(() => ops.rmdir(dir, bytes('file')))).toBe(Errno.ENOTDIR);
    expect(await answers(() => ops.rmdir(dir, bytes('sub')))).toBe(Errno.ENOTEMPTY);
    expect(await answers(() => ops.rename(ROOT, bytes('dir'), sub, bytes('x'), 0))).toBe(Errno.EINVAL);
    expect(await answers(() => ops.rename(dir, bytes('file'), dir, bytes('sub'), 0))).toBe(Errno.EISDIR);
    expect(await answers(() => ops.rename(dir, bytes('sub'), dir, bytes('file'), 0))).toBe(Errno.ENOTDIR);
    expect(await answers(() => ops.rename(dir, bytes('file'), dir, bytes('sub'), 1))).toBe(Errno.EEXIST);
    expect(await answers(() => ops.rename(dir, bytes('file'), ROOT, bytes('sub'), 2))).toBe(Errno.ENOENT);
    expect(await answers(() => ops.rename(ROOT, bytes('dir'), dir, bytes('sub'), 2))).toBe(Errno.EINVAL);
    expect(await answers(() => ops.rename(dir, bytes('sub'), ROOT, bytes('dir'), 2))).toBe(Errno.EINVAL);
    expect(await answers(() => ops.rename(dir, bytes('file'), dir, bytes('sub'), 3))).toBe(Errno.EINVAL);
    expect(await answers(() => ops.rename(dir, bytes('file'), dir, bytes('sub'), 4))).toBe(Errno.EINVAL);
    expect(await answers(() => ops.link(sub, ROOT, bytes('x'), attr))).toBe(Errno.EPERM);
    expect(await answers(() => ops.create(file, bytes('x'), 0o644, 0, 0, 0, attr))).toBe(Errno.ENOTDIR);
    const long = Buffer.alloc(256, 'n');
    expect(await answers(() => ops.lookup(dir, long, attr))).toBe(Errno.ENAMETOOLONG);
    expect(await answers(() => ops.write(file, Number.MAX_SAFE_INTEGER, bytes('x'), 0))).toBe(Errno.EFBIG);
    await session.client.close();
  });

  test('rename over names, hard links, unlink of what is open', { timeout: 10_000 }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    const one = await create(session, ROOT, 'one');
    await must(ops, () => ops.write(one, 0, bytes('first'), 0));
    const two = await create(session, ROOT, 'two');
    await must(ops, () => ops.write(two, 0, bytes('second'), 0));
    await must(ops, () => ops.rename(ROOT, bytes('one'), ROOT, bytes('two'), 0));
    // The replaced file is open and lives on.
    expect((await readAll(session, two)).toString()).toBe('second');
    await must(ops, () => ops.getattr(two, attr));
    expect(attr.nlink).toBe(0);
    ops.release(two, 1);
    expect(await run(ops, () => ops.getattr(two, attr))).toBe(-Errno.ESTALE);
    expect(await list(session, ROOT)).toEqual(['.', '..', 'two']);
    await must(ops, () => ops.link(one, ROOT, bytes('three'), attr));
    expect(attr.nlink).toBe(2);
    expect(await run(ops, () => ops.rename(ROOT, bytes('two'), ROOT, bytes('three'), 0))).toBe(0);
    expect(await list(session, ROOT)).toEqual(['.', '..', 'two', 'three']);
    await must(ops, () => ops.unlink(ROOT, bytes('two')));
    await must(ops, () => ops.getattr(one, attr));
    expect(attr.nlink).toBe(1);
    ops.release(one, 1);
    expect(await ops.fsync(ROOT)).toBe(0);
    await must(ops, () => ops.unlink(ROOT, bytes('three')));
    expect(await session.client.close()).toBe(0);
    expect(volume.items.seek(5, 257, 0, 0)).toBe(false);
  });

  test('truncate, append, holes and seeking', { timeout: 10_000 }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    const file = await create(session, ROOT, 'file');
    const model = Buffer.alloc(100_000);
    let size = 0;
    const write = async (offset: number, length: number, letter: string): Promise<void> => {
      const data = Buffer.alloc(length, letter);
      await must(ops, () => ops.write(file, offset, data, 0));
      data.copy(model, offset);
      size = Math.max(size, offset + length);
    };
    const truncate = async (to: number): Promise<void> => {
      const set = new SetAttr();
      set.mask = SetAttrMask.size;
      set.size = to;
      await must(ops, () => ops.setattr(file, set, attr));
      expect(attr.size).toBe(to);
      model.fill(0, to);
      size = to;
    };
    const check = async (): Promise<void> => {
      expect((await readAll(session, file)).equals(model.subarray(0, size))).toBe(true);
    };
    await write(0, 1000, 'a');
    await write(500, 3000, 'b');
    await check();
    await truncate(700);
    await check();
    await write(50_000, 10, 'c');
    await check();
    await ops.fsync(file);
    await check();
    await truncate(50_005);
    await truncate(60_000);
    await check();
    await write(50_003, 2, 'd');
    await check();
    await ops.fsync(file);
    await check();
    expect(await must(ops, () => ops.lseek(file, 0, 4))).toBe(4096);
    expect(await must(ops, () => ops.lseek(file, 4096, 3))).toBe(49_152);
    expect(await run(ops, () => ops.lseek(file, 55_000, 3))).toBe(-Errno.ENXIO);
    await must(ops, () => ops.write(file, 0, bytes('end'), WriteFlags.append));
    bytes('end').forEach((byte, at) => {
      model[60_000 + at] = byte;
    });
    size = 60_003;
    await check();
    await must(ops, () => ops.fallocate(file, 3, 100, 50_000));
    model.fill(0, 100, 50_100);
    await check();
    await must(ops, () => ops.fallocate(file, 0, 70_000, 10_000));
    size = 80_000;
    await check();
    await truncate(0);
    await check();
    await write(0, 10, 'z');
    await check();
    ops.release(file, 1);
    expect(await session.client.close()).toBe(0);
    const next = await connect(volume);
    await must(next.ops, () => next.ops.lookup(ROOT, bytes('file'), attr));
    expect((await readAll(next, attr.node)).toString()).toBe('zzzzzzzzzz');
    await next.client.close();
  });

  test('attributes and their times', { timeout: 10_000 }, async () => {
    const session = await connect(newVolume());
    const { ops } = session;
    const file = await create(session, ROOT, 'file', 0o4755);
    const set = new SetAttr();
    set.mask = SetAttrMask.mtime | SetAttrMask.atime | SetAttrMask.uid | SetAttrMask.gid;
    set.uid = 7;
    set.gid = 8;
    set.mtimeSec = -5_000_000_000;
    set.mtimeNsec = 123_456_789;
    set.atimeSec = 5_000_000_000;
    set.atimeNsec = 1;
    await must(ops, () => ops.setattr(file, set, attr));
    expect([attr.uid, attr.gid, attr.mode]).toEqual([7, 8, 0o100755]);
    expect([attr.mtimeSec, attr.mtimeNsec, attr.atimeSec, attr.atimeNsec]).toEqual([
      -5_000_000_000, 123_456_789, 5_000_000_000, 1,
    ]);
    expect(Math.abs(attr.ctimeSec * 1000 - Date.now())).toBeLessThan(60_000);
    await must(ops, () => ops.mknod(ROOT, bytes('dev'), 0o20600, 0x12345, 0, 0, attr));
    expect(attr.rdev).toBe(0x12345);
    await session.client.close();
  });

  test('xattrs', { timeout: 10_000 }, async () => {
    const session = await connect(newVolume());
    const { ops } = session;
    const file = await create(session, ROOT, 'file');
    const value = Buffer.alloc(10_000, 'v');
    await must(ops, () => ops.setxattr(file, bytes('user.a'), value, 0));
    await must(ops, () => ops.setxattr(file, bytes('user.empty'), Buffer.alloc(0), 0));
    expect(await run(ops, () => ops.setxattr(file, bytes('user.a'), value, 1))).toBe(-Errno.EEXIST);
    expect(await run(ops, () => ops.setxattr(file, bytes('user.b'), value, 2))).toBe(-Errno.ENODATA);
    expect(await run(ops, () => ops.setxattr(file, bytes('user.b'), Buffer.alloc(20_000), 0))).toBe(
      -Errno.E2BIG,
    );
    expect(await run(ops, () => ops.setxattr(file, bytes('odd.b'), value, 0))).toBe(-Errno.EOPNOTSUPP);
    const target = Buffer.alloc(65_536);
    expect(await must(ops, () => ops.getxattr(file, bytes('user.a'), target))).toBe(10_000);
    expect(target.subarray(0, 10_000).equals(value)).toBe(true);
    expect(await must(ops, () => ops.getxattr(file, bytes('user.a'), Buffer.alloc(0)))).toBe(10_000);
    expect(await run(ops, () => ops.getxattr(file, bytes('user.a'), Buffer.alloc(5)))).toBe(-Errno.ERANGE);
    const length = await must(ops, () => ops.listxattr(file, target));
    expect(target.subarray(0, length).toString().split('\0').sort()).toEqual(['', 'user.a', 'user.empty']);
    await must(ops, () => ops.removexattr(file, bytes('user.a')));
    expect(await run(ops, () => ops.getxattr(file, bytes('user.a'), target))).toBe(-Errno.ENODATA);
    await session.client.close();
  });
});
