// SPDX-License-Identifier: GPL-2.0-or-later
//
// A cache that is too small: it stays within its bound, gives back in bulk, and every answer stays right.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import type { DirSink } from '../../../ts/client/operations.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { AttrOut, bytes, connect, must, newVolume, run, type Session, type TestVolume } from './harness.ts';

const ROOT = 1;
const MIB = 1 << 20;
const attr = new AttrOut();

async function fill(session: Session, dirs: number, files: number): Promise<number> {
  const { ops } = session;
  let highest = 0;
  const content = Buffer.from('content');
  for (let dir = 0; dir < dirs; dir++) {
    await must(ops, () => ops.mkdir(ROOT, bytes(`dir-${dir}`), 0o755, 0, 0, attr));
    const parent = attr.node;
    for (let file = 0; file < files; file++) {
      await must(ops, () => ops.create(parent, bytes(`file-${file}`), 0o644, 0, 0, 1, attr));
      const { node } = attr;
      if (file % 3 === 0) await must(ops, () => ops.write(node, 0, content, 0));
      ops.release(node, 1);
    }
    highest = Math.max(highest, session.client.stats().cacheBytes);
  }
  return highest;
}

/** Walks the tree as `find` does. @returns entries, and the most that the cache held. */
async function walk(session: Session, dir: number): Promise<{ count: number; highest: number }> {
  const { ops } = session;
  const found: { node: number; isDir: boolean }[] = [];
  let cookie = 0;
  const entry = new AttrOut();
  const sink: DirSink = {
    add(_bytes, _start, _length, node, _ino, type, next) {
      if (cookie >= 2) found.push({ node, isDir: type === 4 });
      cookie = next;
      return true;
    },
  };
  for (;;) {
    const before = cookie;
    await must(ops, () => ops.readdir(dir, cookie, Infinity, sink, entry));
    if (cookie === before) break;
  }
  let count = found.length;
  let highest = session.client.stats().cacheBytes;
  for (const { node, isDir } of found) {
    if (!isDir) continue;
    const below = await walk(session, node);
    count += below.count;
    highest = Math.max(highest, below.highest);
  }
  return { count, highest };
}

async function check(session: Session): Promise<void> {
  const { ops } = session;
  const target = Buffer.alloc(100);
  for (const [dir, file] of [
    [0, 0],
    [3, 999],
    [19, 500],
    [7, 333],
  ] as const) {
    await must(ops, () => ops.lookup(ROOT, bytes(`dir-${dir}`), attr));
    const parent = attr.node;
    expect(await run(ops, () => ops.lookup(parent, bytes('file-none'), attr))).toBe(-Errno.ENOENT);
    await must(ops, () => ops.lookup(parent, bytes(`file-${file}`), attr));
    const length = await must(ops, () => ops.read(attr.node, 0, 100, target, 0));
    expect(target.subarray(0, length).toString()).toBe(file % 3 === 0 ? 'content' : '');
  }
}

describe('eviction', () => {
  test('creating and walking 20,000 files with a cache of 2 MiB', { timeout: 120_000 }, async () => {
    const volume: TestVolume = newVolume();
    const writer = await connect(volume, { cacheBytes: 2 * MIB });
    const highest = await fill(writer, 20, 1000);
    expect(await writer.ops.fsync(ROOT)).toBe(0);
    // What is not applied cannot go, so creating may pass the bound by what may be dirty.
    expect(highest).toBeLessThan(10 * MIB);
    await check(writer);
    const made = writer.client.stats();
    expect(made.evictions).toBeGreaterThan(2);
    expect(writer.counters.report().messages.sent['release'] ?? 0).toBeLessThan(200);
    const own = await walk(writer, ROOT);
    expect(own.count).toBe(20_020);
    expect(await writer.client.close()).toBe(0);
    expect(writer.log).toEqual([]);

    const reader = await connect(volume, { cacheBytes: 2 * MIB });
    const all = await walk(reader, ROOT);
    expect(all.count).toBe(20_020);
    expect(all.highest).toBeLessThan(3 * MIB);
    await check(reader);
    expect(reader.counters.report().messages.sent['release'] ?? 0).toBeLessThan(200);
    expect(reader.client.stats().heldRanges).toBeLessThan(1000);
    await reader.client.close();
  });

  test('what is open, written or has no name stays', { timeout: 30_000 }, async () => {
    const volume = newVolume();
    const session = await connect(volume, { cacheBytes: MIB });
    const { ops } = session;
    await must(ops, () => ops.create(ROOT, bytes('open'), 0o644, 0, 0, 1, attr));
    const open = attr.node;
    await must(ops, () => ops.write(open, 0, bytes('first'), 0));
    expect(await ops.fsync(open)).toBe(0);
    await must(ops, () => ops.unlink(ROOT, bytes('open')));
    await must(ops, () => ops.write(open, 5, bytes('second'), 0));
    await fill(session, 8, 1000);
    const target = Buffer.alloc(100);
    const before = session.messages();
    expect(await must(ops, () => ops.read(open, 0, 100, target, 0))).toBe(11);
    expect(target.subarray(0, 11).toString()).toBe('firstsecond');
    expect(session.messages()).toBe(before);
    ops.release(open, 1);
    expect(await session.client.close()).toBe(0);
    let found = volume.items.seek(5, 256, 0, 0);
    let nameless = 0;
    while (found) {
      if (volume.items.type === 1 && volume.items.view.getUint32(volume.items.start + 40, true) === 0)
        nameless++;
      found = volume.items.next();
    }
    expect(nameless).toBe(0);
  });
});
