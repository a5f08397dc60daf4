// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the client asks of the kernel channel when grants go: the kernel must not keep what no grant covers. The
// channel (ts/fuse) implements it; the client never imports the channel.
//
// The calls only queue; `settled` tells when the kernel has acted on everything queued since the last call of it. The client calls
// names before inodes, always: an inode invalidated right after a LOOKUP reply can be missed by the kernel, unless
// an invalidation of a name in its parent came first (measured, docs/architecture.md).
//
// Ranges are the language here because grants are ranges: the channel knows which names (negative ones too) and
// inodes it gave to the kernel with a timeout, and finds those that lie in a range.

export interface KernelCache {
  /**
   * Makes the kernel forget every name of the directory, found or not found, whose hash (item/name_hash.ts) is in
   * `[hashStart, hashEnd)`. Names whose grant alone is lost: expiring them is enough.
   *
   * @param dir - the directory's node.
   */
  forgetNames(dir: number, hashStart: number, hashEnd: number): void;

  /** Makes the kernel drop one name that now means something else or nothing. */
  dropName(dir: number, name: Uint8Array): void;

  /** Makes the kernel forget the attributes of every node in `[start, end)` that it knows. */
  forgetAttributes(start: number, end: number): void;

  /**
   * Makes the kernel drop its pages of the bytes `[start, end)` of a file, after writing back what was dirtied
   * through mmap. `end` may be Infinity.
   */
  forgetBytes(node: number, start: number, end: number): void;

  /**
   * Resolves when the kernel has acted on everything asked for since the last call, which must be in the same turn: what
   * others ask for may be held up for longer.
   */
  settled(): Promise<void>;

  /**
   * Resolves when the kernel has been told of names that renames took along while they were being forgotten; null if
   * there are none.
   */
  carried(): Promise<void> | null;

  /** Whether the kernel holds a reference on the node (it was looked up and not forgotten yet). */
  isReferenced(node: number): boolean;

  /** Whether the kernel may have pages of a file. */
  hasPages(node: number): boolean;

  /** Whether a write(2) of the file has come in part, and the rest of it is to come at once. */
  isWriting(node: number): boolean;

  /** Whether a thread may not have taken the attributes of a file yet that it was given. */
  isTaking(node: number): boolean;

  /** Calls `visit` with nodes that a program looked up in the last seconds, as far as the kernel still knows them. */
  forEachLooked(visit: (node: number) => void): void;
}

/** For tests and tools that use a client without a kernel. */
export const NO_KERNEL: KernelCache = {
  forgetNames: () => {},
  dropName: () => {},
  forgetAttributes: () => {},
  forgetBytes: () => {},
  settled: () => Promise.resolve(),
  carried: () => null,
  isReferenced: () => false,
  hasPages: () => false,
  isWriting: () => false,
  isTaking: () => false,
  forEachLooked: () => {},
};
