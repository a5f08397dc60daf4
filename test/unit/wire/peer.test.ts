// SPDX-License-Identifier: GPL-2.0-or-later
//
// Two peers over a memory transport: requests, notices, errors, timeouts, counters, closing.

import { expect, test } from 'vitest';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { ConnectionError, FsError } from '../../../ts/util/errors.ts';
import { ManualClock } from '../../../ts/util/manual_clock.ts';
import { Prng } from '../../../ts/util/prng.ts';
import { encodeFrameHead } from '../../../ts/wire/frame.ts';
import { memoryPair, TaskQueue } from '../../../ts/wire/memory_transport.ts';
import { type IncomingNotice, type IncomingRequest, Peer } from '../../../ts/wire/peer.ts';

function connect(seed: number) {
  const prng = new Prng(seed);
  const queue = new TaskQueue();
  const clock = new ManualClock();
  const [one, two] = memoryPair({ schedule: queue.schedule, pieceBytes: () => prng.between(1, 300) });
  const client = new Peer({ transport: one, side: 'client', clock, crc32c });
  const server = new Peer({ transport: two, side: 'server', clock, crc32c });
  const requests: IncomingRequest[] = [];
  const notices: IncomingNotice[] = [];
  const closed: ConnectionError[] = [];
  client.start({
    onRequest: (request) => requests.push(request),
    onNotice: (notice) => notices.push(notice),
    onClosed: (cause) => closed.push(cause),
  });
  const onRequest = { handle: (request: IncomingRequest): void => void requests.push(request) };
  server.start({
    onRequest: (request) => onRequest.handle(request),
    onNotice: (notice) => notices.push(notice),
    onClosed: (cause) => closed.push(cause),
  });
  return { queue, clock, client, server, requests, notices, closed, onRequest, raw: one };
}

test('replies find their requests in any order, with their bodies', async () => {
  const { queue, client, requests } = connect(1);
  const body = Buffer.alloc(5000, 9);
  const first = client.request(
    'batch',
    { number: 1, changeCount: 0, changesLength: 0, changesCrc32c: 0, dataLength: 5000, refusedSeen: 0 },
    { body: [body] },
  );
  const second = client.request('readData', { extents: [{ tree: 5, ino: 257, offset: 0, length: 10 }] });
  queue.run();
  expect(requests.map((request) => request.name)).toEqual(['batch', 'readData']);
  const [batch, read] = requests as [IncomingRequest, IncomingRequest];
  expect(batch.body).toEqual(body);
  if (read.name === 'readData') read.reply({ lengths: [10] }, [Buffer.alloc(4), Buffer.alloc(10, 5)]);
  if (batch.name === 'batch') batch.reply({ applied: 1, durable: 0, refused: null });
  queue.run();
  expect((await first).fields).toEqual({ applied: 1, durable: 0, refused: null });
  expect((await second).body).toEqual(Buffer.concat([Buffer.alloc(4), Buffer.alloc(10, 5)]));
  expect(client.requestsPending).toBe(0);
  expect(client.counters.report().messages).toEqual({
    sent: { batch: 1, readData: 1 },
    received: { batch: 1, readData: 1 },
  });
});

test('an error reply becomes an FsError', async () => {
  const { queue, client, requests } = connect(2);
  const reply = client.request('sync', { batch: 1 });
  queue.run();
  requests[0]!.fail(Errno.EIO, 'the device failed');
  queue.run();
  const error = await reply.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(FsError);
  expect(error).toMatchObject({ code: 'EIO', text: 'the device failed' });
});

test('notices arrive in stream order with onReply', () => {
  const { queue, client, server, requests, notices } = connect(3);
  const order: string[] = [];
  void client.request(
    'sync',
    { batch: 1 },
    { onReply: () => order.push(`reply after ${notices.length} notices`) },
  );
  queue.run();
  server.notify('revoke', { ranges: [] });
  const sync = requests[0]!;
  if (sync.name === 'sync') sync.reply({ durable: 1 });
  server.notify('revoke', { ranges: [] });
  queue.run();
  expect(order).toEqual(['reply after 1 notices']);
  expect(notices).toHaveLength(2);
});

