// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a kernel channel is to the rest: requests in by bursts, replies and notifications out. Inode-based.
//
// One driver serves one mount. `handlers.ts` answers the requests; `kernel_cache.ts` sends the notifications.
// Requests are valid only during the call of the handler. Replies may be queued at any time; those queued outside
// of a burst are written at the end of the turn.

import type { Replies } from './replies.ts';
import type { RequestView } from './request.ts';

/** Answers one request, now (by queueing a reply) or later. It never throws. */
export type RequestHandler = (request: RequestView) => void;

/** How a mount ends: unmounted or aborted from outside (no error), or by a fault of the channel. */
export type ClosedHandler = (error: Error | null) => void;

/** How much umount(2) insists: `plain` refuses while it is in use, `lazy` detaches, `force` aborts requests. */
export type UnmountMode = 'plain' | 'lazy' | 'force';

export interface FuseDriver {
  /** Where replies are made. */
  readonly replies: Replies;
  /** The mount point, absolute. */
  readonly target: string;
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

  /** umount(2), without blocking this thread. Resolves with 0 or a positive errno. */
  unmount(mode: UnmountMode): Promise<number>;

  /** Ends the connection at once: every unanswered request fails. The mount point stays until it is unmounted. */
  abort(): void;

  /** Stops serving. To be called when the mount is gone. */
  close(): void;
}
