// SPDX-License-Identifier: GPL-2.0-or-later
// The socket of a mount: one request, one answer, a clear sign when nobody is there.

import { afterEach, expect, test } from 'vitest';
import { askControl, type ControlServer, serveControl } from '../../../ts/cli/control_socket.ts';

/** No mount has this number. */
const DEVICE = `4095:${process.pid}`;
const MOUNT = { device: DEVICE, userId: process.geteuid!() };

let server: ControlServer | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

test('a request gets its answer', async () => {
  server = await serveControl(DEVICE, async (request) => ({ ok: true, stats: { asked: request.op } }));
  const reply = await askControl(MOUNT, { op: 'stats' });
  expect(reply?.answer).toEqual({ ok: true, stats: { asked: 'stats' } });
  reply?.forget();
  await reply?.ended;
});

test('a failure is answered, not swallowed', async () => {
  server = await serveControl(DEVICE, async () => {
    throw new Error('no');
  });
  const reply = await askControl(MOUNT, { op: 'unmount', lazy: false, force: false });
  expect(reply?.answer).toEqual({ ok: false, error: 'no', exitCode: 4 });
  reply?.forget();
});

test('without a process the answer is undefined', async () => {
  expect(await askControl(MOUNT, { op: 'stats' })).toBeUndefined();
});

test('a newer mount takes the place of an older one, whose late end does not remove it', async () => {
  const older = await serveControl(DEVICE, async () => ({ ok: true, stats: { which: 'older' } }));
  server = await serveControl(DEVICE, async () => ({ ok: true, stats: { which: 'newer' } }));
  await older.close();
  const reply = await askControl(MOUNT, { op: 'stats' });
  expect(reply?.answer).toEqual({ ok: true, stats: { which: 'newer' } });
  reply?.forget();
});
