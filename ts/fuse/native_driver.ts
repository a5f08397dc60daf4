// SPDX-License-Identifier: GPL-2.0-or-later
//
// The driver over the addon's `FuseChannel` (native/src/fuse.rs, crates/crfs-fuse): the default on Linux.
//
// The event loop calls `serve` while requests wait. One native call writes the replies of the last burst and reads
// the next one. After a few milliseconds of continuous work it returns to the loop, which calls again after the
// sockets and timers had their turn. Before it sleeps it looks for another request for a moment (util/spin.ts). While
// other clients want what this one holds the turn is short, and nothing is looked for: a revoke waits in the socket.
// Answers are the only thing this thread waits for nothing with: notifications and umount run on native threads and
// come back by ticket.

import { native } from '../../native/index.js';
import { Errno } from '../util/errno.ts';
import { Spin } from '../util/spin.ts';
import type { ClosedHandler, FuseDriver, RequestHandler, UnmountMode } from './driver.ts';
import { BURST_MAX, BURST_WORK_MS, CONTENDED_WORK_MS, LOOK_US, REQUEST_REGION_BYTES } from './limits.ts';
import { Replies } from './replies.ts';
import { META_WORDS, RequestView } from './request.ts';

export interface NativeDriverOptions {
  /** First column of the mount table. */
  readonly source: string;
  /** A directory. */
  readonly target: string;
  /** Generic mount flags as mount(8) writes them: ro, nosuid, noatime and so on. */
  readonly flags: readonly string[];
  /** Whether other users than the one who mounts may enter. */
  readonly allowOther: boolean;
  /** Whether other clients want what this one holds. */
  readonly isContended?: () => boolean;
  /** Called for each burst of requests. */
  readonly onBurst?: () => void;
}

/** A failure to mount: `errno` is positive. */
export class MountError extends Error {
  readonly errno: number;
  /** Nothing can be mounted on this machine: it lacks something, or its kernel is not one that we know. */
  readonly isOfTheSystem: boolean;
  constructor(message: string, errno: number, isOfTheSystem: boolean) {
    super(message);
    this.name = 'MountError';
    this.errno = errno;
    this.isOfTheSystem = isOfTheSystem;
  }
}

/** MNT_FORCE and MNT_DETACH of umount2(2). Force is lazy too, so that it never ends half-way with EBUSY. */
const UNMOUNT_FLAGS: Record<UnmountMode, number> = { plain: 0, lazy: 2, force: 3 };

/** What the channel threw starts with the errno's number, with `!` behind it if it is of the system. */
function mountError(error: unknown): MountError {
  const message = error instanceof Error ? error.message : String(error);
  const match = /^(\d+)(!?) (.*)$/s.exec(message);
  if (match === null) return new MountError(message, Errno.EIO, false);
  return new MountError(match[3]!, Number(match[1]), match[2] === '!');
}

/** Mounts and returns the driver; nothing is served before `start`. @throws MountError */
export function mountNative(options: NativeDriverOptions): NativeDriver {
  return new NativeDriver(options);
}

/**
 * Gives the mount on `target`, which another process serves, the generic `flags`, all that it is to have.
 *
 * @throws MountError - EBUSY: it cannot be read-only while files are open for writing
 */
export function remountNative(target: string, flags: readonly string[]): void {
  try {
    native.remount(target, [...flags]);
  } catch (error) {
    throw mountError(error);
  }
}

export class NativeDriver implements FuseDriver {
  readonly replies: Replies;
  readonly target: string;
  readonly hasExpireOnly: boolean;
  readonly hasIncEpoch: boolean;
  /** Minor version of the kernel interface in use. */
  readonly minor: number;
  /** Whether the kernel reads ahead by 1 MiB; false where /sys is read-only, then by 128 KiB. */
  readonly wideReadahead: boolean;
  private readonly channel: InstanceType<typeof native.FuseChannel>;
  private readonly meta: Uint32Array;
  private readonly view: RequestView;
  private readonly waiting = new Map<number, (errno: number) => void>();
  private onRequest: RequestHandler | null = null;
  private onClosed: ClosedHandler | null = null;
  private readonly onBurst: () => void;
  private readonly isContended: () => boolean;
  private readonly spin = new Spin();
  /** Requests of the next burst at most. */
  private limit = 1;
  private nextTicket = 1;
  private inBurst = false;
  private flushQueued = false;
  private ended = false;

  constructor(options: NativeDriverOptions) {
    const { source, target, flags, allowOther } = options;
    this.onBurst = options.onBurst ?? (() => {});
    this.isContended = options.isContended ?? (() => false);
    const region = new Uint8Array(REQUEST_REGION_BYTES);
    this.meta = new Uint32Array(BURST_MAX * META_WORDS);
    this.view = new RequestView(region);
    this.replies = new Replies(() => this.writeReplies());
    const { bytes, table } = this.replies;
    try {
      const nativeOptions = { source, target, flags: [...flags], allowOther };
      this.channel = new native.FuseChannel(nativeOptions, region, this.meta, bytes, table);
    } catch (error) {
      throw mountError(error);
    }
    this.target = this.channel.target;
    this.minor = this.channel.minor;
    this.hasExpireOnly = this.channel.hasExpireOnly;
    this.hasIncEpoch = this.channel.hasIncEpoch;
    this.wideReadahead = this.channel.raiseReadahead();
  }

