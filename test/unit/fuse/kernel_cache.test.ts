// SPDX-License-Identifier: GPL-2.0-or-later
// In which order and form the kernel is told to forget: names before inodes, expired or dropped, pages by range.

import { beforeEach, describe, expect, it } from 'vitest';
import { AttrOut } from '../../../ts/client/operations.ts';
import { Opcode, READ_LOCKOWNER } from '../../../ts/fuse/abi.ts';
import { DirectoryNodes } from '../../../ts/fuse/directory_nodes.ts';
import { HANDLE_DIRECT } from '../../../ts/fuse/file_handle.ts';
import { DriverKernelCache } from '../../../ts/fuse/kernel_cache.ts';
import { NAMES_AT_ONCE_MAX, NOTIFICATIONS_AT_ONCE_MAX } from '../../../ts/fuse/limits.ts';
import { LookupCounts } from '../../../ts/fuse/lookup_counts.ts';
import { ParkedRequests } from '../../../ts/fuse/parked_requests.ts';
import { RequestView } from '../../../ts/fuse/request.ts';
import { FakeDriver } from '../../fixtures/fake_driver.ts';

const EVERY_HASH = 0x1_0000_0000;
const BARRIER = '\x01';

let now: number;
let driver: FakeDriver;
let parked: ParkedRequests;
let lookups: LookupCounts;
let directories: DirectoryNodes;
let kernel: DriverKernelCache;
let unlocked: number[];
/** How often every thread has had a processor. */
let timesRun = 0;

beforeEach(() => {
  now = 100;
  driver = new FakeDriver();
  parked = new ParkedRequests();
  lookups = new LookupCounts(() => {});
  directories = new DirectoryNodes();
  unlocked = [];
  kernel = new DriverKernelCache({
    driver,
    lookups,
    directories,
    parked,
    seconds: () => now,
    unlockDirectory: (dir) => unlocked.push(dir),
    isRunning: () => false,
    timesRun: () => timesRun,
  });
});

function give(dir: number, name: string, node: number, mode = 0o100644): void {
  const attr = new AttrOut();
  attr.node = node;
  attr.mode = mode;
  attr.cacheable = true;
  kernel.giveEntry(dir, Buffer.from(name), 0, name.length, attr);
}

function giveAttributes(node: number, cacheable: boolean, thread = 5): void {
  const attr = new AttrOut();
  attr.node = node;
  attr.cacheable = cacheable;
  kernel.giveAttributes(node, attr, thread);
}

function park(opcode: number, node: number, offset: number, size: number, flags = 0, handle = 0): void {
  const words = new Uint32Array(20);
  words.set([80, opcode, offset + 2, 0, node, 0, 0, 0, 0, 0, handle, 0, offset, 0, size, flags]);
  const view = new RequestView(new Uint8Array(words.buffer));
  view.moveTo(new Uint32Array([0, opcode, 80, 0, 0, 0, 0, 0]), 0);
  parked.add(view, 80);
}

function moment(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}

