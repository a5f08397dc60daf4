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

/** What an entry reply does. */
function give(owner: number, parent: number): number {
  const node = nodes.find(owner, parent) || nodes.add(owner);
  nodes.give(node, parent);
  return node;
}

function all(owner: number): number[] {
  const found: number[] = [];
  nodes.forEachOf(owner, (node) => found.push(node));
  return found;
}

describe('nodes of directories', () => {
  it("are the client's while the kernel has one place", () => {
    expect([give(7, 2), give(7, 2), nodes.hasFurther, nodes.isSplit(7)]).toEqual([7, 7, false, false]);
    nodes.move(7, 2, 3);
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
    nodes.move(7, 3, 2);
    expect(give(7, 2)).toBe(second);
    nodes.move(7, 2, 4);
    expect([give(7, 4), give(7, 2)]).toEqual([second, 7]);
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