test('pings are answered by the peer itself, both ways', async () => {
  const { queue, clock, client, server } = connect(4);
  clock.advance(5);
  const pings = [client.request('ping', {}), server.request('ping', {})];
  queue.run();
  for (const ping of pings) expect((await ping).fields.serverTimeNs).toBe(clock.realTimeNs());
  expect(server.lastReceivedMs).toBe(5);
});

test('a request without a reply in time ends the connection', async () => {
  const { queue, clock, client, closed } = connect(5);
  const silent = client.request('sync', { batch: 1 }, { timeoutMs: 100 });
  const other = client.request('statfs', {});
  queue.run();
  clock.advance(100);
  await expect(silent).rejects.toMatchObject({ name: 'ConnectionError', errno: Errno.ETIMEDOUT });
  await expect(other).rejects.toBeInstanceOf(ConnectionError);
  queue.run();
  // The other side learnt the reason from the goodbye.
  expect(closed.map((cause) => cause.errno)).toEqual([Errno.ETIMEDOUT, Errno.ETIMEDOUT]);
});

test('closing fails what waits, at once, and later requests too', async () => {
  const { queue, client, server, closed } = connect(6);
  const waiting = client.request('statfs', {});
  queue.run();
  client.close(0, 'unmounted');
  await expect(waiting).rejects.toBeInstanceOf(ConnectionError);
  await expect(client.request('statfs', {})).rejects.toBeInstanceOf(ConnectionError);
  client.notify('goodbye', { errno: 0, text: '' });
  queue.run();
  expect(closed).toHaveLength(2);
  expect(server.closed?.message).toBe('unmounted');
});

test('a reply after the connection ended does nothing', () => {
  const { queue, client, server, requests } = connect(7);
  client.request('statfs', {}).catch(() => {});
  queue.run();
  server.close(Errno.ESHUTDOWN, 'the server stops');
  requests[0]!.fail(Errno.EIO, 'too late');
  queue.run();
  expect(client.closed?.errno).toBe(Errno.ESHUTDOWN);
});

test.each([
  ['a message of the wrong side', 3, 0, 0, '8180'],
  ['an unknown kind', 99, 0, 1, '80'],
  ['a request without a number', 8, 0, 0, '80'],
  ['a notice with a number', 10, 0, 7, '820060'],
  ['a reply that nobody asked for', 8, 1, 7, '8401010101'],
  ['a control part that is no CBOR', 8, 0, 1, 'ffff'],
])('%s ends the connection with EPROTO', (_, kind, flags, id, control) => {
  const { queue, server, raw, client } = connect(8);
  raw.send([encodeFrameHead({ kind, flags, id, bodyLength: 0 }, Buffer.from(control, 'hex'), crc32c)]);
  queue.run();
  expect(server.closed).toMatchObject({ errno: Errno.EPROTO });
  expect(client.closed).toMatchObject({ errno: Errno.EPROTO, message: server.closed?.message });
});

test('too many requests without a reply end the connection', () => {
  const { queue, server, client } = connect(9);
  for (let count = 0; count < 1100; count++) client.request('statfs', {}).catch(() => {});
  queue.run();
  expect(server.closed?.errno).toBe(Errno.EPROTO);
});

test('a full send queue asks for patience and says when it has room', async () => {
  const { queue, client, onRequest } = connect(10);
  onRequest.handle = (request) => {
    if (request.name === 'batch') request.reply({ applied: 0, durable: 0, refused: null });
  };
  const fields = {
    number: 1,
    changeCount: 0,
    changesLength: 0,
    changesCrc32c: 0,
    dataLength: 8 << 20,
    refusedSeen: 0,
  };
  const sent: Promise<unknown>[] = [];
  for (let number = 1; number <= 3; number++) {
    sent.push(client.request('batch', { ...fields, number }, { body: [Buffer.alloc(8 << 20)] }));
  }
  expect(client.writable).toBe(false);
  const room = client.whenWritable();
  queue.run();
  await room;
  expect(client.writable).toBe(true);
  await Promise.all(sent);
});
