// SPDX-License-Identifier: GPL-2.0-or-later
//
// Change records: what the log writes the reader reads, the engine's vectors come out byte for byte, and what breaks
// the form is refused.

import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChangeKind, ChangeLog, ChangeReader, FieldMask, InodeFields } from '../../../ts/item/change.ts';

type Vector = Readonly<Record<string, string | number | [number, number]>>;

const vectors = JSON.parse(
  readFileSync(new URL('../../vectors/changes.json', import.meta.url), 'utf8'),
) as Vector[];

function bytesOf(vector: Vector, field: string): Uint8Array {
  return Buffer.from((vector[field] ?? '') as string, 'hex');
}

const FIELDS = ['mode', 'uid', 'gid', 'size', 'atime', 'mtime', 'ctime', 'inodeFlags'] as const;

function fieldsOf(vector: Vector): InodeFields {
  const fields = new InodeFields();
  for (const name of FIELDS) {
    const value = vector[name];
    if (value === undefined) continue;
    fields.mask |= FieldMask[name];
    if (name === 'atime' || name === 'mtime' || name === 'ctime') {
      [fields[`${name}Sec`], fields[`${name}Nsec`]] = value as [number, number];
    } else {
      fields[name] = value as number;
    }
  }
  return fields;
}

/** Writes the change that a vector describes. */
function encode(log: ChangeLog, vector: Vector): void {
  const n = (field: string): number => vector[field] as number;
  const [sec, nsec] = (vector['time'] ?? [0, 0]) as [number, number];
  const tree = n('tree');
  const ino = n('ino');
  const name = bytesOf(vector, 'name');
  switch (vector['kind']) {
    case 'newInode':
      log.newInode(tree, ino, n('mode'), n('uid'), n('gid'), n('rdev'), sec, nsec, bytesOf(vector, 'target'));
      break;
    case 'setFields':
      log.setFields(tree, ino, fieldsOf(vector));
      break;
    case 'addName':
      log.addName(tree, n('dir'), n('index'), ino, sec, nsec, name);
      break;
    case 'removeName':
      log.removeName(tree, n('dir'), n('index'), ino, sec, nsec, name);
      break;
    case 'rename':
      log.rename(
        tree,
        ino,
        sec,
        nsec,
        n('sourceDir'),
        n('sourceIndex'),
        n('targetDir'),
        n('targetIndex'),
        bytesOf(vector, 'sourceName'),
        bytesOf(vector, 'targetName'),
      );
      break;
    case 'setXattr':
      log.setXattr(tree, ino, sec, nsec, n('flags'), name, bytesOf(vector, 'value'));
      break;
    case 'removeXattr':
      log.removeXattr(tree, ino, sec, nsec, name);
      break;
    case 'putData':
      log.putData(tree, ino, n('offset'), n('length'), n('newSize'), sec, nsec);
      break;
    case 'cut':
      log.cut(tree, ino, n('offset'), n('length'), sec, nsec);
      break;
    case 'preallocate':
      log.preallocate(tree, ino, n('offset'), n('length'), n('newSize'), sec, nsec);
      break;
    case 'dropInode':
      log.dropInode(tree, ino);
      break;
    default:
      throw new Error(`a vector of unknown kind ${String(vector['kind'])}`);
  }
}

/** The reserved kind, which clients never send. */
const sendable = vectors.filter((vector) => vector['kind'] !== 'clone');

function reader(bytes: Uint8Array): ChangeReader {
  return new ChangeReader(bytes);
}

describe('change records', () => {
  test('equal the vectors of the engine', () => {
    expect(sendable.length).toBeGreaterThan(10);
    for (const vector of sendable) {
      const log = new ChangeLog(16);
      encode(log, vector);
      expect(Buffer.from(log.bytes.subarray(0, log.length)).toString('hex')).toBe(vector['record']);
    }
  });

  test('are read back', () => {
    for (const vector of sendable) {
      const change = reader(bytesOf(vector, 'record'));
      expect(change.next(), change.error ?? '').toBe(true);
      expect(change.tree).toBe(vector['tree']);
      expect(change.ino).toBe(vector['ino']);
      const again = new ChangeLog(16);
      again.copyRecord(change.bytes, change.at, change.size);
      expect(Buffer.from(again.bytes.subarray(0, again.length)).toString('hex')).toBe(vector['record']);
      expect(change.next()).toBe(false);
      expect(change.error).toBe(null);
    }
  });

  test('follow one another in a log, and the last can be taken back', () => {
    const log = new ChangeLog(16);
    for (const vector of sendable) encode(log, vector);
    const end = log.length;
    log.dropInode(5, 300);
    expect(log.endsAt(end)).toBe(true);
    log.cutBack(end);
    const change = reader(log.bytes.subarray(0, log.length));
    let count = 0;
    while (change.next()) count++;
    expect(change.error).toBe(null);
    expect(count).toBe(sendable.length);
    expect(log.count).toBe(sendable.length);
  });

  test('with any damage are read or refused, never misread past their end', { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...sendable),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
        fc.nat({ max: 40 }),
        (vector, damage, cut) => {
          const bytes = Buffer.from(bytesOf(vector, 'record'));
          for (const [at, value] of damage) bytes[at % bytes.length] = value;
          const change = reader(bytes.subarray(0, Math.max(0, bytes.length - cut)));
          while (change.next()) {
            expect(change.nameStart + change.nameLength).toBeLessThanOrEqual(bytes.length + 512);
            expect(change.kind).toBeLessThanOrEqual(ChangeKind.dropInode);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('of bad form are refused with a line', () => {
    const bad = (make: (log: ChangeLog) => void, change: (bytes: Uint8Array) => void): string | null => {
      const log = new ChangeLog(16);
      make(log);
      const bytes = log.bytes.slice(0, log.length);
      change(bytes);
      const one = reader(bytes);
      expect(one.next()).toBe(false);
      return one.error;
    };
    const keep = (): void => {};
    const name = (text: string) => (log: ChangeLog) => log.addName(5, 256, 2, 257, 1, 1, Buffer.from(text));
    expect(bad(name('a/b'), keep)).toContain('slash');
    expect(bad(name('..'), keep)).toContain('..');
    expect(bad(name(''), keep)).toContain('length');
    expect(bad((log) => log.putData(5, 257, 100, 4096, 0, 1, 1), keep)).toContain('sector');
    expect(bad((log) => log.cut(5, 257, 0, 100, 1, 1), keep)).toContain('sector');
    expect(bad((log) => log.addName(5, 256, 2, 257, 1, 1e9, Buffer.from('a')), keep)).toContain(
      'nanoseconds',
    );
    const drop = (log: ChangeLog): void => log.dropInode(5, 257);
    expect(bad(drop, (bytes) => bytes.fill(99, 4, 5))).toContain('unknown kind');
    expect(bad(drop, (bytes) => bytes.fill(1, 5, 6))).toContain('flags');
    expect(bad(drop, (bytes) => bytes.fill(255, 16, 24))).toContain('2^53');
  });
});
