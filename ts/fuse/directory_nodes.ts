// SPDX-License-Identifier: GPL-2.0-or-later
//
// By which number (node) the kernel knows a directory, and below which other directory it has it.
//
// The kernel keeps one place for a directory. When it is told of one at another place (another client has moved it), it
// moves what it has, for which it needs the lock of all renames and that of the old place; where it cannot have
// them at once the call is answered ESTALE. A rename between directories holds the first of them itself while it looks
// its names up, so it fails each time, and the program sees it. And a program may hold the old place open for ever.
//
// Therefore a directory that is found elsewhere is given as a further node, one for each directory below which the kernel
// has it: to the kernel it is a directory of its own. The old place is dropped, so that the old node goes unless a
// program uses it. While the kernel has several nodes of one directory the directory is *split*: a change through one is
// not seen by the others, so the kernel may keep nothing about it.
//
// A removal is of a name, and what has it may have changed since the kernel looked: what the kernel then takes for removed
// is the node that it has at that place. It never asks for a name in such a directory again, whatever that still holds. So
// that node is *dead*: it is not given any more, and its directory, if it is still there, is given as another one.
//
// INVARIANT: a reply never gives the kernel a directory's node below another directory than the one where it has it, nor
// a dead one. (Below the same one it needs no lock.) All but these tables, and what is written to the kernel, has the
// client's nodes.

import { FIRST_SPARE_NODE } from '../client/node_id.ts';
import { EXPIRED_NAMES_MAX } from './limits.ts';
import { hashNode } from './lookup_counts.ts';

/** Where the kernel has a directory: below which other one, as it numbers it, and the hash of its name there. */
interface Place {
  readonly parent: number;
  readonly hash: number;
}

export class DirectoryNodes {
  /** Where the kernel has each directory that it knows, by node. */
  readonly #places = new Map<number, Place>();
  /** The node that was given last at a place, by `keyOf`; it may have been given elsewhere since. */
  readonly #there = new Map<number, number>();
  /** Nodes that the kernel takes for removed, and has not forgotten. */
  readonly #dead = new Set<number>();
  /** The client's nodes of further ones. */
  readonly #owners = new Map<number, number>();
  /** Nodes by the client's node, the one given last at the end, where there are or were further ones. */
  readonly #nodes = new Map<number, number[]>();
  /** The client's nodes of split directories. */
  readonly #split = new Set<number>();
  /** Names, by node, that the kernel has and must ask for again. Bounded: it only saves the kernel memory. */
  readonly #expired = new Map<number, Uint8Array>();
  #next = FIRST_SPARE_NODE;

  /** Directories that the kernel knows, each node counted. */
  get size(): number {
    return this.#places.size;
  }

  /** Whether there are further nodes at all. */
  get hasFurther(): boolean {
    return this.#owners.size > 0;
  }

