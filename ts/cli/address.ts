// SPDX-License-Identifier: GPL-2.0-or-later
// Addresses on command lines: where crfsd listens, and the SOURCE of a mount.
//
//   HOST:PORT    [IPV6]:PORT    unix:PATH                       crfsd --listen, crfsd stats
//   HOST[:PORT]:/PATH    [IPV6][:PORT]:/PATH    unix:SOCKET:/PATH       mount.crfs
//
// An IPv6 address needs its brackets: without them it cannot be told from a port.

import { isIPv4, isIPv6 } from 'node:net';
import { CliError } from './exit.ts';

/** "CRFS" on the keys of a telephone. The port is not registered. */
export const DEFAULT_PORT = 2737;

/** Longest path that sockaddr_un holds, with its NUL left out. */
const UNIX_PATH_BYTES_MAX = 107;

export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export interface Source {
  readonly address: Address;
  /** Directory of the image, absolute, without `.` and `..`. */
  readonly path: string;
}

export function parsePort(text: string, what: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new CliError(`${what}: ${text} is not a port (1 to 65535)`);
  return port;
}

function unixAddress(path: string, what: string): Address {
  if (!path.startsWith('/'))
    throw new CliError(`${what}: the path of a unix socket must be absolute: ${path}`);
  if (Buffer.byteLength(path) > UNIX_PATH_BYTES_MAX) {
    throw new CliError(
      `${what}: the path of a unix socket is limited to ${UNIX_PATH_BYTES_MAX} bytes: ${path}`,
    );
  }
  return { kind: 'unix', path };
}

/** `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT`. */
function tcpAddress(text: string, defaultPort: number, what: string): Address {
  const match = /^(?:\[([^[\]]*)\]|([^[\]:/\s]+))(?::([^:]*))?$/.exec(text);
  if (match === null) {
    const hint = isIPv6(text) ? ` (write an IPv6 address in brackets: [${text}])` : '';
    throw new CliError(`${what}: ${text} is not HOST:PORT or unix:PATH${hint}`);
  }
  const [, bracketed, plain, port] = match;
  if (bracketed !== undefined && !isIPv6(bracketed)) {
    throw new CliError(`${what}: ${bracketed} is not an IPv6 address`);
  }
  return {
    kind: 'tcp',
    host: (bracketed ?? plain)!,
    port: port === undefined ? defaultPort : parsePort(port, what),
  };
}

/** Parses what `--listen` and `crfsd stats` take. */
export function parseAddress(text: string, what: string): Address {
  if (text.startsWith('unix:')) return unixAddress(text.slice('unix:'.length), what);
  return tcpAddress(text, DEFAULT_PORT, what);
}

function normalPath(path: string, source: string): string {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw new CliError(`${source}: a path in the image must not contain ..`);
  return `/${names.join('/')}`;
}

/**
 * Parses the SOURCE of a mount.
 *
 * @param portOption - from `-o port=`; a port in SOURCE itself must agree with it.
 */
export function parseSource(source: string, portOption?: number): Source {
  // The path begins at the last ":/", so that a socket's own path may come before it.
  const colon = source.lastIndexOf(':/');
  if (colon < 1 || source === `unix${source.slice(colon)}`) {
    throw new CliError(`${source}: a source is HOST[:PORT]:/PATH or unix:SOCKET:/PATH`);
  }
  const path = normalPath(source.slice(colon + 1), source);
  const peer = source.slice(0, colon);
  if (peer.startsWith('unix:')) {
    if (portOption !== undefined) throw new CliError('-o port= has no meaning for a unix socket');
    return { address: unixAddress(peer.slice('unix:'.length), source), path };
  }
  const address = tcpAddress(peer, portOption ?? DEFAULT_PORT, source);
  if (portOption !== undefined && address.kind === 'tcp' && address.port !== portOption) {
    throw new CliError(`${source}: the port differs from -o port=${portOption}`);
  }
  return { address, path };
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  return `${isIPv6(address.host) ? `[${address.host}]` : address.host}:${address.port}`;
}

/** Whether only this machine can reach the address. */
export function isLocal(address: Address): boolean {
  if (address.kind === 'unix' || address.host === 'localhost' || address.host === '::1') return true;
  return isIPv4(address.host) && address.host.startsWith('127.');
}
