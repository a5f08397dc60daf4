// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a seed stands for: how many clients, how their links, kernels and the volume behave, what programs do.

import { Prng } from '../../ts/util/prng.ts';

/** What can be left out or broken on purpose, to see that it is found. */
export type Fault =
  | 'forget-no-names'
  | 'forget-no-attributes'
  | 'forget-no-pages'
  | 'release-before-flush'
  | 'keep-more-than-released'
  | 'data-after-metadata'
  | 'drop-revoke';

export const FAULTS: readonly Fault[] = [
  'forget-no-names',
  'forget-no-attributes',
  'forget-no-pages',
  'release-before-flush',
  'keep-more-than-released',
  'data-after-metadata',
  'drop-revoke',
];

export interface Settings {
  readonly seed: number;
  readonly events: number;
  readonly clientsMin: number;
  readonly clientsMax: number;
  readonly fault: Fault | null;
  /** Messages go into the trace too. */
  readonly isVerbose: boolean;
  /** Lines of the trace in the report of a failure. */
  readonly lines: number;
}

export interface LinkKind {
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly bandwidth: number;
}

const FAST: LinkKind = { latencyMs: 0.05, jitterMs: 0.2, bandwidth: 100_000 };
const USUAL: LinkKind = { latencyMs: 0.5, jitterMs: 3, bandwidth: 10_000 };
const FAR: LinkKind = { latencyMs: 20, jitterMs: 20, bandwidth: 1000 };
const SLOW: LinkKind = { latencyMs: 100, jitterMs: 400, bandwidth: 200 };

const EXTRA = 0x5eed;

export interface Scenario {
  readonly random: Prng;
  readonly clients: number;
  readonly processes: number;
  /** Different names in use, and how deep paths go. */
  readonly names: readonly string[];
  readonly depth: number;
  /** Further files in the root, so many that caches overflow. */
  readonly crowd: number;
  readonly files: 'tiny' | 'pages';
  readonly thinkMs: number;
  readonly links: readonly LinkKind[];
  readonly kernelSlownessMs: number;
  readonly pagesMax: number;
  readonly inodesMax: number;
  readonly cacheBytes: number;
  readonly readDelayMs: number;
  readonly applyDelayMs: number;
  readonly commitDelayMs: number;
  /** Once in so many operations a client of its own is chosen to crash, fall silent for a while or for good; 0: never. */
  readonly crashOneIn: number;
  readonly pauseOneIn: number;
  readonly silenceOneIn: number;
  readonly leaseMs: number;
  /** How often the volume misbehaves: one batch, read or commit in so many; 0: never. */
  readonly refusesOneIn: number;
  readonly readFailsOneIn: number;
  readonly commitFailsOneIn: number;
  /** Bounds that are reached only when they are small: ranges of a session, bytes that a client may have dirty. */
  readonly sessionRangesMax: number | null;
  readonly dirtyBytesMax: number | null;
}

export function scenarioOf(settings: Settings): Scenario {
  const random = new Prng(settings.seed);
  const spread = settings.clientsMax - settings.clientsMin;
  // Few clients more often than many: they get further in the same number of events.
  const most = random.oneIn(8) ? spread : Math.min(spread, random.pick([1, 3, 6, 14]));
  const clients = settings.clientsMin + random.below(most + 1);
  const names = 'abcdefghijkl'.slice(0, random.pick([2, 3, 4, 6, 12])).split('');
  const links = random.pick([[FAST], [USUAL], [FAST, USUAL], [FAST, USUAL, FAR], [USUAL, FAR, SLOW]]);
  // What only a crash shows needs crashes.
  const crashes = settings.fault === 'data-after-metadata';
  const isTroubled = random.oneIn(3) || crashes;
  // From numbers of their own, so that a seed means the same in all else. A planted fault must be found without them.
  const extra = new Prng(settings.seed ^ EXTRA);
  const misbehaves = extra.oneIn(4) && settings.fault === null;
  const isTight = extra.oneIn(4) && settings.fault === null;
  return {
    random,
    clients,
    processes: random.pick([1, 2, 3]),
    names,
    depth: random.pick([1, 2, 3]),
    crowd: random.oneIn(6) ? 300 : 0,
    files: random.pick(['tiny', 'pages']),
    thinkMs: crashes ? 50 : random.pick([0.5, 5, 50, 500]),
    links,
    kernelSlownessMs: random.pick([0.5, 5, 25]),
    pagesMax: random.pick([4, 64, 1000]),
    inodesMax: random.pick([8, 1000]),
    cacheBytes: random.pick([4096, 40_000, 262_144, 16_777_216]),
    readDelayMs: random.pick([0, 0.2, 5, 50]),
    applyDelayMs: random.pick([0, 0.2, 5, 50]),
    commitDelayMs: random.pick([1, 50, 500]),
    crashOneIn: crashes ? 25 : isTroubled ? random.pick([0, 200, 1000]) : 0,
    pauseOneIn: isTroubled ? random.pick([0, 200, 1000]) : 0,
    silenceOneIn: isTroubled ? random.pick([0, 500, 2000]) : 0,
    leaseMs: random.pick([3000, 30_000]),
    refusesOneIn: misbehaves ? extra.pick([0, 10, 50]) : 0,
    readFailsOneIn: misbehaves ? extra.pick([0, 50, 500]) : 0,
    commitFailsOneIn: misbehaves ? extra.pick([0, 5, 50]) : 0,
    sessionRangesMax: isTight ? extra.pick([null, 20, 100]) : null,
    dirtyBytesMax: isTight ? extra.pick([null, 5000, 100_000]) : null,
  };
}
