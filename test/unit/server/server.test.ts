// SPDX-License-Identifier: GPL-2.0-or-later
//
// The server over memory transports, spoken to by raw peers.

import { expect, test } from 'vitest';
import { ChangeLog } from '../../../ts/item/change.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { GREETING_TIMEOUT_MS } from '../../../ts/util/limits.ts';
import { readItemPage } from '../../../ts/wire/item_page.ts';
import { Mode, type Want, WantFlags } from '../../../ts/wire/message.ts';
import { makeDirectory, makeFiles, modeChange, settle, TestClient, TestServer, want } from './harness.ts';

const { none, read, write } = Mode;
const { wide } = WantFlags;

test('a greeting says where the root is and what the limits are', async () => {
  const test = new TestServer();
  const client = await test.mount();
  expect(client.greeting).toMatchObject({
    version: 1,
    epoch: 7n,
    session: 1n,
    root: { tree: 5, ino: 256 },
    leaseMs: 30_000,
    deviceTotal: 1 << 30,
  });
  expect(client.greeting?.fsid).toEqual(Buffer.alloc(16, 0xcf));
  expect(test.server.sessions).toBe(1);
});

test('the root may be any directory; what is none is refused with its errno', async () => {
  const test = new TestServer();
  const first = await test.mount();
  const run = (await first.prepare()).inodeRun!;
  const log = makeDirectory(run.first, 'sub');
  makeFiles(run.first + 1, 1, 'file', log);
  await first.batch(log);
  const second = await test.mount('/sub//');
  expect(second.greeting?.root).toEqual({ tree: 5, ino: run.first });
  const greet = (path: string): Promise<unknown> => test.mount(path);
  await expect(greet('/none')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(greet(`/file${run.first + 1}`)).rejects.toMatchObject({ code: 'ENOTDIR' });
  await expect(greet('sub')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(greet(`/${'x'.repeat(300)}`)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('only so many sessions at a time; another version is refused', async () => {
  const test = new TestServer({ sessionsMax: 1 });
  const first = await test.mount();
  await expect(test.mount()).rejects.toMatchObject({ code: 'EBUSY' });
  first.peer.close(0, 'unmounted');
  await settle();
  const second = await test.mount();
  expect(second.greeting?.session).toBe(2n);
  const fields = {
    versionMin: 2,
    versionMax: 3,
    features: [],
    clientName: '',
    path: Buffer.from('/'),
    readOnly: false,
  };
  await expect(test.connect().peer.request('greeting', fields)).rejects.toMatchObject({
    code: 'EPROTONOSUPPORT',
  });
});

test('an acquire brings grants, pages, space and numbers together', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const { fields, body } = await client.acquire([want(256, 257, write)], {
    inodesWanted: { tree: 5, count: 50 },
    spaceWanted: 12_345,
  });
  expect(fields.grants).toEqual(
    [{ ...want(256, 307, write), flags: undefined }].map(({ flags: _, ...grant }) => grant),
  );
  expect(fields.inodeRun).toEqual({ tree: 5, first: 257, count: 50 });
  expect(fields.space).toBe(12_345);
  expect(fields.pages).toHaveLength(1);
  expect(fields.pages[0]).toMatchObject({ tree: 5, start: { objectid: 256 }, end: { objectid: 257 } });
  const page = readItemPage(body, crc32c);
  expect([...Array(page.count).keys()].map((slot) => page.type(slot))).toEqual([1, 12]);
  // What is held already comes without items.
  const again = await client.acquire([want(256, 257, read)]);
  expect(again.fields).toEqual({
    grants: [],
    pages: [],
    space: 0,
    inodeRun: null,
    data: [],
    openElsewhere: [],
    subvolumes: [],
  });
});

test('a session hears once of each subvolume, and changes nothing in one that is read-only', async () => {
  const test = new TestServer({}, {}, (volume) => {
    volume.addTree(256, { parentTree: 5, parentDir: 300 });
    volume.addTree(257, { parentTree: 256, parentDir: 256, readOnly: true });
  });
  const client = await test.mount();
  const of = (tree: number, mode: Mode): Want => ({ ...want(256, 257, mode), tree });
  const told = async (...wants: Want[]): Promise<unknown> => (await client.acquire(wants)).fields.subvolumes;
  expect(await told(of(256, write), of(5, read), of(256, read))).toEqual([
    { tree: 256, isReadOnly: false, parentTree: 5, parentDir: 300 },
    { tree: 5, isReadOnly: false, parentTree: 0, parentDir: 0 },
  ]);
  expect(await told(of(256, read), of(257, read))).toEqual([
    { tree: 257, isReadOnly: true, parentTree: 256, parentDir: 256 },
  ]);
  await expect(told(of(5, read), of(258, read))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(told(of(257, write))).rejects.toMatchObject({ code: 'EROFS' });
  const inodesWanted = { tree: 257, count: 10 };
  await expect(client.acquire([], { inodesWanted })).rejects.toMatchObject({ code: 'EROFS' });
  const log = new ChangeLog();
  log.newInode(257, 300, 0o100644, 0, 0, 0, 1, 0, Buffer.alloc(0));
  expect((await client.batch(log)).refused).toMatchObject({ index: 0, errno: Errno.EROFS });
  // In one that is not, numbers begin anew.
  const { fields } = await client.acquire([], { inodesWanted: { tree: 256, count: 10 } });
  expect(fields.inodeRun).toEqual({ tree: 256, first: 257, count: 10 });

  const reader = await test.mount('/', true);
  const { subvolumes } = (await reader.acquire([of(5, read)])).fields;
  expect(subvolumes).toEqual([{ tree: 5, isReadOnly: true, parentTree: 0, parentDir: 0 }]);
});

test('a derived key alone brings the inode item', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const derived = {
    tree: 5,
    start: { objectid: 256, type: 1, offset: 1 },
    end: { objectid: 256, type: 1, offset: 2 },
  };
  const { fields, body } = await client.acquire([{ ...derived, mode: read, flags: 0 }]);
  expect(fields.pages).toEqual([{ ...derived, length: body.length }]);
  const page = readItemPage(body, crc32c);
  expect([page.count, page.type(0), page.offset(0)]).toEqual([1, 1, 0]);
});

test('a wide want takes in the inodes that follow, small files with their data', async () => {
  const test = new TestServer();
  const writer = await test.mount();
  const run = (await writer.prepare(1000)).inodeRun!;
  const log = makeDirectory(run.first, 'sub');
  const data = Buffer.alloc(8192, 5);
  makeFiles(run.first + 1, 300, 'file', log);
  log.putData(5, run.first + 1, 0, 8192, 8192, 1, 0);
  expect((await writer.batch(log, data)).refused).toBe(null);
  writer.peer.close(0, '');
  await settle();

  const reader = await test.mount();
  const { fields, body } = await reader.acquire([want(run.first, run.first + 1, read, wide)], {
    dataBytesWanted: 1 << 20,
  });
  // Alone, it gets the greater mode; numbers that nobody has are left out.
  expect(fields.grants).toMatchObject([
    { mode: write, start: { objectid: run.first }, end: { objectid: run.first + 301 } },
  ]);
  expect(fields.pages).toHaveLength(1);
  expect(readItemPage(body.subarray(0, fields.pages[0]!.length), crc32c).count).toBe(301 * 2 + 1);
  expect(fields.data).toEqual([{ tree: 5, ino: run.first + 1, offset: 0, length: 8192 }]);
  const from = fields.pages[0]!.length;
  expect(body.readUInt32LE(from)).toBe(crc32c(data.subarray(0, 4096)));
  expect(body.subarray(from + 8)).toEqual(data);
});

test('widening ends at an inode boundary within its bytes and gives the rest back', async () => {
  const test = new TestServer();
  const writer = await test.mount();
  const run = (await writer.prepare(5000)).inodeRun!;
  expect((await writer.batch(makeFiles(run.first, 3000))).refused).toBe(null);
  writer.peer.close(0, '');
  await settle();
  const [one, two] = [await test.mount(), await test.mount()];
  const { fields } = await one.acquire([want(run.first, run.first + 1, read, wide)]);
  expect(fields.pages).toHaveLength(1);
  expect(fields.pages[0]!.length).toBeLessThanOrEqual(128 << 10);
  expect(fields.pages[0]!.length).toBeGreaterThan(100 << 10);
  const end = fields.pages[0]!.end;
  expect(fields.grants).toEqual([{ tree: 5, start: fields.pages[0]!.start, end, mode: read }]);
  expect([end.type, end.offset]).toEqual([0, 0]);
  await two.acquire([want(end.objectid, end.objectid + 1, write)]);
  expect(one.revokes).toEqual([]);
});

test('a range too large for one reply is granted from its start on', async () => {
  const test = new TestServer();
  const writer = await test.mount();
  const run = (await writer.prepare(30_000)).inodeRun!;
  for (let at = 0; at < 30_000; at += 10_000) {
    expect((await writer.batch(makeFiles(run.first + at, 10_000, 'n'.repeat(180)))).refused).toBe(null);
  }
  writer.peer.close(0, '');
  await settle();
  const reader = await test.mount();
  const root = want(256, 257, read);
  let start = root.start;
  let items = 0;
  let rounds = 0;
  for (; start.objectid === 256; rounds++) {
    const { fields, body } = await reader.acquire([{ ...root, start }]);
    let at = 0;
    for (const page of fields.pages) {
      expect(page.start).toEqual(start);
      expect(page.length).toBeLessThanOrEqual(256 << 10);
      items += readItemPage(body.subarray(at, at + page.length), crc32c).count;
      at += page.length;
      start = page.end;
    }
    expect(fields.grants.at(-1)!.end).toEqual(start);
  }
  expect(items).toBe(2 + 2 * 30_000);
  expect(rounds).toBeGreaterThan(1);
}, 60_000);

test('a conflict: one revoke, released after the batch, handed over with the new items', async () => {
  const test = new TestServer();
  const [writer, reader] = [await test.mount(), await test.mount()];
  const run = (await writer.prepare(10)).inodeRun!;
  const pending = reader.acquire([want(256, 257, read)]);
  await settle();
  expect(writer.revokes).toEqual([modeChange(256, 257, write, read)]);
  const sent = writer.batch(makeFiles(run.first, 1));
  writer.release([modeChange(256, 257, write, read)], 1);
  expect((await sent).applied).toBe(1);
  const { fields, body } = await pending;
  expect(fields.grants).toMatchObject([{ mode: read }]);
  expect(readItemPage(body, crc32c).count).toBe(4);
  // The new file itself is still the writer's.
  const file = reader.acquire([want(run.first, run.first + 1, read)]);
  await settle();
  expect(writer.revokes).toHaveLength(2);
  writer.release([modeChange(run.first, run.first + 1, write, none)], 1);
  expect(readItemPage((await file).body, crc32c).count).toBe(2);
  expect(test.server.stats().grants).toMatchObject({ waiting: 0, revokes: 2 });
});

test('a revoke of very many ranges comes in several messages', async () => {
  const test = new TestServer();
  const [holder, other] = [await test.mount(), await test.mount()];
  const keys = (ino: number, type: number): Want => ({
    tree: 5,
    start: { objectid: ino, type, offset: 0 },
    end: { objectid: ino, type: type + 1, offset: 0 },
    mode: read,
    flags: 0,
  });
  for (let first = 300; first < 5300; first += 1000) {
    const inos = Array.from({ length: 1000 }, (_, at) => first + at);
    await holder.acquire(inos.flatMap((ino) => [keys(ino, 1), keys(ino, 24)]));
  }
  const pending = other.acquire([want(300, 5300, write)]);
  await settle();
  expect(holder.revokes).toHaveLength(10_000);
  expect(holder.order.filter((kind) => kind === 'revoke')).toHaveLength(2);
  holder.release(holder.revokes.slice(0, 5000));
  holder.release(holder.revokes.slice(5000));
  await pending;
  expect(test.server.stats().sessions.map((session) => session.ranges)).toEqual([0, 1]);
});

test('gaps between what a client holds are filled, some thousand at a time', async () => {
  const test = new TestServer();
  const client = await test.mount();
  for (let first = 0; first < 6000; first += 3000) {
    const wants = Array.from({ length: 3000 }, (_, at) =>
      want(300 + 2 * (first + at), 301 + 2 * (first + at), write),
    );
    await client.acquire(wants);
  }
  let rounds = 0;
  for (; rounds < 10 && test.server.stats().grants.ranges > 1; rounds++)
    await client.acquire([want(300, 12_300, write)]);
  expect(rounds).toBe(2);
});

test('what is missing in more ranges than a reply names comes in several', { timeout: 60_000 }, async () => {
  const test = new TestServer({ sessionRangesMax: 100_000 });
  const client = await test.mount();
  const index = (from: number, to: number, mode: Mode): Want => ({
    tree: 5,
    start: { objectid: 256, type: 96, offset: from },
    end: { objectid: 256, type: 96, offset: to },
    mode,
    flags: 0,
  });
  // Every other one is only to be raised, which needs no page.
  const count = 20_000;
  for (let first = 0; first < count; first += 4_000) {
    const wants: Want[] = [];
    for (let at = first; at < first + 4_000; at++) wants.push(index(at, at + 1, at % 2 === 0 ? read : write));
    await client.acquire(wants);
  }
  const sizes: number[] = [];
  for (let size = 1; size > 0; ) {
    const { fields } = await client.acquire([index(0, count, write)]);
    size = fields.grants.length;
    sizes.push(size);
  }
  expect(sizes).toEqual([8192, count / 2 - 8192, 0]);
});

test('patience is for few ranges to read, and nothing else', async () => {
  const { patient, keep } = WantFlags;
  const many = Array.from({ length: 33 }, (_, at) => want(300 + at, 301 + at, read, patient));
  const wrong: [Want[], object][] = [
    [[want(300, 301, write, patient)], {}],
    [[want(300, 301, read, patient | wide)], {}],
    [[want(300, 301, read, patient | keep)], {}],
    [[want(300, 301, read, patient), want(400, 401, read)], {}],
    [[want(300, 301, read, patient)], { inodesWanted: { tree: 5, count: 5 } }],
    [[want(300, 301, read, patient)], { spaceWanted: 5 }],
    [many, {}],
  ];
  for (const [wants, more] of wrong) {
    const test = new TestServer();
    const client = await test.mount();
    await expect(client.acquire(wants, more)).rejects.toThrow('patience is for few ranges to read');
  }
});

test('releases that wait for a batch are bounded', async () => {
  const test = new TestServer(
    {},
    { before: (operation) => (operation === 'apply' ? new Promise(() => {}) : Promise.resolve()) },
  );
  const client = await test.mount();
  const run = (await client.prepare()).inodeRun!;
  void client.batch(makeDirectory(run.first, 'sub')).catch(() => {});
  const ranges = Array.from({ length: 8_000 }, (_, at) => modeChange(300 + at, 301 + at, read, none));
  for (let count = 0; count < 40; count++) client.release(ranges, 1);
  await expect(client.peer.request('statfs', {})).rejects.toThrow('too many ranges in releases');
});

test('a revoke follows the reply that granted, on the stream', async () => {
  let reads = 0;
  const gate: { open: () => void } = { open: () => {} };
  const test = new TestServer(
    {},
    {
      before: (operation) =>
        operation === 'read' && ++reads === 1
          ? new Promise((resolve) => {
              gate.open = resolve;
            })
          : Promise.resolve(),
    },
  );
  const [one, two] = [await test.mount(), await test.mount()];
  const first = one.acquire([want(256, 257, write)]);
  await settle();
  const second = two.acquire([want(256, 257, read)]);
  await settle();
  expect(one.order).toEqual([]);
  gate.open();
  await first;
  await settle();
  expect(one.order).toEqual(['reply', 'revoke']);
  one.release([modeChange(256, 257, write, none)]);
  await second;
});

test('a refused batch names the change; the next number goes on', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const run = (await client.prepare()).inodeRun!;
  const log = makeFiles(run.first, 2);
  log.removeName(5, 256, 9, run.first, 1, 0, Buffer.from('absent'));
  expect(await client.batch(log)).toMatchObject({ applied: 1, refused: { index: 4, errno: Errno.ENOENT } });
  expect(await client.batch(makeFiles(run.first, 2))).toMatchObject({ applied: 2, refused: null });
  expect(test.server.stats().batches).toEqual({ applied: 1, refused: 1 });
  expect((await client.peer.request('sync', { batch: 2 })).fields).toEqual({ durable: 2 });
});

test('what was sent before a refusal was seen goes back unjudged', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const run = (await client.prepare()).inodeRun!;
  const bad = makeFiles(run.first, 1);
  bad.removeXattr(5, run.first, 1, 0, Buffer.from('user.none'));
  const good = makeFiles(run.first + 1, 1);
  const answers = await Promise.all([client.batch(bad), client.batch(good), client.batch(good)]);
  expect(answers[0]).toMatchObject({ applied: 1, refused: { index: 2, errno: Errno.ENODATA } });
  const back = { index: 2, errno: Errno.EAGAIN };
  expect(answers.slice(1)).toMatchObject([{ refused: back }, { applied: 3, refused: back }]);
  client.refused = 1;
  expect(await client.batch(good)).toMatchObject({ applied: 4, refused: null });
  expect(test.volume.applied).toBe(1);
});

test('space that a session had reserved is free when it ends', async () => {
  const test = new TestServer({ sessionsMax: 2 }, { deviceTotal: 8 << 20 });
  const one = await test.mount();
  const { space } = (await one.acquire([], { spaceWanted: 1 << 30 })).fields;
  const two = await test.mount();
  expect((await two.acquire([], { spaceWanted: 1 << 30 })).fields.space).toBe(0);
  one.peer.close(0, 'done');
  await expect.poll(async () => (await two.acquire([], { spaceWanted: 1 << 30 })).fields.space).toBe(space);
});

test("a batch outside the sender's write grants is refused", async () => {
  const test = new TestServer();
  const client = await test.mount();
  await client.acquire([want(256, 257, read)]);
  expect((await client.batch(makeFiles(300, 1))).refused).toMatchObject({ index: 0, errno: Errno.EACCES });
  expect(test.volume.applied).toBe(0);
});

test('data goes up in a batch and comes down with checksums', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const run = (await client.prepare()).inodeRun!;
  const log = makeFiles(run.first, 2);
  log.putData(5, run.first, 4096, 5000, 9096, 1, 0);
  const data = Buffer.alloc(5000, 3);
  expect((await client.batch(log, data)).refused).toBe(null);
  const extents = [
    { tree: 5, ino: run.first, offset: 0, length: 8192 },
    { tree: 5, ino: run.first, offset: 8192, length: 904 },
  ];
  const { fields, body } = await client.peer.request('readData', { extents });
  expect(fields.lengths).toEqual([8192, 904]);
  expect(body.length).toBe(12 + 8192 + 904);
  expect(body.readUInt32LE(0)).toBe(crc32c(Buffer.alloc(4096)));
  expect(body.subarray(12 + 4096)).toEqual(data);
  const bad = client.peer.request('readData', {
    extents: [{ tree: 5, ino: run.first, offset: 1, length: 1 }],
  });
  await expect(bad).rejects.toMatchObject({ code: 'EINVAL' });
  const missing = client.peer.request('readData', {
    extents: [{ tree: 5, ino: 9999, offset: 0, length: 1 }],
  });
  await expect(missing).rejects.toMatchObject({ code: 'ENOENT' });
});

test('space: credits are bounded by what is available, and spent by batches', async () => {
  const test = new TestServer({}, { deviceTotal: 8 << 20 });
  const client = await test.mount();
  const all = await client.acquire([], { spaceWanted: 1 << 30 });
  expect(all.fields.space).toBeGreaterThan(3 << 20);
  expect(all.fields.space).toBeLessThan(4 << 20);
  expect((await client.acquire([], { spaceWanted: 1 })).fields.space).toBe(0);
  const run = (await client.prepare()).inodeRun!;
  await client.batch(makeFiles(run.first, 10));
  expect(test.server.stats().reservedBytes).toBe(all.fields.space - 10 * (4096 + 4096));
  const { fields } = await client.peer.request('statfs', {});
  expect(fields.total).toBe(8 << 20);
  expect(fields.available).toBeLessThanOrEqual(all.fields.space);
  expect(fields.inodesUsed).toBe(11);
});

test('a read-only session changes nothing', async () => {
  const test = new TestServer();
  const client = await test.mount('/', true);
  await expect(client.acquire([want(256, 257, write)])).rejects.toMatchObject({ code: 'EROFS' });
  await expect(client.acquire([], { inodesWanted: { tree: 5, count: 1 } })).rejects.toMatchObject({
    code: 'EROFS',
  });
  expect((await client.acquire([want(256, 257, read, wide)])).fields.grants).toMatchObject([{ mode: read }]);
  expect((await client.batch(makeFiles(300, 1))).refused).toMatchObject({ errno: Errno.EROFS });
  expect(test.volume.applied).toBe(0);
});

test('ranges that no operation needs are refused', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const invalid = { code: 'EINVAL' };
  await expect(client.acquire([want(256, 2 ** 40, read)])).rejects.toMatchObject(invalid);
  await expect(client.acquire([want(1, 257, read)])).rejects.toMatchObject(invalid);
  await expect(client.acquire([{ ...want(256, 257, read), tree: 77 }])).rejects.toMatchObject({
    code: 'ENOENT',
  });
  expect(test.server.stats().grants.ranges).toBe(0);
});

