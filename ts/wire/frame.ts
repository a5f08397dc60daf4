// SPDX-License-Identifier: GPL-2.0-or-later
//
// Frames: a 24-byte head, a control part, a body (docs/protocol.md, "Frame"). `encodeFrameHead` writes one,
// `FrameParser` takes the stream apart as it comes.
//
// The parser copies nothing that arrives in one piece: control and body are then views of the chunk. What is spread
// over several chunks is put together once, in a buffer of exactly its size. The body's buffer belongs to the frame;
// it is allocated when the frame's head and control part have been found good and within the limits of the moment.

import { Buffer } from 'node:buffer';
import { type Crc32c, crc32c as tableCrc32c } from '../util/crc32c.ts';
import { ProtocolError } from '../util/errors.ts';
import {
  BODY_BYTES_MAX,
  CONTROL_BYTES_MAX,
  FRAME_HEADER_BYTES,
  TABLE_CRC_BYTES_MAX,
} from '../util/limits.ts';
import { PROTOCOL_VERSION } from './message.ts';

/** "CRFS", read as a little-endian u32. */
const MAGIC = 0x53465243;
const CHECKED_HEADER_BYTES = 20;

export const FrameFlags = { reply: 1, error: 2 } as const;
const KNOWN_FLAGS = FrameFlags.reply | FrameFlags.error;

export interface Frame {
  readonly kind: number;
  /** `FrameFlags`. */
  readonly flags: number;
  readonly id: number;
  readonly control: Buffer;
  readonly body: Buffer;
}

/** Bytes of a frame as it travels. */
export function frameBytes(frame: Frame): number {
  return FRAME_HEADER_BYTES + frame.control.length + frame.body.length;
}

function checksum(head: Uint8Array, control: Uint8Array, bulk: Crc32c): number {
  const sum = tableCrc32c(head.subarray(0, CHECKED_HEADER_BYTES));
  return control.length <= TABLE_CRC_BYTES_MAX ? tableCrc32c(control, sum) : bulk(control, sum);
}

export interface FrameHead {
  readonly kind: number;
  readonly flags: number;
  readonly id: number;
  readonly bodyLength: number;
}

/** Head and control part in one buffer; the body's buffers follow it on the wire as they are. */
export function encodeFrameHead(head: FrameHead, control: Uint8Array, bulk: Crc32c): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + control.length);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes[4] = PROTOCOL_VERSION;
  bytes[5] = head.kind;
  bytes[6] = head.flags;
  bytes[7] = 0;
  bytes.writeUInt32LE(head.id, 8);
  bytes.writeUInt32LE(control.length, 12);
  bytes.writeUInt32LE(head.bodyLength, 16);
  bytes.writeUInt32LE(checksum(bytes, control, bulk), 20);
  bytes.set(control, FRAME_HEADER_BYTES);
  return bytes;
}

/** Bounds of the frames that a parser takes, in bytes. They may change between frames. */
export interface FrameLimits {
  controlMax: number;
  bodyMax: number;
}

const NOTHING: Buffer = Buffer.alloc(0);

export class FrameParser {
  readonly limits: FrameLimits = { controlMax: CONTROL_BYTES_MAX, bodyMax: BODY_BYTES_MAX };
  readonly #bulk: Crc32c;
  readonly #onFrame: (frame: Frame) => void;
  /** The section that is being put together, and how much of it is there. */
  #partial: Buffer | null = null;
  #filled = 0;
  /** The sections of the current frame that are complete. */
  #head: Buffer | null = null;
  #control: Buffer | null = null;

  /**
   * @param bulk - checksum of long control parts
   * @param onFrame - called for each frame in order; what it throws passes through `push`
   */
  constructor(bulk: Crc32c, onFrame: (frame: Frame) => void) {
    this.#bulk = bulk;
    this.#onFrame = onFrame;
  }

  /** Bytes of the current frame that are held while the rest is awaited. */
  get heldBytes(): number {
    return this.#filled + (this.#head?.length ?? 0) + (this.#control?.length ?? 0);
  }

  /**
   * Takes the next bytes of the stream. The chunk must not be changed afterwards: frames hold views of it.
   *
   * @throws ProtocolError - the stream broke a rule; nothing more may be pushed
   */
  push(chunk: Buffer): void {
    let at = 0;
    for (;;) {
      const wanted = this.#sectionBytes();
      const section = this.#take(chunk, at, wanted);
      at += section === null ? chunk.length - at : this.#taken;
      if (section === null) return;
      this.#complete(section);
      if (at === chunk.length && this.#sectionBytes() > 0) return;
    }
  }

  #taken = 0;

  /** Bytes of the section that comes next. */
  #sectionBytes(): number {
    if (this.#head === null) return FRAME_HEADER_BYTES;
    return this.#control === null ? this.#head.readUInt32LE(12) : this.#head.readUInt32LE(16);
  }

  /** The next section, when all of it is there; null when more bytes must come. */
  #take(chunk: Buffer, at: number, wanted: number): Buffer | null {
    const present = chunk.length - at;
    if (this.#partial === null) {
      if (present >= wanted) {
        this.#taken = wanted;
        return chunk.subarray(at, at + wanted);
      }
      if (present === 0) return null;
      this.#partial = Buffer.allocUnsafeSlow(wanted);
      this.#filled = 0;
    }
    const copied = Math.min(present, wanted - this.#filled);
    chunk.copy(this.#partial, this.#filled, at, at + copied);
    this.#filled += copied;
    this.#taken = copied;
    if (this.#filled < wanted) return null;
    const whole = this.#partial;
    this.#partial = null;
    this.#filled = 0;
    return whole;
  }

  #complete(section: Buffer): void {
    if (this.#head === null) {
      this.#checkHead(section);
      this.#head = section;
    } else if (this.#control === null) {
      if (checksum(this.#head, section, this.#bulk) !== this.#head.readUInt32LE(CHECKED_HEADER_BYTES)) {
        throw new ProtocolError('frame with a wrong checksum');
      }
      this.#control = section;
      if (this.#head.readUInt32LE(16) === 0) this.#deliver(NOTHING);
    } else this.#deliver(section);
  }

  #checkHead(head: Buffer): void {
    if (head.readUInt32LE(0) !== MAGIC) throw new ProtocolError('not a CRFS frame');
    if (head[4] !== PROTOCOL_VERSION)
      throw new ProtocolError(`frame of version ${head[4]}, not ${PROTOCOL_VERSION}`);
    if ((head[6]! & ~KNOWN_FLAGS) !== 0 || head[6] === FrameFlags.error || head[7] !== 0) {
      throw new ProtocolError('frame with reserved bits set');
    }
    const control = head.readUInt32LE(12);
    if (control > this.limits.controlMax)
      throw new ProtocolError(`frame with a control part of ${control} bytes`);
    const body = head.readUInt32LE(16);
    if (body > this.limits.bodyMax) throw new ProtocolError(`frame with a body of ${body} bytes`);
  }

  #deliver(body: Buffer): void {
    const head = this.#head!;
    const control = this.#control!;
    this.#head = null;
    this.#control = null;
    this.#onFrame({ kind: head[5]!, flags: head[6]!, id: head.readUInt32LE(8), control, body });
  }
}
