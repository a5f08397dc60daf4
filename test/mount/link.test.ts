// SPDX-License-Identifier: GPL-2.0-or-later
// `npm run link`, mount(8) and umount(8) with our helpers, man(1) with our pages, bash with our completions, and `npm run
// unlink`: in a mount namespace with copies of /sbin and /usr/local, so that the machine's own stay as they are.

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
  for place in /sbin /usr/local/bin /usr/local/share; do
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
  for page in crfs.5 crfs-bench.1 crfsd.8 mount.crfs.8 umount.crfs.8; do
    found=$(man -w "\${page##*.}" "\${page%.*}")
    [ "$(realpath "$found")" = "$PWD/docs/man/$page" ] || echo "not shown: $page"
  done
  man 8 crfsd | grep -q 'SEE ALSO'
  bash -c '. /usr/local/share/bash-completion/completions/crfsd; complete -p crfsd' > /dev/null
  for file in zsh/site-functions/_mount.crfs fish/vendor_completions.d/mount.crfs.fish; do
    grep -q cpuidle "/usr/local/share/$file"
  done
  "$node" "$links" unlink
  find /sbin/ /usr/local/bin /usr/local/share -name '*crfs*' | sed 's/^/left: /'
  for foreign in /sbin/mount.crfs /usr/local/share/man/man5/crfs.5 /usr/local/share/zsh/site-functions/_crfsd; do
    echo foreign > "$foreign"
    if "$node" "$links" link; then echo "replaced $foreign"; fi
    if "$node" "$links" unlink; then echo "took away $foreign"; fi
    [ "$(cat "$foreign")" = foreign ] || echo "changed $foreign"
    rm "$foreign"
    find /sbin/ /usr/local/bin /usr/local/share -name '*crfs*' | sed 's/^/linked beside it: /'
  done
`;

test('linked commands serve mount(8) and umount(8), pages and completions are found; unlink takes them away; foreign files stay', async () => {
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
  for (const foreign of ['/sbin/mount.crfs', '/usr/local/share/man/man5/crfs.5', 'site-functions/_crfsd']) {
    expect(result.stderr.split(`${foreign} exists and is not a link of this project`)).toHaveLength(3);
  }
  await column.server.stop();
  await column.check();
  await column.inLinux('ro', async (linux) => {
    expect((await run(['cat', join(linux, 'file')])).stdout).toBe('through mount\n');
  });
});
