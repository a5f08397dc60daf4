// SPDX-License-Identifier: GPL-2.0-or-later
//
// The grant table, case by case. grant_table.property.test.ts drives it at random.

import { expect, test } from 'vitest';
import { GrantTable, type Output } from '../../../ts/coherency/grant_table.ts';
import type { Operation } from '../../../ts/coherency/operation.ts';
import { PATIENT_MAX } from '../../../ts/util/limits.ts';
import { inodeRange, type TreeRange } from '../../../ts/util/range.ts';
import { type GrantRange, Mode, type ModeChange } from '../../../ts/wire/message.ts';

const { none, read, write } = Mode;

function inodes(first: number, end: number): TreeRange {
  return { tree: 5, start: inodeRange(5, first).start, end: inodeRange(5, end).start };
}

function want(first: number, end: number, mode: Mode): GrantRange {
  return { ...inodes(first, end), mode };
}

function change(first: number, end: number, oldMode: Mode, newMode: Mode): ModeChange {
  return { ...inodes(first, end), oldMode, newMode };
}

function tableWith(sessions: number): GrantTable {
  const table = new GrantTable();
  for (let session = 1; session <= sessions; session++) table.openSession(session);
  return table;
}

/** Takes the outputs, announces what was granted; says them in short. */
function drain(table: GrantTable): string[] {
  const said: string[] = [];
  for (;;) {
    table.verify();
    const outputs = table.take();
    if (outputs.length === 0) return said;
    for (const output of outputs) {
      said.push(short(output));
      if (output.kind === 'granted') table.announce(output.operation);
    }
  }
}

function short(output: Output): string {
  if (output.kind === 'granted') {
    const grants = output.operation.grants.map((grant) => `${inoRange(grant)}=${grant.before}>${grant.mode}`);
    return `${output.operation.session} granted ${grants.join(' ')}`.trim();
  }
  if (output.kind === 'keeps') return `${output.session} keeps`;
  const ranges = output.ranges.map((range) => `${inoRange(range)}=${range.oldMode}>${range.newMode}`);
  return `${output.session} revoke ${ranges.join(' ')}`;
}

function inoRange(range: TreeRange): string {
  return `${range.start.objectid}..${range.end.objectid}`;
}

test('free ranges are granted at once and together; what is held already is not granted again', () => {
  const table = tableWith(1);
  table.acquire(1, [want(400, 401, write), want(300, 310, read)]);
  expect(drain(table)).toEqual(['1 granted 300..310=0>1 400..401=0>3']);
  table.acquire(1, [want(305, 315, write), want(400, 401, read)]);
  expect(drain(table)).toEqual(['1 granted 305..310=1>3 310..315=0>3']);
  expect(table.heldBy(1)).toBe(3);
});

test('readers share; a writer asks back only what it wants of them', () => {
  const table = tableWith(3);
  table.acquire(1, [want(300, 400, read)]);
  table.acquire(2, [want(350, 450, read)]);
  drain(table);
  table.acquire(3, [want(360, 361, write)]);
  expect(drain(table)).toEqual(['1 revoke 360..361=1>0', '2 revoke 360..361=1>0']);
  table.release(1, [change(360, 361, read, none)], 0, 0);
  expect(drain(table)).toEqual([]);
  table.release(2, [change(360, 361, read, none)], 0, 0);
  expect(drain(table)).toEqual(['3 granted 360..361=0>3']);
  expect(table.covers(1, inodes(300, 360), read)).toBe(true);
});

test('a reader leaves the writer its read', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 400, write)]);
  drain(table);
  table.acquire(2, [want(310, 320, read)]);
  expect(drain(table)).toEqual(['1 revoke 310..320=3>1']);
  table.release(1, [change(310, 320, write, read)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 310..320=0>1']);
  expect(table.covers(1, inodes(300, 400), read)).toBe(true);
  expect(table.covers(1, inodes(310, 311), write)).toBe(false);
});

