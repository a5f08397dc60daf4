// SPDX-License-Identifier: GPL-2.0-or-later
// Whom ESTALE is answered: each thread once in a system call.

import { beforeEach, describe, expect, it } from 'vitest';
import { Opcode } from '../../../ts/fuse/abi.ts';
import { STALE_RETRY_SECONDS } from '../../../ts/fuse/limits.ts';
import { ParkedRequests } from '../../../ts/fuse/parked_requests.ts';
import { RequestView } from '../../../ts/fuse/request.ts';
import {
  type CallOf,
  type IsIn,
  type NamesOf,
  type RenamedName,
  StaleRetries,
} from '../../../ts/fuse/stale_retries.ts';
import { Errno } from '../../../ts/util/errno.ts';

let now: number;
let retries: StaleRetries;
let call: ReturnType<CallOf>;
let names: ReturnType<NamesOf>;
let isRunning: boolean;
let unique = 0;

const OTHER = { dir: 2, kernelDir: 2, name: Buffer.from('other') };
/** One name of a rename; null for a directory that cannot be told. */
const named = (name: string, dir: number | null = 1): RenamedName => {
  return { name: Buffer.from(name), directory: () => dir, directoryName: null };
};
const isIn: IsIn = ({ dir }, { directory }) => (directory() === null ? null : dir === directory());

beforeEach(() => {
  now = 100;
  call = { text: '1', kind: 'other' };
  names = null;
  isRunning = false;
  retries = new StaleRetries(
    () => call,
    () => names,
    () => isRunning,
    () => now,
  );
});

function request(opcode: number, node = 1, pid = 7): RequestView {
  unique += 2;
  const words = new Uint32Array(20);
  words.set([80, opcode, unique, 0, node, 0, 0, 0, pid]);
  const view = new RequestView(new Uint8Array(words.buffer));
  view.moveTo(new Uint32Array([0, opcode, 80, 0, 0, 0, 0, 0]), 0);
  return view;
}

function errnoFor(opcode: number, pid = 7): number {
  const asked = request(opcode, 1, pid);
  const errno = retries.errnoFor(asked);
  retries.answered(asked);
  return errno;
}

