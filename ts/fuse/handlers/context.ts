// SPDX-License-Identifier: GPL-2.0-or-later
//
// What all handlers share: the client, the replies, and scratch objects that are filled anew for every request.
//
// A handler is `(request) => ANSWERED | MISS`. It reads the request where it lies, runs one operation of the client, and
// queues the reply. On MISS it has changed nothing and queued nothing; `RequestServer` parks the request and runs the
// same handler again on the copy. A handler therefore runs every operation that can MISS before one that has an effect.

import { AttrOut, MISS, type Operations, SetAttr, StatfsOut } from '../../client/operations.ts';
import { Errno } from '../../util/errno.ts';
import { OutBytes, putAttrOut, putEntry } from '../abi.ts';
import type { DriverKernelCache } from '../kernel_cache.ts';
import { LastFound } from '../last_found.ts';
import type { Replies } from '../replies.ts';
import type { RequestView } from '../request.ts';
import type { StaleRetries } from '../stale_retries.ts';

/** What a handler returns when the request is answered, or will be. */
export const ANSWERED = 0;

export type Handler = (request: RequestView) => number;

/**
 * Parks a request whose effect has taken place until the outcome is there: -errno, or for WRITE the bytes written.
 * `outcome` gets the parked copy.
 */
export type AnswerLater = (request: RequestView, outcome: (copy: RequestView) => Promise<number>) => void;

/** Longest name in a request, bytes: an xattr name and a file name alike. Longer ones go to the client as they are. */
const SHORT_NAME_MAX = 255;

/**
 * Views of one scratch buffer, one per length: a name handed to the client is a copy in one of them, so that
 * no view is made per request.
 */
export class NameScratch {
  private readonly views: Uint8Array[] = [];

  constructor() {
    const buffer = new ArrayBuffer(SHORT_NAME_MAX);
    for (let length = 0; length <= SHORT_NAME_MAX; length++)
      this.views.push(new Uint8Array(buffer, 0, length));
  }

  /** Returns the bytes `[start, start + length)`; valid until the next call. */
  take(bytes: Uint8Array, start: number, length: number): Uint8Array {
    const view = this.views[length];
    if (view === undefined) return bytes.subarray(start, start + length);
    for (let index = 0; index < length; index++) view[index] = bytes[start + index]!;
    return view;
  }
}

export class HandlerContext {
  readonly operations: Operations;
  readonly replies: Replies;
  readonly kernel: DriverKernelCache;
  /** Waits for something of the client's, then answers; see request_server.ts. */
  readonly answerLater: AnswerLater;
  readonly staleRetries: StaleRetries;
  readonly lastFound: LastFound = new LastFound();
  readonly attr: AttrOut = new AttrOut();
  /** For what is looked at besides. */
  readonly otherAttr: AttrOut = new AttrOut();
  readonly set: SetAttr = new SetAttr();
  readonly space: StatfsOut = new StatfsOut();
  private readonly firstName = new NameScratch();
  private readonly secondName = new NameScratch();

  constructor(
    operations: Operations,
    replies: Replies,
    kernel: DriverKernelCache,
    answerLater: AnswerLater,
    staleRetries: StaleRetries,
  ) {
    this.operations = operations;
    this.replies = replies;
    this.kernel = kernel;
    this.answerLater = answerLater;
    this.staleRetries = staleRetries;
  }

  /** The request's (first) name; valid until the next request. */
  name(request: RequestView): Uint8Array {
    return this.firstName.take(request.bytes, request.nameStart, request.nameLength);
  }

  /** The second name of RENAME, the target of SYMLINK. */
  second(request: RequestView): Uint8Array {
    return this.secondName.take(request.bytes, request.secondStart, request.secondLength);
  }

  /** Answers with an operation's result that needs no body, or passes MISS on. */
  status(request: RequestView, result: number): number {
    if (result === MISS) return MISS;
    const errno = result === -Errno.ESTALE ? -this.staleRetries.errnoFor(request) : Math.min(result, 0);
    this.replies.status(request.uniqueLow, request.uniqueHigh, errno);
    return ANSWERED;
  }

  /** Makes the kernel begin the call anew, to find what is there now. */
  lookAgain(request: RequestView): number {
    // This is the call's one ESTALE, if it had none before. If it had, the program must begin anew.
    this.staleRetries.errnoFor(request);
    this.replies.status(request.uniqueLow, request.uniqueHigh, -Errno.ESTALE);
    return ANSWERED;
  }

  /** Answers with the entry in `attr`, which the request names in its directory; or with the error. */
  entry(request: RequestView, result: number): number {
    if (result < 0) return this.status(request, result);
    const { replies, attr } = this;
    const dir = request.kernelNode;
    this.kernel.place(dir, attr);
    const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.entry);
    putEntry(replies.words, at, attr);
    this.kernel.giveEntry(dir, request.bytes, request.nameStart, request.nameLength, attr);
    return ANSWERED;
  }

  /** Answers with the attributes in `attr`, or with the error. */
  attributes(request: RequestView, result: number): number {
    if (result < 0) return this.status(request, result);
    const { replies } = this;
    if (this.kernel.isSplit(request.kernelNode)) this.attr.cacheable = false;
    this.kernel.giveAttributes(request.kernelNode, this.attr, request.pid);
    const at = replies.small(request.uniqueLow, request.uniqueHigh, OutBytes.attr);
    putAttrOut(replies.words, at, this.attr);
    return ANSWERED;
  }

  /** Answers with a body of one number in 8 bytes: WRITE, GETXATTR's size, LSEEK. */
  number(request: RequestView, low: number, high: number): number {
    const { replies } = this;
    const at = replies.small(request.uniqueLow, request.uniqueHigh, 8);
    replies.words[at] = low;
    replies.words[at + 1] = high;
    return ANSWERED;
  }
}
