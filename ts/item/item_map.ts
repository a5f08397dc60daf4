// SPDX-License-Identifier: GPL-2.0-or-later
//
// A sorted map of items, as the change rules (apply_*.ts) and the readers of items see it. The client's item cache
// and `SortedItemMap` implement it.
//
// A map has one current item, which `find`, `seek`, `next`, `previous` and `insert` set. Its value is
// `bytes[start, start + size)`; it may be written in place after `touch`. Any call that sets the current item, and
// any `insert`, `resize` or `remove`, ends the validity of what was read before.

export interface ItemMap {
  /** Key of the current item. */
  readonly objectid: number;
  readonly type: number;
  readonly offset: number;

  /** The buffer that holds the current item's value; `view` covers the same bytes at the same positions. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly start: number;
  readonly size: number;

  /** Makes the item of exactly this key the current one. @returns whether there is one. */
  find(tree: number, objectid: number, type: number, offset: number): boolean;

  /** Makes the first item at or after the key the current one. @returns whether there is one in the tree. */
  seek(tree: number, objectid: number, type: number, offset: number): boolean;

  /** Makes the last item before the key the current one. @returns whether there is one in the tree. */
  seekBefore(tree: number, objectid: number, type: number, offset: number): boolean;

  /** Goes on to the following item of the tree. Not to be used after a change of the map. */
  next(): boolean;

  /** Adds an item, whose key must be free, and makes it the current one; its value is zeroed. */
  insert(tree: number, objectid: number, type: number, offset: number, size: number): void;

  /** Announces that the current item's value is about to be written in place. */
  touch(): void;

  /** Gives the current item's value another size; what is added at its end is zero. */
  resize(size: number): void;

  /** Takes the current item out. There is no current item then. */
  remove(): void;
}
