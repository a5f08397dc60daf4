// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keys as objects and half-open ranges of them, for messages and the state machines of grants. Hot paths over items
// pass the three numbers side by side instead (item/key.ts); a range is asked about once an operation.

/** (objectid, type, offset), ordered by the three in turn. All are safe integers. */
export interface Key {
  readonly objectid: number;
  readonly type: number;
  readonly offset: number;
}

/** `[start, end)` of one tree. */
export interface TreeRange {
  readonly tree: number;
  readonly start: Key;
  readonly end: Key;
}

/** Less than, equal to or greater than zero, as `a` lies before, at or after `b`. */
export function compareKey(a: Key, b: Key): number {
  if (a.objectid !== b.objectid) return a.objectid < b.objectid ? -1 : 1;
  if (a.type !== b.type) return a.type - b.type;
  return a.offset === b.offset ? 0 : a.offset < b.offset ? -1 : 1;
}

export function earlierKey(a: Key, b: Key): Key {
  return compareKey(a, b) <= 0 ? a : b;
}

export function laterKey(a: Key, b: Key): Key {
  return compareKey(a, b) >= 0 ? a : b;
}

/** Orders ranges by tree, then by start. */
export function compareRange(a: TreeRange, b: TreeRange): number {
  return a.tree === b.tree ? compareKey(a.start, b.start) : a.tree - b.tree;
}

/** Whether two ranges have a key in common. */
export function rangesOverlap(a: TreeRange, b: TreeRange): boolean {
  return a.tree === b.tree && compareKey(a.start, b.end) < 0 && compareKey(b.start, a.end) < 0;
}

/** All keys of one inode: its prefix. */
export function inodeRange(tree: number, ino: number): TreeRange {
  return {
    tree,
    start: { objectid: ino, type: 0, offset: 0 },
    end: { objectid: ino + 1, type: 0, offset: 0 },
  };
}

/** `(257 1 0)`, as corruption reports and logs write keys. */
export function formatKey(key: Key): string {
  return `(${key.objectid} ${key.type} ${key.offset})`;
}

/** `5:(257 0 0)..(258 0 0)`. */
export function formatRange(range: TreeRange): string {
  return `${range.tree}:${formatKey(range.start)}..${formatKey(range.end)}`;
}
