// SPDX-License-Identifier: GPL-2.0-or-later
//
// Runs of free inode numbers that the server gave to this client, with a write grant over their prefixes. The next
// run is asked for before the current one is used up; runs grow with use.

import { INODE_RUN_FIRST, INODE_RUN_LARGEST } from './limits.ts';

interface Run {
  next: number;
  end: number;
}

class TreeNumbers {
  current: Run = { next: 0, end: 0 };
  following: Run | null = null;
  size = INODE_RUN_FIRST;
  isAsked = false;
}

export class InodeNumbers {
  readonly #trees = new Map<number, TreeNumbers>();

  #of(tree: number): TreeNumbers {
    let numbers = this.#trees.get(tree);
    if (numbers === undefined) {
      numbers = new TreeNumbers();
      this.#trees.set(tree, numbers);
    }
    return numbers;
  }

  has(tree: number): boolean {
    const numbers = this.#of(tree);
    return numbers.current.next < numbers.current.end || numbers.following !== null;
  }

  /** Takes the next number; there must be one. */
  take(tree: number): number {
    const numbers = this.#of(tree);
    if (numbers.current.next === numbers.current.end && numbers.following !== null) {
      numbers.current = numbers.following;
      numbers.following = null;
    }
    return numbers.current.next++;
  }

  /** How many to ask for now. */
  wanted(tree: number): number {
    return this.#of(tree).size;
  }

  /** Whether the next run should be asked for in the background. */
  shouldAsk(tree: number): boolean {
    const numbers = this.#of(tree);
    if (numbers.isAsked || numbers.following !== null) return false;
    return numbers.current.end - numbers.current.next < numbers.size / 8;
  }

  /** Remembers that a run was asked for, or that the asking failed. */
  asked(tree: number, isAsked: boolean): void {
    this.#of(tree).isAsked = isAsked;
  }

  /** Takes a run in. */
  add(tree: number, first: number, count: number): void {
    const numbers = this.#of(tree);
    const run = { next: first, end: first + count };
    numbers.isAsked = false;
    numbers.size = Math.min(INODE_RUN_LARGEST, Math.max(numbers.size, count * 4));
    if (numbers.current.next === numbers.current.end) numbers.current = run;
    else if (numbers.following === null) numbers.following = run;
    else if (numbers.following.end === first) numbers.following.end += count;
  }

  /** Forgets the free numbers from `first` to `end` - 1, whose grant goes. */
  cut(tree: number, first: number, end: number): void {
    const numbers = this.#of(tree);
    const { current, following } = numbers;
    if (current.next < end && current.end > first) numbers.current = { next: 0, end: 0 };
    if (following !== null && following.next < end && following.end > first) numbers.following = null;
  }

  /** Calls `visit` with every part of a run that is not used yet. */
  forEachFree(visit: (tree: number, first: number, end: number) => void): void {
    for (const [tree, { current, following }] of this.#trees) {
      if (current.next < current.end) visit(tree, current.next, current.end);
      if (following !== null) visit(tree, following.next, following.end);
    }
  }
}