test('a lost connection frees everything, after its last batch, and drops what it left without a name', async () => {
  const gate: { open: () => void } = { open: () => {} };
  let held = false;
  const test = new TestServer(
    {},
    {
      before: (operation) =>
        operation === 'apply' && held
          ? new Promise((resolve) => {
              gate.open = resolve;
            })
          : Promise.resolve(),
    },
  );
  const client = await test.mount();
  const run = (await client.prepare()).inodeRun!;
  await client.batch(makeFiles(run.first, 3));
  held = true;
  const log = new ChangeLog();
  log.removeName(5, 256, run.first, run.first, 2, 0, Buffer.from(`file${run.first}`));
  client.batch(log).catch(() => {});
  await settle();
  client.peer.transport.destroy();
  await settle();
  expect(test.server.sessions).toBe(1);
  const next = test.connect();
  const greeted = next.greet();
  await settle();
  held = false;
  gate.open();
  await greeted;
  expect(test.server.sessions).toBe(1);
  expect(test.server.stats()).toMatchObject({ reservedBytes: 0, grants: { ranges: 0 } });
  expect(test.volume.items.find(5, run.first, 1, 0)).toBe(false);
  expect(test.volume.items.find(5, run.first + 1, 1, 0)).toBe(true);
  // Numbers that were not used are given again.
  expect((await next.prepare()).inodeRun?.first).toBe(run.first + 3);
});

