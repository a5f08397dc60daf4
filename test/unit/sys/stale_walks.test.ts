// SPDX-License-Identifier: GPL-2.0-or-later
// What is told of the system call in which a thread waits.

import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../../../ts/dev/command.ts';
import { retriesStaleLookup } from '../../../ts/sys/stale_walks.ts';

test('a thread that opens a name begins anew; one that is gone, or none of ours, is not relied on', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'crfs-walks-'));
  await run(['mkfifo', join(directory, 'fifo')]);
  // Waits within open(2) for a writer.
  const reader = spawn('cat', [join(directory, 'fifo')], { stdio: 'ignore' });
  const ended = new Promise((resolve) => reader.once('close', resolve));
  const deadline = performance.now() + 10_000;
  while (!retriesStaleLookup(reader.pid!) && performance.now() < deadline) await readdir(directory);
  expect(retriesStaleLookup(reader.pid!)).toBe(true);
  reader.kill('SIGKILL');
  await ended;
  expect(retriesStaleLookup(reader.pid!)).toBe(false);
  expect(retriesStaleLookup(0)).toBe(false);
  await rm(directory, { recursive: true });
});
