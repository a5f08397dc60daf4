// SPDX-License-Identifier: GPL-2.0-or-later
// What is told of the system call in which a thread waits.

import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { native } from '../../../native/index.js';
import { run } from '../../../ts/dev/command.ts';
import { renamedNames, systemCallOf } from '../../../ts/sys/system_call.ts';

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

test("the names of a rename are read out of its thread's memory", () => {
  // Our own, at addresses that we know: what a call is told with is text.
  const memory = readFileSync('/proc/self/maps', 'latin1');
  const stack = /^([0-9a-f]+)-([0-9a-f]+) .*\[stack\]$/m.exec(memory)!;
  const start = Number.parseInt(stack[1]!, 16);
  const length = Number.parseInt(stack[2]!, 16) - start;
  const bytes = Buffer.alloc(length);
  const file = openSync('/proc/self/mem', 'r');
  readSync(file, bytes, 0, length, start);
  closeSync(file);
  // What the process was started with lies there. Of the first argument's path the last part counts.
  const program = readFileSync('/proc/self/cmdline').toString('latin1').split('\0')[0]!;
  const address = `0x${(start + bytes.indexOf(`${program}\0`)).toString(16)}`;
  const last = program.split('/').at(-1);
  const names = renamedNames(process.pid, `316 0x3 ${address} 0xffffff9c ${address} 0x0`)!;
  expect(Buffer.from(names.source.name).toString()).toBe(last);
  expect(Buffer.from(names.target.name).toString()).toBe(last);
  // The kernel has the directory of the program that runs cached.
  if (program.startsWith('/')) expect(names.target.directory()).toBe(statSync(dirname(program)).ino);
  expect(renamedNames(process.pid, `316 0x3 0x10 0x4 ${address} 0x0`)).toBe(null);
  expect(renamedNames(0, '316 0x3 0x10 0x4 0x10 0x0')).toBe(null);
});

test('the directory of a name that is renamed by descriptor is that of the descriptor', () => {
  const directory = openSync('/proc', 'r');
  expect(native.cachedInode(`/proc/self/fd/${directory}`, Buffer.alloc(0))).toBe(statSync('/proc').ino);
  closeSync(directory);
});
