// SPDX-License-Identifier: GPL-2.0-or-later
//
// Clients of the real server on a MemoryVolume, over in-memory transports.

import { Buffer } from 'node:buffer';
import { Client, type ClientOptions } from '../../../ts/client/client.ts';
import { AttrOut, MISS, type Operations } from '../../../ts/client/operations.ts';
import { Server } from '../../../ts/server/server.ts';
import { MemoryVolume } from '../../../ts/store/memory_volume.ts';
import type { ApplyResult, BatchParts } from '../../../ts/store/volume.ts';
import type { Clock, Timer } from '../../../ts/util/clock.ts';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { MessageCounters } from '../../../ts/wire/counters.ts';
import { memoryPair } from '../../../ts/wire/memory_transport.ts';
import type { Refusal } from '../../../ts/wire/message.ts';
import type { Transport } from '../../../ts/wire/transport.ts';

export const realClock: Clock = {
  nowMs: () => performance.now(),
  realTimeNs: () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n,
  setTimer(delayMs: number, onTime: () => void): Timer {
    const timer = setTimeout(onTime, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** A volume that records batches, and refuses those that a test wants refused. */
export class TestVolume extends MemoryVolume {
  /** Changes of every batch that was applied, in order. */
  batches: Uint8Array[] = [];
  /** Called with each batch before it is applied. */
  refuse: (changes: Uint8Array) => Refusal | null = () => null;

  override apply(batch: BatchParts, grants: Uint8Array | null, promised: number): Promise<ApplyResult> {
    const refused = this.refuse(batch.changes);
    if (refused !== null) return Promise.resolve({ refused, cost: 0 });
    this.batches.push(batch.changes);
    return super.apply(batch, grants, promised);
  }
}

/** A volume large enough for any test here, unless said otherwise. */
export function newVolume(deviceTotal: number = 2 ** 40): TestVolume {
  return new TestVolume({ crc32c, deviceTotal });
}

export interface Session {
  readonly client: Client;
  readonly ops: Operations;
  readonly counters: MessageCounters;
  readonly log: string[];
  /** The client's end of the connection. */
  readonly transport: Transport;
  /** Messages in both directions so far. */
  messages(): number;
}

/** A server, and clients of it. */
export class TestServer {
  readonly server: Server;
  readonly volume: TestVolume;
  readonly log: string[] = [];

  constructor(volume: TestVolume) {
    this.volume = volume;
    this.server = new Server({
      volume,
      clock: realClock,
      crc32c,
      epoch: 1n,
      sessionsMax: 8,
      log: (line) => this.log.push(line),
    });
  }

  async connect(options: Partial<ClientOptions> = {}): Promise<Session> {
    const [clientEnd, serverEnd] = memoryPair({ schedule: (task) => setImmediate(task) });
    this.server.accept(serverEnd);
    const counters = new MessageCounters();
    const log: string[] = [];
    const client = await Client.connect({
      transport: clientEnd,
      clock: realClock,
      crc32c,
      path: bytes('/'),
      clientName: 'test',
      counters,
      log: (line) => log.push(line),
      ...options,
    });
    return {
      client,
      ops: client.operations,
      counters,
      log,
      transport: clientEnd,
      messages() {
        const { sent, received } = counters.report().messages;
        const sum = (counts: Record<string, number>): number =>
          Object.values(counts).reduce((a, b) => a + b, 0);
        return sum(sent) + sum(received);
      },
    };
  }
}

/** A client of a server of its own. */
export async function connect(volume: TestVolume, options: Partial<ClientOptions> = {}): Promise<Session> {
  const server = new TestServer(volume);
  await server.server.start();
  return server.connect(options);
}

export function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

/** More rounds than any operation here can need. */
const ROUNDS_MAX = 100;

/** Runs an operation until nothing is missing. */
export async function run(ops: Operations, operation: () => number): Promise<number> {
  let tries = 0;
  try {
    while (tries < ROUNDS_MAX) {
      const result = operation();
      if (result !== MISS) return result;
      const error = await ops.fetchMissing(++tries);
      if (error < 0) return error;
    }
  } finally {
    ops.done(tries);
  }
  throw new Error(`an operation missed something ${ROUNDS_MAX} times`);
}

/** As `run`, and fails the test on an errno. */
export async function must(ops: Operations, operation: () => number): Promise<number> {
  const result = await run(ops, operation);
  if (result < 0) throw new Error(`the operation failed with errno ${-result}`);
  return result;
}

const attr = new AttrOut();

/** Makes a file with some content, closed again. @returns its node */
export async function create(session: Session, dir: number, name: string, content = ''): Promise<number> {
  const { ops } = session;
  await must(ops, () => ops.create(dir, bytes(name), 0o644, 0, 0, 1, attr));
  const { node } = attr;
  if (content !== '') await must(ops, () => ops.write(node, 0, bytes(content), 0));
  ops.release(node, 1);
  return node;
}

/** What a name stands for: the file's content, or `errno N`. */
export async function read(session: Session, dir: number, name: string): Promise<string> {
  const { ops } = session;
  const result = await run(ops, () => ops.lookup(dir, bytes(name), attr));
  if (result < 0) return `errno ${-result}`;
  const target = Buffer.alloc(1000);
  const length = await must(ops, () => ops.read(attr.node, 0, 1000, target, 0));
  return target.subarray(0, length).toString('latin1');
}

export { AttrOut };