test('a release counts after the batch that it names, and an acquire that follows it waits too', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, read)]);
  drain(table);
  table.release(1, [change(300, 301, write, none)], 2, 0);
  table.acquire(1, [want(300, 301, write)]);
  table.applied(1, 1, false);
  expect(drain(table)).toEqual([]);
  table.applied(1, 2, false);
  expect(drain(table)).toEqual(['2 granted 300..301=0>1', '2 revoke 300..301=1>0']);
  table.release(2, [change(300, 301, read, none)], 0, 0);
  expect(drain(table)).toEqual(['1 granted 300..301=0>3']);
});

test('a release sent before a refusal was known is void, and counts when it comes again', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, read)]);
  drain(table);
  table.release(1, [change(300, 301, write, none)], 2, 0);
  table.applied(1, 1, true);
  table.applied(1, 2, false);
  expect(drain(table)).toEqual([]);
  expect(table.covers(1, inodes(300, 301), write)).toBe(true);
  table.release(1, [change(300, 301, write, none)], 3, 1);
  table.applied(1, 3, false);
  expect(drain(table)).toEqual(['2 granted 300..301=0>1']);
});

test('a refusal behind the batch that a release names leaves it as it is', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, read)]);
  drain(table);
  table.applied(1, 1, false);
  table.applied(1, 2, true);
  table.release(1, [change(300, 301, write, none)], 1, 0);
  expect(drain(table)).toEqual(['2 granted 300..301=0>1']);
});

test('waiters are served in order of arrival; a later one does not overtake', () => {
  const table = tableWith(4);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, write), want(500, 501, write)]);
  table.acquire(3, [want(500, 501, write)]);
  table.acquire(4, [want(600, 601, write)]);
  expect(drain(table)).toEqual(['4 granted 600..601=0>3', '1 revoke 300..301=3>0']);
  table.release(1, [change(300, 301, write, none)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 300..301=0>3 500..501=0>3', '2 revoke 500..501=3>0']);
  table.release(2, [change(500, 501, write, none)], 0, 0);
  expect(drain(table)).toEqual(['3 granted 500..501=0>3']);
});

test('a want on what is being revoked waits behind the one who asked for it', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, write)]);
  expect(drain(table)).toEqual(['1 revoke 300..301=3>0']);
  table.acquire(1, [want(300, 301, read), want(400, 401, read)]);
  expect(drain(table)).toEqual([]);
  table.release(1, [change(300, 301, write, none)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 300..301=0>3', '2 revoke 300..301=3>1']);
  table.release(2, [change(300, 301, write, read)], 0, 0);
  expect(drain(table)).toEqual(['1 granted 300..301=0>1 400..401=0>1']);
});

test('two upgrades of one range: one goes first, the other gives way', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, read)]);
  table.acquire(2, [want(300, 301, read)]);
  drain(table);
  table.acquire(1, [want(300, 301, write)]);
  table.acquire(2, [want(300, 301, write)]);
  expect(drain(table)).toEqual(['2 revoke 300..301=1>0']);
  table.release(2, [change(300, 301, read, none)], 0, 0);
  expect(drain(table)).toEqual(['1 granted 300..301=1>3', '1 revoke 300..301=3>0']);
  table.release(1, [change(300, 301, write, none)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 300..301=0>3']);
});

test('nothing of a reply is revoked before it was sent', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 310, write)]);
  const [granted] = table.take();
  table.acquire(2, [want(305, 306, read)]);
  expect(table.take()).toEqual([]);
  table.announce((granted as { operation: Operation }).operation);
  expect(drain(table)).toEqual(['1 revoke 305..306=3>1']);
});

test('a stronger revoke follows a weaker one that is still out', () => {
  const table = tableWith(3);
  table.acquire(1, [want(300, 310, write)]);
  drain(table);
  table.acquire(2, [want(300, 302, read)]);
  expect(drain(table)).toEqual(['1 revoke 300..302=3>1']);
  table.acquire(3, [want(300, 304, write)]);
  expect(drain(table)).toEqual([]);
  table.release(1, [change(300, 302, write, read)], 0, 0);
  expect(drain(table)).toEqual([
    '2 granted 300..302=0>1',
    '1 revoke 300..302=1>0 302..304=3>0',
    '2 revoke 300..302=1>0',
  ]);
});