describe('stale retries', () => {
  it('answer each thread ESTALE once in a call that walks on', () => {
    expect([errnoFor(Opcode.OPEN), errnoFor(Opcode.OPEN, 8)]).toEqual([Errno.ESTALE, Errno.ESTALE]);
    for (const opcode of [Opcode.LOOKUP, Opcode.GETATTR, Opcode.READLINK]) retries.answered(request(opcode));
    expect(errnoFor(Opcode.OPEN)).toBe(Errno.ENOENT);
    // Which ended that call.
    expect(errnoFor(Opcode.OPEN)).toBe(Errno.ESTALE);
  });

  it('begin anew with the next call, of which an answer or the time tells', () => {
    expect(errnoFor(Opcode.LOOKUP)).toBe(Errno.ESTALE);
    retries.answered(request(Opcode.RENAME2));
    expect(errnoFor(Opcode.LOOKUP)).toBe(Errno.ESTALE);
    now += STALE_RETRY_SECONDS + 1;
    expect(errnoFor(Opcode.LOOKUP)).toBe(Errno.ESTALE);
  });

  it('leave lookups alone that the call would hand on', () => {
    call = { text: '1', kind: 'make' };
    const parked = new ParkedRequests();
    parked.add(request(Opcode.LOOKUP, 5), 80);
    expect(retries.take(parked, 5)).toEqual([]);
    expect([errnoFor(Opcode.LOOKUP), errnoFor(Opcode.MKDIR)]).toEqual([Errno.ENOENT, Errno.ESTALE]);
  });

  it('tell calls from each other as far as they can', () => {
    expect([errnoFor(Opcode.LOOKUP), errnoFor(Opcode.LOOKUP)]).toEqual([Errno.ESTALE, Errno.ENOENT]);
    call = { text: '2', kind: 'other' };
    expect(errnoFor(Opcode.LOOKUP)).toBe(Errno.ESTALE);
    call = null;
    expect(errnoFor(Opcode.LOOKUP)).toBe(Errno.ENOENT);
  });

  it('take what holds a directory and was not answered so before', () => {
    const parked = new ParkedRequests();
    const copies = [
      request(Opcode.RENAME2, 5),
      request(Opcode.CREATE, 5, 8),
      request(Opcode.CREATE, 6, 9),
    ].map((view) => parked.add(view, 80)!);
    expect(errnoFor(Opcode.LOOKUP, 8)).toBe(Errno.ESTALE);
    expect(retries.take(parked, 5)).toEqual([copies[0]]);
    expect(parked.size).toBe(2);
  });

  it('cannot tell a rename before its thread waits', () => {
    call = null;
    expect(retries.ofRename(request(Opcode.LOOKUP), OTHER, isIn).answer).toBe('found');
    isRunning = true;
    expect(retries.ofRename(request(Opcode.LOOKUP), OTHER, isIn).answer).toBe('unknown');
    call = { text: '1', kind: 'rename' };
    expect([1, 2].map(() => retries.ofRename(request(Opcode.LOOKUP), OTHER, isIn).answer)).toEqual([
      'again',
      'absent',
    ]);
  });

  it('looks once more at a thread that has gone to sleep meanwhile', () => {
    const seen: ReturnType<CallOf>[] = [null, { text: '1', kind: 'rename' }, { text: '1', kind: 'rename' }];
    const late = new StaleRetries(
      () => seen.shift() ?? null,
      () => null,
      () => false,
      () => now,
    );
    expect(late.ofRename(request(Opcode.LOOKUP), OTHER, isIn).answer).toBe('again');
  });

  it('has a rename that began anew in an unknown call decided by the rename itself', () => {
    call = null;
    expect(errnoFor(Opcode.RENAME2)).toBe(Errno.ESTALE);
    call = { text: '1', kind: 'rename' };
    expect(
      [OTHER, null].map((other) => retries.ofRename(request(Opcode.LOOKUP), other, isIn).answer),
    ).toEqual(['absent', 'found']);
  });

  /** What a lookup of `asked` in directory 1 is answered in a rename whose thread found `other` in directory 2 before. */
  const answered = (
    source: ReturnType<typeof named>,
    target: ReturnType<typeof named>,
    other: string,
  ): unknown => {
    call = { text: '1', kind: 'rename' };
    names = { source, target };
    const asked = request(Opcode.LOOKUP);
    asked.bytes.set(Buffer.from('asked'), 60);
    asked.nameStart = 60;
    asked.nameLength = 5;
    asked.node = 1;
    const { answer, isCertain } = retries.ofRename(
      asked,
      { dir: 2, kernelDir: 2, name: Buffer.from(other) },
      isIn,
    );
    return [answer, isCertain];
  };

  it('know by the names of the call which lookup can be torn', () => {
    // The source of a rename whose thread found the same before, in another call.
    expect(answered(named('asked'), named('third'), 'other')).toEqual(['found', false]);
    expect([1, 2].map(() => answered(named('other', 2), named('asked'), 'other'))).toEqual([
      ['again', true],
      ['absent', true],
    ]);
    // What was found before is not the source of this call: the kernel knew that.
    expect(answered(named('third'), named('asked'), 'other')).toEqual(['found', false]);
  });

  it('know it by the directories where both names are the same', () => {
    expect(answered(named('asked', 1), named('asked', 2), 'asked')).toEqual(['found', false]);
    expect([1, 2].map(() => answered(named('asked', 2), named('asked', 1), 'asked'))).toEqual([
      ['again', true],
      ['absent', true],
    ]);
    // What was found before was in a third directory.
    expect(answered(named('asked', 3), named('asked', 1), 'asked')).toEqual(['found', false]);
  });

  it('decide by the rename itself where the directories cannot be told', () => {
    expect([1, 2].map(() => answered(named('asked', null), named('asked', null), 'asked'))).toEqual([
      ['again', false],
      ['absent', false],
    ]);
    // One of them is enough.
    expect(answered(named('asked', null), named('asked', 1), 'asked')).toEqual(['found', false]);
  });
});