describe('the kernel cache', () => {
  it('expires old names, drops young, negative and changed ones', async () => {
    give(1, 'old', 10);
    give(1, 'changed', 11);
    kernel.giveNegative(1, Buffer.from('none'), 0, 4);
    now += 60;
    give(1, 'young', 12);
    kernel.dropName(1, Buffer.from('changed'));
    kernel.dropName(1, Buffer.from('never given'));
    kernel.forgetNames(1, 0, EVERY_HASH);
    await kernel.settled();
    expect(driver.told.sort()).toEqual([
      'name 1 changed',
      'name 1 none',
      'name 1 old expire',
      'name 1 young',
    ]);
    expect(kernel.namesGiven).toBe(0);
  });

  it('says nothing of names whose inode the kernel has forgotten', async () => {
    give(1, 'a', 10);
    lookups.subtract(10, 1);
    kernel.forgetNames(1, 0, EVERY_HASH);
    await kernel.settled();
    expect(driver.told).toEqual([]);
  });

  it('follows renames and removals', async () => {
    give(1, 'a', 10);
    give(2, 'victim', 11);
    const names = Buffer.from('avictim');
    kernel.movedName(1, 2, names, 0, 1, 1, 6, 11, 0, true);
    give(1, 'removed', 12);
    kernel.tookName(1, Buffer.from('removed'), 0, 7);
    now += 60;
    kernel.forgetNames(1, 0, EVERY_HASH);
    kernel.forgetNames(2, 0, EVERY_HASH);
    await kernel.settled();
    expect(driver.told).toEqual(['name 2 victim expire']);
  });

  it('tells of names that a rename takes along while they are forgotten, or to where none may be kept', async () => {
    const names = Buffer.from('az');
    give(1, 'a', 10);
    now += 60;
    driver.blocks = (note) => note === 'name 1 a expire';
    kernel.forgetNames(1, 0, EVERY_HASH);
    const settled = kernel.settled();
    await Promise.resolve();
    expect(kernel.carried()).toBeNull();
    // It has the lock for which the name waits.
    kernel.movedName(1, 1, names, 0, 1, 1, 1, 0, 0, true);
    const carried = kernel.carried();
    expect(carried).not.toBeNull();
    await moment();
    expect(driver.told.splice(0)).toEqual(['name 1 a expire', 'name 1 z expire']);
    driver.unblock();
    await Promise.all([settled, carried]);
    expect(kernel.carried()).toBeNull();

    give(2, 'a', 11);
    kernel.movedName(2, 3, names, 0, 1, 1, 1, 0, 0, false);
    await kernel.carried();
    expect(driver.told).toEqual(['name 3 z expire']);
  });

  it('remembers a name that was given a moment ago when it is given for the moment only', async () => {
    give(1, 'a', 10);
    const attr = new AttrOut();
    attr.node = 10;
    attr.mode = 0o100644;
    kernel.giveEntry(1, Buffer.from('a'), 0, 1, attr);
    kernel.giveAbsent(1, Buffer.from('a'), 0, 1);
    expect(kernel.namesGiven).toBe(1);
    now += 60;
    kernel.giveAbsent(1, Buffer.from('a'), 0, 1);
    expect(kernel.namesGiven).toBe(0);
  });

  it('tells names before inodes, and waits for them', async () => {
    give(1, 'a', 10);
    now += 60;
    driver.blocks = (note) => note.startsWith('name');
    kernel.forgetAttributes(10, 11);
    kernel.forgetNames(1, 0, EVERY_HASH);
    const settled = kernel.settled();
    await Promise.resolve();
    expect(driver.told).toEqual(['name 1 a expire']);
    driver.unblock();
    await settled;
    expect(driver.told).toEqual(['name 1 a expire', 'inode 10 -1 0']);
  });

  it('puts a barrier into the parent of an inode that was just named', async () => {
    give(1, 'a', 10);
    give(1, 'b', 11);
    kernel.forgetAttributes(10, 12);
    await kernel.settled();
    expect(driver.told).toEqual([`name 1 ${BARRIER}`, 'inode 10 -1 0', 'inode 11 -1 0']);
    driver.told.length = 0;
    now += 60;
    for (const node of [10, 11]) giveAttributes(node, true);
    kernel.forgetAttributes(10, 12);
    await kernel.settled();
    expect(driver.told).toEqual(['inode 10 -1 0', 'inode 11 -1 0']);
  });

  it('says nothing of an inode of which the kernel holds nothing', async () => {
    give(1, 'a', 10);
    now += 60;
    kernel.forgetBytes(10, 0, Number.POSITIVE_INFINITY);
    kernel.forgetAttributes(10, 11);
    await kernel.settled();
    expect(driver.told.splice(0)).toEqual(['inode 10 -1 0']);
    giveAttributes(10, false);
    kernel.forgetAttributes(10, 11);
    await kernel.settled();
    expect(driver.told).toEqual([]);
    kernel.givePages(10);
    kernel.forgetBytes(10, 0, 5000);
    kernel.forgetBytes(10, 0, Number.POSITIVE_INFINITY);
    await kernel.settled();
    kernel.forgetBytes(10, 0, Number.POSITIVE_INFINITY);
    await kernel.settled();
    expect(driver.told).toEqual(['inode 10 0 5000', 'inode 10 0 0']);
  });

  it('waits for what it is telling already, whoever asked for that', async () => {
    give(1, 'a', 10);
    now += 60;
    kernel.givePages(10);
    driver.blocks = () => true;
    kernel.forgetBytes(10, 0, Number.POSITIVE_INFINITY);
    const first = kernel.settled();
    kernel.forgetBytes(10, 0, Number.POSITIVE_INFINITY);
    let isSettled = false;
    const second = kernel.settled().then(() => {
      isSettled = true;
    });
    await moment();
    expect(isSettled).toBe(false);
    driver.unblock();
    await Promise.all([first, second]);
    driver.told.length = 0;
    kernel.forgetBytes(10, 0, Number.POSITIVE_INFINITY);
    await kernel.settled();
    expect(driver.told).toEqual([]);
  });

  it('asks for the locks of the directories in which it invalidates names', async () => {
    give(1, 'a', 10);
    give(2, 'b', 11);
    kernel.forgetNames(1, 0, EVERY_HASH);
    kernel.forgetAttributes(11, 12);
    await kernel.settled();
    expect(unlocked.sort()).toEqual([1, 2]);
  });

  it('leaves out the pages that parked requests keep locked', async () => {
    give(1, 'f', 10);
    now += 60;
    kernel.givePages(10);
    park(Opcode.READ, 10, 8192, 4096);
    kernel.forgetBytes(10, 0, 100_000);
    await kernel.settled();
    expect(driver.told).toEqual(['inode 10 0 8192', 'inode 10 12288 87712']);
    driver.told.length = 0;
    park(Opcode.WRITE, 10, 20_480, 4196);
    kernel.forgetBytes(10, 10_000, Number.POSITIVE_INFINITY);
    await kernel.settled();
    expect(driver.told).toEqual(['inode 10 12288 12288', 'inode 10 28672 0']);
  });

  it('waits for whoever may be taking the answer to a link, though the kernel may keep nothing of it', async () => {
    give(1, 'f', 10);
    now += 60;
    kernel.forgetAttributes(10, 11);
    await kernel.settled();
    driver.told.length = 0;
    kernel.linked(2, 10);
    kernel.forgetAttributes(10, 11);
    await kernel.settled();
    expect(driver.told).toEqual([`name 2 ${BARRIER}`]);
    driver.told.length = 0;
    now += 60;
    kernel.forgetAttributes(10, 11);
    await kernel.settled();
    expect(driver.told).toEqual([]);
  });

  it('knows of a thread that may not have taken the attributes of a file with pages', () => {
    give(1, 'f', 10);
    giveAttributes(10, false);
    expect(kernel.isTaking(10)).toBe(false);
    kernel.givePages(10);
    giveAttributes(10, true);
    expect(kernel.isTaking(10)).toBe(false);
    giveAttributes(10, false);
    expect([kernel.isTaking(10), kernel.isTaking(11)]).toEqual([true, false]);
    timesRun++;
    expect(kernel.isTaking(10)).toBe(false);
    timesRun = Number.NaN;
    giveAttributes(10, false);
    expect(kernel.isTaking(10)).toBe(false);
  });

  it('leaves nothing out for requests of direct handles, which lock no page', async () => {
    give(1, 'f', 10);
    now += 60;
    kernel.givePages(10);
    park(Opcode.READ, 10, 8192, 4096, READ_LOCKOWNER);
    park(Opcode.WRITE, 10, 20_480, 100, 0, HANDLE_DIRECT);
    kernel.forgetBytes(10, 0, 100_000);
    await kernel.settled();
    expect(driver.told).toEqual(['inode 10 0 100000']);
  });

  it('replaces a name that blocks by an epoch, and repeats the inodes when it is free', async () => {
    give(1, 'f', 10);
    driver.blocks = (note) => note.startsWith('name');
    kernel.forgetAttributes(10, 11);
    await kernel.settled();
    expect(driver.told).toEqual([`name 1 ${BARRIER}`, 'epoch', 'inode 10 -1 0']);
    driver.unblock();
    await moment();
    expect(driver.told.slice(3)).toEqual(['inode 10 -1 0']);
  });

  it('tells of very many in portions, each when the one before is done', async () => {
    const last = 10 + NOTIFICATIONS_AT_ONCE_MAX;
    for (let node = 10; node <= last; node++) give(1, `f${node}`, node);
    now += 60;
    driver.blocks = () => true;
    kernel.forgetAttributes(10, last + 1);
    const settled = kernel.settled();
    await moment();
    expect(driver.told.length).toBe(NOTIFICATIONS_AT_ONCE_MAX);
    driver.unblock();
    await moment();
    expect(driver.told.length).toBe(NOTIFICATIONS_AT_ONCE_MAX + 1);
    expect(new Set(driver.told).size).toBe(driver.told.length);
    driver.unblock();
    await settled;
  });

  it('gives up names that were not told yet as well, and waits for their directories', async () => {
    for (let name = 0; name <= NOTIFICATIONS_AT_ONCE_MAX; name++) give(1, `f${name}`, 10);
    now += 60;
    driver.blocks = (note) => note.startsWith('name');
    kernel.forgetAttributes(10, 11);
    kernel.forgetNames(1, 0, EVERY_HASH);
    await kernel.settled();
    const told = driver.told.slice(NOTIFICATIONS_AT_ONCE_MAX);
    expect(told).toEqual([`name 1 ${BARRIER}`, 'epoch', 'inode 10 -1 0']);
    driver.unblock();
    await moment();
    expect(driver.told.slice(NOTIFICATIONS_AT_ONCE_MAX + 3)).toEqual(['inode 10 -1 0']);
  });

  it('expires every name rather than tell too many', async () => {
    for (let name = 0; name <= NAMES_AT_ONCE_MAX; name++) give(1, `f${name}`, 10);
    give(2, 'other', 11);
    now += 60;
    kernel.forgetNames(1, 0, EVERY_HASH);
    await kernel.settled();
    expect(driver.told).toEqual(['epoch']);
    expect(kernel.namesGiven).toBe(0);
  });

  it('waits for a blocked name where the kernel knows no epoch', async () => {
    driver.hasIncEpoch = false;
    driver.hasExpireOnly = false;
    give(1, 'f', 10);
    now += 60;
    driver.blocks = (note) => note.startsWith('name');
    kernel.forgetNames(1, 0, EVERY_HASH);
    let done = false;
    const settled = kernel.settled().then(() => {
      done = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect({ done, told: driver.told }).toEqual({ done: false, told: ['name 1 f'] });
    driver.unblock();
    await settled;
  });

  it('splits a directory that is found elsewhere, when all that was kept about it is gone', async () => {
    const place = (dir: number, name: string): AttrOut => {
      const attr = new AttrOut();
      attr.node = 7;
      attr.mode = 0o040755;
      attr.cacheable = true;
      if (!kernel.mayPlace(dir, attr)) return attr;
      kernel.place(dir, attr);
      kernel.giveEntry(dir, Buffer.from(name), 0, name.length, attr);
      return attr;
    };
    expect(place(5, 'd')).toMatchObject({ node: 7, cacheable: true });
    give(7, 'inside', 8);
    now += 60;
    kernel.forgetNames(5, 0, EVERY_HASH);
    await kernel.settled();
    expect(driver.told.splice(0)).toEqual(['name 5 d expire']);

    place(6, 'e');
    await kernel.takeTold();
    expect(driver.told.splice(0)).toEqual(['name 7 inside expire', 'inode 7 -1 0']);
    const further = place(6, 'e');
    expect(further.node).toBeGreaterThan(2 ** 52);
    expect(further.cacheable).toBe(false);
    await moment();
    // The old place goes, unless a program uses it.
    expect(driver.told.splice(0)).toEqual(['name 5 d']);
    expect([kernel.isSplit(7), kernel.isSplit(further.node)]).toEqual([true, true]);
    const attr = new AttrOut();
    attr.cacheable = true;
    kernel.place(further.node, attr);
    expect(attr.cacheable).toBe(false);

    for (const node of [7, further.node]) giveAttributes(node, true);
    kernel.forgetAttributes(7, 8);
    await kernel.settled();
    expect(driver.told).toEqual(['inode 7 -1 0', `inode ${further.node} -1 0`]);
  });
});
