// SPDX-License-Identifier: GPL-2.0-or-later
// Addresses and mount sources as they stand on command lines and in /etc/fstab.

import { expect, test } from 'vitest';
import { formatAddress, isLocal, parseAddress, parseSource } from '../../../ts/cli/address.ts';

const tcp = (host: string, port: number) => ({ kind: 'tcp', host, port });
const unix = (path: string) => ({ kind: 'unix', path });

test.each([
  ['127.0.0.1:1000', tcp('127.0.0.1', 1000)],
  ['host.example:65535', tcp('host.example', 65535)],
  ['host', tcp('host', 2737)],
  ['[::1]:99', tcp('::1', 99)],
  ['[fe80::1]', tcp('fe80::1', 2737)],
  ['unix:/run/crfsd.sock', unix('/run/crfsd.sock')],
])('address %s', (text, expected) => {
  expect(parseAddress(text, '--listen')).toEqual(expected);
});

test.each([
  ['::1', /in brackets: \[::1\]/],
  ['host:', /not a port/],
  ['host:0', /not a port/],
  ['host:65536', /not a port/],
  ['host:1:2', /not HOST:PORT/],
  ['[host]:1', /not an IPv6/],
  ['', /not HOST:PORT/],
  ['unix:relative', /must be absolute/],
  [`unix:/${'x'.repeat(107)}`, /107 bytes/],
])('address %j is refused', (text, message) => {
  expect(() => parseAddress(text, '--listen')).toThrow(message);
});

test.each([
  ['host:/', tcp('host', 2737), '/'],
  ['host:99:/a/b', tcp('host', 99), '/a/b'],
  ['host:/a//b/./c/', tcp('host', 2737), '/a/b/c'],
  ['[::1]:/x', tcp('::1', 2737), '/x'],
  ['[::1]:99:/x', tcp('::1', 99), '/x'],
  ['unix:/run/s:/x y', unix('/run/s'), '/x y'],
  ['unix:/a:b:/', unix('/a:b'), '/'],
])('source %s', (text, address, path) => {
  expect(parseSource(text)).toEqual({ address, path });
});

test.each([
  ['host', /a source is/],
  ['host:relative', /a source is/],
  [':/x', /a source is/],
  ['/dev/sda', /a source is/],
  ['unix:/run/s', /a source is/],
  ['::1:/x', /in brackets/],
  ['host:/a/../b', /must not contain/],
])('source %s is refused', (text, message) => {
  expect(() => parseSource(text)).toThrow(message);
});

test('-o port= counts, and must agree with a port in the source', () => {
  expect(parseSource('host:/', 7).address).toEqual(tcp('host', 7));
  expect(parseSource('host:7:/', 7).address).toEqual(tcp('host', 7));
  expect(() => parseSource('host:8:/', 7)).toThrow(/differs/);
  expect(() => parseSource('unix:/s:/', 7)).toThrow(/no meaning/);
});

test('an address is shown as it is written', () => {
  for (const text of ['host:1', '[::1]:99', 'unix:/run/s']) {
    expect(formatAddress(parseAddress(text, ''))).toBe(text);
  }
});

test('only loopback and unix sockets are local', () => {
  const local = ['127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'localhost:1', 'unix:/s'];
  for (const text of local) expect(isLocal(parseAddress(text, ''))).toBe(true);
  for (const text of ['0.0.0.0:1', '[::]:1', '10.0.0.1:1', '127.example:1']) {
    expect(isLocal(parseAddress(text, ''))).toBe(false);
  }
});
