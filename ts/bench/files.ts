// SPDX-License-Identifier: GPL-2.0-or-later
// Measures what programs do with files all day, in any number of directories side by side: bench-loops, one process for each
// directory and phase.
//
// What disturbs the machine must hit all directories alike. So they take turns in every phase, and begin in another order in
// every repetition; a phase is over when what it has changed is written back.

import { CliError, Exit, messageOf } from '../cli/exit.ts';
import type { FilesSettings } from './files_settings.ts';
import { Interrupted } from './interrupt.ts';
import { runLoops } from './loops.ts';
import { type Ratio, ratioOf, type Spread, spreadOf } from './statistics.ts';
import type { TestDirectories } from './test_directories.ts';

/** In this order each finds what it works on. */
const PHASES = ['create', 'stat', 'open+read', 'readdir', 'rename', 'unlink', 'write', 'read'] as const;

/** What the phases measure, in the order of the table. */
const ROWS = {
  create: 'files/s',
  stat: 'files/s',
  'open+read': 'files/s',
  readdir: 'entries/s',
  'readdir+stat': 'entries/s',
  rename: 'files/s',
  unlink: 'files/s',
  write: 'MiB/s',
  'write+fsync': 'MiB/s',
  read: 'MiB/s',
  'read cold': 'MiB/s',
} as const;

type RowName = keyof typeof ROWS;
type Unit = (typeof ROWS)[RowName];

/** One repetition. */
export interface Sample {
  /** Files, entries or bytes, as the row's unit says. */
  readonly count: number;
  readonly microseconds: number;
}

/** One row in one directory. */
export interface DirectoryFigures {
  readonly name: string;
  /** In the row's unit, of all repetitions. */
  readonly rate: Spread;
  /** Rates divided by those of the base, above 1 where this one is faster; only if a base was chosen. */
  readonly ratio?: Ratio;
  /** In the order of the repetitions. */
  readonly samples: readonly Sample[];
}

export interface FilesRow {
  readonly row: RowName;
  readonly unit: Unit;
  /** In the order of the settings. */
  readonly directories: readonly DirectoryFigures[];
}

/** What `crfs-bench files --json` prints. */
export interface FilesFigures {
  readonly settings: FilesSettings;
  readonly rows: readonly FilesRow[];
}

/** By row and name of the directory. */
export type Samples = ReadonlyMap<RowName, ReadonlyMap<string, readonly Sample[]>>;

/** What bench-loops prints. */
type Printed = Partial<Record<RowName, { readonly count: number; readonly nanoseconds: number }>>;

export interface MeasureOptions {
  readonly interrupt: AbortSignal;
  /** Called before each step. @param done - steps that are over, of `total`. */
  readonly onStep: (done: number, total: number, label: string) => void;
}

function rateOf(unit: Unit, { count, microseconds }: Sample): number {
  return (unit === 'MiB/s' ? count / 1024 ** 2 : count) / (microseconds / 1e6);
}

/** `items`, beginning with another one for each `turn`. */
function rotated<T>(items: readonly T[], turn: number): T[] {
  const first = turn % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}

function loopsOptions(settings: FilesSettings): string[] {
  const numbers = {
    files: settings.files,
    directories: settings.subdirectories,
    bytes: settings.fileBytes,
    size: settings.streamBytes,
    block: settings.blockBytes,
  };
  const words = Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return settings.dropCaches ? [...words, '--drop-caches'] : words;
}

/**
 * Runs all phases in all directories, which are made.
 *
 * @param program - the path of bench-loops.
 * @throws CliError - a phase failed: the directory, the phase, the call and its errno. @throws Interrupted
 */
export async function measureFiles(
  program: string,
  settings: FilesSettings,
  tests: TestDirectories,
  { interrupt, onStep }: MeasureOptions,
): Promise<Samples> {
  const { directories, repetitions, warmUp } = settings;
  const samples = new Map<RowName, Map<string, Sample[]>>();
  const take = (name: string, printed: Printed): void => {
    for (const [row, { count, nanoseconds }] of Object.entries(printed) as [
      RowName,
      Required<Printed>[RowName],
    ][]) {
      const ofRow = samples.get(row) ?? new Map<string, Sample[]>();
      samples.set(row, ofRow);
      ofRow.set(name, [...(ofRow.get(name) ?? []), { count, microseconds: nanoseconds / 1_000 }]);
    }
  };
  const options = loopsOptions(settings);
  const total = (warmUp + repetitions) * PHASES.length * directories.length;
  let done = 0;
  for (let repetition = -warmUp; repetition < repetitions; repetition += 1) {
    const which = repetition < 0 ? 'warm-up' : `${repetition + 1} of ${repetitions}`;
    for (const phase of PHASES) {
      for (const { name } of rotated(directories, repetition + warmUp)) {
        onStep(done, total, `${phase} in ${name} (${which})`);
        const path = tests.pathOf(name);
        let output: string;
        try {
          output = await runLoops(program, [path, phase, ...options], { interrupt, apart: true });
        } catch (error) {
          if (!(error instanceof CliError)) throw error;
          throw new CliError(`${name} (${path}): ${phase}: ${messageOf(error)}`, error.exitCode);
        }
        if (repetition >= 0) take(name, JSON.parse(output) as Printed);
        done += 1;
      }
    }
  }
  return samples;
}

/** What the samples say. */
export function figuresOf(settings: FilesSettings, samples: Samples): FilesFigures {
  const rows: FilesRow[] = [];
  for (const [row, unit] of Object.entries(ROWS) as [RowName, Unit][]) {
    const samplesOf = (name: string): readonly Sample[] => samples.get(row)?.get(name) ?? [];
    const ratesOf = (name: string): number[] => samplesOf(name).map((sample) => rateOf(unit, sample));
    const directories = settings.directories.map(({ name }): DirectoryFigures => {
      const rates = ratesOf(name);
      const rate = spreadOf(rates);
      const ratio = settings.base === undefined ? {} : { ratio: ratioOf(rates, ratesOf(settings.base)) };
      return { name, rate, ...ratio, samples: samplesOf(name) };
    });
    rows.push({ row, unit, directories });
  }
  return { settings, rows };
}

/**
 * Makes the test directories, measures, and removes them again, whatever happens.
 *
 * @throws CliError - as `measureFiles`, or a test directory cannot be made or removed. @throws Interrupted
 */
export async function benchFiles(
  program: string,
  settings: FilesSettings,
  tests: TestDirectories,
  options: MeasureOptions,
): Promise<FilesFigures> {
  let samples: Samples;
  try {
    for (const directory of settings.directories) await tests.make(directory, options.interrupt);
    samples = await measureFiles(program, settings, tests, options);
  } catch (failure) {
    const left = await tests.removeAll().then(() => undefined, messageOf);
    // Whoever interrupts tells of what is left by itself.
    if (left === undefined || failure instanceof Interrupted) throw failure;
    const code = failure instanceof CliError ? failure.exitCode : Exit.bug;
    throw new CliError(`${messageOf(failure)}; ${left}`, code);
  }
  await tests.removeAll();
  return figuresOf(settings, samples);
}
