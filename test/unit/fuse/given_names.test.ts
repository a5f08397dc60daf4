// SPDX-License-Identifier: GPL-2.0-or-later
// The table of names that the kernel holds, against a plain map, with bounds that are reached all the time.

import { describe, expect, it } from 'vitest';
import { GivenNames } from '../../../ts/fuse/given_names.ts';
import { nameHash } from '../../../ts/item/name_hash.ts';
import { Prng } from '../../../ts/util/prng.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const text = (name: Uint8Array): string => Buffer.from(name).toString('latin1');

describe('given names', () => {
  it('agree with a plain map under random use, and hand out what falls off', () => {
    const random = new Prng(11);
    const model = new Map<string, number>();
    const key = (dir: number, name: string): string => `${dir}/${name}`;
    const names = new GivenNames(64, 1000, (dir, name, node) => {
      expect(model.get(key(dir, text(name)))).toBe(node);
      model.delete(key(dir, text(name)));
    });
    for (let step = 0; step < 50_000; step++) {
      const dir = 1 + random.below(5) * 2 ** 32;
      const name = 'n'.repeat(1 + random.below(40)) + random.below(20);
      const padded = bytes(`__${name}__`);
      const choice = random.below(20);
      if (choice < 13) {
        names.note(dir, nameHash(bytes(name)), padded, 2, name.length, step, step);
        model.set(key(dir, name), step);
      } else if (choice === 13) {
        // The step is the second as well.
        const second = step - random.below(30);
        names.removeOlder(dir, padded, 2, name.length, second);
        if ((model.get(key(dir, name)) ?? step) < second) model.delete(key(dir, name));
      } else if (choice === 14 && random.below(20) === 0) {
        const second = step - random.below(40);
        names.clearOlder(second);
        for (const [known, given] of model) if (given < second) model.delete(known);
      } else if (choice < 19) {
        const node = names.remove(dir, padded, 2, name.length);
        expect(node).toBe(model.get(key(dir, name)) ?? Number.NaN);
        model.delete(key(dir, name));
      } else {
        const start = random.below(0xffff_ffff);
        const end = start + random.below(0x4000_0000);
        names.takeRange(dir, start, end, (taken, node) => {
          const hash = nameHash(taken);
          expect(hash >= start && hash < end).toBe(true);
          expect(model.get(key(dir, text(taken)))).toBe(node);
          model.delete(key(dir, text(taken)));
        });
        for (const known of model.keys()) {
          const slash = known.indexOf('/');
          const hash = nameHash(bytes(known.slice(slash + 1)));
          expect(Number(known.slice(0, slash)) === dir && hash >= start && hash < end).toBe(false);
        }
      }
      expect(names.size).toBe(model.size);
    }
  });

  it('evict the oldest, and a name given again is young', () => {
    const evicted: string[] = [];
    const names = new GivenNames(4, 1000, (_dir, name) => evicted.push(text(name)));
    for (const name of ['a', 'b', 'c', 'd', 'a', 'e', 'f'])
      names.note(1, nameHash(bytes(name)), bytes(name), 0, 1, 5, 0);
    expect(evicted).toEqual(['b', 'c']);
  });

  it('tell what was given since a moment, newest first', () => {
    const names = new GivenNames(8, 1000, () => {});
    for (let second = 0; second < 6; second++)
      names.note(second + 10, nameHash(bytes('x')), bytes('x'), 0, 1, second, second);
    names.remove(14, bytes('x'), 0, 1);
    const seen: number[] = [];
    names.forEachSince(3, (dir) => seen.push(dir));
    expect(seen).toEqual([15, 13]);
    names.clearOlder(3);
    expect(names.size).toBe(2);
    names.clearOlder(6);
    names.forEachSince(0, () => expect.unreachable());
    expect(names.size).toBe(0);
  });
});
