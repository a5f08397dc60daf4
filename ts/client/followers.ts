// SPDX-License-Identifier: GPL-2.0-or-later
//
// Gives back early what others come for after every change. Where another client has looked at each of the last changes
// of an inode, one by one, the next change is sent at once and the inode lowered to reading without having been asked: its
// look then finds everything at the server, two messages instead of four. A file is given when it is closed, a
// directory when its names have changed; one with a new file in it together with that file, when it is closed.
//
// If nobody comes any more it costs a round trip for each change, for as long as the inode counts as contended.

import type { Clock } from '../util/clock.ts';
import type { Contention } from './contention.ts';
import type { FileState } from './file_state.ts';

export class Followers {
  readonly #clock: Clock;
  readonly #contention: Contention;
  readonly #give: (nodes: readonly number[]) => void;
  readonly #next = new Set<number>();

  /** @param give - lowers what is held of these inodes to reading. */
  constructor(clock: Clock, contention: Contention, give: (nodes: readonly number[]) => void) {
    this.#clock = clock;
    this.#contention = contention;
    this.#give = give;
  }

  /** An operation has changed something of an inode. */
  changed(node: number): void {
    if (this.#contention.changed(node)) this.#giveSoon(node);
  }

  /** A new file was made in a directory, and is open. */
  created(dir: number, file: FileState): void {
    if (this.#contention.changed(dir)) file.createdIn = dir;
  }

  /** A program closes the only handle that can write a file: what remains comes right after the answer. */
  closing(file: FileState): void {
    const { node, createdIn } = file;
    if (createdIn === 0 && !this.#contention.isFollowed(node)) return;
    queueMicrotask(() => this.#give(createdIn === 0 ? [node] : [node, createdIn]));
  }

  /** The last handle that could write a file was closed. */
  closed(file: FileState): void {
    const isFollowed = this.#contention.changed(file.node);
    const { createdIn } = file;
    file.createdIn = 0;
    // At once: nobody waits for the answer of this operation.
    if (createdIn !== 0) this.#give([file.node, createdIn]);
    else if (isFollowed) this.#give([file.node]);
  }

  /** After the answer of the operation. */
  #giveSoon(node: number): void {
    if (this.#next.size === 0) this.#clock.setTimer(0, () => this.#giveNow());
    this.#next.add(node);
  }

  #giveNow(): void {
    const nodes = [...this.#next];
    this.#next.clear();
    this.#give(nodes);
  }
}
