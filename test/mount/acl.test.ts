// SPDX-License-Identifier: GPL-2.0-or-later
// ACLs on two mounts: what one sets the other's kernel, which keeps them, shows and goes by at the very next call.

import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { Cleanup } from '../harness/images.ts';
import { temporaryDirectory } from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

/** $1 and $2 are the two mounts. Prints what came out wrong. */
const ROUNDS = `
cd "$1" && mkdir -m 711 dir && echo text > dir/file && chmod 640 dir/file || exit 1
may() { setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$1/dir/file" && echo yes || echo no; }
here=$1 there=$2
for round in $(seq 24); do
  # Warm with what was before, also without a lease on the name: by a descriptor.
  exec 3< "$there/dir/file"
  getfacl -cp "$there/dir/file" /proc/self/fd/3 > /dev/null
  may "$there" > /dev/null
  case $((round % 3)) in
    0) setfacl -m u:65534:r "$here/dir/file"; want="user:65534:r-- yes" ;;
    1) setfacl -m u:65534:- "$here/dir/file"; want="user:65534:--- no" ;;
    2) setfacl -b "$here/dir/file"; want=" no" ;;
  esac
  for path in "$there/dir/file" /proc/self/fd/3; do
    got="$(getfacl -ncp "$path" | grep 65534) $(may "$there")"
    [ "$got" = "$want" ] || echo "round $round, $path: $got, not $want"
  done
  exec 3<&-
  swap=$here; here=$there; there=$swap
done
umask 077
setfacl -d -m u:65534:rwx "$1/dir"
mkdir "$2/dir/sub"; touch "$2/dir/made"
[ "$(getfacl -ncp "$1/dir/sub" | grep -c 65534)" = 2 ] || echo "sub: $(getfacl -ncp "$1/dir/sub")"
[ "$(stat -c %a "$1/dir/made")" = 661 ] || [ "$(stat -c %a "$1/dir/made")" = 660 ] || echo "made: $(stat -c %a "$1/dir/made")"
setfacl -k "$1/dir"
touch "$2/dir/plain"
[ "$(stat -c %a "$1/dir/plain")" = 600 ] || echo "plain: $(stat -c %a "$1/dir/plain")"
chmod 604 "$2/dir/made"
[ "$(getfacl -ncp "$1/dir/made" | grep mask)" = "mask::---" ] || echo "mask: $(getfacl -ncp "$1/dir/made")"
`;

test('ACLs set, changed and removed on one mount count on the other at once', async () => {
  const several = await SeveralMounts.start(await temporaryDirectory(cleanup), cleanup, { count: 2 });
  const [here, there] = several.paths as [string, string];
  // So that whoever is not root gets in.
  await run(['chmod', '711', several.directory]);
  const { stdout, stderr } = await run(['bash', '-c', ROUNDS, 'bash', here, there], { timeoutMs: 60_000 });
  expect([stdout, stderr]).toEqual(['', '']);
  await several.stop();
  await several.check();
}, 90_000);
