// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run link`, mount(8) and umount(8) with our helpers, `npm run unlink`: in a mount namespace with copies of /sbin and
// /usr/local/bin, so that the machine's own stay as they are.

import { join, resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { Column } from '../harness/column.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const SCRIPT = `
  set -e
  work="$1" node="$2" links="$3" source="$4" target="$5"
  for place in /sbin /usr/local/bin; do
    real=$(realpath "$place")
    mkdir -p "$work/copies$real"
    cp -a "$real/." "$work/copies$real"
    mount --bind "$work/copies$real" "$real"
  done
  "$node" "$links" unlink
  "$node" "$links" link
  mount -t crfs "$source" "$target" -o "noatime,log=$work/log"
  findmnt -n -o FSTYPE,OPTIONS "$target"
  echo through mount > "$target/file"
  umount "$target"
  mount.crfs "$source" "$target" -o "log=$work/log"
  cat "$target/file"
  umount "$target"
  crfsd --help > /dev/null
  "$node" "$links" unlink
  for name in /sbin/mount.crfs /sbin/umount.crfs /sbin/umount.fuse.crfs /usr/local/bin/crfsd; do
    if [ -e "$name" ]; then echo "left: $name"; fi
  done
  touch /sbin/mount.crfs
  if "$node" "$links" link; then echo "replaced a foreign file"; fi
`;

test('linked commands serve mount(8) and umount(8); unlink takes them away; foreign files stay', async () => {
  const directory = await temporaryDirectory(cleanup);
  const column = await Column.make(directory, cleanup, { size: '256M' });
  await column.startServer();
  await run(['mkdir', column.mountPoint]);
  const argv = [directory, process.execPath, resolve('dist/dev/link_commands.js'), `unix:${column.socket}:/`];
  const result = await run(['unshare', '--mount', 'sh', '-c', SCRIPT, 'sh', ...argv, column.mountPoint], {
    timeoutMs: 120_000,
  });
  const lines = result.stdout.split('\n').filter((line) => !line.includes(' -> '));
  expect(lines[0]).toMatch(/^fuse\.crfs rw,noatime/);
  expect(lines.slice(1)).toEqual(['through mount', '']);
  expect(result.stderr).toMatch(/\/sbin\/mount\.crfs exists and is not a link/);
  await column.server.stop();
  await column.check();
  await column.inLinux('ro', async (linux) => {
    expect((await run(['cat', join(linux, 'file')])).stdout).toBe('through mount\n');
  });
});
