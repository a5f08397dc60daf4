// SPDX-License-Identifier: GPL-2.0-or-later
//
// One connection at the server: hands its messages to their handlers, in the order of the stream.
//
// A handler that throws an FsError has its request answered with the errno; a ProtocolError ends the connection with a
// goodbye. Anything else is our own bug and ends the process, whose supervisor restarts it.

import type { Timer } from '../util/clock.ts';
import { Errno } from '../util/errno.ts';
import { ConnectionError, FsError, ProtocolError } from '../util/errors.ts';
import { GREETING_TIMEOUT_MS, UNGREETED_FRAME_BYTES_MAX } from '../util/limits.ts';
import { type IncomingNotice, type IncomingRequest, Peer } from '../wire/peer.ts';
import type { Transport } from '../wire/transport.ts';
import { onAcquire, onHurry } from './acquire.ts';
import { onBatch } from './batch.ts';
import { onGreeting } from './greeting.ts';
import { onClosed } from './nameless.ts';
import { onReadData } from './read_data.ts';
import { onRelease } from './release.ts';
import type { Session } from './session.ts';
import type { ServerState } from './state.ts';
import { onStatfs } from './statfs.ts';
import { serverStats } from './stats.ts';
import { onSync } from './sync.ts';
import { endSession } from './wind_up.ts';

export class Connection {
  readonly peer: Peer;
  session: Session | null = null;
  readonly #state: ServerState;
  readonly #onEnd: () => void;
  #greeted = false;
  readonly #greetingTimer: Timer;

  /** @param onEnd - called when the connection is gone */
  constructor(state: ServerState, transport: Transport, onEnd: () => void) {
    this.#state = state;
    this.#onEnd = onEnd;
    const { clock, crc32c, counters } = state;
    this.peer = new Peer({ transport, side: 'server', clock, crc32c, counters });
    this.peer.limitFrames(UNGREETED_FRAME_BYTES_MAX, 0);
    this.#greetingTimer = clock.setTimer(GREETING_TIMEOUT_MS, () => this.#onGreetingTimeout());
    this.peer.start({
      onRequest: (request) => this.#onRequest(request),
      onNotice: (notice) => this.#onNotice(notice),
      onClosed: (cause) => this.#onClosed(cause),
    });
  }

  #onGreetingTimeout(): void {
    if (this.session === null) this.peer.close(Errno.ETIMEDOUT, 'no greeting came');
  }

  #onClosed(cause: ConnectionError): void {
    this.#greetingTimer.cancel();
    this.#onEnd();
    if (this.session === null) {
      if (cause.errno === Errno.EPROTO) {
        this.#state.log(`${this.peer.transport.peerName}: broke the protocol: ${cause.message}`, 'warning');
      }
      return;
    }
    this.#state.log(`session ${this.session.id}: ended: ${cause.message}`);
    endSession(this.#state, this.session);
  }

  #onRequest(request: IncomingRequest): void {
    const handled = this.#handle(request);
    if (handled === undefined) return;
    handled.catch((error: unknown) => {
      if (error instanceof FsError) request.fail(error.errno, error.text);
      else if (error instanceof ProtocolError) this.#breakOff(error);
      else if (!(error instanceof ConnectionError)) throw error;
    });
  }

  /** Waits for what a notice set off: what breaks the protocol ends the connection. */
  async #ending(handled: Promise<void>): Promise<void> {
    try {
      await handled;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#breakOff(error);
    }
  }

  #breakOff(error: ProtocolError): void {
    this.peer.close(Errno.EPROTO, error.message);
  }

  #handle(request: IncomingRequest): Promise<void> | undefined {
    const state = this.#state;
    if (request.name === 'stats') {
      if (!this.peer.transport.isLocal && this.session === null) throw new ProtocolError('stats from afar');
      request.reply({ json: JSON.stringify(serverStats(state)) });
      return undefined;
    }
    if (request.name === 'greeting') return this.#greet(request);
    const session = this.#requireSession(request.name);
    switch (request.name) {
      case 'acquire':
        return onAcquire(state, session, request);
      case 'batch':
        return onBatch(state, session, request);
      case 'sync':
        return onSync(state, session, request);
      case 'readData':
        return onReadData(state, request);
      case 'statfs':
        return onStatfs(state, session, request);
      default:
        throw new ProtocolError(`${request.name} is not for a client to send`);
    }
  }

  async #greet(request: Extract<IncomingRequest, { name: 'greeting' }>): Promise<void> {
    if (this.#greeted) throw new ProtocolError('a second greeting');
    this.#greeted = true;
    try {
      this.session = await onGreeting(this.#state, this.peer, request);
      this.#greetingTimer.cancel();
    } catch (error) {
      if (error instanceof FsError)
        this.#state.log(`${this.peer.transport.peerName}: refused: ${error.message}`, 'warning');
      this.#greeted = false;
      throw error;
    }
  }

  #onNotice(notice: IncomingNotice): void {
    const session = this.#requireSession(notice.name);
    if (notice.name === 'release') onRelease(this.#state, session, notice.fields);
    else if (notice.name === 'done') this.#state.endKeeping(session.id);
    else if (notice.name === 'hurry') onHurry(this.#state, session, notice.fields);
    else if (notice.name === 'closed') void this.#ending(onClosed(this.#state, session, notice.fields));
    else throw new ProtocolError(`${notice.name} is not for a client to send`);
  }

  #requireSession(name: string): Session {
    if (this.session === null) throw new ProtocolError(`${name} before the greeting`);
    return this.session;
  }
}