test('a silent session is evicted after its lease; pings keep one alive', async () => {
  const test = new TestServer({ leaseMs: 1000 });
  await test.start();
  const [silent, alive] = [await test.mount(), await test.mount()];
  for (let step = 0; step < 6; step++) {
    test.clock.advance(250);
    await alive.peer.request('ping', {});
  }
  await settle();
  expect(silent.closed?.errno).toBe(Errno.ETIMEDOUT);
  expect(alive.closed).toBe(null);
  expect(test.server.sessions).toBe(1);
});

test('a connection that does not greet is closed in time', async () => {
  const test = new TestServer();
  const client = test.connect();
  await settle();
  test.clock.advance(GREETING_TIMEOUT_MS);
  await settle();
  expect(client.closed?.errno).toBe(Errno.ETIMEDOUT);
});

test('stats need no session on a local connection', async () => {
  const test = new TestServer();
  await test.mount();
  const { fields } = await test.connect().peer.request('stats', {});
  const stats = JSON.parse(fields.json) as ReturnType<typeof test.server.stats>;
  expect(stats.sessions).toMatchObject([{ id: 1, client: 'test' }]);
  expect(stats.messages.received).toEqual({ greeting: 1, stats: 1 });
});

test('stopping says goodbye, commits, and takes nobody any more', async () => {
  const test = new TestServer();
  const client = await test.mount();
  const run = (await client.prepare()).inodeRun!;
  await client.batch(makeFiles(run.first, 1));
  expect(test.volume.durable).toBe(0);
  await test.server.stop();
  await settle();
  expect(test.volume.durable).toBe(1);
  expect(client.closed?.errno).toBe(Errno.ESHUTDOWN);
  const late = test.connect();
  await settle();
  expect(late.closed).not.toBe(null);
});

