// SPDX-License-Identifier: GPL-2.0-or-later
//
// One end of a connection: sends requests and matches their replies by number, takes requests and notices from the
// other end, answers pings, counts. Client and server both sit on one.
//
// INVARIANT: handlers are called in the order of the stream, and a reply's promise settles before anything that
// arrived later is handled by code that awaits it only if that code is entered from the same turn; so a caller that
// must act on a reply before a revoke that follows it passes `onReply`, which is called in stream order.
//
// Whatever breaks the protocol ends the connection: a goodbye with the reason goes out, every pending request fails
// with ConnectionError at once, `onClosed` is called. Nothing is retried here.

import { assert } from '../util/assert.ts';
import type { Clock, Timer } from '../util/clock.ts';
import type { Crc32c } from '../util/crc32c.ts';
import { Errno } from '../util/errno.ts';
import { ConnectionError, FsError, ProtocolError } from '../util/errors.ts';
import {
  BODY_BYTES_MAX,
  CONTROL_BYTES_MAX,
  FRAME_HEADER_BYTES,
  GOODBYE_TIMEOUT_MS,
  REQUESTS_IN_FLIGHT_MAX,
} from '../util/limits.ts';
import { decodeControl, encodeControl } from './codec.ts';
import { MessageCounters } from './counters.ts';
import type { FieldType } from './field.ts';
import { encodeFrameHead, type Frame, FrameFlags, FrameParser, frameBytes } from './frame.ts';
import {
  errorReply,
  type FieldsOf,
  type Goodbye,
  type MessageName,
  messageName,
  messages,
  type NoticeName,
  type ReplyOf,
  type RequestName,
  type Side,
} from './message.ts';
import type { Transport } from './transport.ts';

export interface Reply<Name extends RequestName> {
  readonly fields: ReplyOf<Name>;
  /** Owned by the receiver. */
  readonly body: Buffer;
}

/** A request from the other end. One of `reply` and `fail` is called, once; after the connection ended they do nothing. */
export interface RequestFrom<Name extends RequestName> {
  readonly name: Name;
  readonly fields: FieldsOf<Name>;
  readonly body: Buffer;
  reply(fields: ReplyOf<Name>, body?: readonly Uint8Array[]): void;
  /** @param errno - Linux number */
  fail(errno: number, text: string): void;
}

export interface NoticeFrom<Name extends NoticeName> {
  readonly name: Name;
  readonly fields: FieldsOf<Name>;
}

export type IncomingRequest = { [Name in RequestName]: RequestFrom<Name> }[RequestName];
export type IncomingNotice = { [Name in NoticeName]: NoticeFrom<Name> }[NoticeName];

/** What a peer calls. A ProtocolError that a handler throws ends the connection. */
export interface PeerHandlers {
  /** Pings are not passed on: the peer answers them. */
  onRequest(request: IncomingRequest): void;
  /** Goodbyes are not passed on: they end the connection. */
  onNotice(notice: IncomingNotice): void;
  /** The connection ended. `cause.errno` is 0-like (ECONNRESET) unless the other end or we had a reason. */
  onClosed(cause: ConnectionError): void;
}

export interface PeerOptions {
  readonly transport: Transport;
  /** Which side this end is: the other may only send what the other side may. */
  readonly side: Side;
  readonly clock: Clock;
  readonly crc32c: Crc32c;
  /** Shared by all connections of a process that are reported together. */
  readonly counters?: MessageCounters;
}

export interface RequestOptions<Name extends RequestName> {
  readonly body?: readonly Uint8Array[];
  /** Without a reply after this long the connection is given up, in milliseconds. Without it: never. */
  readonly timeoutMs?: number;
  /** Called with the reply in the order of the stream, before the promise settles. */
  readonly onReply?: (reply: Reply<Name>) => void;
}

interface Pending {
  readonly name: RequestName;
  readonly sentMs: number;
  readonly timer: Timer | null;
  settle(frame: Frame): void;
  fail(error: Error): void;
}

const NO_BODY: readonly Uint8Array[] = [];

export class Peer {
  readonly transport: Transport;
  readonly counters: MessageCounters;
  readonly #side: Side;
  readonly #clock: Clock;
  readonly #crc32c: Crc32c;
  readonly #parser: FrameParser;
  readonly #pending = new Map<number, Pending>();
  readonly #writableWaiters: (() => void)[] = [];
  #handlers: PeerHandlers | null = null;
  #nextId = 1;
  #served = 0;
  #writable = true;
  #cause: ConnectionError | null = null;
  #lastReceivedMs: number;
  #answeredSentMs = -Infinity;

  constructor(options: PeerOptions) {
    this.transport = options.transport;
    this.counters = options.counters ?? new MessageCounters();
    this.#side = options.side;
    this.#clock = options.clock;
    this.#crc32c = options.crc32c;
    this.#lastReceivedMs = options.clock.nowMs();
    this.#parser = new FrameParser(options.crc32c, (frame) => this.#onFrame(frame));
  }

