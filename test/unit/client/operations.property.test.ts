// SPDX-License-Identifier: GPL-2.0-or-later
//
// The operations do to a file system what they do to a plain model of one, with a cache far too small, with syncs at
// any moment; what the client predicted is what the volume made; and the next client sees the same.

import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DirSink, SetAttr, SetAttrMask, WriteFlags } from '../../../ts/client/operations.ts';
import type { MemoryVolume } from '../../../ts/store/memory_volume.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { AttrOut, bytes, connect, must, newVolume, run, type Session, TestServer } from './harness.ts';

interface ModelInode {
  readonly kind: 'file' | 'dir' | 'link';
  mode: number;
  uid: number;
  content: Buffer;
  target: string;
  readonly names: Map<string, ModelInode>;
  readonly xattrs: Map<string, Buffer>;
  nlink: number;
  node: number;
}

function newInode(kind: 'file' | 'dir' | 'link'): ModelInode {
  return {
    kind,
    mode: 0,
    uid: 0,
    content: Buffer.alloc(0),
    target: '',
    names: new Map(),
    xattrs: new Map(),
    nlink: 1,
    node: 1,
  };
}

interface Step {
  readonly op: string;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

const OPS = [
  'create',
  'create',
  'create',
  'mkdir',
  'symlink',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'rename',
  'write',
  'write',
  'write',
  'append',
  'truncate',
  'punch',
  'allocate',
  'chmod',
  'setxattr',
  'removexattr',
  'read',
  'list',
  'fsync',
  'pause',
];

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom(...OPS),
  a: fc.nat({ max: 1000 }),
  b: fc.nat({ max: 1000 }),
  c: fc.nat({ max: 1_000_000 }),
});

const NAMES = ['a', 'b', 'c', 'd', 'a-longer-name', '\xff\xfe', 'x'.repeat(200), 'e'];

class World {
  session: Session;
  readonly root: ModelInode = newInode('dir');
  readonly attr = new AttrOut();
  /** Every directory, dead ones out. */
  readonly dirs: ModelInode[] = [this.root];

  constructor(session: Session) {
    this.session = session;
  }

  dir(pick: number): ModelInode {
    return this.dirs[pick % this.dirs.length]!;
  }

  name(pick: number): string {
    return NAMES[pick % NAMES.length]!;
  }

  isBelow(dir: ModelInode, ancestor: ModelInode): boolean {
    if (dir === ancestor) return true;
    for (const child of ancestor.names.values()) {
      if (child.kind === 'dir' && this.isBelow(dir, child)) return true;
    }
    return false;
  }

