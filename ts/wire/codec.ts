// SPDX-License-Identifier: GPL-2.0-or-later
//
// CBOR control parts: the only file that touches CBOR. Control parts are arrays of whole numbers, byte strings, text,
// booleans, null and arrays; everything else that CBOR can say (maps, tags, floats, negative numbers, indefinite
// lengths) is refused by a scan before the decoder sees a byte. The scan also bounds depth and element count, so that
// hostile bytes cost a bounded amount of memory and time and end as ProtocolError, never as anything else.
//
// The build without generated code is used, which has no native part: that part has aborted processes on malformed
// input. Byte strings come out of `decodeControl` as views of the input.

import { Encoder } from 'cbor-x/index-no-eval';
import { ProtocolError } from '../util/errors.ts';
import { CONTROL_BYTES_MAX, CONTROL_DEPTH_MAX, CONTROL_ELEMENTS_MAX } from '../util/limits.ts';
import type { FieldType } from './field.ts';

const encoder: Encoder = new Encoder({
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  tagUint8Array: false,
});

const Major = { unsigned: 0, byteString: 2, text: 3, array: 4, simple: 7 } as const;

/** Encodes the fields of a message. The bytes are not reused by later calls. */
export function encodeControl<T>(type: FieldType<T>, value: T): Buffer {
  return encoder.encode(type.toWire(value));
}

/**
 * Decodes and checks a control part.
 *
 * @param name - of the message, for the text of errors
 * @throws ProtocolError - the bytes are not what `type` describes
 */
export function decodeControl<T>(type: FieldType<T>, bytes: Uint8Array, name: string): T {
  scan(bytes, name);
  let raw: unknown;
  try {
    raw = encoder.decode(bytes);
  } catch (cause) {
    throw new ProtocolError(`${name}: bad CBOR`, { cause });
  }
  return type.fromWire(raw, name);
}

/** Checks that the bytes are exactly one array of the allowed kinds, not too deep and with not too many elements. */
function scan(bytes: Uint8Array, name: string): void {
  const end = bytes.length;
  if (end > CONTROL_BYTES_MAX) throw new ProtocolError(`${name}: control part of ${end} bytes`);
  if (end === 0 || bytes[0]! >> 5 !== Major.array)
    throw new ProtocolError(`${name}: control part is not an array`);
  /** Elements that are left at each depth. */
  const left: number[] = [1];
  let elements = 0;
  let at = 0;
  while (left.length > 0) {
    const depth = left.length - 1;
    if (left[depth] === 0) {
      left.pop();
      continue;
    }
    left[depth] = left[depth]! - 1;
    if (at >= end) throw new ProtocolError(`${name}: control part is cut short`);
    const initial = bytes[at++]!;
    const major = initial >> 5;
    const additional = initial & 31;
    if (major === Major.simple) {
      // false, true and null.
      if (additional < 20 || additional > 22)
        throw new ProtocolError(`${name}: CBOR simple value not allowed`);
      continue;
    }
    let argument = additional;
    if (additional >= 24) {
      if (additional > 27) throw new ProtocolError(`${name}: CBOR of indefinite length`);
      const size = 1 << (additional - 24);
      if (at + size > end) throw new ProtocolError(`${name}: control part is cut short`);
      argument = 0;
      for (const stop = at + size; at < stop; at++) argument = argument * 256 + bytes[at]!;
    }
    if (major === Major.byteString || major === Major.text) {
      if (argument > end - at) throw new ProtocolError(`${name}: control part is cut short`);
      at += argument;
    } else if (major === Major.array) {
      elements += argument;
      if (elements > CONTROL_ELEMENTS_MAX) throw new ProtocolError(`${name}: too many elements`);
      if (left.length > CONTROL_DEPTH_MAX) throw new ProtocolError(`${name}: nested too deeply`);
      left.push(argument);
    } else if (major !== Major.unsigned) {
      throw new ProtocolError(`${name}: CBOR type ${major} is not allowed`);
    }
  }
  if (at !== end) throw new ProtocolError(`${name}: bytes after the control part`);
}