  /** Starts the connection. */
  start(handlers: PeerHandlers): void {
    assert(this.#handlers === null, 'a peer is started once');
    this.#handlers = handlers;
    this.transport.start({
      onData: (chunk) => this.#onData(chunk),
      onDrain: () => this.#onDrain(),
      onClose: (cause) =>
        this.#end(
          new ConnectionError(cause?.message ?? 'the connection was closed', Errno.ECONNRESET, { cause }),
        ),
    });
  }

  /** Bounds what the other end may send, for as long as it has no session; without arguments the full sizes again. */
  limitFrames(controlMax: number = CONTROL_BYTES_MAX, bodyMax: number = BODY_BYTES_MAX): void {
    this.#parser.limits.controlMax = controlMax;
    this.#parser.limits.bodyMax = bodyMax;
  }

  /** Why the connection ended; null while it stands. */
  get closed(): ConnectionError | null {
    return this.#cause;
  }

  /** When the youngest request was sent that has been answered, milliseconds of the clock: the other end was there since. */
  get answeredSentMs(): number {
    return this.#answeredSentMs;
  }

  /** When something last came from the other end, on the injected clock, in milliseconds. */
  get lastReceivedMs(): number {
    return this.#lastReceivedMs;
  }

  /** Requests of ours without a reply. */
  get requestsPending(): number {
    return this.#pending.size;
  }

  /** Requests of the other end that were not answered yet. */
  get requestsServed(): number {
    return this.#served;
  }

  /** Whether the send queue has room. */
  get writable(): boolean {
    return this.#writable;
  }