  async do(one: Step): Promise<void> {
    const { ops } = this.session;
    const { attr } = this;
    const dir = this.dir(one.a);
    const name = this.name(one.b);
    const there = dir.names.get(name);
    const raw = bytes(name);
    switch (one.op) {
      case 'create': {
        const result = await run(ops, () => ops.create(dir.node, raw, 0o600, 0, 0, 1, attr));
        expect(result).toBe(there ? -Errno.EEXIST : 0);
        if (there) return;
        const inode = newInode('file');
        inode.mode = 0o600;
        inode.node = attr.node;
        dir.names.set(name, inode);
        if (one.c % 3 > 0) await this.write(inode, 0, one.c % 6000);
        ops.release(inode.node, 1);
        return;
      }
      case 'mkdir': {
        const result = await run(ops, () => ops.mkdir(dir.node, raw, 0o700, 0, 0, attr));
        expect(result).toBe(there ? -Errno.EEXIST : 0);
        if (there) return;
        const inode = newInode('dir');
        inode.mode = 0o700;
        inode.node = attr.node;
        dir.names.set(name, inode);
        this.dirs.push(inode);
        return;
      }
      case 'symlink': {
        const target = `t${one.c}`;
        const result = await run(ops, () => ops.symlink(dir.node, raw, bytes(target), 0, 0, attr));
        expect(result).toBe(there ? -Errno.EEXIST : 0);
        if (there) return;
        const inode = newInode('link');
        inode.mode = 0o777;
        inode.target = target;
        inode.node = attr.node;
        dir.names.set(name, inode);
        return;
      }
      case 'link': {
        const source = this.file(one.c);
        if (source === null) return;
        const result = await run(ops, () => ops.link(source.node, dir.node, raw, attr));
        expect(result).toBe(there ? -Errno.EEXIST : 0);
        if (there) return;
        source.nlink++;
        dir.names.set(name, source);
        return;
      }
      case 'unlink': {
        const result = await run(ops, () => ops.unlink(dir.node, raw));
        if (!there) expect(result).toBe(-Errno.ENOENT);
        else if (there.kind === 'dir') expect(result).toBe(-Errno.EISDIR);
        else {
          expect(result).toBe(0);
          dir.names.delete(name);
          there.nlink--;
        }
        return;
      }
      case 'rmdir': {
        const result = await run(ops, () => ops.rmdir(dir.node, raw));
        if (!there) expect(result).toBe(-Errno.ENOENT);
        else if (there.kind !== 'dir') expect(result).toBe(-Errno.ENOTDIR);
        else if (there.names.size > 0) expect(result).toBe(-Errno.ENOTEMPTY);
        else {
          expect(result).toBe(0);
          dir.names.delete(name);
          this.dirs.splice(this.dirs.indexOf(there), 1);
        }
        return;
      }
      case 'rename':
        return this.rename(one, dir, name);
      case 'setxattr': {
        const inode = this.any(one.c);
        const value = Buffer.alloc(one.c % 700, 'v');
        await must(ops, () => ops.setxattr(inode.node, bytes(`user.${name.slice(0, 20)}`), value, 0));
        inode.xattrs.set(`user.${name.slice(0, 20)}`, value);
        return;
      }
      case 'removexattr': {
        const inode = this.any(one.c);
        const full = `user.${name.slice(0, 20)}`;
        const result = await run(ops, () => ops.removexattr(inode.node, bytes(full)));
        expect(result).toBe(inode.xattrs.delete(full) ? 0 : -Errno.ENODATA);
        return;
      }
      case 'chmod': {
        const inode = this.any(one.c);
        const set = new SetAttr();
        set.mask = SetAttrMask.mode | SetAttrMask.uid;
        set.mode = one.a & 0o777;
        set.uid = one.b;
        await must(ops, () => ops.setattr(inode.node, set, attr));
        inode.mode = one.a & 0o777;
        inode.uid = one.b;
        return;
      }
      case 'list':
        return this.checkDir(this.session, dir, dir.node);
      case 'fsync':
        expect(await ops.fsync(1)).toBe(0);
        return;
      case 'pause':
        await new Promise((resolve) => setTimeout(resolve, one.c % 5));
        return;
      default:
        return this.bytesStep(one);
    }
  }

  async bytesStep(one: Step): Promise<void> {
    const { ops } = this.session;
    const { attr } = this;
    const file = this.file(one.c);
    if (file === null) return;
    const offset = (one.a * 97) % 30_000;
    const length = 1 + ((one.b * 31) % 12_000);
    switch (one.op) {
      case 'write':
        return this.write(file, offset, length);
      case 'append': {
        const data = Buffer.alloc(length, 'p');
        await must(ops, () => ops.write(file.node, 0, data, WriteFlags.append));
        file.content = Buffer.concat([file.content, data]);
        return;
      }
      case 'truncate': {
        const set = new SetAttr();
        set.mask = SetAttrMask.size;
        set.size = one.a % 3 === 0 ? 0 : offset;
        const to = set.size;
        await must(ops, () => ops.setattr(file.node, set, attr));
        expect(attr.size).toBe(to);
        const content = Buffer.alloc(to);
        file.content.copy(content);
        file.content = content;
        return;
      }
      case 'punch':
        await must(ops, () => ops.fallocate(file.node, 3, offset, length));
        file.content.fill(
          0,
          Math.min(offset, file.content.length),
          Math.min(offset + length, file.content.length),
        );
        return;
      case 'allocate': {
        await must(ops, () => ops.fallocate(file.node, 0, offset, length));
        if (offset + length > file.content.length) {
          file.content = Buffer.concat([file.content, Buffer.alloc(offset + length - file.content.length)]);
        }
        return;
      }
      default:
        return this.checkContent(this.session, file, file.node);
    }
  }

