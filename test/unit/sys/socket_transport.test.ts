// SPDX-License-Identifier: GPL-2.0-or-later
//
// Peers over real sockets: a unix socket and loopback TCP.

import { mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  connectSocket,
  listenSocket,
  type SocketAddress,
  type SocketListener,
} from '../../../ts/sys/socket_transport.ts';
import { SystemClock } from '../../../ts/sys/system_clock.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { type IncomingRequest, Peer } from '../../../ts/wire/peer.ts';

let directory = '';
const listeners: SocketListener[] = [];
const peers: Peer[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'crfs-socket-'));
});

afterEach(async () => {
  for (const peer of peers.splice(0)) peer.transport.destroy();
  for (const listener of listeners.splice(0)) await listener.close();
  await rm(directory, { recursive: true, force: true });
});

const clock = new SystemClock();

/** A server that answers reads with as many bytes as were asked for. */
function serve(request: IncomingRequest): void {
  if (request.name === 'readData') {
    const lengths = request.fields.extents.map((extent) => extent.length);
    request.reply(
      { lengths },
      lengths.map((length, at) => Buffer.alloc(length, at + 1)),
    );
  } else request.fail(Errno.ENOSYS, 'not here');
}

async function pair(
  address: SocketAddress,
): Promise<{ client: Peer; server: Promise<Peer>; bound: SocketAddress }> {
  let accept: (peer: Peer) => void = () => {};
  const server = new Promise<Peer>((resolve) => {
    accept = resolve;
  });
  const listener = await listenSocket(address, (transport) => {
    expect(transport.isLocal).toBe(true);
    const peer = new Peer({ transport, side: 'server', clock, crc32c });
    peer.start({ onRequest: serve, onNotice: () => {}, onClosed: () => {} });
    peers.push(peer);
    accept(peer);
  });
  listeners.push(listener);
  const transport = await connectSocket(listener.address, 5000);
  const client = new Peer({ transport, side: 'client', clock, crc32c });
  client.start({ onRequest: () => {}, onNotice: () => {}, onClosed: () => {} });
  peers.push(client);
  return { client, server, bound: listener.address };
}

function addresses(): SocketAddress[] {
  return [
    { kind: 'unix', path: join(directory, 'socket') },
    { kind: 'tcp', host: '127.0.0.1', port: 0 },
  ];
}

test('large bodies both ways, many requests at a time', async () => {
  for (const address of addresses()) {
    const { client } = await pair(address);
    const lengths = [1, 5_000_000, 10, 200_000];
    const replies = await Promise.all(
      Array.from({ length: 5 }, () =>
        client.request('readData', {
          extents: lengths.map((length) => ({ tree: 5, ino: 257, offset: 0, length })),
        }),
      ),
    );
    const expected = Buffer.concat(lengths.map((length, at) => Buffer.alloc(length, at + 1)));
    for (const { fields, body } of replies) {
      expect(fields.lengths).toEqual(lengths);
      expect(body.equals(expected)).toBe(true);
    }
    await expect(client.request('statfs', {})).rejects.toMatchObject({ code: 'ENOSYS' });
  }
});

test('a goodbye arrives with its reason, and both ends close', async () => {
  for (const address of addresses()) {
    const { client, server } = await pair(address);
    const waiting = client.request('ping', {});
    await waiting;
    (await server).close(Errno.ESHUTDOWN, 'the server stops');
    const late = client.request('statfs', {});
    await expect(late).rejects.toMatchObject({ name: 'ConnectionError', errno: Errno.ESHUTDOWN });
  }
});

test('an end without a goodbye fails what waits', async () => {
  for (const address of addresses()) {
    const { client, server } = await pair(address);
    const far = await server;
    far.transport.destroy();
    await expect(client.request('statfs', {})).rejects.toMatchObject({ name: 'ConnectionError' });
  }
});

test('nobody there: a ConnectionError with the errno', async () => {
  const missing = connectSocket({ kind: 'unix', path: join(directory, 'nobody') }, 1000);
  await expect(missing).rejects.toMatchObject({ name: 'ConnectionError', errno: Errno.ENOENT });
  const { bound } = await pair({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  const again = listenSocket(bound, () => {});
  await expect(again).rejects.toMatchObject({ name: 'ConnectionError', errno: Errno.EADDRINUSE });
});

test('a socket file that nobody serves is replaced, a served one and a plain file are not', async () => {
  const dead = join(directory, 'dead');
  const moved = join(directory, 'moved');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(moved, resolve));
  // Renamed away, the file outlives its server, as after a crash.
  await rename(moved, dead);
  await new Promise((resolve) => server.close(resolve));
  expect((await stat(dead)).isSocket()).toBe(true);
  await pair({ kind: 'unix', path: dead });
  const path = join(directory, 'socket');
  const { bound } = await pair({ kind: 'unix', path });
  await expect(listenSocket(bound, () => {})).rejects.toMatchObject({ errno: Errno.EADDRINUSE });
  const plain = join(directory, 'plain');
  await writeFile(plain, 'data');
  await expect(listenSocket({ kind: 'unix', path: plain }, () => {})).rejects.toMatchObject({
    errno: Errno.EADDRINUSE,
  });
  expect((await stat(plain)).size).toBe(4);
});