test.each([
  ['a message before the greeting', (peer: ReturnType<TestServer['connect']>) => peer.acquire([])],
  [
    'a batch out of turn',
    async (client: ReturnType<TestServer['connect']>) => {
      await client.greet();
      client.batches = 4;
      return client.batch(new ChangeLog());
    },
  ],
  [
    'a release after a batch that was not sent',
    async (client: ReturnType<TestServer['connect']>) => {
      await client.greet();
      client.release([], 3);
      return client.peer.request('ping', {});
    },
  ],
  [
    'a second greeting',
    async (client: ReturnType<TestServer['connect']>) => {
      await client.greet();
      return client.greet();
    },
  ],
  [
    'changes with a wrong checksum',
    async (client: ReturnType<TestServer['connect']>) => {
      await client.greet();
      const fields = {
        number: 1,
        changeCount: 0,
        changesLength: 4,
        changesCrc32c: 1,
        dataLength: 0,
        refusedSeen: 0,
      };
      return client.peer.request('batch', fields, { body: [Buffer.alloc(4)] });
    },
  ],
])('%s ends the connection with EPROTO and a line in the log', async (_, act) => {
  const test = new TestServer();
  const client = test.connect();
  await expect(act(client)).rejects.toMatchObject({ name: 'ConnectionError' });
  await settle();
  expect(client.closed?.errno).toBe(Errno.EPROTO);
  expect(test.lines.at(-1)).toContain(client.closed?.message);
  expect(test.server.sessions).toBe(0);
});

test('a file that is closed and open again in one breath is open', async () => {
  const server = new TestServer();
  await server.start();
  // What is sent in one turn arrives in one piece, as from a socket.
  const tasks: (() => void)[] = [];
  const runAll = (): void => {
    for (const task of tasks.splice(0)) task();
  };
  const schedule = (task: () => void): void => {
    if (tasks.push(task) === 1) setImmediate(runAll);
  };
  const client = new TestClient(server.transport(schedule), server.clock);
  await client.greet();
  const { inodeRun } = await client.prepare();
  const ino = inodeRun!.first;
  await client.batch(makeFiles(ino, 1));
  const openInodes = [{ tree: 5, ino }];
  const release = (from: number): void => {
    const ranges = [modeChange(from, from + 1, Mode.write, Mode.none)];
    client.peer.notify('release', { ranges, afterBatch: 1, refusedSeen: 0, openInodes });
  };
  release(ino);
  client.peer.notify('closed', { inodes: [{ tree: 5, ino, isNameless: false }], afterBatch: 1 });
  release(ino + 1);
  await settle();
  const { fields } = await client.peer.request('stats', {});
  expect(JSON.parse(fields.json).grants.openInodes).toBe(1);
});
