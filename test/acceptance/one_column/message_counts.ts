// SPDX-License-Identifier: GPL-2.0-or-later
// Messages, counted by a relay on the connection in both directions and equal to what `stats` says: a burst of small
// files costs messages by the thousand, and what is warm costs none.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../../ts/dev/command.ts';
import { testProgram } from '../../../ts/dev/test_programs.ts';
import { messageName } from '../../../ts/wire/message.ts';
import { Column } from '../../harness/column.ts';
import type { Cleanup } from '../../harness/images.ts';
import type { MountStats } from '../../harness/processes.ts';
import { Flow, Relay } from '../../harness/relay.ts';
import { linuxTar, unpack } from '../../harness/trees.ts';
import { type AcceptanceContext, type AcceptanceLine, require } from '../acceptance.ts';

/**
 * What BTRFS stores for one small file, in bytes: inode item 160, INODE_REF 10 + name, DIR_ITEM and DIR_INDEX 30 +
 * name each, inline extent 21 + data, and five item headers of 25.
 */
function storedBytes(nameBytes: number, dataBytes: number): number {
  return 160 + (10 + nameBytes) + 2 * (30 + nameBytes) + (21 + dataBytes) + 5 * 25;
}

type Counts = Readonly<Record<string, number>>;

/** Frames of a flow by the names of their kinds. */
function byName(flow: Flow): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [kind, count] of flow.frames) counts[messageName(kind) ?? `kind ${kind}`] = count;
  return counts;
}

function difference(before: Counts, after: Counts): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [name, count] of Object.entries(after)) {
    const more = count - (before[name] ?? 0);
    if (more !== 0) counts[name] = more;
  }
  return counts;
}

function sumWithoutPing(counts: Counts): number {
  return Object.entries(counts).reduce((sum, [name, count]) => (name === 'ping' ? sum : sum + count), 0);
}

interface Reading {
  readonly up: Counts;
  readonly down: Counts;
  readonly bytes: number;
}

function sameCounts(left: Counts, right: Counts): boolean {
  return (
    Object.keys(difference(left, right)).length === 0 && Object.keys(difference(right, left)).length === 0
  );
}

/** A column whose mount goes through a relay. */
export class CountedColumn {
  readonly column: Column;
  readonly relay: Relay;

  private constructor(column: Column, relay: Relay) {
    this.column = column;
    this.relay = relay;
  }

  static async start(
    directory: string,
    cleanup: Cleanup,
    mountOptions: readonly string[] = [],
  ): Promise<CountedColumn> {
    await mkdir(directory, { recursive: true });
    const column = await Column.make(directory, cleanup, { size: '8G', mountOptions });
    await column.startServer();
    column.relaySocket = join(directory, 'relay.sock');
    const relay = await Relay.start(column.relaySocket, { path: column.socket });
    cleanup.add(() => relay.stop());
    await column.startMount();
    return new CountedColumn(column, relay);
  }

  /** A new session, counted from its beginning: the mount's own counts start anew too. */
  async remount(): Promise<void> {
    await this.column.mount.unmount();
    this.relay.up = new Flow();
    this.relay.down = new Flow();
    await this.column.startMount();
  }

  /**
   * The relay's counts, once the mount's own agree with them (frames may be on their way between the two looks).
   *
   * @throws Error - if they do not agree within two seconds.
   */
  async read(): Promise<Reading> {
    let stats: MountStats | undefined;
    for (let attempt = 0; attempt < 20; attempt += 1) {
      stats = await this.column.mount.stats();
      const up = byName(this.relay.up);
      const down = byName(this.relay.down);
      if (sameCounts(up, stats.messages.sent) && sameCounts(down, stats.messages.received)) {
        return { up, down, bytes: this.relay.up.bytes + this.relay.down.bytes };
      }
      await sleep(100);
    }
    const relayed = JSON.stringify({ sent: byName(this.relay.up), received: byName(this.relay.down) });
    throw new Error(`the relay counted ${relayed}, stats say ${JSON.stringify(stats?.messages)}`);
  }
}

export interface Cost {
  /** Both directions, keep-alive apart. */
  readonly messages: number;
  readonly bytes: number;
  readonly kinds: string;
}

/** What `body` costs on the connection. */
export async function costOf(counted: CountedColumn, body: () => Promise<unknown>): Promise<Cost> {
  const before = await counted.read();
  await body();
  const after = await counted.read();
  const sent = difference(before.up, after.up);
  const received = difference(before.down, after.down);
  return {
    messages: sumWithoutPing(sent) + sumWithoutPing(received),
    bytes: after.bytes - before.bytes,
    kinds: `sent ${JSON.stringify(sent)}, received ${JSON.stringify(received)}`,
  };
}

/** Creating, writing, closing `count` files of 1 KiB in a granted directory, until its fsync has returned. */
export async function smallFilesCost(
  counted: CountedColumn,
  count: number,
): Promise<{ cost: Cost; bytesAllowed: number }> {
  const directory = join(counted.column.mountPoint, `small_${count}`);
  await run(['mkdir', directory]);
  await run(['touch', join(directory, 'first')]);
  await run(['sync', directory]);
  const argv = [testProgram('small-files'), directory, '--count', String(count), '--size', '1024', '--fsync'];
  const cost = await costOf(counted, () => run(argv, { timeoutMs: 300_000 }));
  return { cost, bytesAllowed: Math.floor(1.5 * count * storedBytes(7, 1024)) };
}

/** What a second `ls -lR` of a warm tree costs, at once and after `waitMs`. */
export async function warmListingCost(counted: CountedColumn, waitMs: number): Promise<[Cost, Cost]> {
  const list = (): Promise<unknown> =>
    run(['sh', '-c', 'ls -lR "$1" > /dev/null', 'sh', counted.column.mountPoint], { timeoutMs: 600_000 });
  await list();
  const atOnce = await costOf(counted, list);
  await sleep(waitMs);
  const later = await costOf(counted, list);
  return [atOnce, later];
}

async function messageCounts(context: AcceptanceContext): Promise<void> {
  const count = 10_000;
  const counted = await CountedColumn.start(join(context.directory, 'column'), context.cleanup, ['cache=1G']);
  const { cost, bytesAllowed } = await smallFilesCost(counted, count);
  context.measure(`${count} files of 1 KiB: ${cost.messages} messages, ${cost.bytes} bytes (${cost.kinds})`);
  context.measure(`allowed: fewer than 100 messages, ${bytesAllowed} bytes`);
  const tar = await linuxTar(context.shared, context.quick ? 'fs' : undefined);
  await unpack(tar, join(counted.column.mountPoint, 'tree'));
  const [atOnce, later] = await warmListingCost(counted, context.quick ? 5_000 : 60_000);
  context.measure(`second ls -lR: ${atOnce.messages} messages at once, ${later.messages} later`);
  await counted.column.stop();
  require(cost.messages < 100, `${cost.messages} messages`);
  require(cost.bytes <= bytesAllowed, `${cost.bytes} bytes, allowed ${bytesAllowed}`);
  require(atOnce.messages === 0, `a warm ls -lR sent ${atOnce.kinds}`);
  require(later.messages === 0, `a warm ls -lR later sent ${later.kinds}`);
}

export const MESSAGE_COUNTS: AcceptanceLine = {
  name: 'message_counts',
  title: '10,000 small files in fewer than 100 messages; a warm ls -lR in none; relay and stats agree',
  run: messageCounts,
};
