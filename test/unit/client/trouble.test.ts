// SPDX-License-Identifier: GPL-2.0-or-later
//
// What goes wrong: refused batches, no space, a lost connection; and two clients in each other's way.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { ChangeKind, ChangeReader } from '../../../ts/item/change.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { AttrOut, bytes, connect, must, newVolume, run, type Session, type TestVolume } from './harness.ts';

const ROOT = 1;
const attr = new AttrOut();

async function create(session: Session, dir: number, name: string, content = ''): Promise<number> {
  const { ops } = session;
  await must(ops, () => ops.create(dir, bytes(name), 0o644, 0, 0, 1, attr));
  const { node } = attr;
  if (content !== '') await must(ops, () => ops.write(node, 0, bytes(content), 0));
  ops.release(node, 1);
  return node;
}

async function read(session: Session, dir: number, name: string): Promise<string> {
  const { ops } = session;
  const result = await run(ops, () => ops.lookup(dir, bytes(name), attr));
  if (result < 0) return `errno ${-result}`;
  const target = Buffer.alloc(1000);
  const length = await must(ops, () => ops.read(attr.node, 0, 1000, target, 0));
  return target.subarray(0, length).toString('latin1');
}

/** Refuses every batch with a change of this kind and name, until told otherwise. */
function refuseName(volume: TestVolume, kind: number, name: string): void {
  volume.refuse = (changes) => {
    const reader = new ChangeReader(changes);
    for (let index = 0; reader.next(); index++) {
      const own = Buffer.from(
        changes.subarray(reader.nameStart, reader.nameStart + reader.nameLength),
      ).toString('latin1');
      if (reader.kind === kind && own === name) return { index, errno: Errno.EDQUOT, text: 'not today' };
    }
    return null;
  };
}

describe('a refused batch', () => {
  test('loses the change and what builds on it, tells once, keeps the rest', {
    timeout: 20_000,
  }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    refuseName(volume, ChangeKind.addName, 'bad');
    await create(session, ROOT, 'before', 'one');
    await must(ops, () => ops.mkdir(ROOT, bytes('bad'), 0o755, 0, 0, attr));
    const bad = attr.node;
    await create(session, bad, 'inside', 'two');
    await must(ops, () => ops.rename(bad, bytes('inside'), ROOT, bytes('moved'), 0));
    await create(session, ROOT, 'after', 'three');
    expect(await ops.fsync(ROOT)).toBe(-Errno.EDQUOT);
    expect(await ops.fsync(ROOT)).toBe(0);
    expect(session.log.length).toBe(2);
    expect(session.log[0]).toContain('not today');
    expect(await read(session, ROOT, 'before')).toBe('one');
    expect(await read(session, ROOT, 'after')).toBe('three');
    expect(await read(session, ROOT, 'bad')).toBe(`errno ${Errno.ENOENT}`);
    expect(await read(session, ROOT, 'moved')).toBe(`errno ${Errno.ENOENT}`);
    volume.refuse = () => null;
    await create(session, ROOT, 'moved', 'four');
    expect(await read(session, ROOT, 'moved')).toBe('four');
    await session.client.close();
    const next = await connect(volume);
    expect(await read(next, ROOT, 'before')).toBe('one');
    expect(await read(next, ROOT, 'moved')).toBe('four');
    await next.client.close();
  });

  test('of written bytes is told at the close of the file', { timeout: 20_000 }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    const node = await create(session, ROOT, 'file', 'old');
    expect(await ops.fsync(ROOT)).toBe(0);
    volume.refuse = (changes) => {
      const reader = new ChangeReader(changes);
      for (let index = 0; reader.next(); index++) {
        if (reader.kind === ChangeKind.putData) return { index, errno: Errno.EIO, text: 'bad sector' };
      }
      return null;
    };
    await must(ops, () => ops.open(node, 1));
    await must(ops, () => ops.write(node, 0, bytes('new'), 0));
    expect(await ops.fsync(node)).toBe(-Errno.EIO);
    expect(ops.flush(node)).toBe(0);
    ops.release(node, 1);
    expect(await read(session, ROOT, 'file')).toBe('old');
    await session.client.close();
  });
});

describe('space', () => {
  test('ENOSPC comes from the call, and deleting makes room', { timeout: 60_000 }, async () => {
    const volume = newVolume(48 << 20);
    const session = await connect(volume);
    const { ops } = session;
    const block = Buffer.alloc(1 << 20, 'b');
    await must(ops, () => ops.create(ROOT, bytes('big'), 0o644, 0, 0, 1, attr));
    const { node } = attr;
    let written = 0;
    for (;;) {
      const result = await run(ops, () => ops.write(node, written, block, 0));
      if (result < 0) {
        expect(result).toBe(-Errno.ENOSPC);
        break;
      }
      written += result;
    }
    expect(written).toBeGreaterThan(16 << 20);
    expect(await ops.fsync(node)).toBe(0);
    expect(session.log).toEqual([]);
    ops.release(node, 1);
    await must(ops, () => ops.unlink(ROOT, bytes('big')));
    expect(await ops.fsync(ROOT)).toBe(0);
    await create(session, ROOT, 'next', 'fits');
    expect(await read(session, ROOT, 'next')).toBe('fits');
    expect(await session.client.close()).toBe(0);
  });
});

describe('reservations', () => {
  test('grow with use, not with looking around', { timeout: 20_000 }, async () => {
    const session = await connect(newVolume());
    const { ops } = session;
    for (let index = 0; index < 20; index++) {
      await create(session, ROOT, `file-${index}`, 'x');
      await run(ops, () => ops.lookup(10_000_000 + index, bytes('x'), attr));
    }
    expect(session.client.stats().spaceReservedBytes).toBeLessThan(20 << 20);
    await session.client.close();
  });
});

describe('a lost connection', () => {
  test('fails what waits and what comes with EIO, at once', { timeout: 10_000 }, async () => {
    let ended = '';
    const session = await connect(newVolume(), {
      onEnded: (cause) => {
        ended = cause.message;
      },
    });
    const { ops } = session;
    const node = await create(session, ROOT, 'file', 'text');
    const waiting = run(ops, () => ops.lookup(node + 100_000, bytes('x'), attr));
    const syncing = ops.fsync(node);
    session.transport.destroy();
    expect(await waiting).toBe(-Errno.EIO);
    expect(await syncing).toBe(-Errno.EIO);
    expect(ended).not.toBe('');
    expect(await run(ops, () => ops.getattr(node, attr))).toBe(-Errno.EIO);
    expect(await run(ops, () => ops.mkdir(ROOT, bytes('d'), 0o755, 0, 0, attr))).toBe(-Errno.EIO);
    expect(await ops.fsync(node)).toBe(-Errno.EIO);
    expect(await session.client.close()).toBe(-Errno.EIO);
  });
});
