// SPDX-License-Identifier: GPL-2.0-or-later
// How requests are answered, parked, run again and interrupted, without a kernel.

import { constants } from 'node:fs';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { AttrOut } from '../../../ts/client/operations.ts';
import { In, Opcode, READ_LOCKOWNER } from '../../../ts/fuse/abi.ts';
import { INTERRUPTED_LOOK_MS, PARKED_MAX, UNLIMITED_SECONDS } from '../../../ts/fuse/limits.ts';
import { RequestServer } from '../../../ts/fuse/request_server.ts';
import type { NamesOf } from '../../../ts/fuse/stale_retries.ts';
import { FakeDriver } from '../../fixtures/fake_driver.ts';
import { MemoryFs } from '../../fixtures/memory_fs.ts';

let driver: FakeDriver;
let fs: MemoryFs;
let server: RequestServer;
let isKilled: boolean;
let call: { text: string; kind: 'make' | 'rename' | 'other' };
let names: ReturnType<NamesOf>;

beforeEach(() => {
  driver = new FakeDriver();
  fs = new MemoryFs();
  isKilled = true;
  call = { text: '1', kind: 'other' };
  names = null;
  server = new RequestServer(
    driver,
    {
      isKilled: () => isKilled,
      systemCallOf: () => call,
      renamedNames: () => names,
      isRunning: () => false,
      timesRun: () => 0,
    },
    () => 0,
  );
  server.start(fs, () => {});
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const errors = (): [number, number][] => driver.sent.map(({ unique, error }) => [unique, error]);

function held(): { release(result: number): void } {
  let resolve: (result: number) => void = () => {};
  const promise = new Promise<number>((done) => {
    resolve = done;
  });
  fs.onMiss = () => promise;
  return {
    release: (result) => {
      fs.missWhen = null;
      resolve(result);
    },
  };
}

describe('the request server', () => {
  it('answers a found and a missing name, both for as long as the grant stands', () => {
    const { id } = fs.remoteCreate('', 'f', 'text');
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f' });
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 4, name: 'g' });
    fs.cacheable = false;
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 6, name: 'g' });
    const [found, missing, uncached] = driver.sent;
    expect([found?.error, found?.body.length, found?.body.readUInt32LE(0)]).toEqual([0, 128, id]);
    expect(found?.body.readUInt32LE(16)).toBe(UNLIMITED_SECONDS);
    expect(found?.body.readBigUInt64LE(40 + 8)).toBe(4n);
    expect([missing?.error, missing?.body.readUInt32LE(0), missing?.body.readUInt32LE(16)]).toEqual([
      0,
      0,
      UNLIMITED_SECONDS,
    ]);
    expect([uncached?.error, uncached?.body.length]).toEqual([-2, 0]);
    // The answer that may be kept could still be on its way to be stored.
    expect(server.counters()).toMatchObject({ nodes: 1, names: 2, requests: { lookup: 3 } });
  });

  it('says ENOSYS to what it does not know', () => {
    for (const opcode of [Opcode.IOCTL, Opcode.POLL, Opcode.COPY_FILE_RANGE, Opcode.SYNCFS, 63, 4_000_000]) {
      driver.deliver({ opcode, unique: opcode });
    }
    expect(new Set(driver.sent.map(({ error }) => error))).toEqual(new Set([-38]));
    expect(driver.sent).toHaveLength(6);
  });

  it('copies a request that must wait, and runs it again on the copy', async () => {
    const { release } = held();
    const { id } = fs.remoteCreate('', 'f', '');
    fs.missWhen = (operation) => operation === 'write' || operation === 'create';
    const data = Buffer.from('payload');
    driver.deliver({
      opcode: Opcode.WRITE,
      unique: 2,
      node: id,
      fixed: [1, 0, 0, 0, data.length, 0, 0, 0, 0, 0],
      data,
    });
    driver.deliver({ opcode: Opcode.CREATE, unique: 4, fixed: [1, 0o100600, 0, 0], name: 'created' });
    expect(server.counters()).toMatchObject({ parked: 2, misses: 2 });
    expect(driver.sent).toEqual([]);
    release(0);
    await turn();
    expect(errors()).toEqual([
      [2, 0],
      [4, 0],
    ]);
    expect(Buffer.from(fs.find('f').data.subarray(0, 7)).toString()).toBe('payload');
    expect(fs.find('created').mode).toBe(0o100600);
    expect(server.counters()).toMatchObject({ parked: 0, parkedBytes: 0, names: 1 });
  });

  it('knows of a write that comes in parts, until its thread asks for something else', () => {
    const { id } = fs.remoteCreate('', 'f', '');
    const write = (offset: number, size: number, handle = 1): void => {
      const fixed = [handle, 0, offset, 0, size, 0, 0, 0, 0, 0];
      driver.deliver({
        opcode: Opcode.WRITE,
        unique: 2,
        node: id,
        fixed,
        data: new Uint8Array(size),
        pid: 5,
      });
    };
    write(3000, 1096);
    expect(server.kernel.isWriting(id)).toBe(true);
    driver.deliver({ opcode: Opcode.GETATTR, unique: 4, node: id, fixed: [0, 0, 0, 0], pid: 6 });
    expect(server.kernel.isWriting(id)).toBe(true);
    write(4096, 1904);
    expect(server.kernel.isWriting(id)).toBe(false);
    write(3000, 1096, 17);
    expect(server.kernel.isWriting(id)).toBe(false);
    write(3000, 1096);
    driver.deliver({ opcode: Opcode.GETATTR, unique: 6, node: id, fixed: [0, 0, 0, 0], pid: 5 });
    expect(server.kernel.isWriting(id)).toBe(false);
  });

  it('makes up for a page that an invalidation left out while its WRITE waited', async () => {
    // The moment that the answer waits at most does not pass.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { release } = held();
    const { id } = fs.remoteCreate('', 'f', '');
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f' });
    fs.missWhen = (operation) => operation === 'write';
    const fixed = [1, 0, 4000, 0, 200, 0, 0, 0, 0, 0];
    driver.deliver({ opcode: Opcode.WRITE, unique: 4, node: id, fixed, data: new Uint8Array(200) });
    server.kernel.givePages(id);
    server.kernel.forgetBytes(id, 0, 16_384);
    await server.kernel.settled();
    expect(driver.told.slice(1)).toEqual([`inode ${id} 0 4096`, `inode ${id} 8192 8192`]);
    // Its answer waits until the kernel has forgotten the pages, the one that was left out too.
    driver.blocks = (note) => note.startsWith('inode');
    release(0);
    await turn();
    expect(driver.told.at(-1)).toBe(`inode ${id} 0 8192`);
    expect(driver.sent.some(({ unique }) => unique === 4)).toBe(false);
    driver.unblock();
    await turn();
    expect(driver.sent.at(-1)).toMatchObject({ unique: 4, error: 0 });
  });

  it('answers a WRITE that keeps its page locked itself after a moment', async () => {
    const { release } = held();
    const { id } = fs.remoteCreate('', 'f', '');
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f' });
    fs.missWhen = (operation) => operation === 'write';
    const fixed = [1, 0, 4000, 0, 50, 0, 0, 0, 0, 0];
    driver.deliver({ opcode: Opcode.WRITE, unique: 4, node: id, fixed, data: new Uint8Array(50) });
    server.kernel.forgetBytes(id, 0, 16_384);
    await server.kernel.settled();
    driver.blocks = (note) => note.startsWith('inode');
    release(0);
    await vi.waitFor(() => expect(driver.sent.at(-1)).toMatchObject({ unique: 4, error: 0 }));
    driver.unblock();
  });

  it('answers a READ of pages after a WRITE of them that waits', async () => {
    const { release } = held();
    const { id } = fs.remoteCreate('', 'f', 'old content');
    const read = (unique: number, offset: number, flags = 0): void =>
      driver.deliver({
        opcode: Opcode.READ,
        unique,
        node: id,
        fixed: [0, 0, offset, 0, 4096, flags, 0, 0, 0, 0],
      });
    const fixed = [1, 0, 4, 0, 3, 0, 0, 0, 0, 0];
    fs.missWhen = (operation) => operation === 'write';
    driver.deliver({ opcode: Opcode.WRITE, unique: 4, node: id, fixed, data: Buffer.from('new') });
    read(6, 0);
    read(8, 4096);
    read(10, 0, READ_LOCKOWNER);
    expect(driver.sent.map(({ unique }) => unique)).toEqual([8, 10]);
    release(0);
    await turn();
    expect(driver.sent.map(({ unique }) => unique)).toEqual([8, 10, 4, 6]);
    expect(driver.sent.at(-1)!.body.toString()).toBe('old newtent');
    expect(server.counters().parked).toBe(0);
  });

  it('answers with the error of what could not be fetched', async () => {
    const { release } = held();
    fs.missWhen = () => true;
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f' });
    release(-5);
    await turn();
    expect(errors()).toEqual([[2, -5]]);
    expect(server.counters().parked).toBe(0);
  });

  it('goes on over a signal that does not kill, and ends when one does', async () => {
    const { release } = held();
    fs.missWhen = () => true;
    isKilled = false;
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f' });
    driver.deliver({ opcode: Opcode.INTERRUPT, unique: 3, fixed: [2, 0] });
    await turn();
    expect(errors()).toEqual([]);
    isKilled = true;
    await new Promise((resolve) => setTimeout(resolve, INTERRUPTED_LOOK_MS + 100));
    expect(errors()).toEqual([[2, -4]]);
    release(0);
    await turn();
    expect(errors()).toHaveLength(1);
  });

  it('answers a request whose thread is killed EINTR, once', async () => {
    const { release } = held();
    fs.missWhen = () => true;
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f' });
    driver.deliver({ opcode: Opcode.INTERRUPT, unique: 3, fixed: [2, 0] });
    driver.deliver({ opcode: Opcode.INTERRUPT, unique: 5, fixed: [77, 0] });
    expect(errors()).toEqual([[2, -4]]);
    release(0);
    await turn();
    expect(errors()).toHaveLength(1);
  });

  it('lets a thread that is killed leave fsync, but not a write that has taken effect', async () => {
    const { id } = fs.remoteCreate('', 'f', '');
    let durable: (result: number) => void = () => {};
    const promise = new Promise<number>((resolve) => {
      durable = resolve;
    });
    fs.onSync = () => promise;
    const O_SYNC = 0o4010001;
    const fixed = [1, 0, 0, 0, 3, 0, 0, 0, O_SYNC, 0];
    driver.deliver({ opcode: Opcode.WRITE, unique: 2, node: id, fixed, data: Buffer.from('abc') });
    driver.deliver({ opcode: Opcode.FSYNC, unique: 4, node: id, fixed: [0, 0, 0, 0] });
    driver.deliver({ opcode: Opcode.FSYNCDIR, unique: 6, node: 1, fixed: [0, 0, 0, 0] });
    for (const unique of [2, 4])
      driver.deliver({ opcode: Opcode.INTERRUPT, unique: unique + 1, fixed: [unique, 0] });
    expect(errors()).toEqual([[4, -4]]);
    durable(0);
    await turn();
    expect(errors().slice(1).sort()).toEqual([
      [2, 0],
      [6, 0],
    ]);
    expect(driver.sent.find(({ unique }) => unique === 2)?.body.readUInt32LE(0)).toBe(3);
    expect(server.counters()).toMatchObject({ parked: 0, parkedBytes: 0 });
  });

  it('refuses to park more than its bound', () => {
    held();
    fs.missWhen = () => true;
    for (let unique = 2; unique <= 2 * PARKED_MAX + 4; unique += 2) {
      driver.deliver({ opcode: Opcode.LOOKUP, unique, name: 'f' });
    }
    expect(server.counters().parked).toBe(PARKED_MAX);
    expect(new Set(driver.sent.map(({ error }) => error))).toEqual(new Set([-12]));
    expect(driver.sent).toHaveLength(2);
  });

  it('counts references until the kernel forgets them', () => {
    const files = ['a', 'b', 'c'].map((name) => fs.remoteCreate('', name, ''));
    for (const [index, name] of ['a', 'b', 'c', 'a'].entries()) {
      driver.deliver({ opcode: Opcode.LOOKUP, unique: 2 + index * 2, name });
    }
    driver.sent.length = 0;
    driver.deliver({ opcode: Opcode.FORGET, unique: 0, node: files[0]!.id, fixed: [1, 0] });
    const records = new Uint32Array([files[0]!.id, 0, 1, 0, files[1]!.id, 0, 1, 0]);
    const data = new Uint8Array(records.buffer);
    driver.deliver({ opcode: Opcode.BATCH_FORGET, unique: 0, node: 0, fixed: [2, 0], data });
    expect(driver.sent).toEqual([]);
    expect(fs.forgotten).toEqual([files[0]!.id, files[1]!.id]);
    expect([server.kernel.isReferenced(files[1]!.id), server.kernel.isReferenced(files[2]!.id)]).toEqual([
      false,
      true,
    ]);
  });

  it('opens for append directly, and read-only without FLUSH', () => {
    const { id } = fs.remoteCreate('', 'f', 'text');
    const flagsOf = (flags: number): number => {
      driver.sent.length = 0;
      driver.deliver({ opcode: Opcode.OPEN, unique: 2, node: id, fixed: [flags, 0] });
      return driver.sent[0]!.body.readUInt32LE(8);
    };
    expect(flagsOf(0o0)).toBe(2 | 32);
    expect(flagsOf(0o1)).toBe(2);
    expect(flagsOf(0o2001)).toBe(2 | 1);
    expect(flagsOf(0o2000)).toBe(2 | 32);
  });

  it('opens what another client has just made, if that is what the call would do', () => {
    const [O_CREAT, O_RDWR] = [0o100, 0o2];
    let unique = 100;
    const create = (name: string, flags: number, uid = 0, pid = 1): number => {
      unique += 2;
      const fixed = [O_CREAT | O_RDWR | flags, 0o100644, 0, 0];
      driver.deliver({ opcode: Opcode.CREATE, unique, fixed, name, uid, pid });
      return driver.sent.at(-1)!.error;
    };
    fs.remoteCreate('', 'file', 'text');
    fs.find('file').uid = 7;
    fs.mkdir(1, Buffer.from('dir'), 0o755, 0, 0, new AttrOut());
    fs.symlink(1, Buffer.from('link'), Buffer.from('file'), 0, 0, new AttrOut());
    expect([create('file', 0), create('file', 0, 7), create('file', 0o200)]).toEqual([0, 0, -17]);
    expect([create('dir', 0), create('link', constants.O_NOFOLLOW)]).toEqual([-21, -40]);
    // What the kernel must decide, it looks at anew.
    expect([create('file', 0, 8, 2), create('link', 0, 0, 3), create('link', 0, 0, 3)]).toEqual([
      -116, -116, -116,
    ]);
    fs.find('file').mode = 0o100444;
    expect(create('file', 0, 7, 4)).toBe(-116);
  });

  it('does not let a rename take a name that moved meanwhile for two links', () => {
    fs.remoteCreate('', 'old', '');
    let unique = 200;
    const lookup = (name: string): number => {
      unique += 2;
      driver.deliver({ opcode: Opcode.LOOKUP, unique, name, pid: 5, uid: 0 });
      return driver.sent.at(-1)!.error;
    };
    const move = (from: string, to: string): number => fs.rename(1, Buffer.from(from), 1, Buffer.from(to), 0);
    call = { text: 'rename', kind: 'rename' };
    expect(lookup('old')).toBe(0);
    expect(move('old', 'new')).toBe(0);
    expect([lookup('new'), lookup('new')]).toEqual([-116, 0]);
    // Once more after the call began anew: the kernel is to ask for the rename.
    expect(move('new', 'newer')).toBe(0);
    expect([lookup('newer'), lookup('newer')]).toEqual([-2, 0]);
    // Two links are two links, and other calls find what is there.
    const { id } = fs.find('newer');
    expect(fs.link(id, 1, Buffer.from('link'), new AttrOut())).toBe(0);
    expect(lookup('link')).toBe(0);
    call = { text: 'stat', kind: 'other' };
    expect(move('link', 'link2')).toBe(0);
    expect(lookup('link2')).toBe(0);
  });

  it('has a rename decided whose target the kernel asks for once more, and not the next one by its source', () => {
    fs.remoteCreate('', 'old', '');
    let unique = 400;
    const lookup = (name: string): number => {
      unique += 2;
      driver.deliver({ opcode: Opcode.LOOKUP, unique, name, pid: 5, uid: 0 });
      return driver.sent.at(-1)!.error;
    };
    const move = (from: string, to: string): number => fs.rename(1, Buffer.from(from), 1, Buffer.from(to), 0);
    const renames = (source: string, target: string): void => {
      call = { text: `${source} ${target}`, kind: 'rename' };
      const named = (name: string) => ({
        name: Buffer.from(name),
        directory: () => null,
        directoryName: null,
      });
      names = { source: named(source), target: named(target) };
    };
    renames('old', 'new');
    expect([lookup('old'), move('old', 'new')]).toEqual([0, 0]);
    // The kernel had the target: it takes ESTALE for another file, and looks it up.
    expect([lookup('new'), lookup('new')]).toEqual([-116, -2]);
    renames('new', 'third');
    expect(lookup('new')).toBe(0);
  });

  it('gives a directory anew that the kernel takes for removed, since another one was', async () => {
    let unique = 300;
    const ask = (opcode: number, name: string): { error: number; body: Buffer } => {
      unique += 2;
      driver.deliver({ opcode, unique, name, pid: 5, uid: 0, fixed: [] });
      return driver.sent.at(-1)!;
    };
    const { id } = fs.remoteCreate('', 'kept', '');
    fs.find('kept').mode = 0o040755;
    const lookup = (name: string): bigint => ask(Opcode.LOOKUP, name).body.readBigUInt64LE(0);
    expect(lookup('kept')).toBe(BigInt(id));
    // Another one is there when the kernel removes what it looked at: it looks again, once.
    expect(fs.rename(1, Buffer.from('kept'), 1, Buffer.from('away'), 0)).toBe(0);
    fs.remoteCreate('', 'kept', '');
    fs.find('kept').mode = 0o040755;
    expect([ask(Opcode.RMDIR, 'kept').error, ask(Opcode.RMDIR, 'kept').error]).toEqual([-116, 0]);
    ask(Opcode.LOOKUP, 'away');
    // What the kernel keeps of the old one goes first.
    await vi.waitFor(() => expect(driver.sent.at(-1)!.unique).toBe(unique));
    const again = lookup('away');
    expect([again > 2n ** 52n, lookup('away') === again]).toEqual([true, true]);
  });

  it('has a request that comes into a directory whose lock is waited for begin anew', async () => {
    fs.remoteCreate('', 'f', '');
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 2, name: 'f', pid: 1 });
    driver.blocks = (note) => note.startsWith('name');
    server.kernel.forgetNames(1, 0, 2 ** 32);
    const settled = server.kernel.settled();
    await turn();
    const { release } = held();
    fs.missWhen = () => true;
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 4, name: 'g', pid: 2 });
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 6, name: 'g', pid: 2 });
    await turn();
    expect(errors()).toEqual([
      [2, 0],
      [4, -116],
    ]);
    // The kernel's lock is not free in time: the name is given up, and a rename must not rely on it.
    await settled;
    release(0);
    await turn();
    call = { text: 'rename', kind: 'rename' };
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 8, name: 'f', pid: 3 });
    driver.unblock();
    await turn();
    driver.deliver({ opcode: Opcode.LOOKUP, unique: 10, name: 'f', pid: 4 });
    expect(errors().slice(-2)).toEqual([
      [8, -116],
      [10, 0],
    ]);
  });

  it('reads a file that is longer than one reply', () => {
    const { id } = fs.remoteCreate('', 'f', '');
    const node = fs.find('f');
    node.data = Uint8Array.from({ length: 3 << 20 }, (_, index) => index % 251);
    node.size = node.data.length;
    const read = (unique: number, offset: number, size: number): Buffer => {
      driver.deliver({
        opcode: Opcode.READ,
        unique,
        node: id,
        fixed: [0, 0, offset, 0, size, 0, 0, 0, 0, 0],
      });
      return driver.sent.at(-1)!.body;
    };
    expect(read(2, 1 << 20, 1 << 20).equals(Buffer.from(node.data.subarray(1 << 20, 2 << 20)))).toBe(true);
    expect(read(4, (3 << 20) - 10, 4096)).toHaveLength(10);
    expect(read(6, 5 << 20, 4096)).toHaveLength(0);
    for (let unique = 8; unique < 40; unique += 2) expect(read(unique, unique, 100)[0]).toBe(unique % 251);
  });

  it('lists with and without attributes, in pieces of any size', () => {
    for (let index = 0; index < 100; index++) fs.remoteCreate('', `name-${index}`, '');
    for (const opcode of [Opcode.READDIR, Opcode.READDIRPLUS]) {
      driver.sent.length = 0;
      driver.deliver({ opcode: Opcode.OPENDIR, unique: 2, fixed: [0, 0] });
      const handle = driver.sent[0]!.body.readUInt32LE(0);
      const seen = listAll(opcode, handle);
      expect(seen).toHaveLength(102);
      expect(new Set(seen).size).toBe(102);
      driver.deliver({ opcode: Opcode.RELEASEDIR, unique: 4, fixed: [handle, 0, 0, 0, 0, 0] });
    }
    expect(server.counters()).toMatchObject({ nodes: 100, names: 100 });
  });

  function listAll(opcode: number, handle: number): string[] {
    const names: string[] = [];
    let cookie = 0;
    for (;;) {
      const fixed = [handle, 0, cookie, 0, 700, 0, 0, 0, 0, 0];
      driver.deliver({ opcode, unique: 8, fixed });
      const { body, error } = driver.sent.at(-1)!;
      expect([error, body.length % 8]).toEqual([0, 0]);
      if (body.length === 0) return names;
      const prefix = opcode === Opcode.READDIRPLUS ? 128 : 0;
      for (let at = 0; at < body.length; ) {
        const length = body.readUInt32LE(at + prefix + 16);
        cookie = body.readUInt32LE(at + prefix + 8);
        names.push(body.toString('latin1', at + prefix + 24, at + prefix + 24 + length));
        at += (prefix + 24 + length + 7) & ~7;
      }
    }
  }

  it('sets only what it is asked to, and clears set-user-ID with the owner', () => {
    const { id } = fs.remoteCreate('', 'f', '');
    const node = fs.find('f');
    node.mode = 0o104755;
    const fixed = new Array<number>(22).fill(0);
    fixed[In.setattr.valid] = 16 | 64 | 512;
    fixed[In.setattr.atime] = 0xffff_fff6;
    fixed[In.setattr.atime + 1] = 0xffff_ffff;
    driver.deliver({ opcode: Opcode.SETATTR, unique: 2, node: id, fixed });
    expect([node.atime, node.mode]).toEqual([-10, 0o104755]);
    fixed[In.setattr.valid] = 2;
    fixed[In.setattr.uid] = 7;
    driver.deliver({ opcode: Opcode.SETATTR, unique: 4, node: id, fixed });
    expect([node.uid, node.mode]).toEqual([7, 0o100755]);
    expect(driver.sent.map(({ body }) => body.length)).toEqual([104, 104]);
    expect(driver.sent[0]!.body.readBigInt64LE(16 + 24)).toBe(-10n);
  });
});
