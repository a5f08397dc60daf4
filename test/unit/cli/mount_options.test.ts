// SPDX-License-Identifier: GPL-2.0-or-later
// The options after -o: what each means, that later ones win, that unknown ones are refused by name.

import { expect, test } from 'vitest';
import { fixedSettings, parseMountOptions } from '../../../ts/cli/mount_options.ts';
import { CACHE_BYTES_DEFAULT } from '../../../ts/client/limits.ts';

test('without options', () => {
  expect(parseMountOptions([])).toEqual({
    readOnly: false,
    kernelFlags: [],
    allowOther: true,
    driver: 'native',
    cacheBytes: CACHE_BYTES_DEFAULT,
    port: undefined,
    cpuIdle: 'auto',
    logFile: undefined,
    remount: false,
    given: new Set(),
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

test('the portable driver lets only root in', () => {
  expect(parseMountOptions(['driver=fuse-native'])).toMatchObject({
    driver: 'fuse-native',
    allowOther: false,
  });
  expect(parseMountOptions(['driver=fuse-native,driver=native,allow_other']).allowOther).toBe(true);
  expect(parseMountOptions(['allow_other,noallow_other,driver=fuse-native']).allowOther).toBe(false);
});

test('what /etc/fstab may hold is accepted', () => {
  const values = [
    'defaults,_netdev,nofail,noauto,x-systemd.automount,x-foo=1,X-mount.mkdir,comment=hello,user',
  ];
  expect(parseMountOptions(values).kernelFlags).toEqual(['nosuid', 'nodev', 'noexec']);
});

test('a remount brings along what the mount table says, and which options were given', () => {
  const table =
    'remount,ro,nosuid,relatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576';
  const settings = parseMountOptions([table]);
  expect(settings).toMatchObject({ remount: true, readOnly: true, kernelFlags: ['nosuid', 'relatime'] });
  expect(Object.keys(fixedSettings(settings)).filter((option) => settings.given.has(option))).toEqual([
    'allow_other',
  ]);
});

test('who mounts without being root is alone, unless he says otherwise', () => {
  expect(parseMountOptions([], false, false).allowOther).toBe(false);
  expect(parseMountOptions(['allow_other'], false, false).allowOther).toBe(true);
  expect(parseMountOptions(['noallow_other']).allowOther).toBe(false);
});

test.each([
  ['user_id=0', 'unknown mount option: user_id'],
  ['cahce=64M', 'unknown mount option: cahce'],
  ['rw,frob', 'unknown mount option: frob'],
  ['cache', 'unknown mount option: cache'],
  ['ro=1', 'unknown mount option: ro'],
  ['constructor', 'unknown mount option: constructor'],
  ['cache=1M', 'at least 16M'],
  ['cache=lots', 'not a size'],
  ['cpuidle=never', 'one of auto, poll, sleep'],
  ['driver=fuse', 'one of native, fuse-native'],
  ['driver=fuse-native,allow_other', 'only root may enter'],
  ['port=x', 'not a port'],
  ['log=relative', 'must be absolute'],
])('%s is refused', (text, message) => {
  expect(() => parseMountOptions([text])).toThrow(message);
});