test('a release that crossed a newer grant does not take it away', () => {
  const table = tableWith(1);
  table.acquire(1, [want(300, 301, read)]);
  drain(table);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.release(1, [change(300, 301, read, none)], 0, 0);
  expect(table.covers(1, inodes(300, 301), write)).toBe(true);
  table.release(1, [change(299, 302, write, read)], 0, 0);
  expect(table.covers(1, inodes(300, 301), read)).toBe(true);
  expect(table.covers(1, inodes(300, 301), write)).toBe(false);
});

test('the end of a session frees what it held and forgets what it waited for', () => {
  const table = tableWith(3);
  table.acquire(1, [want(300, 310, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, write), want(700, 701, write)]);
  table.acquire(3, [want(700, 701, write)]);
  expect(drain(table)).toEqual(['1 revoke 300..301=3>0']);
  table.endSession(2);
  expect(drain(table)).toEqual(['3 granted 700..701=0>3']);
  table.acquire(3, [want(305, 306, read)]);
  table.endSession(1);
  expect(drain(table)).toEqual(['3 granted 305..306=0>1']);
  expect(table.waiting).toBe(0);
});

test('widening stops at what others hold or want and at what is held already', () => {
  const table = tableWith(3);
  table.acquire(2, [want(350, 351, write)]);
  table.acquire(2, [want(340, 341, read)]);
  drain(table);
  const operation = table.acquire(1, [want(300, 301, read)]);
  expect(table.take()).toHaveLength(1);
  expect(table.extend(operation, want(301, 400, read))).toEqual(inodes(350, 351).start);
  expect(table.extend(operation, want(350, 400, read))).toEqual(inodes(350, 351).start);
  table.trim(operation, inodes(320, 400));
  expect(operation.grants.map(inoRange)).toEqual(['300..301', '301..320']);
  table.announce(operation);
  expect(table.heldBy(1)).toBe(1);

  table.acquire(3, [want(310, 311, write)]);
  expect(drain(table)).toEqual(['1 revoke 310..311=1>0']);
  const wider = table.acquire(2, [want(305, 306, read)]);
  expect(table.take()).toHaveLength(1);
  expect(table.extend(wider, want(306, 330, read))).toEqual(inodes(310, 311).start);
  table.abandon(wider);
  expect(drain(table)).toEqual([]);
  expect(table.covers(2, inodes(305, 306), read)).toBe(false);
});

test('trimming wakes who came to want it meanwhile', () => {
  const table = tableWith(2);
  const operation = table.acquire(1, [want(300, 301, write)]);
  table.take();
  table.extend(operation, want(301, 400, write));
  table.acquire(2, [want(350, 351, read)]);
  expect(table.take()).toEqual([]);
  table.trim(operation, inodes(320, 400));
  expect(drain(table)).toEqual(['2 granted 350..351=0>1']);
  table.announce(operation);
  expect(drain(table)).toEqual([]);
});

test('overlapping wants count in their greater mode', () => {
  const table = tableWith(1);
  table.acquire(1, [want(300, 310, read), want(305, 306, write), want(302, 307, read)]);
  expect(drain(table)).toEqual(['1 granted 300..305=0>1 305..306=0>3 306..310=0>1']);
});

test('a session that holds too many ranges is asked for some, going round', () => {
  const table = tableWith(1);
  table.acquire(1, [want(300, 301, read), want(310, 311, read), want(320, 321, write)]);
  drain(table);
  table.shed(1, 2);
  expect(drain(table)).toEqual(['1 revoke 300..301=1>0 310..311=1>0']);
  table.shed(1, 2);
  expect(drain(table)).toEqual(['1 revoke 320..321=3>0']);
});

test('packed write grants are made anew only after a change', () => {
  const table = tableWith(1);
  table.acquire(1, [want(300, 301, write), want(310, 311, read)]);
  drain(table);
  const packed = table.packedWriteGrants(1);
  expect(packed.length).toBe(48);
  expect(table.packedWriteGrants(1)).toBe(packed);
  table.acquire(1, [want(310, 311, write)]);
  drain(table);
  expect(table.packedWriteGrants(1).length).toBe(96);
});

