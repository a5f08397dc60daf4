// SPDX-License-Identifier: GPL-2.0-or-later
//
// Hostile clients: mutated frames and well-formed nonsense. The server refuses, says goodbye or answers; it never
// throws, and an honest session beside them goes on.

import { expect, test } from 'vitest';
import { crc32c } from '../../../ts/util/crc32c.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { Prng } from '../../../ts/util/prng.ts';
import { encodeControl } from '../../../ts/wire/codec.ts';
import type { FieldType } from '../../../ts/wire/field.ts';
import { encodeFrameHead } from '../../../ts/wire/frame.ts';
import { type FieldsOf, type MessageName, Mode, messages } from '../../../ts/wire/message.ts';
import { makeFiles, settle, TestServer, want } from './harness.ts';

const greeting: FieldsOf<'greeting'> = {
  versionMin: 1,
  versionMax: 1,
  features: [],
  clientName: 'hostile',
  path: Buffer.from('/'),
  readOnly: false,
};

/** One frame of a random message with plausible fields. */
function randomFrame(prng: Prng, id: number): Buffer {
  const name: MessageName = prng.pick([
    'acquire',
    'release',
    'batch',
    'sync',
    'readData',
    'statfs',
    'ping',
    'stats',
  ]);
  const first = prng.between(250, 300);
  const range = want(first, first + prng.between(1, 5), prng.pick([Mode.read, Mode.write]), prng.below(2));
  const changes = makeFiles(prng.between(257, 300), prng.below(3));
  const section = Buffer.from(changes.bytes.subarray(0, changes.length));
  if (prng.oneIn(3) && section.length > 0) section[prng.below(section.length)] = prng.below(256);
  const fields: Partial<Record<MessageName, unknown>> = {
    acquire: {
      wants: [range],
      spaceWanted: prng.u32(),
      inodesWanted: prng.oneIn(2) ? { tree: prng.pick([5, 6]), count: prng.below(100) } : null,
      dataBytesWanted: prng.u32(),
    },
    release: {
      ranges: [{ ...range, oldMode: Mode.write, newMode: prng.pick([Mode.none, Mode.read]) }],
      afterBatch: prng.below(2),
      openInodes: [{ tree: 5, ino: first }],
    },
    batch: {
      number: prng.oneIn(8) ? prng.below(5) : 1,
      changeCount: changes.count,
      changesLength: section.length,
      changesCrc32c: crc32c(section),
      dataLength: 0,
      refusedSeen: prng.below(2),
    },
    sync: { batch: prng.below(2) },
    readData: {
      extents: [{ tree: 5, ino: first, offset: prng.pick([0, 4096, 5]), length: prng.below(9000) }],
    },
  };
  const body = name === 'batch' ? section : Buffer.alloc(0);
  const control = encodeControl(messages[name].fields as FieldType<unknown>, fields[name] ?? {});
  const isNotice = messages[name].reply === null;
  const head = { kind: messages[name].kind, flags: 0, id: isNotice ? 0 : id, bodyLength: body.length };
  return Buffer.concat([encodeFrameHead(head, control, crc32c), body]);
}

test.each([1, 2, 3, 4])('mutated and random messages, seed %i', async (seed) => {
  const prng = new Prng(seed);
  const test = new TestServer({ sessionsMax: 1000 });
  const honest = await test.mount();
  const run = (await honest.prepare()).inodeRun!;
  let broken = 0;
  for (let round = 0; round < 60; round++) {
    const transport = test.transport();
    let ended = false;
    transport.start({
      onData: () => {},
      onDrain: () => {},
      onClose: () => {
        ended = true;
      },
    });
    if (prng.oneIn(5) === false) {
      const control = encodeControl(messages.greeting.fields, greeting);
      transport.send([encodeFrameHead({ kind: 1, flags: 0, id: 1, bodyLength: 0 }, control, crc32c)]);
      await settle();
    }
    const frames = Array.from({ length: prng.between(1, 12) }, (_, at) => randomFrame(prng, at + 2));
    const stream = Buffer.concat(frames);
    if (prng.oneIn(2)) stream[prng.below(stream.length)]! ^= 1 << prng.below(8);
    transport.send([stream]);
    await settle();
    if (ended) broken++;
    else if (prng.oneIn(2)) transport.destroy();
  }
  expect(broken).toBeGreaterThan(10);
  // The honest session still works.
  expect((await honest.batch(makeFiles(run.first, 3))).applied).toBe(1);
  expect((await honest.peer.request('sync', { batch: 1 })).fields.durable).toBe(1);
  await test.server.stop();
  await settle();
  expect(honest.closed?.errno).toBe(Errno.ESHUTDOWN);
  expect(test.server.stats().grants).toMatchObject({ ranges: 0, waiting: 0 });
});
