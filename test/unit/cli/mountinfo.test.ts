// SPDX-License-Identifier: GPL-2.0-or-later
// /proc/self/mountinfo: escapes, optional fields, several mounts on one directory.

import { expect, test } from 'vitest';
import { findMount, parseMountinfo } from '../../../ts/cli/mountinfo.ts';

const TEXT = [
  '22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw',
  '50 22 0:44 / /mnt/a\\040b\\134c rw - fuse.crfs host:/x\\040y rw,user_id=0',
  '51 22 0:45 / /mnt/twice rw shared:9 - tmpfs tmpfs rw',
  '52 51 0:46 / /mnt/twice rw shared:9 - fuse.crfs host:/ rw,user_id=1000,group_id=7',
  'not a line of it',
  '',
].join('\n');

test('fields are found behind any number of optional ones, escapes are undone', () => {
  const entries = parseMountinfo(TEXT);
  expect(entries).toHaveLength(4);
  expect(entries[1]).toEqual({
    device: '0:44',
    mountPoint: '/mnt/a b\\c',
    type: 'fuse.crfs',
    source: 'host:/x y',
    userId: 0,
  });
});

test('the last mount on a directory is the one that is seen', () => {
  const entries = parseMountinfo(TEXT);
  expect(findMount(entries, '/mnt/twice')).toMatchObject({ device: '0:46', userId: 1000 });
  expect(findMount(entries, '/mnt')).toBeUndefined();
});
