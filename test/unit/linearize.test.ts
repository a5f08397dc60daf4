// SPDX-License-Identifier: GPL-2.0-or-later
//
// The simulator's search for an order in which every result is right.

import { expect, test } from 'vitest';
import type { Step } from '../simulator/history.ts';
import { Linearizer } from '../simulator/linearize.ts';
import { copyAttributes, Model } from '../simulator/model.ts';

function world(): { model: Model; history: Linearizer } {
  const model = new Model(1, 0o40755);
  model.make(1, 'a', 300, 0o100644, '');
  return { model, history: new Linearizer(model) };
}

function found(model: Model, name: string, node: number): Step {
  return { kind: 'lookup', dir: 1, name, result: 0, node, attr: copyAttributes(model.get(node)!) };
}

function rename(from: string, to: string): Step {
  const names = { sourceDir: 1, sourceName: from, targetDir: 1, targetName: to };
  return { kind: 'rename', ...names, noReplace: false, result: 0, seen: [] };
}

test('a step that overlaps with a change may come before it', () => {
  const { model, history } = world();
  const old = found(model, 'a', 300);
  const begun = history.now;
  expect(history.add(rename('a', 'b'), history.now, false).wrong).toBeNull();
  expect(history.add(old, begun, false)).toMatchObject({ wrong: null, isMoved: true });
  // The model is where it was: the change comes last.
  expect([...model.get(1)!.names]).toEqual([['b', 300]]);
});

test('a step that began after a change had ended may not', () => {
  const { model, history } = world();
  const old = found(model, 'a', 300);
  expect(history.add(rename('a', 'b'), history.now, false).wrong).toBeNull();
  expect(history.add(old, history.now, false).wrong).not.toBeNull();
  expect([...model.get(1)!.names]).toEqual([['b', 300]]);
});

test('a rename is one change of two names: nobody sees both or none', () => {
  const { model, history } = world();
  const begun = history.now;
  const old = found(model, 'a', 300);
  expect(history.add(rename('a', 'b'), begun, false).wrong).toBeNull();
  expect(history.add(found(model, 'b', 300), begun, false).wrong).toBeNull();
  // One who saw the new name, and then the old one: both overlap with the rename, but the second began after the first.
  expect(history.add(old, history.now, false).wrong).not.toBeNull();
});
