// SPDX-License-Identifier: GPL-2.0-or-later
//
// A server on a memory volume, and raw peers that speak the protocol to it without a client's caches.

import { ChangeLog } from '../../../ts/item/change.ts';
import { Server } from '../../../ts/server/server.ts';
import type { ServerOptions } from '../../../ts/server/state.ts';
import { MemoryVolume, type MemoryVolumeOptions } from '../../../ts/store/memory_volume.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import type { ConnectionError } from '../../../ts/util/errors.ts';
import { ManualClock } from '../../../ts/util/manual_clock.ts';
import { inodeRange } from '../../../ts/util/range.ts';
import { memoryPair } from '../../../ts/wire/memory_transport.ts';
import {
  type Acquire,
  type AcquireReply,
  type BatchReply,
  type GreetingReply,
  Mode,
  type ModeChange,
  type Want,
} from '../../../ts/wire/message.ts';
import { Peer, type Reply } from '../../../ts/wire/peer.ts';
import type { Transport } from '../../../ts/wire/transport.ts';

/** Lets everything that is under way in memory come to rest. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export class TestServer {
  readonly clock: ManualClock = new ManualClock();
  readonly lines: string[] = [];
  readonly volume: MemoryVolume;
  readonly server: Server;
  #started: Promise<void> | null = null;

  /** @param fill - is given the volume before the server opens it. */
  constructor(
    options: Partial<ServerOptions> = {},
    volume: Partial<MemoryVolumeOptions> = {},
    fill: (volume: MemoryVolume) => void = () => {},
  ) {
    this.volume = new MemoryVolume({ crc32c, ...volume });
    fill(this.volume);
    this.server = new Server({
      volume: this.volume,
      clock: this.clock,
      crc32c,
      epoch: 7n,
      log: (line) => this.lines.push(line),
      sessionsMax: 8,
      ...options,
    });
  }

  /** Gets the server ready, once. */
  start(): Promise<void> {
    this.#started ??= this.server.start();
    return this.#started;
  }

  /** A transport to the server, which has accepted its other end. */
  transport(schedule: (task: () => void) => void = (task) => void setImmediate(task)): Transport {
    const [near, far] = memoryPair({ schedule });
    this.server.accept(far);
    return near;
  }

  connect(): TestClient {
    return new TestClient(this.transport(), this.clock);
  }

  async mount(path = '/', readOnly = false): Promise<TestClient> {
    await this.start();
    const client = this.connect();
    await client.greet(path, readOnly);
    return client;
  }
}

export class TestClient {
  readonly peer: Peer;
  readonly revokes: ModeChange[] = [];
  /** In the order of the stream: `reply` and `revoke`. */
  readonly order: string[] = [];
  closed: ConnectionError | null = null;
  batches = 0;
  /** Number of the last one that was refused. */
  refused = 0;
  greeting: GreetingReply | null = null;

  constructor(transport: Transport, clock: ManualClock) {
    this.peer = new Peer({ transport, side: 'client', clock, crc32c });
    this.peer.start({
      onRequest: () => {},
      onNotice: (notice) => {
        if (notice.name !== 'revoke') return;
        this.order.push('revoke');
        this.revokes.push(...notice.fields.ranges);
      },
      onClosed: (cause) => {
        this.closed = cause;
      },
    });
  }

  async greet(path = '/', readOnly = false): Promise<GreetingReply> {
    const { fields } = await this.peer.request('greeting', {
      versionMin: 1,
      versionMax: 1,
      features: [],
      clientName: 'test',
      path: Buffer.from(path),
      readOnly,
    });
    this.greeting = fields;
    return fields;
  }

  acquire(wants: readonly Want[], more: Partial<Acquire> = {}): Promise<Reply<'acquire'>> {
    const fields = { wants, spaceWanted: 0, inodesWanted: null, dataBytesWanted: 0, ...more };
    return this.peer.request('acquire', fields, { onReply: () => this.order.push('reply') });
  }

  /** Gets a run of numbers and space for some files. */
  async prepare(count = 100): Promise<AcquireReply> {
    const wants = [{ ...inodeRange(5, 256), mode: Mode.write, flags: 0 }];
    const { fields } = await this.acquire(wants, { inodesWanted: { tree: 5, count }, spaceWanted: 1 << 20 });
    return fields;
  }

  /** Sends changes, with data if there is any. */
  async batch(log: ChangeLog, data: Buffer = Buffer.alloc(0)): Promise<BatchReply> {
    const changes = Buffer.from(log.bytes.subarray(0, log.length));
    const checksums = sectorChecksums(data);
    const { fields } = await this.peer.request(
      'batch',
      {
        number: ++this.batches,
        changeCount: log.count,
        changesLength: changes.length,
        changesCrc32c: crc32c(changes),
        dataLength: data.length,
        refusedSeen: this.refused,
      },
      { body: [changes, checksums, data] },
    );
    if (fields.refused !== null) this.refused = fields.applied;
    return fields;
  }

  release(ranges: readonly ModeChange[], afterBatch = 0): void {
    this.peer.notify('release', { ranges, afterBatch, refusedSeen: 0, openInodes: [] });
  }
}

/** crc32c of each sector, the last one padded with zeros. One put data only: each begins a sector of its own. */
function sectorChecksums(data: Buffer): Buffer {
  const checksums = Buffer.alloc(Math.ceil(data.length / 4096) * 4);
  for (let at = 0; at * 4096 < data.length; at++) {
    const sector = Buffer.alloc(4096);
    data.copy(sector, 0, at * 4096);
    checksums.writeUInt32LE(crc32c(sector), at * 4);
  }
  return checksums;
}

export function want(first: number, end: number, mode: Mode, flags = 0): Want {
  return { tree: 5, start: inodeRange(5, first).start, end: inodeRange(5, end).start, mode, flags };
}

export function modeChange(first: number, end: number, oldMode: Mode, newMode: Mode): ModeChange {
  return { tree: 5, start: inodeRange(5, first).start, end: inodeRange(5, end).start, oldMode, newMode };
}

/** Changes that make files `name` + number in the root directory, from inode `first` on. */
export function makeFiles(
  first: number,
  count: number,
  name = 'file',
  log: ChangeLog = new ChangeLog(),
): ChangeLog {
  for (let at = 0; at < count; at++) {
    const ino = first + at;
    log.newInode(5, ino, 0o100644, 0, 0, 0, 1, 0, Buffer.alloc(0));
    log.addName(5, 256, ino, ino, 1, 0, Buffer.from(`${name}${ino}`));
  }
  return log;
}

/** A directory `name` in the root. */
export function makeDirectory(ino: number, name: string, log: ChangeLog = new ChangeLog()): ChangeLog {
  log.newInode(5, ino, 0o40755, 0, 0, 0, 1, 0, Buffer.alloc(0));
  log.addName(5, 256, ino, ino, 1, 0, Buffer.from(name));
  return log;
}