  start(onRequest: RequestHandler, onClosed: ClosedHandler): void {
    this.onRequest = onRequest;
    this.onClosed = onClosed;
    this.channel.start(
      () => this.serve(),
      () => this.collect(),
    );
  }

  /** Serves bursts until no request waits or the time is up. Called by the event loop. */
  private serve(): void {
    const { channel, replies, view, meta } = this;
    const onRequest = this.onRequest!;
    const isContended = this.isContended();
    const deadline = performance.now() + (isContended ? CONTENDED_WORK_MS : BURST_WORK_MS);
    this.inBurst = true;
    try {
      let isFirst = true;
      for (;;) {
        const queued = replies.count;
        replies.clear();
        // What the loop was woken for is there; what a program asks next is worth a moment's look.
        const looks = !isFirst && !isContended && this.spin.begins();
        const found = channel.next(queued, this.limit, looks ? LOOK_US : 0);
        isFirst = false;
        if (found < 0) {
          this.end(null);
          break;
        }
        if (found === 0) {
          if (looks) this.spin.missed();
          break;
        }
        if (looks) this.spin.found();
        this.onBurst();
        // One program asks one thing at a time: then a try for a second request is a call for nothing.
        this.limit = found === this.limit ? Math.min(BURST_MAX, this.limit * 2) : Math.max(1, found);
        for (let index = 0; index < found; index++) {
          view.moveTo(meta, index);
          onRequest(view);
        }
        if (performance.now() >= deadline) {
          this.writeReplies();
          break;
        }
      }
    } catch (error) {
      this.end(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.inBurst = false;
    }
  }

  flushSoon(): void {
    if (this.inBurst || this.flushQueued) return;
    this.flushQueued = true;
    queueMicrotask(() => {
      this.flushQueued = false;
      this.flush();
    });
  }

  flush(): void {
    if (this.ended) return;
    try {
      this.writeReplies();
    } catch (error) {
      this.end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private writeReplies(): void {
    const { replies } = this;
    const queued = replies.count;
    // Cleared first: a failed write must not be repeated.
    replies.clear();
    if (queued > 0) this.channel.flush(queued);
  }

  invalidateInode(node: number, offset: number, length: number): Promise<number> {
    return this.notify((ticket) => this.channel.notifyInode(ticket, node, offset, length));
  }

  invalidateName(dir: number, name: Uint8Array, expire: boolean): Promise<number> {
    return this.notify((ticket) => this.channel.notifyName(ticket, dir, name, expire));
  }

  incrementEpoch(): Promise<number> {
    return this.notify((ticket) => this.channel.notifyEpoch(ticket));
  }

  async unmount(mode: UnmountMode): Promise<number> {
    const errno = await this.notify((ticket) => this.channel.unmount(ticket, UNMOUNT_FLAGS[mode]));
    // The channel's end may be seen before the call that caused it has returned.
    return errno === Errno.ENODEV ? 0 : errno;
  }

  /** Starts what completes by ticket. */
  private notify(send: (ticket: number) => void): Promise<number> {
    if (this.ended) return Promise.resolve(Errno.ENODEV);
    const ticket = this.nextTicket;
    this.nextTicket = (this.nextTicket + 1) >>> 0;
    return new Promise((resolve) => {
      this.waiting.set(ticket, resolve);
      try {
        send(ticket);
      } catch (error) {
        this.waiting.delete(ticket);
        resolve(mountError(error).errno);
      }
    });
  }

  private collect(): void {
    const done = this.channel.completions();
    for (let index = 0; index < done.length; index += 2) {
      const ticket = done[index]!;
      const resolve = this.waiting.get(ticket);
      this.waiting.delete(ticket);
      resolve?.(done[index + 1]!);
    }
  }

  abort(): void {
    if (this.tryAbort()) return;
    // Without fusectl in /sys a forced unmount does the same for root; nobody needs its outcome.
    void this.unmount('force');
  }

  /** Ends the connection, if /sys/fs/fuse/connections is there for it. */
  tryAbort(): boolean {
    return this.ended || this.channel.abort();
  }

  close(): void {
    if (this.ended) return;
    this.ended = true;
    this.collect();
    this.channel.close();
    for (const resolve of this.waiting.values()) resolve(Errno.ENODEV);
    this.waiting.clear();
  }

  private end(error: Error | null): void {
    if (this.ended) return;
    // After a fault nobody answers any more: callers must not wait.
    if (error !== null && !this.channel.abort()) this.channel.unmount(0, UNMOUNT_FLAGS.force);
    this.close();
    this.onClosed?.(error);
  }

  /** Numbers of the channel since the mount. */
  counters(): ReturnType<InstanceType<typeof native.FuseChannel>['counters']> {
    return this.channel.counters();
  }
}
