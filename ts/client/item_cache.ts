// SPDX-License-Identifier: GPL-2.0-or-later
//
// The items that this client knows, of all trees: pages of packed items outside the V8 heap, found through a sorted
// index of two levels. It holds items only; which ranges are known, absence included, is in held_ranges.ts, and both
// change together (grants.ts).
//
// The state is what the server applied plus every change that this client has made since: operations change it by the
// functions of item/apply_*.ts in the moment in which they append the same change to the write-back. A page remembers
// the youngest batch that changed it; it is clean once that batch is applied. Removing an item is a change of the
// page that would hold it.
//
// The cache ages by itself as memory is taken, so that eviction.ts can tell pages that nobody used.

import type { ItemMap } from '../item/item_map.ts';
import { compareKeys } from '../item/key.ts';
import { compareKey, type Key, type TreeRange } from '../util/range.ts';
import { CachePage, HEAD_BYTES } from './cache_page.ts';
import { FRAME_BYTES, PagePool } from './page_pool.ts';

/** Pages of one group of the index: bounds what a new page moves there. */
const GROUP_PAGES = 256;

/** Ages that a full cache spans. */
const AGES = 32;

class Group {
  count = 0;
  readonly pages: CachePage[] = [];
  readonly objectids: Float64Array = new Float64Array(GROUP_PAGES);
  readonly types: Uint8Array = new Uint8Array(GROUP_PAGES);
  readonly offsets: Float64Array = new Float64Array(GROUP_PAGES);

  insertAt(slot: number, page: CachePage): void {
    this.pages.splice(slot, 0, page);
    this.objectids.copyWithin(slot + 1, slot, this.count);
    this.types.copyWithin(slot + 1, slot, this.count);
    this.offsets.copyWithin(slot + 1, slot, this.count);
    this.count++;
    this.setLow(slot);
  }

  setLow(slot: number): void {
    const page = this.pages[slot]!;
    this.objectids[slot] = page.lowObjectid;
    this.types[slot] = page.lowType;
    this.offsets[slot] = page.lowOffset;
  }

  removeAt(slot: number): void {
    this.pages.splice(slot, 1);
    this.objectids.copyWithin(slot, slot + 1, this.count);
    this.types.copyWithin(slot, slot + 1, this.count);
    this.offsets.copyWithin(slot, slot + 1, this.count);
    this.count--;
  }

  isAfter(slot: number, objectid: number, type: number, offset: number): boolean {
    const other = this.objectids[slot]!;
    if (other !== objectid) return other > objectid;
    const otherType = this.types[slot]!;
    return otherType === type ? this.offsets[slot]! > offset : otherType > type;
  }

  /** The last page that begins at or before the key; -1 if none does. */
  floor(objectid: number, type: number, offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.isAfter(middle, objectid, type, offset)) high = middle;
      else low = middle + 1;
    }
    return low - 1;
  }
}

/** The index of one tree. Its first page begins at the least key. */
class TreeIndex {
  readonly groups: Group[] = [];

  constructor(first: CachePage) {
    this.groups.push(new Group());
    this.groups[0]!.insertAt(0, first);
  }
}

/** Receives the pages of a tree in key order. `end*` is the key at which the next page begins, or Infinity. */
export type PageVisitor = (
  page: CachePage,
  tree: number,
  endObjectid: number,
  endType: number,
  endOffset: number,
) => void;

