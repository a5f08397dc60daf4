// SPDX-License-Identifier: GPL-2.0-or-later
// By which node the kernel is given a directory: never one that it has elsewhere.

import { beforeEach, describe, expect, it } from 'vitest';
import { FIRST_SPARE_NODE } from '../../../ts/client/node_id.ts';
import { DirectoryNodes } from '../../../ts/fuse/directory_nodes.ts';
import { EXPIRED_NAMES_MAX } from '../../../ts/fuse/limits.ts';

let nodes: DirectoryNodes;

beforeEach(() => {
  nodes = new DirectoryNodes();
});

/** The hash of a name that all have. */
const HASH = 0x1234_5678;

/** What an entry reply does. */
function give(owner: number, parent: number, hash = HASH): number {
  const node = nodes.find(owner, parent) || nodes.add(owner);
  nodes.give(node, parent, hash);
  return node;
}

function move(from: number, to: number): void {
  nodes.move(from, HASH, to, HASH);
}

function all(owner: number): number[] {
  const found: number[] = [];
  nodes.forEachOf(owner, (node) => found.push(node));
  return found;
}

describe('nodes of directories', () => {
  it("are the client's while the kernel has one place", () => {
    expect([give(7, 2), give(7, 2), nodes.hasFurther, nodes.isSplit(7)]).toEqual([7, 7, false, false]);
    move(2, 3);
    expect(give(7, 3)).toBe(7);
    expect(nodes.forget(7)).toBe(7);
    expect([give(7, 4), nodes.size]).toEqual([7, 1]);
  });

  it('are further ones at other places, the same for each, until the kernel forgets', () => {
    give(7, 2);
    const second = give(7, 3);
    expect(second).toBe(FIRST_SPARE_NODE);
    expect([give(7, 3), give(7, 2), nodes.ownerOf(second), nodes.isSplit(7)]).toEqual([second, 7, 7, true]);
    expect(all(7)).toEqual([7, second]);
    expect(nodes.forget(7)).toBe(0);
    expect([all(7), nodes.isSplit(second), give(7, 3)]).toEqual([[second], false, second]);
    const third = give(7, 2);
    expect([third > second, nodes.isSplit(7)]).toEqual([true, true]);
    expect([nodes.forget(second), nodes.forget(third)]).toEqual([0, 7]);
    expect([give(7, 9), nodes.hasFurther, nodes.size]).toEqual([7, false, 1]);
  });

  it("move with renames of the kernel's own, and the one that moved last counts", () => {
    give(7, 2);
    const second = give(7, 3);
    move(3, 2);
    expect(give(7, 2)).toBe(second);
    move(2, 4);
    expect([give(7, 4), give(7, 2)]).toEqual([second, 7]);
    move(5, 6);
    expect(nodes.nodeAt(6, HASH)).toBe(0);
  });

  it('are found by the place where the kernel has them', () => {
    give(7, 2);
    give(8, 2, HASH + 1);
    expect([nodes.nodeAt(2, HASH), nodes.nodeAt(2, HASH + 1), nodes.nodeAt(2, ~HASH >>> 0)]).toEqual([
      7, 8, 0,
    ]);
    give(7, 2, 5);
    expect([nodes.nodeAt(2, HASH), nodes.nodeAt(2, 5)]).toEqual([0, 7]);
    // A file has its name now: what is renamed from there is not the directory.
    nodes.giveOther(2, HASH + 1);
    nodes.move(2, HASH + 1, 3, HASH);
    expect([nodes.nodeAt(2, HASH + 1), nodes.nodeAt(3, HASH), nodes.find(8, 2)]).toEqual([0, 0, 8]);
    nodes.forget(7);
    expect(nodes.nodeAt(2, 5)).toBe(0);
  });

  it('are dead once the kernel takes them for removed, if it was another one', () => {
    give(7, 2);
    nodes.removed(2, HASH, 7, 0);
    expect(give(7, 2)).toBe(7);
    nodes.removed(2, HASH, 8, 0);
    expect([nodes.find(7, 2), nodes.nodeAt(2, HASH)]).toEqual([0, 0]);
    const second = give(7, 2);
    expect([second, nodes.isSplit(7)]).toEqual([FIRST_SPARE_NODE, true]);
    // Another one with the same name, and nothing at all in its place.
    nodes.removed(2, HASH, 0, 0);
    const third = give(7, 2);
    expect([third > second, all(7)]).toEqual([true, [7, second, third]]);
    expect([nodes.forget(second), nodes.forget(third)]).toEqual([0, 0]);
    // What the thread was given counts, whatever was given to another one since.
    give(9, 2);
    nodes.removed(2, HASH, 9, 7);
    expect([nodes.find(9, 2), nodes.find(7, 2)]).toEqual([9, 0]);
    // Only the dead one is left.
    expect([nodes.find(7, 2), nodes.forget(7), nodes.find(7, 2), nodes.isSplit(7)]).toEqual([0, 7, 7, false]);
  });

  it("are found by the range of the client's", () => {
    give(7, 2);
    const second = give(7, 3);
    const found: number[] = [];
    nodes.forEachFurtherIn(7, 8, (node) => found.push(node));
    nodes.forEachFurtherIn(8, 9, (node) => found.push(node));
    expect(found).toEqual([second]);
  });

  it('tell their old places once, as far as those are remembered', () => {
    const name = (text: string): Uint8Array => Buffer.from(text);
    give(7, 2);
    nodes.expire(7, name('old'));
    give(7, 3);
    const told: string[] = [];
    const take = (): void =>
      nodes.takeOldPlaces(7, 3, (dir, old) => told.push(`${dir} ${Buffer.from(old).toString()}`));
    take();
    take();
    expect(told).toEqual(['2 old']);
    nodes.expire(7, name('old'));
    for (let node = 100; node < 100 + EXPIRED_NAMES_MAX; node++) nodes.expire(node, name('x'));
    take();
    expect(told).toHaveLength(1);
  });
});
