// SPDX-License-Identifier: GPL-2.0-or-later
// The judge of message counts must count right however TCP cuts the stream.

import { expect, test } from 'vitest';
import { Flow } from '../../harness/relay.ts';

function frame(kind: number, controlBytes: number, bodyBytes: number): Buffer {
  const bytes = Buffer.alloc(24 + controlBytes + bodyBytes, 0xff);
  bytes.write('CRFS', 0, 'latin1');
  bytes[5] = kind;
  bytes.writeUInt32LE(controlBytes, 12);
  bytes.writeUInt32LE(bodyBytes, 16);
  return bytes;
}

const STREAM = Buffer.concat([frame(1, 10, 0), frame(5, 300, 9000), frame(9, 0, 0), frame(5, 1, 1)]);

test.each([1, 2, 7, 23, 24, 25, 1000, 100_000])('counted in chunks of %i bytes', (size) => {
  const flow = new Flow();
  for (let at = 0; at < STREAM.length; at += size) flow.see(STREAM.subarray(at, at + size));
  expect(Object.fromEntries(flow.frames)).toEqual({ 1: 1, 5: 2, 9: 1 });
  expect(flow.total).toBe(4);
  expect(flow.bytes).toBe(STREAM.length);
});

test('what is not a frame is an error, not a count', () => {
  expect(() => new Flow().see(Buffer.alloc(24))).toThrow(/not a frame/);
});