export class ItemCache implements ItemMap {
  objectid = 0;
  type = 0;
  offset = 0;
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  view: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(0));
  start = 0;
  size = 0;

  /** The batch that changes made now will travel in. */
  batch = 1;
  /** Counts up as memory is taken. */
  age = 0;
  /** Items in the cache. */
  itemCount = 0;

  readonly #pool = new PagePool();
  readonly #trees = new Map<number, TreeIndex>();
  #takenFrames = 0;
  /** Frames taken for the cache to become one age older. */
  readonly #ageFrames: number;
  // Where `#locate` arrived.
  #tree = -1;
  #index: TreeIndex | null = null;
  #groupAt = 0;
  #pageAt = 0;
  #page: CachePage = new CachePage(this.#pool.take(0), 0, 0, 0);
  #slot = 0;

  /** @param cacheBytes - the bound under which eviction.ts keeps the cache. */
  constructor(cacheBytes: number) {
    this.#ageFrames = Math.max(1, Math.floor(cacheBytes / FRAME_BYTES / AGES));
  }

  /** Bytes of memory that pages take. */
  get usedBytes(): number {
    return this.#pool.usedBytes;
  }

  #newPage(bytes: number, objectid: number, type: number, offset: number): CachePage {
    if (++this.#takenFrames % this.#ageFrames === 0) this.age++;
    const page = new CachePage(this.#pool.take(bytes), objectid, type, offset);
    page.usedAt = this.age;
    return page;
  }

  #indexOf(tree: number): TreeIndex {
    if (tree === this.#tree) return this.#index!;
    let index = this.#trees.get(tree);
    if (index === undefined) {
      index = new TreeIndex(this.#newPage(0, 0, 0, 0));
      this.#trees.set(tree, index);
    }
    this.#tree = tree;
    this.#index = index;
    return index;
  }

  /** Goes to the page that owns the key. */
  #locate(tree: number, objectid: number, type: number, offset: number): CachePage {
    const groups = this.#indexOf(tree).groups;
    let low = 0;
    let high = groups.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (groups[middle]!.isAfter(0, objectid, type, offset)) high = middle - 1;
      else low = middle;
    }
    const group = groups[low]!;
    this.#groupAt = low;
    this.#pageAt = group.floor(objectid, type, offset);
    const page = group.pages[this.#pageAt]!;
    this.#page = page;
    page.usedAt = this.age;
    return page;
  }

  #load(slot: number): void {
    const page = this.#page;
    this.#slot = slot;
    this.objectid = page.objectidAt(slot);
    this.type = page.typeAt(slot);
    this.offset = page.offsetAt(slot);
    this.bytes = page.frame.bytes;
    this.view = page.frame.view;
    this.start = page.startAt(slot);
    this.size = page.sizeAt(slot);
  }

  find(tree: number, objectid: number, type: number, offset: number): boolean {
    const page = this.#locate(tree, objectid, type, offset);
    const slot = page.lowerBound(objectid, type, offset);
    if (!page.holds(slot, objectid, type, offset)) return false;
    this.#load(slot);
    return true;
  }

  seek(tree: number, objectid: number, type: number, offset: number): boolean {
    const page = this.#locate(tree, objectid, type, offset);
    return this.#settle(page.lowerBound(objectid, type, offset));
  }

  /** Makes the item at `slot`, or the first of a later page, the current one. */
  #settle(slot: number): boolean {
    if (slot < this.#page.count) {
      this.#load(slot);
      return true;
    }
    while (this.#nextPage()) {
      if (this.#page.count > 0) {
        this.#load(0);
        return true;
      }
    }
    return false;
  }

  #nextPage(): boolean {
    const groups = this.#index!.groups;
    if (++this.#pageAt >= groups[this.#groupAt]!.count) {
      if (this.#groupAt + 1 >= groups.length) return false;
      this.#groupAt++;
      this.#pageAt = 0;
    }
    this.#page = groups[this.#groupAt]!.pages[this.#pageAt]!;
    this.#page.usedAt = this.age;
    return true;
  }

  #previousPage(): boolean {
    const groups = this.#index!.groups;
    if (--this.#pageAt < 0) {
      if (this.#groupAt === 0) return false;
      this.#groupAt--;
      this.#pageAt = groups[this.#groupAt]!.count - 1;
    }
    this.#page = groups[this.#groupAt]!.pages[this.#pageAt]!;
    this.#page.usedAt = this.age;
    return true;
  }

  seekBefore(tree: number, objectid: number, type: number, offset: number): boolean {
    const page = this.#locate(tree, objectid, type, offset);
    let slot = page.lowerBound(objectid, type, offset) - 1;
    while (slot < 0) {
      if (!this.#previousPage()) return false;
      slot = this.#page.count - 1;
    }
    this.#load(slot);
    return true;
  }

  next(): boolean {
    return this.#settle(this.#slot + 1);
  }

  insert(tree: number, objectid: number, type: number, offset: number, size: number): void {
    this.#insert(tree, objectid, type, offset, size);
    this.#page.batch = this.batch;
  }

  /** Adds an item as the server sent it, which makes nothing dirty. The value is copied from `bytes`. */
  adopt(
    tree: number,
    objectid: number,
    type: number,
    offset: number,
    bytes: Uint8Array,
    start: number,
    size: number,
  ): void {
    this.#insert(tree, objectid, type, offset, size);
    this.bytes.set(bytes.subarray(start, start + size), this.start);
  }

  #insert(tree: number, objectid: number, type: number, offset: number, size: number): void {
    let page = this.#locate(tree, objectid, type, offset);
    let slot = page.lowerBound(objectid, type, offset);
    const needed = HEAD_BYTES + size;
    while (page.roomBytes() < needed) {
      this.#makeRoom(page, slot, needed, objectid, type, offset);
      page = this.#locate(tree, objectid, type, offset);
      slot = page.lowerBound(objectid, type, offset);
    }
    page.insertAt(slot, objectid, type, offset, size);
    this.itemCount++;
    this.#load(slot);
  }

  /** Makes another page own the new key, or leaves this page half empty, or gives an empty page more memory. */
  #makeRoom(
    page: CachePage,
    slot: number,
    needed: number,
    objectid: number,
    type: number,
    offset: number,
  ): void {
    if (page.count === 0) {
      this.#pool.give(page.frame);
      page.frame = this.#pool.take(needed);
      page.valuesStart = page.frame.capacity;
      return;
    }
    let fresh: CachePage;
    if (slot === page.count && (page.isAppending || page.count === 1 || needed > FRAME_BYTES / 4)) {
      fresh = this.#newPage(needed, objectid, type, offset);
      fresh.batch = page.batch;
      page.isAppending = false;
      fresh.isAppending = true;
    } else {
      // A large item is put between two pages; otherwise the page is halved.
      const at = needed > FRAME_BYTES / 4 || page.count === 1 ? slot : page.count >>> 1;
      fresh = page.splitAt(at, this.#pool);
      if (++this.#takenFrames % this.#ageFrames === 0) this.age++;
    }
    this.#addPage(fresh);
  }

  /** Puts a new page behind the one at which `#locate` arrived. */
  #addPage(page: CachePage): void {
    const groups = this.#index!.groups;
    let groupAt = this.#groupAt;
    let group = groups[groupAt]!;
    let slot = this.#pageAt + 1;
    if (group.count === GROUP_PAGES) {
      // The last group is continued by a new one: keys mostly come in rising order.
      const from = groupAt === groups.length - 1 && slot === GROUP_PAGES ? GROUP_PAGES : GROUP_PAGES >>> 1;
      const second = new Group();
      for (let at = from; at < GROUP_PAGES; at++) second.insertAt(at - from, group.pages[at]!);
      group.pages.length = from;
      group.count = from;
      groups.splice(groupAt + 1, 0, second);
      if (slot > from || from === GROUP_PAGES) {
        groupAt++;
        slot -= from;
        group = second;
      }
    }
    group.insertAt(slot, page);
  }

  touch(): void {
    this.#page.batch = this.batch;
  }

  resize(size: number): void {
    const page = this.#page;
    page.batch = this.batch;
    const slot = this.#slot;
    if (size <= this.size) {
      page.shrinkAt(slot, size);
      this.size = size;
      return;
    }
    if (page.roomBytes() >= size) {
      page.growAt(slot, size);
      this.#load(slot);
      return;
    }
    const { objectid, type, offset } = this;
    const old = this.bytes.slice(this.start, this.start + this.size);
    page.removeAt(slot);
    this.itemCount--;
    this.#insert(this.#tree, objectid, type, offset, size);
    this.#page.batch = this.batch;
    this.bytes.set(old, this.start);
  }

  remove(): void {
    this.#page.batch = this.batch;
    this.#page.removeAt(this.#slot);
    this.itemCount--;
    if (this.#page.count === 0) this.#dropPage();
  }

  /** Takes the empty page at which `#locate` arrived out of the index; the page before it owns its keys then. */
  #dropPage(): void {
    const page = this.#page;
    const groups = this.#index!.groups;
    const group = groups[this.#groupAt]!;
    const at = this.#pageAt;
    if (this.#groupAt === 0 && at === 0) return;
    const before = at > 0 ? group.pages[at - 1]! : groups[this.#groupAt - 1]!.pages.at(-1)!;
    if (page.batch > before.batch) before.batch = page.batch;
    before.isAppending = false;
    group.removeAt(at);
    if (group.count === 0) groups.splice(this.#groupAt, 1);
    this.#pool.give(page.frame);
  }

  /** Forgets every item of `[start, end)`, which makes nothing dirty. */
  dropRange(
    tree: number,
    startObjectid: number,
    startType: number,
    startOffset: number,
    endObjectid: number,
    endType: number,
    endOffset: number,
  ): void {
    for (;;) {
      const page = this.#locate(tree, startObjectid, startType, startOffset);
      const from = page.lowerBound(startObjectid, startType, startOffset);
      if (from === page.count && !this.#settle(from)) return;
      const at = this.#page;
      const first = at === page ? from : 0;
      const last = at.lowerBound(endObjectid, endType, endOffset);
      if (last <= first) return;
      const batch = at.batch;
      this.itemCount -= last - first;
      const isEnd = last < at.count;
      at.removeSlots(first, last);
      if (at.count === 0) this.#dropPage();
      at.batch = batch;
      if (isEnd) return;
    }
  }

  /** Calls `visit` for every page of every tree. The cache must not be changed meanwhile. */
  visitPages(visit: PageVisitor): void {
    for (const [tree, index] of this.#trees) {
      let before: CachePage | null = null;
      for (const group of index.groups) {
        for (const page of group.pages) {
          if (before !== null) visit(before, tree, page.lowObjectid, page.lowType, page.lowOffset);
          before = page;
        }
      }
      if (before !== null) visit(before, tree, Infinity, 0, 0);
    }
  }

  /** Calls `visit` for every page with keys in the range, with the part of the range that it owns. */
  visitPagesIn(range: TreeRange, visit: (page: CachePage, start: Key, end: Key) => void): void {
    const { tree, start, end } = range;
    let page = this.#locate(tree, start.objectid, start.type, start.offset);
    let from = start;
    while (this.#nextPage()) {
      const next = this.#page;
      const low = { objectid: next.lowObjectid, type: next.lowType, offset: next.lowOffset };
      if (compareKey(low, end) >= 0) break;
      if (compareKey(from, low) < 0) visit(page, from, low);
      page = next;
      from = low;
    }
    visit(page, from, end);
  }

  /** The youngest batch that changed a page which owns keys of `[start, end)`. */
  youngestBatch(
    tree: number,
    startObjectid: number,
    startType: number,
    startOffset: number,
    endObjectid: number,
    endType: number,
    endOffset: number,
  ): number {
    let batch = this.#locate(tree, startObjectid, startType, startOffset).batch;
    while (this.#nextPage()) {
      const page = this.#page;
      const order = compareKeys(
        page.lowObjectid,
        page.lowType,
        page.lowOffset,
        endObjectid,
        endType,
        endOffset,
      );
      if (order >= 0) break;
      if (page.batch > batch) batch = page.batch;
    }
    return batch;
  }
}
