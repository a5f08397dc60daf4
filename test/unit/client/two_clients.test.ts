// SPDX-License-Identifier: GPL-2.0-or-later
//
// Two clients of one server: what one changes the other sees, also what is dirty, open without a name, or only just
// being asked for.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { type KernelCache, NO_KERNEL } from '../../../ts/client/kernel_cache.ts';
import {
  MISS,
  OpenFlags,
  OpenResult,
  ReadFlags,
  SetAttr,
  SetAttrMask,
} from '../../../ts/client/operations.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { AttrOut, bytes, create, must, newVolume, read, run, type Session, TestServer } from './harness.ts';

const ROOT = 1;
const attr = new AttrOut();

describe('two clients', () => {
  test('see what the other did, also while it is still dirty there', { timeout: 20_000 }, async () => {
    const server = new TestServer(newVolume());
    await server.server.start();
    const one = await server.connect();
    const two = await server.connect();
    await create(one, ROOT, 'a', 'by one');
    expect(await read(two, ROOT, 'a')).toBe('by one');
    await create(two, ROOT, 'b', 'by two');
    expect(await read(one, ROOT, 'b')).toBe('by two');
    for (let round = 0; round < 20; round++) {
      const [writer, reader] = round % 2 === 0 ? [one, two] : [two, one];
      const { ops } = writer;
      await must(ops, () => ops.lookup(ROOT, bytes('a'), attr));
      const { node } = attr;
      await must(ops, () => ops.open(node, 1));
      await must(ops, () => ops.write(node, 0, bytes(`round ${round}`), 0));
      ops.release(node, 1);
      expect(await read(reader, ROOT, 'a')).toBe(`round ${round}`);
      await create(writer, ROOT, `file-${round}`, `${round}`);
      expect(await read(reader, ROOT, `file-${round}`)).toBe(`${round}`);
    }
    await must(two.ops, () => two.ops.unlink(ROOT, bytes('a')));
    expect(await read(one, ROOT, 'a')).toBe(`errno ${Errno.ENOENT}`);
    expect(await one.client.close()).toBe(0);
    expect(await read(two, ROOT, 'file-19')).toBe('19');
    expect(await two.client.close()).toBe(0);
    expect([...one.log, ...two.log]).toEqual([]);
  });

  test('take turns in one directory without losing a name', { timeout: 60_000 }, async () => {
    const server = new TestServer(newVolume());
    await server.server.start();
    const sessions = [await server.connect(), await server.connect()];
    await Promise.all(
      sessions.map(async (session, which) => {
        for (let index = 0; index < 100; index++) {
          const { ops } = session;
          const own = new AttrOut();
          await must(ops, () => ops.create(ROOT, bytes(`${which}-${index}`), 0o644, 0, 0, 1, own));
          const { node } = own;
          await must(ops, () => ops.write(node, 0, bytes(`${which}/${index}`), 0));
          ops.release(node, 1);
        }
      }),
    );
    for (const session of sessions) {
      for (let which = 0; which < 2; which++) {
        for (let index = 0; index < 100; index++) {
          expect(await read(session, ROOT, `${which}-${index}`)).toBe(`${which}/${index}`);
        }
      }
    }
    for (const session of sessions) expect(await session.client.close()).toBe(0);
  });

  test('the kernel is told of names before inodes, and before the release', { timeout: 10_000 }, async () => {
    const server = new TestServer(newVolume());
    await server.server.start();
    const one = await server.connect();
    const events: string[] = [];
    const releases: number[] = [];
    const kernel: KernelCache = {
      ...NO_KERNEL,
      forgetNames: (dir) => events.push(`names ${dir}`),
      forgetAttributes: (start, end) => events.push(`attributes ${start <= 1 && end > 1}`),
      forgetBytes: () => events.push('bytes'),
      settled: async () => {
        events.push('settled');
        releases.push(one.counters.report().messages.sent['release'] ?? 0);
      },
    };
    await create(one, ROOT, 'a', 'text');
    one.client.attachKernel(kernel);
    const two = await server.connect();
    await must(two.ops, () => two.ops.mkdir(ROOT, bytes('b'), 0o755, 0, 0, attr));
    const firstSettled = events.indexOf('settled');
    expect(firstSettled).toBeGreaterThan(0);
    expect(releases[0]).toBe(0);
    const lastName = events.lastIndexOf('names 1', firstSettled);
    const firstInode = events.findIndex((event) => event.startsWith('attributes') || event === 'bytes');
    if (lastName >= 0 && firstInode >= 0) expect(lastName).toBeLessThan(firstInode);
    await one.client.close();
    await two.client.close();
  });
});

