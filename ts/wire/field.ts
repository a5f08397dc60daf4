// SPDX-License-Identifier: GPL-2.0-or-later
//
// The types that fields of control parts have: each turns a value into what CBOR carries and back, and refuses with a
// ProtocolError what is not of its type or out of bounds. message.ts builds the list of messages from them; codec.ts
// applies them. What comes in has passed the codec's scan: numbers are whole, bigints below 2^64, strings and arrays
// are definite. Byte strings are views of the received frame until `fromWire` has copied them.

import { Buffer } from 'node:buffer';
import { decodeObjectid, decodeOffset, decodeType, encodeKey, isSafeKey, KEY_BYTES } from '../item/key.ts';
import { ProtocolError } from '../util/errors.ts';
import type { Key } from '../util/range.ts';

export interface FieldType<T> {
  toWire(value: T): unknown;
  /** @throws ProtocolError - `raw` is not of this type; `name` is the field's, for the text */
  fromWire(raw: unknown, name: string): T;
}

const U32_MAX = 0xffff_ffff;

/** Whole numbers from 0 to `max`, at most 2^53 - 1. */
export function uint(max: number = Number.MAX_SAFE_INTEGER): FieldType<number> {
  return {
    // cbor-x would write a number above 2^32 as a float.
    toWire: (value) => (value > U32_MAX ? BigInt(value) : value),
    fromWire(raw, name) {
      const value = typeof raw === 'bigint' ? Number(raw) : raw;
      if (typeof value !== 'number' || value > max || value < 0) {
        throw new ProtocolError(`${name}: expected a whole number up to ${max}`);
      }
      return value;
    },
  };
}

/** Whole numbers of 64 bits that may exceed 2^53: times in nanoseconds, session numbers. */
export const u64: FieldType<bigint> = {
  toWire: (value) => value,
  fromWire(raw, name) {
    if (typeof raw === 'bigint') return raw;
    if (typeof raw === 'number') return BigInt(raw);
    throw new ProtocolError(`${name}: expected a 64-bit number`);
  },
};

export const bool: FieldType<boolean> = {
  toWire: (value) => value,
  fromWire(raw, name) {
    if (typeof raw !== 'boolean') throw new ProtocolError(`${name}: expected true or false`);
    return raw;
  },
};

/** Text for people, never a file name. Longer text is cut when sent, and refused when received. */
export function text(lengthMax: number): FieldType<string> {
  return {
    toWire: (value) => (value.length > lengthMax ? value.slice(0, lengthMax) : value),
    fromWire(raw, name) {
      if (typeof raw !== 'string' || raw.length > lengthMax) {
        throw new ProtocolError(`${name}: expected text of at most ${lengthMax} characters`);
      }
      return raw;
    },
  };
}

/** A byte string, owned by the message. */
export function bytes(lengthMin: number, lengthMax: number): FieldType<Uint8Array> {
  return {
    toWire: (value) => value,
    fromWire(raw, name) {
      if (!(raw instanceof Uint8Array) || raw.length < lengthMin || raw.length > lengthMax) {
        throw new ProtocolError(`${name}: expected ${lengthMin} to ${lengthMax} bytes`);
      }
      return Buffer.from(raw);
    },
  };
}

/** A key as 17 bytes. */
export const key: FieldType<Key> = {
  toWire(value) {
    const wire = Buffer.allocUnsafe(KEY_BYTES);
    encodeKey(wire, 0, value.objectid, value.type, value.offset);
    return wire;
  },
  fromWire(raw, name) {
    if (!(raw instanceof Uint8Array) || raw.length !== KEY_BYTES || !isSafeKey(raw, 0)) {
      throw new ProtocolError(`${name}: expected a key of 17 bytes with numbers below 2^53`);
    }
    return { objectid: decodeObjectid(raw, 0), type: decodeType(raw, 0), offset: decodeOffset(raw, 0) };
  },
};

export function list<T>(element: FieldType<T>, countMax: number): FieldType<readonly T[]> {
  return {
    toWire: (value) => value.map((one) => element.toWire(one)),
    fromWire(raw, name) {
      if (!Array.isArray(raw) || raw.length > countMax) {
        throw new ProtocolError(`${name}: expected a list of at most ${countMax}`);
      }
      return raw.map((one) => element.fromWire(one, name));
    },
  };
}

export function nullable<T>(inner: FieldType<T>): FieldType<T | null> {
  return {
    toWire: (value) => (value === null ? null : inner.toWire(value)),
    fromWire: (raw, name) => (raw === null ? null : inner.fromWire(raw, name)),
  };
}

/** The fields of an array, by property; their order is the order on the wire. */
export type FieldTypes<T> = { readonly [Name in keyof T]: FieldType<T[Name]> };

/**
 * An object as an array of its fields.
 *
 * @param check - what must hold between fields; returns what is wrong, or undefined
 */
export function record<T extends object>(
  fields: FieldTypes<T>,
  check: (value: T) => string | undefined = () => undefined,
): FieldType<T> {
  const entries = Object.entries(fields) as [keyof T & string, FieldType<T[keyof T & string]>][];
  return {
    toWire: (value) => entries.map(([property, type]) => type.toWire(value[property])),
    fromWire(raw, name) {
      if (!Array.isArray(raw) || raw.length !== entries.length) {
        throw new ProtocolError(`${name}: expected an array of ${entries.length}`);
      }
      const value: Partial<T> = {};
      for (let at = 0; at < entries.length; at++) {
        const [property, type] = entries[at]!;
        value[property] = type.fromWire(raw[at], `${name}.${property}`);
      }
      const problem = check(value as T);
      if (problem !== undefined) throw new ProtocolError(`${name}: ${problem}`);
      return value as T;
    },
  };
}
