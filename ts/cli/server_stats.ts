// SPDX-License-Identifier: GPL-2.0-or-later
// Asks a running crfsd for its counters, over the protocol: `stats` needs no session on this machine.

import type { ServerStats } from '../server/stats.ts';
import { connectSocket } from '../sys/socket_transport.ts';
import { SystemClock } from '../sys/system_clock.ts';
import { Errno } from '../util/errno.ts';
import { Peer } from '../wire/peer.ts';
import { type Address, formatAddress } from './address.ts';
import { CliError, messageOf } from './exit.ts';
import { nativeCrc32c } from './native_checksums.ts';

const TIMEOUT_MS = 10_000;

/** @throws CliError - nobody answers there, or it is no crfsd. */
export async function serverStats(address: Address): Promise<ServerStats> {
  try {
    const transport = await connectSocket(address, TIMEOUT_MS);
    const peer = new Peer({ transport, side: 'client', clock: new SystemClock(), crc32c: nativeCrc32c });
    peer.start({
      onRequest: (request) => request.fail(Errno.EPROTO, 'a client takes no requests'),
      onNotice: () => {},
      onClosed: () => {},
    });
    const reply = await peer.request('stats', {}, { timeoutMs: TIMEOUT_MS });
    peer.close(0, 'done');
    return JSON.parse(reply.fields.json) as ServerStats;
  } catch (error) {
    const text = messageOf(error);
    const name = formatAddress(address);
    throw new CliError(text.includes(name) ? text : `${name}: ${text}`);
  }
}
