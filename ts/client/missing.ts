// SPDX-License-Identifier: GPL-2.0-or-later
//
// What an operation found missing before it returned MISS: grants (with the items under them), file data, space,
// inode numbers, room for more dirty bytes. One instance collects for whichever operation runs; `fetchMissing` takes
// it over at once.

import { Mode, type Want, WantFlags } from '../wire/message.ts';

/** Bytes of a file that an operation needs now, or that are worth having. */
export interface DataWant {
  readonly tree: number;
  readonly ino: number;
  readonly start: number;
  readonly end: number;
}

export class Missing {
  wants: Want[] = [];
  data: DataWant[] = [];
  /** The wants are all that one operation needs, to be had together and in an acquire of their own. */
  isOwn = false;
  /** Nothing of them may be revoked until the operation is over. */
  keeps = false;
  /** The data of small files among the wants is needed too, most likely. */
  wantsData = false;
  /** Bytes of space. */
  space = 0;
  /** Inode numbers of `inodeTree`. */
  inodes = 0;
  inodeTree = 0;
  /** Pages must not be given to the kernel right now. */
  isHeldBack = false;
  /** Something of the file is being given back, which must be over first. */
  isLeaving = false;
  /** The grants cannot be trusted now. */
  isUntrusted = false;
  /** There are too many dirty bytes. */
  room = false;
  /** The space of the file system is not known. */
  statfs = false;

  get isEmpty(): boolean {
    return (
      this.wants.length === 0 &&
      this.data.length === 0 &&
      this.space === 0 &&
      this.inodes === 0 &&
      !this.room &&
      !this.isHeldBack &&
      !this.isLeaving &&
      !this.isUntrusted &&
      !this.statfs
    );
  }

  /** Whether it may be with another client: all but what the server itself gives or takes. */
  get waitsForOthers(): boolean {
    const { wants, space, inodes, isLeaving } = this;
    // Space and numbers may come with an acquire that waits for grants. What is held back goes on after a moment.
    return wants.length > 0 || space > 0 || inodes > 0 || isLeaving;
  }

  want(
    tree: number,
    startObjectid: number,
    startType: number,
    startOffset: number,
    endObjectid: number,
    endType: number,
    endOffset: number,
    mode: Mode,
    isWide: boolean,
  ): void {
    this.wants.push({
      tree,
      start: { objectid: startObjectid, type: startType, offset: startOffset },
      end: { objectid: endObjectid, type: endType, offset: endOffset },
      mode,
      flags: isWide ? WantFlags.wide : 0,
    });
  }
}

export { Mode };
