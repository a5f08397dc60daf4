// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a peer needs of a connection: an ordered byte stream both ways. sys/socket_transport.ts makes one of a socket,
// memory_transport.ts a pair within the process.

export interface TransportHandlers {
  /** Bytes came. The chunk belongs to the receiver, who keeps views of it; the transport must not reuse it. */
  onData(chunk: Buffer): void;
  /** The send queue has room again after `send` returned false. */
  onDrain(): void;
  /** The stream ended, by either side or by an error. Called once; nothing follows it. */
  onClose(cause: Error | null): void;
}

export interface Transport {
  /** Who is at the other end, for logs. */
  readonly peerName: string;
  /** Whether the other end is on this machine (unix socket, loopback): it may ask for stats without a session. */
  readonly isLocal: boolean;
  /** Bytes that were sent but have not left yet. */
  readonly queuedBytes: number;

  /** Starts the flow of data. Called once, before anything else. */
  start(handlers: TransportHandlers): void;

  /**
   * Sends the buffers one after the other. They must not be changed afterwards.
   *
   * @returns false when the queue is over SEND_QUEUE_BYTES_HIGH: more is taken, but a sender that can wait for
   * `onDrain` should
   */
  send(buffers: readonly Uint8Array[]): boolean;

  /** Ends the stream when what was sent has left. */
  close(): void;

  /** Ends the stream at once. */
  destroy(): void;
}