  /** The client's node. */
  ownerOf(node: number): number {
    return node < FIRST_SPARE_NODE ? node : (this.#owners.get(node) ?? node);
  }

  /** Whether the kernel may keep nothing about a directory. */
  isSplit(node: number): boolean {
    return this.#split.size > 0 && this.#split.has(this.ownerOf(node));
  }

  /** From now on the kernel may keep nothing about the directory. */
  split(owner: number): void {
    this.#split.add(owner);
  }

  /** The node by which the kernel may be given a directory below `parent`; 0 where only a further one will do. */
  find(owner: number, parent: number): number {
    const nodes = this.#nodes.get(owner);
    if (nodes !== undefined) return nodes.findLast((node) => this.#isBelow(node, parent)) ?? 0;
    return !this.#places.has(owner) || this.#isBelow(owner, parent) ? owner : 0;
  }

  #isBelow(node: number, parent: number): boolean {
    return this.#places.get(node)?.parent === parent && !this.#dead.has(node);
  }

  /** Makes a further node of a directory. */
  add(owner: number): number {
    const node = this.#next++;
    this.#owners.set(node, owner);
    const nodes = this.#nodes.get(owner);
    if (nodes !== undefined) nodes.push(node);
    else this.#nodes.set(owner, this.#places.has(owner) ? [owner, node] : [node]);
    this.#split.add(owner);
    return node;
  }

  /** A reply gives the kernel a directory below `parent`, by the name of this hash. */
  give(node: number, parent: number, hash: number): void {
    const known = this.#places.get(node);
    if (known?.parent !== parent || known.hash !== hash) this.#places.set(node, { parent, hash });
    this.#there.set(keyOf(parent, hash), node);
  }

  /** A reply gives the kernel something else than a directory at a place, or that nothing is there. */
  giveOther(parent: number, hash: number): void {
    if (this.#there.size > 0) this.#there.delete(keyOf(parent, hash));
  }

  /** The node that the kernel has at a place; 0 if none is known. */
  nodeAt(parent: number, hash: number): number {
    const node = this.#there.get(keyOf(parent, hash)) ?? 0;
    const place = this.#places.get(node);
    return place?.parent === parent && place.hash === hash && !this.#dead.has(node) ? node : 0;
  }

  /** The hash of the name by which the kernel has a directory; null if it has it by none. */
  hashOf(node: number): number | null {
    return this.#places.get(node)?.hash ?? null;
  }

  /** The kernel moves what it has at a place, by a rename of its own. */
  move(from: number, fromHash: number, to: number, toHash: number): void {
    const node = this.nodeAt(from, fromHash);
    if (node === 0) return;
    this.#there.delete(keyOf(from, fromHash));
    this.give(node, to, toHash);
    this.#expired.delete(node);
    const nodes = this.#nodes.get(this.ownerOf(node));
    nodes?.push(...nodes.splice(nodes.indexOf(node), 1));
  }

  /** The kernel exchanges what it has at two places, by a rename of its own. */
  exchange(one: number, oneHash: number, other: number, otherHash: number): void {
    const [first, second] = [this.nodeAt(one, oneHash), this.nodeAt(other, otherHash)];
    this.#there.delete(keyOf(one, oneHash));
    this.#there.delete(keyOf(other, otherHash));
    for (const node of [first, second]) this.#expired.delete(node);
    if (first !== 0) this.give(first, other, otherHash);
    if (second !== 0) this.give(second, one, oneHash);
  }

  /**
   * The kernel takes what it has at a place for removed.
   *
   * @param owner - what has really gone there; 0 if no directory. @param seen - what the thread that asks was given there,
   *   0 if it did not ask: another thread may have been given something else since, which the kernel has discarded.
   */
  removed(parent: number, hash: number, owner: number, seen: number): void {
    for (const node of [this.nodeAt(parent, hash), seen]) {
      if (node !== 0 && this.#places.has(node) && this.ownerOf(node) !== owner) this.#dead.add(node);
    }
    this.#there.delete(keyOf(parent, hash));
  }

  /** The kernel has forgotten a node of any kind. @returns the client's node if it has no other of it, else 0. */
  forget(node: number): number {
    const place = this.#places.get(node);
    if (place !== undefined) {
      const key = keyOf(place.parent, place.hash);
      if (this.#there.get(key) === node) this.#there.delete(key);
    }
    this.#places.delete(node);
    this.#expired.delete(node);
    this.#dead.delete(node);
    const owner = this.ownerOf(node);
    this.#owners.delete(node);
    const nodes = this.#nodes.get(owner);
    if (nodes === undefined) {
      this.#split.delete(owner);
      return owner;
    }
    const left = nodes.filter((other) => other !== node);
    if (left.length <= 1) this.#split.delete(owner);
    if (left.length === 0 || (left.length === 1 && left[0] === owner)) this.#nodes.delete(owner);
    else this.#nodes.set(owner, left);
    return left.length === 0 ? owner : 0;
  }

  /** The kernel's nodes of a client's node; that itself where nothing else is known. */
  forEachOf(owner: number, visit: (node: number) => void): void {
    const nodes = this.#owners.size > 0 ? this.#nodes.get(owner) : undefined;
    if (nodes === undefined) visit(owner);
    else for (const node of nodes) visit(node);
  }

  /** The further nodes of the client's nodes in `[start, end)`. */
  forEachFurtherIn(start: number, end: number, visit: (node: number) => void): void {
    for (const [node, owner] of this.#owners) if (owner >= start && owner < end) visit(node);
  }

  /** The kernel must ask for a directory's name when it uses it next. @param name - is kept. */
  expire(node: number, name: Uint8Array): void {
    this.#expired.delete(node);
    if (this.#expired.size >= EXPIRED_NAMES_MAX) {
      for (const oldest of this.#expired.keys()) {
        this.#expired.delete(oldest);
        break;
      }
    }
    this.#expired.set(node, name);
  }

  /** Takes out the places, but for the one below `parent`, that the kernel may have of a directory that is not there. */
  takeOldPlaces(owner: number, parent: number, visit: (dir: number, name: Uint8Array) => void): void {
    this.forEachOf(owner, (node) => {
      const dir = this.#places.get(node)?.parent;
      const name = this.#expired.get(node);
      if (dir === undefined || dir === parent || name === undefined) return;
      this.#expired.delete(node);
      visit(dir, name);
    });
  }
}

/**
 * One number for a place, the same for two places only by a rare chance: what is found by it must be looked at. Names of
 * one directory, and equal names in several, never meet.
 */
function keyOf(parent: number, hash: number): number {
  const mixed = hashNode(parent);
  const high = (mixed ^ Math.imul(hash, 0x85eb_ca6b)) >>> 11;
  return high * 2 ** 32 + ((Math.imul(mixed, 0x9e37_79b1) ^ hash) >>> 0);
}
