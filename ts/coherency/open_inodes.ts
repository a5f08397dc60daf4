// SPDX-License-Identifier: GPL-2.0-or-later
//
// Inodes that sessions have open beyond their grants: named in a release, until the session says that it closed them. An
// inode outlives its last name while it is here. Pure; ts/server does the dropping.
//
// Rests on this: the last unlink needs a write grant over the whole inode, so every other session has given back what it
// held of it and has said, in that release, whether it has the inode open. A session that holds a grant of an inode and
// has it open is not here; it will say so when that grant goes.

import type { TreeInode } from '../wire/message.ts';

interface OpenInode {
  readonly tree: number;
  readonly ino: number;
  readonly sessions: Set<number>;
  /** Its last name was taken away by a session that has no more use for it, or may have been. */
  isNameless: boolean;
}

export class OpenInodes {
  readonly #inodes = new Map<string, OpenInode>();

  get size(): number {
    return this.#inodes.size;
  }

  /** A session gave an inode's grants back and still has it open. */
  opened(session: number, { tree, ino }: TreeInode): void {
    const key = keyOf(tree, ino);
    let inode = this.#inodes.get(key);
    if (inode === undefined) {
      inode = { tree, ino, sessions: new Set(), isNameless: false };
      this.#inodes.set(key, inode);
    }
    inode.sessions.add(session);
  }

  /**
   * A session has no more use for an inode.
   *
   * @param isNameless - it had taken the last name away, or may have.
   * @returns whether the inode must be dropped now, if it has no name.
   */
  closed(session: number, { tree, ino }: TreeInode, isNameless: boolean): boolean {
    const key = keyOf(tree, ino);
    const inode = this.#inodes.get(key);
    if (inode === undefined) return isNameless;
    inode.isNameless ||= isNameless;
    inode.sessions.delete(session);
    if (inode.sessions.size > 0) return false;
    this.#inodes.delete(key);
    return inode.isNameless;
  }

  /**
   * The session is over: it may have taken last names away without having said so.
   *
   * @returns inodes that must be dropped now if they have no name.
   */
  endSession(session: number): TreeInode[] {
    const dropped: TreeInode[] = [];
    for (const { tree, ino, sessions } of [...this.#inodes.values()]) {
      if (sessions.has(session) && this.closed(session, { tree, ino }, true)) dropped.push({ tree, ino });
    }
    return dropped;
  }

  isOpen(tree: number, ino: number): boolean {
    return this.#inodes.has(keyOf(tree, ino));
  }

  /** Inodes that sessions other than this one have open. */
  forEachElsewhere(session: number, visit: (tree: number, ino: number) => void): void {
    for (const { tree, ino, sessions } of this.#inodes.values()) {
      if (sessions.size > (sessions.has(session) ? 1 : 0)) visit(tree, ino);
    }
  }
}

function keyOf(tree: number, ino: number): string {
  return `${tree}/${ino}`;
}
