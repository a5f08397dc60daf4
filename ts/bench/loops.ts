// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the programs that are timed (crates/crfs-testkit): in processes of their own, because a scripting runtime would be
// half of what is measured, and because one that called synchronously into a mount that hangs would hang with it.

import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { CliError, Exit } from '../cli/exit.ts';

/** Where cargo puts a program; `npm run acceptance` builds them. @throws CliError - it is not there. */
export async function loopsProgram(name: string): Promise<string> {
  const tree = join(import.meta.dirname, '..', '..');
  const target = process.env['CARGO_TARGET_DIR'] ?? join(tree, 'target');
  const program = join(target, 'release', name);
  try {
    await access(program);
  } catch {
    throw new CliError(`${program} is missing: cargo build --release -p crfs-testkit --bins`, Exit.failed);
  }
  return program;
}

export interface RunOptions {
  /** Kills the program; its reason is thrown. */
  readonly interrupt?: AbortSignal;
  /** In a session of its own: what a terminal sends to all of its processes (SIGINT) does not end it. */
  readonly apart?: boolean;
}

/**
 * Runs a program to its end and returns what it printed.
 *
 * @throws CliError - it failed, with its own words.
 */
export async function runLoops(
  program: string,
  argv: readonly string[],
  { interrupt, apart = false }: RunOptions = {},
): Promise<string> {
  interrupt?.throwIfAborted();
  const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'pipe'], detached: apart });
  const kill = (): void => {
    child.kill('SIGKILL');
  };
  interrupt?.addEventListener('abort', kill);
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  try {
    const how = await new Promise<number | string | null>((done, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => done(code ?? signal));
    });
    if (how === 0) return output;
    interrupt?.throwIfAborted();
    throw new CliError(errors.trim() || `${program} ended with ${how}`, Exit.failed);
  } finally {
    interrupt?.removeEventListener('abort', kill);
  }
}
