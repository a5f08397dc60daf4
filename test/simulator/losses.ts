// SPDX-License-Identifier: GPL-2.0-or-later
//
// What refused batches leave behind. A client whose batch is refused drops the refused change and what builds on it, and
// gives back what it had predicted wrongly. Until it has, its programs see those objects as they were, or torn; nobody
// else sees them before they are given back, and then as the volume has them.
//
// So an object that was lost is not judged for its client as long as that has not given it back; the first step after
// that, or the first one of anybody else, finds it as the volume has it, and there the model follows. Everything else
// is judged as always: a change that is lost without having been named is found.

import type { Losses } from '../../ts/client/refusal.ts';
import type { MemoryVolume } from '../../ts/store/memory_volume.ts';
import type { Step } from './history.ts';
import type { Model } from './model.ts';
import { followName, followNode, objectsOf } from './wreck.ts';

interface Lost {
  readonly client: number;
  /** Its client has given it back. */
  isGiven: boolean;
}

export class LostObjects {
  readonly #model: Model;
  readonly #volume: MemoryVolume;
  readonly #isKnownElsewhere: (client: number, node: number) => boolean;
  /** By `m NODE` for everything about an inode, `n DIR/NAME` for a name. */
  readonly #lost = new Map<string, Lost>();

  /** Inodes that never came to be, and whose client knows of them. */
  readonly #gone = new Map<number, number>();

  /** @param isKnownElsewhere - whether another client has seen an inode */
  constructor(
    model: Model,
    volume: MemoryVolume,
    isKnownElsewhere: (client: number, node: number) => boolean,
  ) {
    this.#model = model;
    this.#volume = volume;
    this.#isKnownElsewhere = isKnownElsewhere;
  }

  get size(): number {
    return this.#lost.size;
  }

  /** Changes of a client were lost. */
  add(
    client: number,
    losses: Losses,
    nodeOf: (tree: number, ino: number) => number,
    given: Promise<void>,
  ): void {
    const keys: string[] = [];
    for (const node of losses.inodes) keys.push(`m ${node}`);
    for (const { tree, dir, name } of losses.names)
      keys.push(`n ${nodeOf(tree, dir)}/${Buffer.from(name).toString('latin1')}`);
    this.#add(client, keys, given);
  }

  /** A change that its client made on what it had lost already: what comes of it the volume decides. */
  addStep(client: number, step: Step, applied: Promise<unknown>): void {
    this.#add(client, keysOf(this.#model, step), applied);
  }

  #add(client: number, keys: readonly string[], given: Promise<unknown>): void {
    for (const key of keys) {
      const lost = { client, isGiven: false };
      this.#lost.set(key, lost);
      void given.then(() => {
        lost.isGiven = true;
      });
    }
  }

  /** Whether a journal's object (wreck.ts) is one of those. */
  has(key: string): boolean {
    if (this.#lost.size === 0) return false;
    if (key[0] === 'n') return this.#lost.has(key);
    const slash = key.indexOf('/');
    return this.#lost.has(`m ${slash < 0 ? key.slice(2) : key.slice(2, slash)}`);
  }

  /**
   * Before a step is judged: lets the model follow where the volume says how it is.
   *
   * @returns whether the step is about something of which its client has a wrong idea, and whether the model has changed
   */
  before(client: number, step: Step): { isExcused: boolean; hasFollowed: boolean } {
    let isExcused = false;
    let hasFollowed = false;
    if (this.#lost.size === 0) return { isExcused, hasFollowed };
    // What a name leads to may be known only when the name is right.
    for (let isOn = true; isOn; ) {
      isOn = false;
      for (const key of this.#keysOf(step)) {
        const lost = this.#lost.get(key);
        if (lost === undefined) continue;
        if (lost.client === client && !lost.isGiven) {
          isExcused = true;
          continue;
        }
        this.#follow(key, lost);
        hasFollowed = true;
        isOn = true;
      }
    }
    return { isExcused, hasFollowed };
  }

  #keysOf(step: Step): string[] {
    const keys = keysOf(this.#model, step);
    if (step.kind !== 'remove' && step.kind !== 'rename') return keys;
    // A directory goes if it is empty.
    const inside = keys.filter((key) => key[0] === 'm').map((key) => `n ${key.slice(2)}/`);
    for (const key of this.#lost.keys()) if (inside.some((start) => key.startsWith(start))) keys.push(key);
    return keys;
  }

  /**
   * A directory is about to be listed, or was: lets the model follow.
   *
   * @returns names of which it is open whether they are seen
   */
  listed(dir: number): { open: string[]; hasFollowed: boolean } {
    const open: string[] = [];
    let hasFollowed = false;
    const start = `n ${dir}/`;
    for (const [key, lost] of [...this.#lost]) {
      if (!key.startsWith(start)) continue;
      if (lost.isGiven) {
        this.#follow(key, lost);
        hasFollowed = true;
      } else open.push(key.slice(start.length));
    }
    return { open, hasFollowed };
  }

  /** The session of a client is over, or everything: what it lost is as the volume has it. */
  settle(client: number | null): void {
    for (const [key, lost] of [...this.#lost]) {
      if (client === null || lost.client === client) this.#follow(key, lost);
    }
    // Nobody is left who has seen them: their numbers may be given again.
    for (const [node, maker] of [...this.#gone]) {
      if (maker !== client) continue;
      this.#gone.delete(node);
      this.#model.inodes.delete(node);
    }
  }

  #follow(key: string, { client }: Lost): void {
    this.#lost.delete(key);
    const slash = key.indexOf('/');
    if (slash < 0) {
      const node = Number(key.slice(2));
      followNode(this.#model, this.#volume, node);
      const inode = this.#model.get(node);
      if (inode?.nlink !== 0 || this.#isKnownElsewhere(client, node)) return;
      inode.isGone = true;
      this.#gone.set(node, client);
    } else followName(this.#model, this.#volume, Number(key.slice(2, slash)), key.slice(slash + 1));
  }
}

/** The objects that a step looks at or changes. */
function keysOf(model: Model, step: Step): string[] {
  if (step.kind === 'cachedName') return [`n ${step.dir}/${step.name}`];
  const keys = new Set<string>();
  for (const key of objectsOf(model, step)?.keys ?? []) {
    const slash = key.indexOf('/');
    if (key[0] === 'n') keys.add(key);
    else keys.add(`m ${slash < 0 ? key.slice(2) : key.slice(2, slash)}`);
  }
  const name = (dir: number, text: string): void => {
    keys.add(`n ${dir}/${text}`);
    const node = model.get(dir)?.names.get(text);
    if (node !== undefined) keys.add(`m ${node}`);
  };
  if ('dir' in step) name(step.dir, step.name);
  if (step.kind === 'rename') {
    name(step.sourceDir, step.sourceName);
    name(step.targetDir, step.targetName);
  }
  if ('node' in step && step.node !== 0) keys.add(`m ${step.node}`);
  return [...keys];
}
