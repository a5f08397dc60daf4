// SPDX-License-Identifier: GPL-2.0-or-later
//
// Transports over sockets: TCP and unix. `connectSocket` makes the client's, `SocketListener` takes the server's.
//
// What is sent within one turn of the event loop leaves in one writev: the socket is corked at the first send and
// uncorked when the turn's tasks are done. Chunks that come in are fresh buffers of Node's, at most 64 KiB, which the
// receiver keeps.

import { lstat, rm } from 'node:fs/promises';
import { connect, createServer, type Server, Socket } from 'node:net';
import { Errno, type ErrnoName } from '../util/errno.ts';
import { ConnectionError } from '../util/errors.ts';
import { CONNECTIONS_MAX, SEND_QUEUE_BYTES_HIGH } from '../util/limits.ts';
import type { Transport, TransportHandlers } from '../wire/transport.ts';
import { cpuIdle } from './cpu_idle.ts';

/** Where a server listens or a client connects. Port 0 lets the system choose. */
export type SocketAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** The kernel looks for a dead peer after this long without traffic, milliseconds. Leases judge much earlier. */
const KEEP_ALIVE_MS = 60_000;

class SocketTransport implements Transport {
  readonly peerName: string;
  readonly isLocal: boolean;
  readonly #socket: Socket;
  #corked = false;
  #over = false;
  #closed = false;

  constructor(socket: Socket, peerName: string, isLocal: boolean) {
    this.#socket = socket;
    this.peerName = peerName;
    this.isLocal = isLocal;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    // Until `start`, an error only closes the socket.
    socket.on('error', () => {});
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  start(handlers: TransportHandlers): void {
    const socket = this.#socket;
    let cause: Error | null = null;
    socket.on('error', (error) => {
      cause = error;
    });
    socket.on('data', (chunk: Buffer) => {
      cpuIdle.worked();
      handlers.onData(chunk);
    });
    socket.on('drain', () => {
      if (!this.#over || socket.writableLength > SEND_QUEUE_BYTES_HIGH / 2) return;
      this.#over = false;
      handlers.onDrain();
    });
    // The other end has no more to say, so it is gone: CRFS uses no half-open connections.
    socket.on('end', () => this.close());
    socket.on('close', () => handlers.onClose(cause));
  }

  send(buffers: readonly Uint8Array[]): boolean {
    if (this.#closed) return true;
    const socket = this.#socket;
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        socket.uncork();
      });
    }
    for (const buffer of buffers) socket.write(buffer);
    this.#over ||= socket.writableLength > SEND_QUEUE_BYTES_HIGH;
    return !this.#over;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#closed = true;
    this.#socket.destroy();
  }
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && (address === '::1' || /^(::ffff:)?127\./.test(address));
}

function describe(socket: Socket, address: SocketAddress): { peerName: string; isLocal: boolean } {
  if (address.kind === 'unix') return { peerName: `unix:${address.path}`, isLocal: true };
  const { remoteAddress, remotePort } = socket;
  const host = remoteAddress?.includes(':') ? `[${remoteAddress}]` : remoteAddress;
  return {
    peerName: `${host ?? address.host}:${remotePort ?? address.port}`,
    isLocal: isLoopback(remoteAddress),
  };
}

function connectionError(text: string, error: Error): ConnectionError {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const known = Errno[code as ErrnoName] as number | undefined;
  // A host name that cannot be resolved has an error of its own (ENOTFOUND, EAI_AGAIN), which Linux has no errno for.
  return new ConnectionError(`${text}: ${error.message}`, known ?? Errno.EHOSTUNREACH, { cause: error });
}

function textOf(address: SocketAddress): string {
  return address.kind === 'unix' ? `unix:${address.path}` : `${address.host}:${address.port}`;
}

/**
 * Connects to a server.
 *
 * @throws ConnectionError - nobody answered, within `timeoutMs`
 */
export function connectSocket(address: SocketAddress, timeoutMs: number): Promise<Transport> {
  return new Promise((resolve, reject) => {
    const socket =
      address.kind === 'unix'
        ? connect({ path: address.path })
        : connect({ host: address.host, port: address.port });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(connectionError(`cannot connect to ${textOf(address)}`, error));
    };
    const onTimeout = (): void => fail(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' }));
    socket.setTimeout(timeoutMs, onTimeout);
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.off('timeout', onTimeout);
      socket.off('error', fail);
      const { peerName, isLocal } = describe(socket, address);
      resolve(new SocketTransport(socket, peerName, isLocal));
    });
  });
}

/** A listening socket. */
export class SocketListener {
  /** Where it listens; the port is the real one. */
  readonly address: SocketAddress;
  readonly #server: Server;

  constructor(server: Server, address: SocketAddress) {
    this.#server = server;
    this.address = address;
  }

  /** Takes no more connections; those that are there stay. */
  async close(): Promise<void> {
    this.#server.close();
    if (this.address.kind === 'unix') await rm(this.address.path, { force: true });
  }
}

/**
 * Listens. A socket file that a dead server left behind is replaced.
 *
 * @throws ConnectionError - the address is in use, or not ours
 */
export async function listenSocket(
  address: SocketAddress,
  onConnection: (transport: Transport) => void,
): Promise<SocketListener> {
  if (address.kind === 'unix') await removeDeadSocket(address.path);
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const { peerName, isLocal } = describe(socket, address);
    onConnection(new SocketTransport(socket, peerName, isLocal));
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(connectionError(`cannot listen on ${textOf(address)}`, error)));
    server.once('listening', () => resolve());
    if (address.kind === 'unix') server.listen({ path: address.path });
    else server.listen({ host: address.host, port: address.port });
  });
  const bound = server.address();
  const real: SocketAddress =
    address.kind === 'tcp' && bound !== null && typeof bound === 'object'
      ? { ...address, port: bound.port }
      : address;
  return new SocketListener(server, real);
}

/** Removes a socket file on which nobody listens. Other files stay, and listening then fails. */
async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null || !found.isSocket()) return;
  const isDead = await new Promise<boolean>((resolve) => {
    const probe = new Socket();
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve((error as NodeJS.ErrnoException).code === 'ECONNREFUSED'));
    probe.connect({ path });
  });
  if (isDead) await rm(path, { force: true });
}
