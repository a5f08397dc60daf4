// SPDX-License-Identifier: GPL-2.0-or-later
//
// Replies to read-data requests that arrive late: what has changed meanwhile must not come back, and a failure belongs
// to who asked.

import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import type { DataRead } from '../../../ts/store/volume.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { FsError } from '../../../ts/util/errors.ts';
import type { FileExtent } from '../../../ts/wire/message.ts';
import { AttrOut, bytes, connect, must, run, type Session, TestVolume } from './harness.ts';

const ROOT = 1;
const SECTOR = 4096;
/** A file is as large as one request: two of them never share one. */
const SECTORS = 256;
const attr = new AttrOut();

/** A volume that reads at once and answers when it is told to, and that cannot read some inodes. */
class SlowVolume extends TestVolume {
  holds = false;
  readonly unreadable = new Set<number>();
  readonly reads: (readonly FileExtent[])[] = [];
  #held: (() => void)[] = [];

  override async readData(extents: readonly FileExtent[]): Promise<DataRead> {
    this.reads.push(extents);
    if (extents.some(({ ino }) => this.unreadable.has(ino))) throw new FsError(Errno.ENOENT, 'not there');
    const read = await super.readData(extents);
    if (this.holds) await new Promise<void>((resolve) => this.#held.push(resolve));
    return read;
  }

  answer(): void {
    this.holds = false;
    for (const resolve of this.#held.splice(0)) resolve();
  }
}

function newSlowVolume(): SlowVolume {
  return new SlowVolume({ crc32c, deviceTotal: 2 ** 40 });
}

/** A durable file full of one letter, opened. */
async function fileOf(session: Session, name: string, letter: string): Promise<number> {
  const { ops } = session;
  await must(ops, () => ops.create(ROOT, bytes(name), 0o644, 0, 0, 1, attr));
  const { node } = attr;
  await must(ops, () => ops.write(node, 0, Buffer.alloc(SECTORS * SECTOR, letter), 0));
  expect(await ops.fsync(node)).toBe(0);
  return node;
}

async function letterAt(session: Session, node: number, sector: number): Promise<string> {
  const target = Buffer.alloc(SECTOR);
  await must(session.ops, () => session.ops.read(node, sector * SECTOR, SECTOR, target, 0));
  return target.toString('latin1', 0, 1);
}

/** Begins to read the first sector, with the ones behind it read ahead, while the volume holds its answers. */
async function beginRead(
  volume: SlowVolume,
  session: Session,
  node: number,
): Promise<{ first: Promise<string> }> {
  volume.holds = true;
  const first = letterAt(session, node, 0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(volume.reads.length).toBeGreaterThan(0);
  return { first };
}

describe('a read-data reply that overtakes nothing', () => {
  test('does not bring back what was written after it was asked for', { timeout: 10_000 }, async () => {
    const volume = newSlowVolume();
    const session = await connect(volume);
    const { ops } = session;
    const node = await fileOf(session, 'file', 'a');
    const { first } = await beginRead(volume, session, node);
    await must(ops, () => ops.write(node, 2 * SECTOR, Buffer.alloc(SECTOR, 'b'), 0));
    expect(await ops.fsync(node)).toBe(0);
    volume.answer();
    expect(await first).toBe('a');
    expect(await letterAt(session, node, 1)).toBe('a');
    expect(await letterAt(session, node, 2)).toBe('b');
    await session.client.close();
  });

  test('does not bring back what a change that was under way replaced', { timeout: 10_000 }, async () => {
    const volume = newSlowVolume();
    const session = await connect(volume);
    const { ops } = session;
    const node = await fileOf(session, 'file', 'a');
    // In the log, not sent: the request goes out first, its answer comes after the batch is applied.
    await must(ops, () => ops.write(node, 2 * SECTOR, Buffer.alloc(SECTOR, 'b'), 0));
    ops.release(node, 1);
    await must(ops, () => ops.open(node, 1));
    const { first } = await beginRead(volume, session, node);
    expect(await ops.fsync(node)).toBe(0);
    volume.answer();
    expect(await first).toBe('a');
    for (const sector of [1, 2, 3]) {
      expect(await letterAt(session, node, sector)).toBe(sector === 2 ? 'b' : 'a');
    }
    await session.client.close();
  });

  test('does not bring back what was cut off and grown again', { timeout: 10_000 }, async () => {
    const volume = newSlowVolume();
    const session = await connect(volume);
    const { ops } = session;
    const node = await fileOf(session, 'file', 'a');
    const { first } = await beginRead(volume, session, node);
    await must(ops, () => ops.fallocate(node, 3, 2 * SECTOR, SECTOR));
    expect(await ops.fsync(node)).toBe(0);
    volume.answer();
    expect(await first).toBe('a');
    expect(await letterAt(session, node, 2)).toBe('\0');
    await session.client.close();
  });
});

describe('a failed read-data request', () => {
  test('fails who asked for those bytes and nobody else', { timeout: 10_000 }, async () => {
    const volume = newSlowVolume();
    const session = await connect(volume);
    const { ops } = session;
    const good = await fileOf(session, 'good', 'g');
    const bad = await fileOf(session, 'bad', 'b');
    const badIno = attr.ino;
    volume.unreadable.add(badIno);
    const read = (node: number): Promise<number> => {
      const target = Buffer.alloc(SECTORS * SECTOR);
      return run(ops, () => ops.read(node, 0, target.length, target, 0));
    };
    // Both are asked for in one turn.
    expect(await Promise.all([read(bad), read(good)])).toEqual([-Errno.ENOENT, SECTORS * SECTOR]);
    volume.unreadable.clear();
    expect(await letterAt(session, bad, 0)).toBe('b');
    await session.client.close();
  });
});
