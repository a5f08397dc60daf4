// SPDX-License-Identifier: GPL-2.0-or-later
//
// A session's write grants in the form in which the engine takes them, to judge the session's batches by: entries of
// 48 bytes, sorted by tree and start.
//
//   offset  bytes
//        0      8  tree, little-endian
//        8     17  start key, parts big-endian
//       25     17  end key, parts big-endian
//       42      1  mode
//       43      5  zero

import { Buffer } from 'node:buffer';
import { encodeKey } from '../item/key.ts';
import { Mode } from '../wire/message.ts';
import type { Holder } from './holder.ts';

export const PACKED_GRANT_BYTES = 48;

const START_AT = 8;
const END_AT = 25;
const MODE_AT = 42;

/** Packs what `holder` holds in write mode. */
export function packWriteGrants(holder: Holder): Buffer {
  const packed = Buffer.alloc(holder.size * PACKED_GRANT_BYTES);
  let at = 0;
  holder.forEach((tree, start, end, mode) => {
    if (mode !== Mode.write) return;
    packed.writeUInt32LE(tree >>> 0, at);
    packed.writeUInt32LE(Math.floor(tree / 0x1_0000_0000), at + 4);
    encodeKey(packed, at + START_AT, start.objectid, start.type, start.offset);
    encodeKey(packed, at + END_AT, end.objectid, end.type, end.offset);
    packed[at + MODE_AT] = mode;
    at += PACKED_GRANT_BYTES;
  });
  return packed.subarray(0, at);
}