  async write(file: ModelInode, offset: number, length: number): Promise<void> {
    const { ops } = this.session;
    const data = Buffer.alloc(length);
    for (let at = 0; at < length; at++) data[at] = (offset * 7 + at * 13 + length) & 0xff;
    await must(ops, () => ops.write(file.node, offset, data, 0));
    if (length === 0) return;
    const content = Buffer.alloc(Math.max(file.content.length, offset + length));
    file.content.copy(content);
    data.copy(content, offset);
    file.content = content;
  }

  async rename(one: Step, dir: ModelInode, name: string): Promise<void> {
    const { ops } = this.session;
    const target = this.dir(one.c);
    const targetName = this.name(one.c >> 4);
    const source = dir.names.get(name);
    const victim = target.names.get(targetName);
    const result = await run(ops, () => ops.rename(dir.node, bytes(name), target.node, bytes(targetName), 0));
    if (!source) {
      expect(result).toBe(-Errno.ENOENT);
      return;
    }
    if (victim !== undefined && victim !== source) {
      if (source.kind === 'dir' && victim.kind !== 'dir') return expect(result).toBe(-Errno.ENOTDIR);
      if (source.kind !== 'dir' && victim.kind === 'dir') return expect(result).toBe(-Errno.EISDIR);
    }
    if (victim === source) return expect(result).toBe(0);
    if (source.kind === 'dir' && this.isBelow(target, source)) return expect(result).toBe(-Errno.EINVAL);
    if (victim?.kind === 'dir' && victim.names.size > 0) return expect(result).toBe(-Errno.ENOTEMPTY);
    expect(result).toBe(0);
    if (victim !== undefined) {
      victim.nlink--;
      if (victim.kind === 'dir') this.dirs.splice(this.dirs.indexOf(victim), 1);
    }
    dir.names.delete(name);
    target.names.set(targetName, source);
  }

  /** Some file that has a name. */
  file(pick: number): ModelInode | null {
    const files: ModelInode[] = [];
    for (const dir of this.dirs)
      for (const one of dir.names.values()) if (one.kind === 'file') files.push(one);
    return files.length === 0 ? null : files[pick % files.length]!;
  }

  any(pick: number): ModelInode {
    const all: ModelInode[] = [];
    for (const dir of this.dirs) {
      all.push(dir);
      for (const one of dir.names.values()) if (one.kind === 'file') all.push(one);
    }
    return all[pick % all.length]!;
  }

  async checkContent(session: Session, file: ModelInode, node: number): Promise<void> {
    const { ops } = session;
    const target = Buffer.alloc(file.content.length + 10, 'Z');
    const length = await must(ops, () => ops.read(node, 0, target.length, target, 0));
    expect(length).toBe(file.content.length);
    expect(target.subarray(0, length).equals(file.content)).toBe(true);
  }

  async checkDir(session: Session, dir: ModelInode, node: number): Promise<void> {
    const { ops } = session;
    const names: string[] = [];
    let cookie = 0;
    const sink: DirSink = {
      add(from, start, length, _node, _ino, _type, next) {
        if (names.length % 3 === 2 && cookie % 2 === 0) {
          cookie = cookie + 0.5;
          return false;
        }
        names.push(Buffer.from(from.subarray(start, start + length)).toString('latin1'));
        cookie = next;
        return true;
      },
    };
    for (;;) {
      const from = Math.floor(cookie);
      const before = names.length;
      cookie = from + (cookie > from ? 1e-6 : 0);
      const position = from;
      await must(ops, () => {
        cookie = position + (cookie > position ? 1e-6 : 0);
        return ops.readdir(node, position, Infinity, sink, this.attr);
      });
      if (names.length === before && cookie === position) break;
      if (names.length === before && cookie > position + 0.4) cookie = position + 1e-6;
    }
    expect(names.slice(2).sort()).toEqual([...dir.names.keys()].sort());
  }