  /** Resolves when the send queue has room, or when the connection has ended. */
  whenWritable(): Promise<void> {
    if (this.#writable || this.#cause !== null) return Promise.resolve();
    return new Promise((resolve) => this.#writableWaiters.push(resolve));
  }

  /**
   * Sends a request.
   *
   * @throws FsError - the other end answered with an errno
   * @throws ConnectionError - the connection ended first, or the reply took longer than `timeoutMs`
   */
  request<Name extends RequestName>(
    name: Name,
    fields: FieldsOf<Name>,
    options: RequestOptions<Name> = {},
  ): Promise<Reply<Name>> {
    if (this.#cause !== null) return Promise.reject(this.#cause);
    const id = this.#takeId();
    return new Promise((resolve, reject) => {
      const { timeoutMs, onReply } = options;
      const timer =
        timeoutMs === undefined
          ? null
          : this.#clock.setTimer(timeoutMs, () => {
              this.close(Errno.ETIMEDOUT, `no reply to ${messages[name].doc.name} within ${timeoutMs} ms`);
            });
      this.#pending.set(id, {
        name,
        sentMs: this.#clock.nowMs(),
        timer,
        fail: reject,
        settle: (frame) => {
          const type = messages[name].reply as FieldType<ReplyOf<Name>>;
          const reply = { fields: decodeControl(type, frame.control, `reply to ${name}`), body: frame.body };
          onReply?.(reply);
          resolve(reply);
        },
      });
      this.#send(name, 0, id, encodeControl<FieldsOf<Name>>(typeOf(name), fields), options.body ?? NO_BODY);
    });
  }

  /** Sends a notice. Does nothing after the connection ended. */
  notify<Name extends NoticeName>(name: Name, fields: FieldsOf<Name>): void {
    if (this.#cause !== null) return;
    this.#send(name, 0, 0, encodeControl<FieldsOf<Name>>(typeOf(name), fields), NO_BODY);
  }

  /**
   * Says goodbye and ends the connection. What was sent before still leaves.
   *
   * @param errno - 0 for an orderly end
   */
  close(errno: number, text: string): void {
    if (this.#cause !== null) return;
    this.notify('goodbye', { errno, text });
    this.transport.close();
    const timer = this.#clock.setTimer(GOODBYE_TIMEOUT_MS, () => this.transport.destroy());
    this.#onDestroyed = () => timer.cancel();
    this.#end(new ConnectionError(text, errno === 0 ? Errno.ECONNRESET : errno));
  }

  #onDestroyed: () => void = () => {};

  #takeId(): number {
    while (this.#pending.has(this.#nextId)) this.#nextId = nextRequestId(this.#nextId);
    const id = this.#nextId;
    this.#nextId = nextRequestId(id);
    return id;
  }

  #send(
    name: MessageName,
    flags: number,
    id: number,
    control: Uint8Array,
    body: readonly Uint8Array[],
  ): void {
    let bodyLength = 0;
    for (const part of body) bodyLength += part.length;
    assert(bodyLength <= BODY_BYTES_MAX, `the body of ${name} is over the limit`);
    const kind = messages[name].kind;
    const head = encodeFrameHead({ kind, flags, id, bodyLength }, control, this.#crc32c);
    this.counters.sent(kind, FRAME_HEADER_BYTES + control.length + bodyLength);
    this.#writable = this.transport.send(bodyLength === 0 ? [head] : [head, ...body]);
  }

  #onDrain(): void {
    this.#writable = true;
    for (const resolve of this.#writableWaiters.splice(0)) resolve();
  }

  #onData(chunk: Buffer): void {
    if (this.#cause !== null) return;
    this.#lastReceivedMs = this.#clock.nowMs();
    try {
      this.#parser.push(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.close(Errno.EPROTO, error.message);
    }
  }

  #onFrame(frame: Frame): void {
    // A handler of an earlier frame of the same chunk may have ended the connection.
    if (this.#cause !== null) return;
    const name = messageName(frame.kind);
    if (name === undefined) throw new ProtocolError(`unknown kind of message ${frame.kind}`);
    this.counters.received(frame.kind, frameBytes(frame));
    if ((frame.flags & FrameFlags.reply) !== 0) this.#onReply(name, frame);
    else this.#onMessage(name, frame);
  }

  #onReply(name: MessageName, frame: Frame): void {
    const pending = this.#pending.get(frame.id);
    if (pending === undefined || pending.name !== name) {
      throw new ProtocolError(`reply to ${name} ${frame.id}, which was not asked`);
    }
    if ((frame.flags & FrameFlags.error) !== 0) {
      const { errno, text } = decodeControl(errorReply, frame.control, `error reply to ${name}`);
      if (errno === 0 || frame.body.length > 0)
        throw new ProtocolError(`error reply to ${name} without an errno`);
      this.#settled(frame.id, pending);
      pending.fail(new FsError(errno, text));
      return;
    }
    if (frame.body.length > messages[name].replyBodyMax)
      throw new ProtocolError(`reply to ${name} with a body`);
    pending.settle(frame);
    this.#settled(frame.id, pending);
  }

  #settled(id: number, pending: Pending): void {
    this.#answeredSentMs = Math.max(this.#answeredSentMs, pending.sentMs);
    pending.timer?.cancel();
    this.#pending.delete(id);
  }

  #onMessage(name: MessageName, frame: Frame): void {
    const spec = messages[name];
    const from: Side = this.#side === 'client' ? 'server' : 'client';
    if (!spec.senders.includes(from)) throw new ProtocolError(`${name} is not for a ${from} to send`);
    if (frame.body.length > spec.bodyMax)
      throw new ProtocolError(`${name} with a body of ${frame.body.length} bytes`);
    if ((spec.reply === null) !== (frame.id === 0))
      throw new ProtocolError(`${name} with number ${frame.id}`);
    const fields = decodeControl<unknown>(spec.fields as FieldType<unknown>, frame.control, name);
    if (name === 'goodbye') this.#onGoodbye(fields as Goodbye);
    else if (spec.reply === null) this.#handlers?.onNotice({ name, fields } as IncomingNotice);
    else this.#onRequest(name as RequestName, fields, frame);
  }

  #onGoodbye(goodbye: Goodbye): void {
    this.transport.close();
    const text = goodbye.text === '' ? 'the other end said goodbye' : goodbye.text;
    this.#end(new ConnectionError(text, goodbye.errno === 0 ? Errno.ECONNRESET : goodbye.errno));
  }

  #onRequest(name: RequestName, fields: unknown, frame: Frame): void {
    if (this.#served >= REQUESTS_IN_FLIGHT_MAX) throw new ProtocolError('too many requests without a reply');
    this.#served++;
    let open = true;
    const answer = (flags: number, control: () => Uint8Array, body: readonly Uint8Array[]): void => {
      assert(open, 'a request is answered once');
      open = false;
      this.#served--;
      if (this.#cause === null) this.#send(name, flags, frame.id, control(), body);
    };
    const type = messages[name].reply as FieldType<unknown>;
    const request = {
      name,
      fields,
      body: frame.body,
      reply: (reply: unknown, body: readonly Uint8Array[] = NO_BODY) =>
        answer(FrameFlags.reply, () => encodeControl(type, reply), body),
      fail: (errno: number, text: string) =>
        answer(
          FrameFlags.reply | FrameFlags.error,
          () => encodeControl(errorReply, { errno, text }),
          NO_BODY,
        ),
    } as IncomingRequest;
    if (request.name === 'ping') request.reply({ serverTimeNs: this.#clock.realTimeNs() });
    else this.#handlers?.onRequest(request);
  }

  /** Fails everything that waits. Called once with effect. */
  #end(cause: ConnectionError): void {
    if (this.#cause !== null) {
      this.#onDestroyed();
      return;
    }
    this.#cause = cause;
    this.#writable = false;
    for (const [id, pending] of [...this.#pending]) {
      this.#settled(id, pending);
      pending.fail(cause);
    }
    for (const resolve of this.#writableWaiters.splice(0)) resolve();
    this.#handlers?.onClosed(cause);
  }
}

function typeOf<Name extends MessageName>(name: Name): FieldType<FieldsOf<Name>> {
  return messages[name].fields as unknown as FieldType<FieldsOf<Name>>;
}

/** Numbers run from 1 to 2^32 - 1 and start again. */
function nextRequestId(id: number): number {
  return id === 0xffff_ffff ? 1 : id + 1;
}
