// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a kernel channel is to the rest: requests in by bursts, replies and notifications out. Inode-based.
//
// One driver serves one mount. `handlers.ts` answers the requests; `kernel_cache.ts` sends the notifications. A driver
// whose interface has neither inodes nor notifications (fuse_native_driver.ts) is a `MountDriver` and an
// `OperationsServer` in one; a `FuseDriver` becomes that with a `RequestServer`. The mount process knows no more of either.
// Requests are valid only during the call of the handler. Replies may be queued at any time; those queued outside
// of a burst are written at the end of the turn.

import type { KernelCache } from '../client/kernel_cache.ts';
import type { Operations } from '../client/operations.ts';
import type { Replies } from './replies.ts';
import type { RequestView } from './request.ts';

/** Answers one request, now (by queueing a reply) or later. It never throws. */
export type RequestHandler = (request: RequestView) => void;

/** How a mount ends: unmounted or aborted from outside (no error), or by a fault of the channel. */
export type ClosedHandler = (error: Error | null) => void;

/** How much umount(2) insists: `plain` refuses while it is in use, `lazy` detaches, `force` aborts requests. */
export type UnmountMode = 'plain' | 'lazy' | 'force';

/** A mount, whatever serves it. */
export interface MountDriver {
  /** The mount point, absolute. */
  readonly target: string;

  /** umount(2), without blocking this thread. Resolves with 0 or a positive errno. */
  unmount(mode: UnmountMode): Promise<number>;

  /** Ends the connection at once: every unanswered request fails. The mount point stays until it is unmounted. */
  abort(): void;

  /** The same, without an unmount. @returns whether there is a way to. */
  tryAbort(): boolean;
}

/** Numbers for the mount's statistics. */
export interface RequestCounters {
  /** Requests by the name of their opcode, since the mount. */
  readonly requests: Record<string, number>;
  /** Requests that wait now, and the bytes of their copies. */
  readonly parked: number;
  readonly parkedBytes: number;
  /** Requests that had to wait, since the mount. */
  readonly misses: number;
  /** Requests that were answered ESTALE, to be asked again without their directory's lock, since the mount. */
  readonly staled: number;
  /** Nodes that the kernel references, and names that it holds with a timeout. */
  readonly nodes: number;
  readonly names: number;
}

/** What answers the programs in a mount by the client's operations. */
export interface OperationsServer {
  /** For the client: what the kernel holds, and how to take it back. */
  readonly kernel: KernelCache & { forgetEverything(): Promise<void> };

  /** Starts to answer requests by `operations`. */
  start(operations: Operations, onClosed: ClosedHandler): void;

  counters(): RequestCounters;
}

export interface FuseDriver extends MountDriver {
  /** Where replies are made. */
  readonly replies: Replies;
  /** Whether a name can be expired without being dropped. */
  readonly hasExpireOnly: boolean;
  /** Whether one notification can expire every name. */
  readonly hasIncEpoch: boolean;

  /** Starts to serve. */
  start(onRequest: RequestHandler, onClosed: ClosedHandler): void;

  /** Writes replies queued outside of a burst, at the end of this turn. Cheap to call after each. */
  flushSoon(): void;

  /** Writes every queued reply now. */
  flush(): void;

  /**
   * Makes the kernel forget attributes of `node` and pages of `[offset, offset + length)`.
   *
   * All notifications resolve when the kernel has done it: with 0, or a positive errno. ENOENT says that it had
   * nothing to forget. One may wait for as long as a request about the same object is unanswered.
   *
   * @param offset - -1: attributes only. @param length - 0: to the end.
   */
  invalidateInode(node: number, offset: number, length: number): Promise<number>;

  /** Makes the kernel forget a name. @param expire - it is asked for again, but not unhashed. */
  invalidateName(dir: number, name: Uint8Array, expire: boolean): Promise<number>;

  /** Makes every name of the mount be asked for again. */
  incrementEpoch(): Promise<number>;

  /** Stops serving. To be called when the mount is gone. */
  close(): void;
}