test('a reply does not raise what another reply that is being made brings', () => {
  const table = tableWith(1);
  const first = table.acquire(1, [want(300, 301, read)]);
  const second = table.acquire(1, [want(310, 311, read)]);
  expect(table.take().map(short)).toEqual(['1 granted 300..301=0>1', '1 granted 310..311=0>1']);
  // The items of 300 are on their way with the first reply: the second one would overtake them.
  table.raise(second, want(295, 320, write), 8);
  expect(table.covers(1, inodes(300, 301), write)).toBe(false);
  table.announce(first);
  table.raise(second, want(295, 320, write), 8);
  expect(table.covers(1, inodes(300, 301), write)).toBe(true);
});

test('nothing is revoked of a session that keeps until it is done', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, write)], true);
  expect(drain(table)).toEqual(['1 keeps', '1 granted 300..301=0>3']);
  table.acquire(2, [want(300, 301, read)]);
  expect(drain(table)).toEqual([]);
  // What it learnt leads on, over what another session holds.
  table.acquire(1, [want(300, 301, write), want(310, 311, write)], true);
  expect(drain(table)).toEqual(['1 granted 310..311=0>3']);
  table.done(1);
  expect(drain(table)).toEqual(['1 revoke 300..301=3>1']);
  table.release(1, [change(300, 301, write, read)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 300..301=0>1']);
});

test('a session that keeps is served before those that wait for what it keeps', () => {
  const table = tableWith(2);
  table.acquire(2, [want(310, 311, write)]);
  table.acquire(1, [want(300, 301, write)], true);
  drain(table);
  // Waits for 300, and would be served before anybody else who wants 310.
  table.acquire(2, [want(300, 301, write), want(310, 311, write)]);
  table.acquire(1, [want(300, 301, write), want(310, 311, write)], true);
  expect(drain(table)).toEqual(['2 revoke 310..311=3>0']);
  table.release(2, [change(310, 311, write, none)], 0, 0);
  expect(drain(table)).toEqual(['1 granted 310..311=0>3']);
  table.done(1);
  expect(drain(table)).toEqual(['1 revoke 300..301=3>0 310..311=3>0']);
});

test('one session keeps at a time, the next when it is done or over', () => {
  const table = tableWith(4);
  for (const session of [1, 2, 3, 4]) table.acquire(session, [want(300, 301, read)], true);
  expect(drain(table)).toEqual(['1 keeps', '1 granted 300..301=0>1']);
  table.done(3);
  expect(drain(table)).toEqual([]);
  table.done(1);
  expect(drain(table)).toEqual(['2 keeps', '2 granted 300..301=0>1']);
  table.endSession(3);
  table.endSession(2);
  expect(drain(table)).toEqual(['4 keeps', '4 granted 300..301=0>1']);
  table.endSession(4);
  table.acquire(1, [want(300, 301, write)], true);
  expect(drain(table)).toEqual(['1 keeps', '1 granted 300..301=1>3']);
});

test('who is patient asks nobody, holds nobody up, and is granted what others give back by themselves', () => {
  const table = tableWith(3);
  table.acquire(1, [want(300, 400, write)]);
  expect(drain(table)).toEqual(['1 granted 300..400=0>3']);
  table.acquire(2, [want(300, 302, read)], false, true);
  expect([drain(table), table.waiting, table.patient]).toEqual([[], 0, 1]);
  table.acquire(3, [want(302, 304, write)]);
  expect(drain(table)).toEqual(['1 revoke 302..304=3>0']);
  // A part of it does not do.
  table.release(1, [change(300, 301, write, read), change(302, 304, write, none)], 0, 0);
  expect(drain(table)).toEqual(['3 granted 302..304=0>3']);
  table.release(1, [change(301, 302, write, read)], 0, 0);
  expect([drain(table), table.patient]).toEqual([['2 granted 300..302=0>1'], 0]);
});

