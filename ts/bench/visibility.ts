// SPDX-License-Identifier: GPL-2.0-or-later
// Runs visibility-loops and shows what it measured.

import { loopsProgram, runLoops } from './loops.ts';

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

/** @throws CliError - the loops failed, with their own words. */
export async function measureVisibility(settings: VisibilitySettings): Promise<Visibility> {
  const { rounds, warmUp, seconds } = settings;
  const numbers = ['--rounds', rounds, '--warm-up', warmUp, '--seconds', seconds].map(String);
  const program = await loopsProgram('visibility-loops');
  return JSON.parse(await runLoops(program, [settings.a, settings.b, ...numbers])) as Visibility;
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
