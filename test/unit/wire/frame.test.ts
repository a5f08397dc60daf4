// SPDX-License-Identifier: GPL-2.0-or-later
//
// Frames cut in every way come out as they went in; mutated streams end as ProtocolError and nothing else.

import { expect, test } from 'vitest';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { ProtocolError } from '../../../ts/util/errors.ts';
import { Prng } from '../../../ts/util/prng.ts';
import { encodeFrameHead, type Frame, FrameParser } from '../../../ts/wire/frame.ts';

function randomFrame(prng: Prng): Frame {
  const control = prng.bytes(prng.oneIn(5) ? prng.below(5000) : prng.below(40));
  const body = prng.bytes(prng.oneIn(3) ? prng.below(20_000) : prng.oneIn(2) ? 0 : prng.below(60));
  return { kind: prng.below(256), flags: prng.pick([0, 1, 3]), id: prng.u32(), control, body };
}

function encode(frame: Frame): Buffer {
  const { kind, flags, id, control, body } = frame;
  return Buffer.concat([
    encodeFrameHead({ kind, flags, id, bodyLength: body.length }, control, crc32c),
    body,
  ]);
}

test.each([1, 2, 3])('frames cut into pieces of any length, seed %i', (seed) => {
  const prng = new Prng(seed);
  const sent = Array.from({ length: 80 }, () => randomFrame(prng));
  const stream = Buffer.concat(sent.map(encode));
  const received: Frame[] = [];
  const parser = new FrameParser(crc32c, (frame) => received.push(frame));
  for (let at = 0; at < stream.length; ) {
    const length = prng.oneIn(3) ? prng.between(1, 30) : prng.between(1, 9000);
    parser.push(stream.subarray(at, at + length));
    at += length;
  }
  expect(received).toEqual(sent);
  expect(parser.heldBytes).toBe(0);
});

test('what arrives in one piece is not copied, what does not is copied once into a buffer of its own', () => {
  const frame = { kind: 5, flags: 0, id: 1, control: Buffer.from([0x80]), body: Buffer.alloc(1000, 7) };
  const bytes = encode(frame);
  let received: Frame | undefined;
  const parser = new FrameParser(crc32c, (one) => {
    received = one;
  });
  parser.push(bytes);
  expect(received?.body.buffer).toBe(bytes.buffer);
  parser.push(bytes.subarray(0, 500));
  parser.push(bytes.subarray(500));
  expect(received?.body).toEqual(frame.body);
  expect(received?.body.buffer.byteLength).toBe(1000);
});

test('a 16 MiB body in socket-sized pieces takes one pass', () => {
  const body = Buffer.alloc(16 << 20, 3);
  const bytes = encode({ kind: 5, flags: 0, id: 1, control: Buffer.from([0x80]), body });
  let received: Frame | undefined;
  const parser = new FrameParser(crc32c, (one) => {
    received = one;
  });
  for (let at = 0; at < bytes.length; at += 65_536) parser.push(bytes.subarray(at, at + 65_536));
  expect(received?.body.equals(body)).toBe(true);
});

test('limits hold before anything is allocated', () => {
  const parser = new FrameParser(crc32c, () => {});
  parser.limits.bodyMax = 100;
  const head = encodeFrameHead({ kind: 1, flags: 0, id: 1, bodyLength: 101 }, Buffer.from([0x80]), crc32c);
  expect(() => parser.push(head)).toThrow(ProtocolError);
  const other = new FrameParser(crc32c, () => {});
  const long = encodeFrameHead(
    { kind: 1, flags: 0, id: 1, bodyLength: 0 },
    Buffer.alloc((1 << 20) + 1),
    crc32c,
  );
  expect(() => other.push(long.subarray(0, 24))).toThrow(ProtocolError);
});

test('mutated streams: frames or ProtocolError', () => {
  const prng = new Prng(5);
  let refused = 0;
  for (let run = 0; run < 5000; run++) {
    const stream = Buffer.concat([encode(randomFrame(prng)), encode(randomFrame(prng))]);
    for (let count = prng.between(1, 4); count > 0; count--) {
      // Mostly in the heads, where the parser looks.
      stream[prng.below(prng.oneIn(3) ? stream.length : 40)] = prng.below(256);
    }
    const parser = new FrameParser(crc32c, () => {});
    try {
      for (let at = 0; at < stream.length; at += 1000) parser.push(stream.subarray(at, at + 1000));
    } catch (error) {
      expect(error).toBeInstanceOf(ProtocolError);
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(2500);
});
