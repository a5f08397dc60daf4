// SPDX-License-Identifier: GPL-2.0-or-later
// The life of crfsd: opens the image, listens, serves until SIGTERM or SIGINT, commits, gives the image back.
//
// It stays in the foreground and logs to stderr: a supervisor starts it again after a crash, and what is on the image
// then is the last commit.

import { Server } from '../server/server.ts';
import { NativeVolume } from '../store/native_volume.ts';
import { type CpuIdleMode, cpuIdle } from '../sys/cpu_idle.ts';
import { listenSocket, type SocketListener } from '../sys/socket_transport.ts';
import { SystemClock } from '../sys/system_clock.ts';
import type { Log } from '../util/log.ts';
import { type Address, formatAddress } from './address.ts';
import { CliError, Exit, messageOf } from './exit.ts';
import { nativeCrc32c } from './native_checksums.ts';

export interface ServeRequest {
  readonly image: string;
  readonly listen: readonly Address[];
  readonly readOnly: boolean;
  /** Bound of the engine's node cache, bytes. */
  readonly cacheBytes: number;
  /** Give freed space back to the file that holds the image. */
  readonly punchFreed: boolean;
  /** Mounts at a time. */
  readonly sessionsMax: number;
  readonly cpuIdle: CpuIdleMode;
  readonly log: Log;
}

/** A failure that names the image: what the engine says does not always. */
function imageError(image: string, error: unknown): CliError {
  const text = messageOf(error).replace(/^E[A-Z0-9]+: /, '');
  return new CliError(text.includes(image) ? text : `${image}: ${text}`);
}

/** Resolves with the first signal that asks us to end. A second one ends the process at once, as a crash would. */
function endSignal(log: Log): Promise<string> {
  return new Promise((resolve) => {
    let count = 0;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        count += 1;
        if (count === 1) return resolve(signal);
        log(`${signal} again: ending without a commit`, 'warning');
        process.exit(Exit.usage);
      });
    }
  });
}

/** Serves an image. @returns the exit code, after the end. @throws CliError */
export async function serve(request: ServeRequest): Promise<number> {
  const { image, log, readOnly, cacheBytes, punchFreed } = request;
  const clock = new SystemClock();
  const ending = endSignal(log);
  cpuIdle.configure(request.cpuIdle);
  let volume: NativeVolume;
  try {
    volume = new NativeVolume(image, {
      readOnly,
      cacheBytes,
      punchFreed,
      log,
    });
  } catch (error) {
    throw imageError(image, error);
  }
  const server = new Server({
    volume,
    clock,
    crc32c: nativeCrc32c,
    epoch: clock.realTimeNs(),
    sessionsMax: request.sessionsMax,
    log,
  });
  const listeners: SocketListener[] = [];
  try {
    await server.start();
    for (const address of request.listen) {
      const listener = await listenSocket(address, (transport) => server.accept(transport));
      listeners.push(listener);
      log(`serving ${image}${readOnly ? ' read-only' : ''}, listening on ${formatAddress(listener.address)}`);
    }
    log(`${await ending}: committing`);
    return Exit.ok;
  } catch (error) {
    throw imageError(image, error);
  } finally {
    for (const listener of listeners) await listener.close();
    await stop(server, volume, image, log);
  }
}

async function stop(server: Server, volume: NativeVolume, image: string, log: Log): Promise<void> {
  try {
    await server.stop();
    await volume.close();
  } catch (error) {
    throw imageError(image, error);
  }
  log(`${image} closed`);
}
