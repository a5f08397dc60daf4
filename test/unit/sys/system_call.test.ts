// SPDX-License-Identifier: GPL-2.0-or-later
// What is told of the system call in which a thread waits.

import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../../../ts/dev/command.ts';
import { systemCallOf } from '../../../ts/sys/system_call.ts';

test('a thread that waits is told of with its arguments; one that is gone, or none of ours, is not', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'crfs-call-'));
  await run(['mkfifo', join(directory, 'fifo')]);
  // Waits within open(2) for a writer.
  const reader = spawn('cat', [join(directory, 'fifo')], { stdio: 'ignore' });
  const ended = new Promise((resolve) => reader.once('close', resolve));
  const deadline = performance.now() + 10_000;
  let text = '';
  while (performance.now() < deadline) {
    await readdir(directory);
    const now = systemCallOf(reader.pid!)?.text ?? '';
    if (now !== '' && now === text) break;
    text = now;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(systemCallOf(reader.pid!)).toEqual({ text, kind: 'other' });
  expect(text).toMatch(/^\d+ 0x/);
  reader.kill('SIGKILL');
  await ended;
  expect(systemCallOf(reader.pid!)).toBe(null);
  expect(systemCallOf(0)).toBe(null);
  await rm(directory, { recursive: true });
});
