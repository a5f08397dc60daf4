// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers that the Rust and the TypeScript half of the channel must share.

import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import * as abi from '../../../ts/fuse/abi.ts';
import { LARGE_REPLY_BYTES, PARKED_MAX, REQUEST_SLOT_BYTES } from '../../../ts/fuse/limits.ts';
import { META_WORDS } from '../../../ts/fuse/request.ts';

const source = (file: string): Promise<string> => readFile(`crates/crfs-fuse/src/${file}.rs`, 'utf8');

describe('both halves of the channel', () => {
  it('number requests alike', async () => {
    const text = await source('abi');
    const opcodes = /pub mod op \{([^}]*)\}/.exec(text)?.[1] ?? '';
    const rust = [...opcodes.matchAll(/const (\w+): u32 = (\d+);/g)];
    expect(rust.length).toBeGreaterThan(40);
    for (const [, name, number] of rust) {
      expect([name, abi.Opcode[name as keyof typeof abi.Opcode]]).toEqual([name, Number(number)]);
    }
  });

  it('share sizes', async () => {
    expect(await source('abi')).toContain('pub const SLOT_BYTES: usize = MAX_WRITE_BYTES + 4096;');
    expect(await source('abi')).toContain('pub const MAX_WRITE_BYTES: usize = 1 << 20;');
    expect([REQUEST_SLOT_BYTES, LARGE_REPLY_BYTES]).toEqual([(1 << 20) + 4096, 1 << 20]);
    expect(await source('channel')).toContain(`pub const META_WORDS: usize = ${META_WORDS};`);
    const background = /MAX_BACKGROUND: u16 = (\d+)/.exec(await source('init'))?.[1];
    expect(PARKED_MAX).toBeLessThan(Number(background));
  });
});
