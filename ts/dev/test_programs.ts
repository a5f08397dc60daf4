// SPDX-License-Identifier: GPL-2.0-or-later
// The Rust programs of crates/crfs-testkit that tests, demo and acceptance runs call: builds them, says where they are.
// They are written in Rust because they walk trees of a million files and must not be what is measured.

import { join, resolve } from 'node:path';
import { runShown } from './command.ts';

/** Builds the programs of crfs-testkit (release: they walk large trees). */
export async function buildTestPrograms(): Promise<void> {
  const code = await runShown(['cargo', 'build', '--release', '--locked', '-p', 'crfs-testkit', '--bins']);
  if (code !== 0) throw new Error('cargo could not build crates/crfs-testkit');
}

/** The path of one of them, for example `tree-manifest`. */
export function testProgram(name: string): string {
  return join(resolve(process.env['CARGO_TARGET_DIR'] ?? 'target'), 'release', name);
}