test('what a reader comes for after each change is given to it before it asks', {
  timeout: 10_000,
}, async () => {
  const { one, two, close } = await pair();
  const { ops } = one;
  await create(one, ROOT, 'f', 'round 0');
  const revoked = (): number => one.counters.report().messages.received['revoke'] ?? 0;
  const node = await find(one, 'f');
  /** One writes, two reads; as two processes would, a moment apart. */
  const round = async (text: string, changes = 1): Promise<number> => {
    const before = revoked();
    for (let change = 0; change < changes; change++) {
      await must(ops, () => ops.open(node, OpenFlags.write | OpenFlags.truncate));
      await must(ops, () => ops.write(node, 0, bytes(text), 0));
      ops.release(node, OpenFlags.write);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await read(two, ROOT, 'f')).toBe(text);
    return revoked() - before;
  };
  for (let index = 1; index <= 4; index++) await round(`round ${index}`);
  expect(await round('given early')).toBe(0);
  expect(await round('and again')).toBe(0);
  // A new file goes with its directory when it is closed.
  for (let index = 0; index < 6; index++) {
    const before = revoked();
    await create(one, ROOT, `new-${index}`, `${index}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await read(two, ROOT, `new-${index}`)).toBe(`${index}`);
    if (index > 3) expect(revoked() - before).toBe(0);
  }
  await close();
});

/** Two clients of one server, and what ends them in order. */
async function pair(): Promise<{
  server: TestServer;
  one: Session;
  two: Session;
  close: () => Promise<void>;
}> {
  const server = new TestServer(newVolume());
  await server.server.start();
  const one = await server.connect();
  const two = await server.connect();
  const close = async (): Promise<void> => {
    expect(await one.client.close()).toBe(0);
    expect(await two.client.close()).toBe(0);
    expect([...one.log, ...two.log]).toEqual([]);
  };
  return { server, one, two, close };
}

async function find(session: Session, name: string): Promise<number> {
  await must(session.ops, () => session.ops.lookup(ROOT, bytes(name), attr));
  return attr.node;
}

async function readNode(session: Session, node: number): Promise<string> {
  const target = Buffer.alloc(100);
  const result = await run(session.ops, () => session.ops.read(node, 0, 100, target, 0));
  return result < 0 ? `errno ${-result}` : target.toString('latin1', 0, result);
}

/** Both clients live in one thread: one that always has what it needs would let nothing else happen. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Inodes of the volume that have no name. */
async function orphans(server: TestServer): Promise<number[]> {
  await new Promise((resolve) => setTimeout(resolve, 50));
  return server.volume.orphans(5, 0, 100);
}

describe('a file that is open', () => {
  test('outlives the last name that another client takes away', { timeout: 20_000 }, async () => {
    const { server, one, two, close } = await pair();
    await create(one, ROOT, 'file', 'text');
    const node = await find(two, 'file');
    await must(two.ops, () => two.ops.open(node, 0));
    await must(one.ops, () => one.ops.unlink(ROOT, bytes('file')));
    expect(await read(two, ROOT, 'file')).toBe(`errno ${Errno.ENOENT}`);
    expect(await readNode(two, node)).toBe('text');
    expect(await one.ops.fsync(ROOT)).toBe(0);
    expect(await readNode(two, node)).toBe('text');
    expect((await orphans(server)).length).toBe(1);
    two.ops.release(node, 0);
    expect(await orphans(server)).toEqual([]);
    await close();
  });

  test('outlives a rename over it, and what was written to it and not sent', {
    timeout: 20_000,
  }, async () => {
    const { server, one, two, close } = await pair();
    await create(one, ROOT, 'file', 'old');
    const node = await find(two, 'file');
    await must(two.ops, () => two.ops.open(node, 1));
    await must(two.ops, () => two.ops.write(node, 0, bytes('new'), 0));
    await create(one, ROOT, 'other', 'other');
    await must(one.ops, () => one.ops.rename(ROOT, bytes('other'), ROOT, bytes('file'), 0));
    expect(await read(two, ROOT, 'file')).toBe('other');
    expect(await readNode(two, node)).toBe('new');
    await must(two.ops, () => two.ops.write(node, 3, bytes('er'), 0));
    expect(await readNode(two, node)).toBe('newer');
    two.ops.release(node, 1);
    expect(await orphans(server)).toEqual([]);
    await close();
  });

  test('outlives both its names and the client that took them', { timeout: 20_000 }, async () => {
    const { server, one, two } = await pair();
    const node = await create(one, ROOT, 'file', 'text');
    await must(one.ops, () => one.ops.open(node, 0));
    const seen = await find(two, 'file');
    await must(two.ops, () => two.ops.open(seen, 0));
    await must(one.ops, () => one.ops.unlink(ROOT, bytes('file')));
    expect(await readNode(two, seen)).toBe('text');
    one.transport.destroy();
    expect(await readNode(two, seen)).toBe('text');
    expect((await orphans(server)).length).toBe(1);
    two.ops.release(seen, 0);
    expect(await orphans(server)).toEqual([]);
    await two.client.close();
  });

  test('goes with a client that ends without a word', { timeout: 20_000 }, async () => {
    const { server, one, two } = await pair();
    const node = await create(one, ROOT, 'file', 'text');
    await must(one.ops, () => one.ops.open(node, 0));
    await must(one.ops, () => one.ops.unlink(ROOT, bytes('file')));
    expect(await one.ops.fsync(ROOT)).toBe(0);
    expect((await orphans(server)).length).toBe(1);
    one.transport.destroy();
    await must(two.ops, () => two.ops.getattr(ROOT, attr));
    expect(await orphans(server)).toEqual([]);
    await two.client.close();
  });
});

describe('between clients', () => {
  test('fsync makes durable what the other one wrote', { timeout: 20_000 }, async () => {
    const { server, one, two, close } = await pair();
    await create(one, ROOT, 'file', 'old');
    const node = await find(two, 'file');
    const own = await find(one, 'file');
    await must(one.ops, () => one.ops.open(own, 1));
    await must(one.ops, () => one.ops.write(own, 0, bytes('new'), 0));
    const before = server.volume.durable;
    expect(await two.ops.fsync(node)).toBe(0);
    expect(server.volume.durable).toBeGreaterThan(before);
    expect(server.volume.durable).toBe(server.volume.applied);
    expect(await readNode(two, node)).toBe('new');
    one.ops.release(own, 1);
    await close();
  });

  test('a file that both want is opened for direct reads and writes', { timeout: 20_000 }, async () => {
    const { one, two, close } = await pair();
    const node = await create(one, ROOT, 'file', 'text');
    expect(await must(one.ops, () => one.ops.open(node, 0))).toBe(0);
    one.ops.release(node, 0);
    const seen = await find(two, 'file');
    await must(two.ops, () => two.ops.setattr(seen, newMode(0o600), attr));
    const result = await must(one.ops, () => one.ops.open(node, 0));
    expect(result & OpenResult.direct).toBe(OpenResult.direct);
    one.ops.release(node, 0);
    await close();
  });

  test('pages of a file that is open for writing need the grant to write', { timeout: 20_000 }, async () => {
    const { one, two, close } = await pair();
    const node = await create(one, ROOT, 'file', 'text');
    await must(one.ops, () => one.ops.open(node, 1));
    expect(await read(two, ROOT, 'file')).toBe('text');
    const acquires = (): number => one.client.stats().acquires;
    const before = acquires();
    const target = Buffer.alloc(100);
    await must(one.ops, () => one.ops.read(node, 0, 100, target, 0));
    expect(acquires()).toBe(before);
    await must(one.ops, () => one.ops.read(node, 0, 100, target, ReadFlags.pages));
    expect(acquires()).toBeGreaterThan(before);
    one.ops.release(node, 1);
    await close();
  });

  test('pages that were given while they were leaving are taken back before the release', {
    timeout: 20_000,
  }, async () => {
    const { one, two, close } = await pair();
    const node = await create(one, ROOT, 'file', 'text');
    const events: string[] = [];
    let reads = 0;
    const kernel: KernelCache = {
      ...NO_KERNEL,
      forgetBytes: (forgotten) => {
        if (forgotten === node) events.push('bytes');
      },
      settled: async () => {
        // A program reads the file while the kernel forgets it.
        if (events.includes('bytes') && reads++ < 2) {
          const result = one.ops.read(node, 0, 100, Buffer.alloc(100), ReadFlags.pages);
          events.push(result > 0 ? 'given' : 'held back');
        }
        await Promise.resolve();
      },
    };
    one.client.attachKernel(kernel);
    const seen = await find(two, 'file');
    await must(two.ops, () => two.ops.setattr(seen, newMode(0o600), attr));
    expect(events).toEqual(['bytes', 'given', 'bytes', 'held back']);
    one.client.attachKernel(NO_KERNEL);
    await close();
  });

  test('a file is not given away between two parts of a write', { timeout: 20_000 }, async () => {
    const { one, two, close } = await pair();
    const node = await create(one, ROOT, 'a', 'text');
    await must(one.ops, () => one.ops.open(node, OpenFlags.write));
    let isWriting = true;
    one.client.attachKernel({ ...NO_KERNEL, isWriting: (asked) => asked === node && isWriting });
    const own = new AttrOut();
    const cut = new SetAttr();
    cut.mask = SetAttrMask.size;
    let isCut = false;
    const other = must(two.ops, () => two.ops.setattr(node, cut, own)).then(() => {
      isCut = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isCut).toBe(false);
    expect(one.ops.write(node, 4, bytes('more'), 0)).toBe(4);
    isWriting = false;
    await other;
    expect(await readNode(one, node)).toBe('');
    one.ops.release(node, OpenFlags.write);
    await close();
  });

  test('an open that cuts the file and must wait has cut nothing yet', { timeout: 20_000 }, async () => {
    const { one, two, close } = await pair();
    await create(one, ROOT, 'a', 'text');
    const node = await find(one, 'a');
    const own = new AttrOut();
    let settle = (): void => {};
    const settled = new Promise<void>((resolve) => {
      settle = resolve;
    });
    let isLeaving = false;
    const kernel = {
      ...NO_KERNEL,
      forgetBytes: (forgotten: number): void => {
        isLeaving ||= forgotten === node;
      },
      settled: (): Promise<void> => (isLeaving ? settled : Promise.resolve()),
    };
    one.client.attachKernel(kernel);
    const other = must(two.ops, () => two.ops.setattr(node, newMode(0o600), own));
    while (!isLeaving) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(one.ops.open(node, OpenFlags.write | OpenFlags.truncate)).toBe(MISS);
    expect(one.ops.getattr(node, attr)).toBe(0);
    expect(attr.size).toBe(4);
    settle();
    await other;
    expect(await readNode(two, node)).toBe('text');
    await must(one.ops, () => one.ops.open(node, OpenFlags.write | OpenFlags.truncate));
    one.ops.release(node, OpenFlags.write);
    expect(await read(two, ROOT, 'a')).toBe('');
    await close();
  });

  test('one that removes and one that replaces a name all the time both get on', {
    timeout: 60_000,
  }, async () => {
    const { one, two, close } = await pair();
    let isOver = false;
    let removed = 0;
    const replacing = (async () => {
      for (let round = 0; !isOver; round++) {
        await create(one, ROOT, 'new', `${round}`);
        await must(one.ops, () => one.ops.rename(ROOT, bytes('new'), ROOT, bytes('file'), 0));
        await nextTurn();
      }
    })();
    while (removed < 50) {
      const result = await run(two.ops, () => two.ops.unlink(ROOT, bytes('file')));
      if (result === 0) removed++;
      else expect(result).toBe(-Errno.ENOENT);
      await nextTurn();
    }
    isOver = true;
    await replacing;
    await close();
  });

  test('two parts of one file are written by two clients', { timeout: 20_000 }, async () => {
    const { one, two, close } = await pair();
    const size = 1 << 20;
    await must(one.ops, () => one.ops.create(ROOT, bytes('big'), 0o644, 0, 0, 1, attr));
    const { node } = attr;
    await must(one.ops, () => one.ops.write(node, 0, Buffer.alloc(size, 'o'), 0));
    expect(await one.ops.fsync(node)).toBe(0);
    const seen = await find(two, 'big');
    await must(two.ops, () => two.ops.open(seen, 1));
    for (let round = 0; round < 20; round++) {
      const at = round * 8192;
      await must(one.ops, () => one.ops.write(node, at, Buffer.alloc(100, 'a'), 0));
      await must(two.ops, () => two.ops.write(seen, size / 2 + at, Buffer.alloc(5000, 'b'), 0));
    }
    for (const [session, which] of [
      [one, node],
      [two, seen],
    ] as const) {
      const target = Buffer.alloc(size);
      await must(session.ops, () => session.ops.read(which, 0, size, target, 0));
      for (let round = 0; round < 20; round++) {
        const at = round * 8192;
        expect(target.toString('latin1', at + 99, at + 101)).toBe('ao');
        expect(target.toString('latin1', size / 2 + at + 4999, size / 2 + at + 5001)).toBe('bo');
      }
    }
    one.ops.release(node, 1);
    two.ops.release(seen, 1);
    await close();
  });
});

function newMode(mode: number): SetAttr {
  const set = new SetAttr();
  set.mask = SetAttrMask.mode;
  set.mode = mode;
  return set;
}

test('what a client reads after every change comes back before it asks', { timeout: 20_000 }, async () => {
  const { one, two, close } = await pair();
  await create(one, ROOT, 'file', 'text 0');
  const node = await find(two, 'file');
  const rewrite = async (round: number): Promise<void> => {
    await must(one.ops, () => one.ops.open(node, 1));
    await must(one.ops, () => one.ops.write(node, 0, bytes(`text ${round}`), 0));
    one.ops.release(node, 1);
  };
  let asked = 0;
  for (let round = 1; round < 12; round++) {
    await rewrite(round);
    // Nobody asks, and still it comes.
    await new Promise((resolve) => setTimeout(resolve, 50));
    asked = two.client.stats().acquires;
    expect(await readNode(two, node)).toBe(`text ${round}`);
  }
  expect(two.client.stats().acquires).toBe(asked);
  // Who does not look is not sent it again and again.
  for (let round = 12; round < 20; round++) await rewrite(round);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(two.client.stats().acquires - asked).toBeLessThan(4);
  expect(await readNode(two, node)).toBe('text 19');
  await close();
});