  /** Compares everything, from the root on. */
  async checkAll(session: Session): Promise<void> {
    await this.checkTree(session, this.root, 1);
  }

  async checkTree(session: Session, dir: ModelInode, node: number): Promise<void> {
    const { ops } = session;
    await this.checkDir(session, dir, node);
    for (const [name, inode] of dir.names) {
      const attr = new AttrOut();
      await must(ops, () => ops.lookup(node, bytes(name), attr));
      expect(attr.mode & 0o7777).toBe(inode.mode);
      expect(attr.uid).toBe(inode.uid);
      expect(attr.nlink).toBe(inode.nlink);
      for (const [full, value] of inode.xattrs) {
        const target = Buffer.alloc(1000);
        const length = await must(ops, () => ops.getxattr(attr.node, bytes(full), target));
        expect(target.subarray(0, length).equals(value)).toBe(true);
      }
      if (inode.kind === 'file') {
        expect(attr.size).toBe(inode.content.length);
        await this.checkContent(session, inode, attr.node);
      } else if (inode.kind === 'dir') {
        await this.checkTree(session, inode, attr.node);
      } else {
        const target = Buffer.alloc(100);
        const length = await must(ops, () => ops.readlink(attr.node, target));
        expect(target.subarray(0, length).toString()).toBe(inode.target);
      }
    }
  }
}

/** The directories' sizes and the inodes' nbytes are what their items add up to. */
function checkVolume(volume: MemoryVolume): void {
  const { items } = volume;
  const sizes = new Map<number, number>();
  const sums = new Map<number, number>();
  let found = items.seek(5, 0, 0, 0);
  while (found) {
    if (items.type === 1) {
      const isDir = (items.view.getUint32(items.start + 52, true) & 0o170000) === 0o040000;
      const at = isDir ? 16 : 24;
      sizes.set(items.objectid, Number(items.view.getBigUint64(items.start + at, true)));
    } else if (items.type === 96) {
      sums.set(
        items.objectid,
        (sums.get(items.objectid) ?? 0) + 2 * items.view.getUint16(items.start + 27, true),
      );
    } else if (items.type === 108) {
      const isInline = items.view.getUint8(items.start + 20) === 0;
      const length = Number(items.view.getBigUint64(items.start + (isInline ? 8 : 45), true));
      sums.set(items.objectid, (sums.get(items.objectid) ?? 0) + length);
    }
    found = items.next();
  }
  for (const [ino, size] of sizes) expect([ino, sums.get(ino) ?? 0]).toEqual([ino, size]);
}

describe('operations against a model', () => {
  for (const [cacheBytes, clients] of [
    [96 << 10, 1],
    [64 << 20, 1],
    [1 << 20, 2],
  ] as const) {
    test(`with ${clients} clients and caches of ${cacheBytes} bytes`, { timeout: 120_000 }, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 250, size: 'max' }), async (steps) => {
          const volume = newVolume();
          const server = new TestServer(volume);
          await server.server.start();
          const sessions: Session[] = [];
          while (sessions.length < clients) sessions.push(await server.connect({ cacheBytes }));
          const world = new World(sessions[0]!);
          for (const one of steps) {
            world.session = sessions[one.c % clients]!;
            await world.do(one);
          }
          for (const session of sessions) await world.checkAll(session);
          for (const session of sessions) {
            expect(await session.client.close()).toBe(0);
            expect(session.log).toEqual([]);
          }
          checkVolume(volume);
          const next = await connect(volume, { cacheBytes });
          await world.checkAll(next);
          await next.client.close();
        }),
        { numRuns: 60 },
      );
    });
  }
});
