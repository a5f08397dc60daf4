// SPDX-License-Identifier: GPL-2.0-or-later
//
// The commit policy under a fake clock.

import { expect, test } from 'vitest';
import { CommitPolicy } from '../../../ts/server/commit.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { FsError } from '../../../ts/util/errors.ts';
import { ManualClock } from '../../../ts/util/manual_clock.ts';
import { settle } from './harness.ts';

function policyWith(dirty = { bytes: 0, wants: false }) {
  const clock = new ManualClock();
  const lines: string[] = [];
  /** Commits that are running: settle them by hand. */
  const running: { done: () => void; fail: (error: Error) => void }[] = [];
  let applied = 0;
  const state = { durable: 0, begun: 0 };
  const policy = new CommitPolicy({
    clock,
    intervalMs: 5000,
    dirtyBytesMax: 100,
    volume: {
      commit: () =>
        new Promise((resolve, reject) => {
          state.begun++;
          running.push({ done: () => resolve(state.begun), fail: reject });
        }),
      dirtyBytes: () => dirty.bytes,
      wantsCommit: () => dirty.wants,
    },
    onBegin: () => {
      const covered = applied;
      return () => {
        state.durable = covered;
      };
    },
    log: (line) => lines.push(line),
  });
  const apply = (): void => {
    applied++;
    policy.noteApplied();
  };
  const finish = async (): Promise<void> => {
    running.shift()?.done();
    await settle();
  };
  return { clock, lines, policy, running, state, apply, finish };
}

test('some seconds after the first change, once', async () => {
  const { clock, state, apply, finish, policy } = policyWith();
  clock.advance(60_000);
  expect(state.begun).toBe(0);
  apply();
  clock.advance(4_000);
  apply();
  expect(state.begun).toBe(0);
  clock.advance(1_000);
  expect(state.begun).toBe(1);
  await finish();
  expect(state.durable).toBe(2);
  expect(policy.generation).toBe(1);
  clock.advance(60_000);
  expect(state.begun).toBe(1);
});

test('one commit serves all who waited before it began; later ones get the next', async () => {
  const { state, apply, finish, policy } = policyWith();
  apply();
  const served: string[] = [];
  const wait = (name: string): void => {
    void policy.sync().then(() => served.push(`${name} at ${state.durable}`));
  };
  wait('a');
  wait('b');
  expect(state.begun).toBe(1);
  apply();
  wait('c');
  wait('d');
  expect(state.begun).toBe(1);
  await finish();
  expect(served).toEqual(['a at 1', 'b at 1']);
  expect(state.begun).toBe(2);
  await finish();
  expect(served).toEqual(['a at 1', 'b at 1', 'c at 2', 'd at 2']);
  await policy.sync();
  expect(state.begun).toBe(2);
});

test('applying goes on while a commit writes, and gets its own commit in time', async () => {
  const { clock, state, apply, finish } = policyWith();
  apply();
  clock.advance(5_000);
  apply();
  clock.advance(5_000);
  expect(state.begun).toBe(1);
  await finish();
  expect(state.durable).toBe(1);
  clock.advance(5_000);
  expect(state.begun).toBe(2);
  await finish();
  expect(state.durable).toBe(2);
});

test('pressure commits at once', async () => {
  const dirty = { bytes: 0, wants: false };
  const { state, apply, finish } = policyWith(dirty);
  dirty.bytes = 100;
  apply();
  expect(state.begun).toBe(1);
  dirty.bytes = 0;
  await finish();
  dirty.wants = true;
  apply();
  expect(state.begun).toBe(2);
});

test('a failed commit fails those who waited, says so, and is tried again in time', async () => {
  const { clock, lines, state, apply, finish, policy, running } = policyWith();
  apply();
  const waiting = policy.sync();
  running.shift()?.fail(new FsError(Errno.EIO, 'the device failed'));
  await expect(waiting).rejects.toMatchObject({ code: 'EIO' });
  expect(lines).toEqual(['commit failed: EIO: the device failed']);
  await settle();
  clock.advance(5_000);
  expect(state.begun).toBe(2);
  await finish();
  expect(state.durable).toBe(1);
});

test('stopping commits what is left', async () => {
  const { state, apply, finish, policy } = policyWith();
  apply();
  const stopped = policy.stop();
  expect(state.begun).toBe(1);
  await finish();
  await stopped;
  expect(state.durable).toBe(1);
});
