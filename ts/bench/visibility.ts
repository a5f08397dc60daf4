// SPDX-License-Identifier: GPL-2.0-or-later
// Runs visibility-loops and shows what it measured.

import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { CliError, Exit } from '../cli/exit.ts';

export interface VisibilitySettings {
  readonly a: string;
  readonly b: string;
  readonly rounds: number;
  /** Rounds before those that are timed. */
  readonly warmUp: number;
  readonly seconds: number;
}

/** Microseconds. */
export interface Times {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface HandOver {
  readonly seconds: number;
  readonly handovers: number;
  readonly perSecond: number;
  /** Of A and of B. */
  readonly operations: readonly [number, number];
  /** Part of all operations that the slower side made. */
  readonly slowerShare: number;
  /** The longest wait of A and of B, microseconds. */
  readonly longest: readonly [number, number];
}

/** What visibility-loops prints. */
export interface Visibility {
  readonly rounds: number;
  readonly close: Times;
  /** By way of looking; `stale` counts looks that did not see the change. */
  readonly looks: Readonly<Record<string, Times & { readonly stale: number }>>;
  readonly handover: { readonly file: HandOver; readonly names: HandOver };
}

/** Where cargo puts it; `npm run acceptance` builds it. */
async function loops(): Promise<string> {
  const tree = join(import.meta.dirname, '..', '..');
  const target = process.env['CARGO_TARGET_DIR'] ?? join(tree, 'target');
  const program = join(target, 'release', 'visibility-loops');
  try {
    await access(program);
  } catch {
    throw new CliError(`${program} is missing: cargo build --release -p crfs-testkit --bins`, Exit.failed);
  }
  return program;
}

/** @throws CliError - the loops failed, with their own words. */
export async function measureVisibility(settings: VisibilitySettings): Promise<Visibility> {
  const { rounds, warmUp, seconds } = settings;
  const numbers = ['--rounds', rounds, '--warm-up', warmUp, '--seconds', seconds].map(String);
  const child = spawn(await loops(), [settings.a, settings.b, ...numbers], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const code = await new Promise<number | null>((done, reject) => {
    child.once('error', reject);
    child.once('close', done);
  });
  if (code !== 0) throw new CliError(errors.trim() || `visibility-loops ended with ${code}`, Exit.failed);
  return JSON.parse(output) as Visibility;
}

function row(cells: readonly (string | number)[]): string {
  const [first, ...others] = cells.map((cell) => (typeof cell === 'number' ? cell.toFixed(1) : cell));
  return `${first!.padEnd(22)}${others.map((cell) => cell.padStart(12)).join('')}\n`;
}

/** For people. */
export function visibilityTable(figures: Visibility): string {
  let text = row(['microseconds', 'p50', 'p99', 'max', 'stale']);
  for (const [name, times] of Object.entries(figures.looks)) {
    text += row([name, times.p50, times.p99, times.max, String(times.stale)]);
  }
  text += row(['close on A', figures.close.p50, figures.close.p99, figures.close.max, '']);
  text += `\n${row(['handed over', 'per second', 'A', 'B', 'longest ms'])}`;
  for (const [name, handed] of Object.entries(figures.handover)) {
    const [a, b] = handed.operations;
    const longest = (Math.max(...handed.longest) / 1000).toFixed(1);
    text += row([name, handed.perSecond, String(a), String(b), longest]);
  }
  return text;
}
