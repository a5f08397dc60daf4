// SPDX-License-Identifier: GPL-2.0-or-later
//
// Control parts: every message goes through and comes back; hostile bytes end as ProtocolError.

import { expect, test } from 'vitest';
import { ProtocolError } from '../../../ts/util/errors.ts';
import { Prng } from '../../../ts/util/prng.ts';
import { decodeControl, encodeControl } from '../../../ts/wire/codec.ts';
import type { FieldType } from '../../../ts/wire/field.ts';
import { type FieldsOf, type MessageName, Mode, messages, type ReplyOf } from '../../../ts/wire/message.ts';

const start = { objectid: 2 ** 53 - 1, type: 255, offset: 2 ** 40 + 1 };
const range = { tree: 5, start: { objectid: 256, type: 0, offset: 0 }, end: start };

const fields: { [Name in MessageName]: FieldsOf<Name> } = {
  greeting: {
    versionMin: 1,
    versionMax: 2,
    features: ['a'],
    clientName: 'häst',
    path: Buffer.from([47, 255, 254]),
    readOnly: false,
  },
  acquire: {
    wants: [{ ...range, mode: Mode.read, flags: 1 }],
    spaceWanted: 2 ** 41,
    inodesWanted: { tree: 5, count: 1000 },
    dataBytesWanted: 0,
  },
  revoke: { ranges: [{ ...range, oldMode: Mode.write, newMode: Mode.read }] },
  release: {
    ranges: [{ ...range, oldMode: Mode.write, newMode: Mode.none }],
    afterBatch: 7,
    refusedSeen: 3,
    openInodes: [{ tree: 5, ino: 2 ** 33 }],
  },
  closed: { inodes: [{ tree: 5, ino: 2 ** 33, isNameless: true }], afterBatch: 8 },
  done: {},
  batch: {
    number: 2 ** 32,
    changeCount: 3,
    changesLength: 100,
    changesCrc32c: 0xffff_ffff,
    dataLength: 4096,
    refusedSeen: 2 ** 32 - 1,
  },
  sync: { batch: 9 },
  readData: { extents: [{ tree: 5, ino: 257, offset: 2 ** 45, length: 4096 }] },
  hurry: { patience: 7 },
  statfs: {},
  ping: {},
  goodbye: { errno: 71, text: 'bye' },
  stats: {},
};

const replies: {
  [Name in MessageName]: Name extends 'revoke' | 'release' | 'closed' | 'done' | 'hurry' | 'goodbye'
    ? null
    : ReplyOf<never> | object;
} = {
  greeting: {
    version: 1,
    features: [],
    session: 2n ** 64n - 1n,
    epoch: 3n,
    serverTimeNs: 1_800_000_000_000_000_000n,
    leaseMs: 30_000,
    limits: { frameBodyBytes: 1 << 24, batchBytes: 1 << 23, batchesInFlight: 8 },
    root: { tree: 5, ino: 256 },
    fsid: Buffer.alloc(16, 7),
    sectorSize: 4096,
    maxInline: 2048,
    maxXattrItem: 16_000,
    maxHashBucketItem: 16_000,
    deviceTotal: 2 ** 42,
  },
  acquire: {
    grants: [{ ...range, mode: Mode.write }],
    pages: [{ ...range, length: 77 }],
    space: 2 ** 40,
    inodeRun: null,
    data: [{ tree: 5, ino: 257, offset: 0, length: 9 }],
    openElsewhere: [{ tree: 5, ino: 258 }],
    subvolumes: [{ tree: 257, isReadOnly: true, parentTree: 5, parentDir: 256 }],
  },
  revoke: null,
  release: null,
  closed: null,
  done: null,
  hurry: null,
  batch: { applied: 1, durable: 0, refused: { index: 2, errno: 17, text: 'name exists' } },
  sync: { durable: 4 },
  readData: { lengths: [1, 2, 3] },
  statfs: { total: 2 ** 40, free: 2 ** 39, available: 2 ** 38, inodesUsed: 12 },
  ping: { serverTimeNs: 2n ** 62n },
  goodbye: null,
  stats: { json: '{}' },
};

