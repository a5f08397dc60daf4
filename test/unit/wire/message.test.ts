// SPDX-License-Identifier: GPL-2.0-or-later
//
// The list of messages and docs/protocol.md say the same.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { BODY_BYTES_MAX, CONTROL_BYTES_MAX, PAGE_BYTES_MAX } from '../../../ts/util/limits.ts';
import { KINDS_END, type MessageName, Mode, messageName, messages } from '../../../ts/wire/message.ts';

const document = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8');

/** The rows of the first table after `heading`, as cells. */
function tableAfter(heading: string): string[][] {
  const lines = document.slice(document.indexOf(`\n${heading}\n`)).split('\n');
  const first = lines.findIndex((line) => line.startsWith('|'));
  const rows: string[][] = [];
  for (let at = first; lines[at]?.startsWith('|'); at++) {
    rows.push(
      lines[at]!.split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  }
  return rows.slice(2);
}

test('every message of the list stands in the document word for word, and no other', () => {
  const listed = (Object.keys(messages) as MessageName[]).map((name) => {
    const { kind, doc, errors } = messages[name];
    const errorCell = errors.length === 0 ? '-' : errors.join(', ');
    return [String(kind), doc.name, doc.sender, doc.fields, doc.body, doc.reply, errorCell];
  });
  expect(listed).toEqual(tableAfter('## Messages'));
});

test('kinds are unique and lead back to their names', () => {
  for (const name of Object.keys(messages) as MessageName[]) {
    expect(messageName(messages[name].kind)).toBe(name);
    expect(messages[name].kind).toBeLessThan(KINDS_END);
    expect(messages[name].senders.map((side) => side[0]).join(', ')).toBe(messages[name].doc.sender);
  }
  expect(messageName(0)).toBe(undefined);
});

test('limits and modes that the document names', () => {
  expect(document).toContain('at most 1 MiB');
  expect(CONTROL_BYTES_MAX).toBe(1 << 20);
  expect(document).toContain('at most 16 MiB');
  expect(BODY_BYTES_MAX).toBe(16 << 20);
  expect(document).toContain('at most 256 KiB');
  expect(PAGE_BYTES_MAX).toBe(256 << 10);
  expect(document).toContain('Modes: 1 `read`, 2 `merge` (reserved), 3 `write`; 0 is "no grant".');
  expect(Mode).toEqual({ none: 0, read: 1, merge: 2, write: 3 });
});
