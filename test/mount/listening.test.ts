// SPDX-License-Identifier: GPL-2.0-or-later
// Where crfsd listens: on loopback and unix sockets; elsewhere only when told that it is insecure.

import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { run } from '../../ts/dev/command.ts';
import { Cleanup } from '../harness/images.ts';
import { command, temporaryDirectory } from '../harness/processes.ts';

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

const ADDRESS = '10.98.76.54';

/**
 * In a network of its own with an address that is not loopback: what is refused is printed with its exit code, what is
 * served is mounted once.
 */
const SCRIPT = `
  node="$1" crfsd="$2" mount="$3" image="$4" work="$5"
  ip link set lo up
  ip address add ${ADDRESS}/32 dev lo
  for address in 0.0.0.0:2737 ${ADDRESS}:2737 '[::]:2737' some.host:2737; do
    "$node" "$crfsd" serve "$image" --listen 127.0.0.1:2737 --listen "$address" 2>&1
    echo "exit $?"
  done
  ss -ltnH
  "$node" "$crfsd" serve "$image" --listen 0.0.0.0:2737 --insecure 2> "$work/log" &
  server=$!
  until grep -q listening "$work/log"; do kill -0 $server || break; sleep 0.1; done
  mkdir "$work/mnt"
  "$node" "$mount" ${ADDRESS}:/ "$work/mnt" -o "log=$work/mount.log" && findmnt -n -o SOURCE "$work/mnt" && umount -i "$work/mnt"
  kill $server
  wait $server
  echo "exit $?"
`;

test('an address that others can reach is refused without --insecure, and served with it', async () => {
  const work = await temporaryDirectory(cleanup);
  const image = join(work, 'image');
  await run([process.execPath, command('crfsd'), 'mkfs', image, '--size', '256M']);
  const argv = [process.execPath, command('crfsd'), command('mount.crfs'), image, work];
  const { stdout } = await run(['unshare', '--net', '--mount', 'sh', '-c', SCRIPT, 'sh', ...argv], {
    timeoutMs: 60_000,
  });
  const refusal = (address: string): string[] => [
    `crfsd: ${address} can be reached by others, and there is no authentication; --insecure allows it`,
    'exit 1',
  ];
  expect(stdout.trim().split('\n')).toEqual([
    ...refusal('0.0.0.0:2737'),
    ...refusal(`${ADDRESS}:2737`),
    ...refusal('[::]:2737'),
    ...refusal('some.host:2737'),
    `${ADDRESS}:/`,
    'exit 0',
  ]);
});
