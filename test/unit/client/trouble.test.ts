// SPDX-License-Identifier: GPL-2.0-or-later
//
// What goes wrong: refused batches, no space, a lost connection.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { ChangeKind, ChangeReader } from '../../../ts/item/change.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { AttrOut, bytes, connect, create, must, newVolume, read, run, type TestVolume } from './harness.ts';

const ROOT = 1;
const attr = new AttrOut();

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

function changesOf(changes: Uint8Array): number {
  const reader = new ChangeReader(changes);
  let count = 0;
  while (reader.next()) count++;
  return count;
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

describe('a batch for which there is no room at once', () => {
  /** No room for batches of more changes than this, nor for any with a name that begins with this. */
  function noRoom(volume: TestVolume, most: number, name = '/'): void {
    volume.refuse = (changes) => {
      const reader = new ChangeReader(changes);
      let index = 0;
      let isRefused = false;
      for (; reader.next(); index++) {
        const own = changes.subarray(reader.nameStart, reader.nameStart + name.length);
        if (Buffer.from(own).toString('latin1') === name) isRefused = true;
      }
      return isRefused || index > most ? { index, errno: Errno.ENOSPC, text: 'no room' } : null;
    };
  }

  test('is cut in two until it fits, and nothing is lost', { timeout: 20_000 }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    noRoom(volume, 3);
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 40; index++) {
        await create(session, ROOT, `file-${round}-${index}`, `${round}/${index}`.repeat(index * 40));
      }
      // Not waited for: the next round's batches are sent while these come back.
      void ops.fsync(ROOT);
    }
    for (let index = 0; index < 40; index += 2) {
      await must(ops, () => ops.unlink(ROOT, bytes(`file-1-${index}`)));
      await must(ops, () =>
        ops.rename(ROOT, bytes(`file-2-${index}`), ROOT, bytes(`file-2-${index + 1}`), 0),
      );
    }
    expect(await ops.fsync(ROOT)).toBe(0);
    expect(session.log).toEqual([]);
    expect(Math.max(...volume.batches.map((changes) => changesOf(changes)))).toBeLessThanOrEqual(3);
    await session.client.close();
    const next = await connect(volume);
    const content = (round: number, index: number): string =>
      `${round}/${index}`.repeat(index * 40).slice(0, 1000);
    for (let index = 0; index < 40; index++) {
      expect(await read(next, ROOT, `file-0-${index}`)).toBe(content(0, index));
      const gone = `errno ${Errno.ENOENT}`;
      expect(await read(next, ROOT, `file-1-${index}`)).toBe(index % 2 === 0 ? gone : content(1, index));
      expect(await read(next, ROOT, `file-2-${index}`)).toBe(index % 2 === 0 ? gone : content(2, index - 1));
    }
    await next.client.close();
  });

  test('loses only the operation that does not fit by itself', { timeout: 20_000 }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    noRoom(volume, 1000, 'bad');
    for (let index = 0; index < 20; index++) await create(session, ROOT, `before-${index}`, 'b');
    await create(session, ROOT, 'bad', 'x');
    for (let index = 0; index < 20; index++) await create(session, ROOT, `after-${index}`, 'a');
    const reserved = session.client.stats().spaceReservedBytes;
    expect(await ops.fsync(ROOT)).toBe(-Errno.ENOSPC);
    expect(await ops.fsync(ROOT)).toBe(0);
    // What was reserved for it is there for others.
    expect(session.client.stats().spaceReservedBytes).toBe(reserved + 3 * 4096);
    expect(await read(session, ROOT, 'bad')).toBe(`errno ${Errno.ENOENT}`);
    for (let index = 0; index < 20; index++) {
      expect(await read(session, ROOT, `before-${index}`)).toBe('b');
      expect(await read(session, ROOT, `after-${index}`)).toBe('a');
    }
    await session.client.close();
  });
});

test('what was sent behind a refused batch comes after what is left of it', { timeout: 20_000 }, async () => {
  const volume = newVolume();
  const session = await connect(volume);
  const { ops } = session;
  const node = await create(session, ROOT, 'file', 'first');
  expect(await ops.fsync(ROOT)).toBe(0);
  refuseName(volume, ChangeKind.addName, 'bad');
  await must(ops, () => ops.open(node, 1));
  await must(ops, () => ops.write(node, 0, bytes('old'), 0));
  await must(ops, () => ops.mkdir(ROOT, bytes('bad'), 0o755, 0, 0, attr));
  const one = ops.fsync(node);
  await must(ops, () => ops.write(node, 0, bytes('new'), 0));
  const two = ops.fsync(node);
  expect([await one, await two].sort()).toEqual([0, -Errno.EDQUOT].sort());
  ops.release(node, 1);
  await session.client.close();
  const next = await connect(volume);
  expect(await read(next, ROOT, 'file')).toBe('newst');
  await next.client.close();
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
