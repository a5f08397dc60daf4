// SPDX-License-Identifier: GPL-2.0-or-later
//
// What things cost: messages, memory and time of a client on a server of its own.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { type DirSink, SetAttr, SetAttrMask } from '../../../ts/client/operations.ts';
import { ChangeKind, ChangeReader } from '../../../ts/item/change.ts';
import { AttrOut, bytes, connect, must, newVolume, run, type Session } from './harness.ts';

const ROOT = 1;
const attr = new AttrOut();

/** Creates, writes, sets and closes files as tar does. */
async function unpack(session: Session, dir: number, count: number, content: Buffer): Promise<void> {
  const { ops } = session;
  const set = new SetAttr();
  for (let index = 0; index < count; index++) {
    const name = bytes(`file-${index}`);
    await run(ops, () => ops.lookup(dir, name, attr));
    await must(ops, () => ops.create(dir, name, 0o600, 0, 0, 1, attr));
    const { node } = attr;
    await must(ops, () => ops.write(node, 0, content, 0));
    set.mask = SetAttrMask.uid | SetAttrMask.gid;
    set.uid = 1000;
    set.gid = 1000;
    await must(ops, () => ops.setattr(node, set, attr));
    set.mask = SetAttrMask.mode;
    set.mode = 0o644;
    await must(ops, () => ops.setattr(node, set, attr));
    set.mask = SetAttrMask.mtime | SetAttrMask.atimeNow;
    set.mtimeSec = 1_600_000_000;
    await must(ops, () => ops.setattr(node, set, attr));
    ops.release(node, 1);
  }
}

async function listAll(session: Session, dir: number): Promise<number> {
  const { ops } = session;
  let count = 0;
  let cookie = 0;
  const entry = new AttrOut();
  const sink: DirSink = {
    add(_bytes, _start, _length, _node, _ino, _type, next) {
      count++;
      cookie = next;
      return true;
    },
  };
  for (;;) {
    const before = cookie;
    await must(ops, () => ops.readdir(dir, cookie, Infinity, sink, entry));
    if (cookie === before) return count;
  }
}

describe('budgets', () => {
  test('10,000 small files cost fewer than 100 messages, and looking again none', {
    timeout: 60_000,
  }, async () => {
    const volume = newVolume();
    const session = await connect(volume);
    const { ops } = session;
    await must(ops, () => ops.mkdir(ROOT, bytes('dir'), 0o755, 0, 0, attr));
    const dir = attr.node;
    await unpack(session, dir, 10_000, Buffer.alloc(1024, 'x'));
    expect(await ops.fsync(dir)).toBe(0);
    expect(session.messages()).toBeLessThan(100);
    const { bytes: traffic } = session.counters.report();
    // Items of a file: inode, reference, two names, and the inline bytes.
    const stored = 10_000 * (160 + 20 + 2 * 40 + 5 * 25 + 21 + 1024);
    const sent = Object.values(traffic.sent).reduce((a, b) => a + b, 0);
    expect(sent).toBeLessThan(stored * 1.5);
    const kinds = new Map<number, number>();
    for (const changes of volume.batches) {
      const reader = new ChangeReader(changes);
      while (reader.next()) kinds.set(reader.kind, (kinds.get(reader.kind) ?? 0) + 1);
    }
    expect(kinds.get(ChangeKind.newInode)).toBe(10_001);
    expect(kinds.get(ChangeKind.addName)).toBe(10_001);
    expect(kinds.get(ChangeKind.putData)).toBe(10_000);
    // One more where a batch ends between two of them.
    expect(kinds.get(ChangeKind.setFields)).toBeLessThan(10_050);

    const before = session.messages();
    expect(await listAll(session, dir)).toBe(10_002);
    for (let index = 0; index < 10_000; index++) {
      await must(ops, () => ops.lookup(dir, bytes(`file-${index}`), attr));
      await must(ops, () => ops.getattr(attr.node, attr));
    }
    expect(session.messages()).toBe(before);
    await session.client.close();
  });

  test('a cold walk and a cold read cost few messages', { timeout: 60_000 }, async () => {
    const volume = newVolume();
    const writer = await connect(volume);
    await must(writer.ops, () => writer.ops.mkdir(ROOT, bytes('dir'), 0o755, 0, 0, attr));
    await unpack(writer, attr.node, 2_000, Buffer.alloc(10_000, 'x'));
    expect(await writer.client.close()).toBe(0);

    const session = await connect(volume);
    const { ops } = session;
    await must(ops, () => ops.lookup(ROOT, bytes('dir'), attr));
    const dir = attr.node;
    expect(await listAll(session, dir)).toBe(2_002);
    expect(session.messages()).toBeLessThan(60);
    const before = session.messages();
    const target = Buffer.alloc(20_000);
    for (let index = 0; index < 2_000; index++) {
      await must(ops, () => ops.lookup(dir, bytes(`file-${index}`), attr));
      const { node } = attr;
      await must(ops, () => ops.open(node, 0));
      expect(await must(ops, () => ops.read(node, 0, 20_000, target, 0))).toBe(10_000);
      ops.release(node, 0);
    }
    expect(session.messages() - before).toBeLessThan(150);
    expect(session.client.stats().dataCacheBytes).toBeLessThan(8 << 20);
    await session.client.close();
  });

  test('a long sequential read is read ahead', { timeout: 60_000 }, async () => {
    const volume = newVolume();
    const writer = await connect(volume);
    await must(writer.ops, () => writer.ops.create(ROOT, bytes('big'), 0o644, 0, 0, 1, attr));
    const node = attr.node;
    const block = Buffer.alloc(1 << 20, 'y');
    for (let at = 0; at < 32; at++) await must(writer.ops, () => writer.ops.write(node, at << 20, block, 0));
    writer.ops.release(node, 1);
    expect(await writer.client.close()).toBe(0);

    const session = await connect(volume);
    const { ops } = session;
    await must(ops, () => ops.lookup(ROOT, bytes('big'), attr));
    await must(ops, () => ops.open(attr.node, 0));
    const target = Buffer.alloc(128 << 10);
    let misses = 0;
    for (let at = 0; at < 32 << 20; at += target.length) {
      const { misses: before } = session.client.stats();
      expect(await must(ops, () => ops.read(attr.node, at, target.length, target, 0))).toBe(target.length);
      expect(target[77]).toBe(0x79);
      if (session.client.stats().misses > before) misses++;
    }
    expect(misses).toBeLessThan(40);
    expect(session.client.stats().dataCacheBytes).toBeLessThan(10 << 20);
    await session.client.close();
  });
});