const names = Object.keys(messages) as MessageName[];

test.each(names)('%s goes through and comes back', (name) => {
  const type = messages[name].fields as FieldType<unknown>;
  expect(decodeControl(type, encodeControl(type, fields[name]), name)).toEqual(fields[name]);
  const reply = messages[name].reply as FieldType<unknown> | null;
  expect(reply === null).toBe(replies[name] === null);
  if (reply !== null)
    expect(decodeControl(reply, encodeControl(reply, replies[name]), name)).toEqual(replies[name]);
});

test('decoded byte strings do not alias the frame', () => {
  const type = messages.greeting.fields;
  const bytes = encodeControl(type, fields.greeting);
  const greeting = decodeControl(type, bytes, 'greeting');
  bytes.fill(0);
  expect(greeting.path).toEqual(Buffer.from([47, 255, 254]));
});

test.each([
  ['empty', ''],
  ['not an array', '01'],
  ['a map', '81a10101'],
  ['a tag', '81c101'],
  ['a float', '81fb3ff0000000000000'],
  ['a negative number', '8120'],
  ['an indefinite array', '9f01ff'],
  ['an indefinite string', '815f4101ff'],
  ['undefined', '81f7'],
  ['cut short', '8218'],
  ['a long string cut short', '815b000000ffffffffff'],
  ['a length bomb', '9bffffffffffffffff'],
  ['nesting', '81818181818181818180'],
  ['bytes after it', '8000'],
  ['too few fields', '80'],
  ['too many fields', '820102'],
  ['the wrong type', '816161'],
  ['a number over 2^53', '811b0020000000000000'],
])('%s is refused', (_, hex) => {
  expect(() => decodeControl(messages.sync.fields, Buffer.from(hex, 'hex'), 'sync')).toThrow(ProtocolError);
});

test('values out of bounds are refused', () => {
  const acquire = messages.acquire.fields as FieldType<unknown>;
  const refuse = (change: object): void => {
    const bytes = encodeControl(acquire, { ...fields.acquire, ...change });
    expect(() => decodeControl(acquire, bytes, 'acquire')).toThrow(ProtocolError);
  };
  refuse({ wants: [{ ...range, mode: 0, flags: 0 }] });
  refuse({ wants: [{ ...range, mode: Mode.merge, flags: 0 }] });
  refuse({ wants: [{ ...range, mode: 4, flags: 0 }] });
  refuse({ wants: [{ ...range, start: range.end, mode: Mode.read, flags: 0 }] });
  refuse({ wants: new Array(5000).fill({ ...range, mode: Mode.read, flags: 0 }) });
  const revoke = messages.revoke.fields as FieldType<unknown>;
  const raised = encodeControl(revoke, { ranges: [{ ...range, oldMode: Mode.read, newMode: Mode.write }] });
  expect(() => decodeControl(revoke, raised, 'revoke')).toThrow(ProtocolError);
});

test('mutated control parts decode or end as ProtocolError', () => {
  const prng = new Prng(11);
  for (let run = 0; run < 30_000; run++) {
    const name = prng.pick(names);
    const type = messages[name].fields as FieldType<unknown>;
    let bytes = Buffer.from(encodeControl(type, fields[name]));
    for (let count = prng.between(1, 4); count > 0; count--) {
      if (prng.oneIn(4)) bytes = bytes.subarray(0, prng.below(bytes.length + 1));
      else if (bytes.length > 0) bytes[prng.below(bytes.length)] = prng.below(256);
    }
    try {
      decodeControl(type, bytes, name);
    } catch (error) {
      expect(error).toBeInstanceOf(ProtocolError);
    }
  }
});