test('who is patient gives way to those who wait for what it wants', () => {
  const table = tableWith(3);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, read)], false, true);
  table.acquire(3, [want(300, 301, write)]);
  expect(drain(table)).toEqual(['1 revoke 300..301=3>0']);
  table.release(1, [change(300, 301, write, none)], 0, 0);
  expect(drain(table)).toEqual(['3 granted 300..301=0>3']);
  table.endSession(3);
  expect(drain(table)).toEqual(['2 granted 300..301=0>1']);
});

test('what a session wants in earnest hurries what it waited for patiently, before that', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 400, write)]);
  drain(table);
  table.acquire(2, [want(300, 303, read)], false, true);
  table.acquire(2, [want(301, 302, read), want(500, 501, read)]);
  expect([drain(table), table.patient, table.waiting]).toEqual([['1 revoke 300..303=3>1'], 0, 2]);
  table.release(1, [change(300, 303, write, read)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 300..303=0>1', '2 granted 500..501=0>1']);
});

test('patience ends with nothing when its session wants more, or is patient about too much', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 400, write)]);
  drain(table);
  table.acquire(2, [want(300, 302, read)], false, true);
  table.acquire(2, [want(301, 302, write)]);
  expect(drain(table)).toEqual(['2 granted', '1 revoke 301..302=3>0']);
  for (let number = 0; number <= PATIENT_MAX; number++)
    table.acquire(2, [want(310 + number, 311 + number, read)], false, true);
  expect([drain(table), table.patient]).toEqual([['2 granted'], PATIENT_MAX]);
  table.endSession(2);
  table.release(1, [change(300, 400, write, none)], 0, 0);
  expect([drain(table), table.patient]).toEqual([[], 0]);
});

test('patience that follows a release on the stream waits for its batch', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 301, write)]);
  drain(table);
  table.release(1, [change(300, 301, write, none)], 1, 0);
  table.acquire(1, [want(300, 301, read)], false, true);
  expect([drain(table), table.patient]).toEqual([[], 0]);
  table.applied(1, 1, false);
  expect(drain(table)).toEqual(['1 granted 300..301=0>1']);
});

test('patience that is hurried asks those who hold what it wants, wherever it is', () => {
  const table = tableWith(2);
  table.acquire(1, [want(300, 400, write)]);
  drain(table);
  table.acquire(2, [want(300, 301, read)], false, true);
  table.acquire(2, [want(310, 311, read)], false, true);
  table.hurry(2, 2);
  expect([drain(table), table.patient]).toEqual([['1 revoke 310..311=3>1'], 1]);
  table.release(1, [change(310, 311, write, read)], 0, 0);
  expect(drain(table)).toEqual(['2 granted 310..311=0>1']);
  // What was answered meanwhile, and what was never asked.
  table.hurry(2, 2);
  table.hurry(2, 77);
  expect([drain(table), table.patient]).toEqual([[], 1]);
  // Behind a release that waits for its batch.
  table.acquire(2, [want(500, 501, write)]);
  drain(table);
  table.release(2, [change(500, 501, write, none)], 1, 0);
  table.acquire(2, [want(320, 321, read)], false, true);
  table.hurry(2, 3);
  expect(drain(table)).toEqual([]);
  table.applied(2, 1, false);
  expect([drain(table), table.patient]).toEqual([['1 revoke 320..321=3>1'], 1]);
});

test('a release does not count for a grant that no reply has told yet', () => {
  const table = tableWith(1);
  table.acquire(1, [want(300, 310, read)]);
  drain(table);
  table.release(1, [change(300, 310, read, none)], 0, 0);
  table.acquire(1, [want(302, 304, read)]);
  const granted = table.take();
  // Once more, sent before the grant is known.
  table.release(1, [change(300, 310, read, none)], 0, 0);
  expect(table.heldBy(1)).toBe(1);
  for (const output of granted) if (output.kind === 'granted') table.announce(output.operation);
  table.release(1, [change(300, 310, read, none)], 0, 0);
  expect(table.heldBy(1)).toBe(0);
});
