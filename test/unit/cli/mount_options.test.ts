// SPDX-License-Identifier: GPL-2.0-or-later
// The options after -o: what each means, that later ones win, that unknown ones are refused by name.

import { expect, test } from 'vitest';
import { parseMountOptions } from '../../../ts/cli/mount_options.ts';
import { CACHE_BYTES_DEFAULT } from '../../../ts/client/limits.ts';

test('without options', () => {
  expect(parseMountOptions([])).toEqual({
    readOnly: false,
    kernelFlags: [],
    allowOther: true,
    cacheBytes: CACHE_BYTES_DEFAULT,
    port: undefined,
    cpuIdle: 'auto',
    logFile: undefined,
  });
});

test('several -o, lists and repetitions: a later option wins', () => {
  const settings = parseMountOptions(['ro,nosuid,noatime,cache=64M', 'rw,suid,relatime,port=99,log=/tmp/x']);
  expect(settings.readOnly).toBe(false);
  expect(settings.kernelFlags).toEqual(['relatime']);
  expect(settings.cacheBytes).toBe(64 * 1024 ** 2);
  expect(settings.port).toBe(99);
  expect(settings.logFile).toBe('/tmp/x');
});

test('what /etc/fstab may hold is accepted', () => {
  const values = ['defaults,_netdev,nofail,noauto,x-systemd.automount,x-foo=1,comment=hello,user'];
  expect(parseMountOptions(values).kernelFlags).toEqual(['nosuid', 'nodev', 'noexec']);
});

test.each([
  ['cahce=64M', 'unknown mount option: cahce'],
  ['rw,frob', 'unknown mount option: frob'],
  ['cache', 'unknown mount option: cache'],
  ['ro=1', 'unknown mount option: ro'],
  ['constructor', 'unknown mount option: constructor'],
  ['cache=1M', 'at least 16M'],
  ['cache=lots', 'not a size'],
  ['cpuidle=never', 'one of auto, poll, sleep'],
  ['port=x', 'not a port'],
  ['log=relative', 'must be absolute'],
])('%s is refused', (text, message) => {
  expect(() => parseMountOptions([text])).toThrow(message);
});
