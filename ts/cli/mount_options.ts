// SPDX-License-Identifier: GPL-2.0-or-later
// The options of a mount, as mount(8), /etc/fstab and people write them after -o.
//
// Options are read from left to right, a later one wins. An option that is not known is refused by name: a
// misspelt option that does nothing is worse than a mount that fails.
//
// The tables below are the one list of options: completions are made from them, and a test holds the manual page of
// mount.crfs against them.

import { CACHE_BYTES_DEFAULT } from '../client/limits.ts';
import { CPU_IDLE_MODES, type CpuIdleMode } from '../sys/cpu_idle.ts';
import { parsePort } from './address.ts';
import { parseCpuIdle } from './cpu_idle_option.ts';
import { CliError } from './exit.ts';
import { parseSize } from './size.ts';
import { FILE, type ListOption, oneOf, SIZE, TEXT, type Value } from './values.ts';

/** Where a mount in the background logs without `-o log=`. */
export const DEFAULT_LOG_FILE = '/var/log/crfs-mount.log';

/** Below this the caches could not hold what a single operation may need. */
export const MIN_CACHE_BYTES: number = 16 * 1024 * 1024;

export interface MountSettings {
  readonly readOnly: boolean;
  /** Flags for the kernel, by their names in mount(8): nosuid, nodev, noexec, noatime, ... */
  readonly kernelFlags: readonly string[];
  readonly allowOther: boolean;
  readonly cacheBytes: number;
  readonly port: number | undefined;
  readonly cpuIdle: CpuIdleMode;
  /** File that takes the log lines of a mount in the background. */
  readonly logFile: string | undefined;
}

/** Option -> the kernel flag that it sets (+) or clears (-). */
const KERNEL_FLAGS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    nosuid: ['+nosuid'],
    suid: ['-nosuid'],
    nodev: ['+nodev'],
    dev: ['-nodev'],
    noexec: ['+noexec'],
    exec: ['-noexec'],
    sync: ['+sync'],
    async: ['-sync'],
    dirsync: ['+dirsync'],
    noatime: ['+noatime', '-strictatime', '-relatime'],
    atime: ['-noatime'],
    relatime: ['+relatime', '-noatime', '-strictatime'],
    norelatime: ['-relatime'],
    strictatime: ['+strictatime', '-noatime', '-relatime'],
    nostrictatime: ['-strictatime'],
    nodiratime: ['+nodiratime'],
    diratime: ['-nodiratime'],
    defaults: ['-nosuid', '-nodev', '-noexec', '-sync'],
    // A user who may mount by /etc/fstab gets these from mount(8) too.
    user: ['+nosuid', '+nodev', '+noexec'],
    users: ['+nosuid', '+nodev', '+noexec'],
    owner: ['+nosuid', '+nodev'],
    group: ['+nosuid', '+nodev'],
  }),
);

/** Known to mount(8) or to boot scripts, without meaning for the mount itself. */
const IGNORED = new Set([
  'auto',
  'noauto',
  'nofail',
  '_netdev',
  'nouser',
  'default_permissions',
  'silent',
  'loud',
]);

/** An option of ours without a value. */
interface Word {
  readonly what: string;
  set(to: Collector): void;
}

const WORDS: ReadonlyMap<string, Word> = new Map(
  Object.entries({
    ro: {
      what: 'change nothing',
      set(to) {
        to.readOnly = true;
      },
    },
    rw: {
      what: 'read and write, the default',
      set(to) {
        to.readOnly = false;
      },
    },
    allow_other: {
      what: 'let all users enter whom permissions let in, the default',
      set(to) {
        to.allowOther = true;
      },
    },
    noallow_other: {
      what: 'let only root enter',
      set(to) {
        to.allowOther = false;
      },
    },
  } satisfies Record<string, Word>),
);

/** An option with a value. */
interface Setting {
  readonly what: string;
  readonly value: Value;
  /** @throws CliError - not such a value. */
  set(to: Collector, value: string): void;
}

const SETTINGS: ReadonlyMap<string, Setting> = new Map(
  Object.entries({
    cache: {
      what: 'memory for items and data, 256M by default',
      value: SIZE,
      set(to, value) {
        to.cacheBytes = parseSize(value, '-o cache');
      },
    },
    port: {
      what: 'port of the server, if SOURCE names none',
      value: { name: 'PORT', offers: 'nothing' },
      set(to, value) {
        to.port = parsePort(value, '-o port');
      },
    },
    cpuidle: {
      what: 'whether idle processors poll while much is to do; auto, the default: where they are few',
      value: oneOf('MODE', CPU_IDLE_MODES),
      set(to, value) {
        to.cpuIdle = parseCpuIdle(value, '-o cpuidle');
      },
    },
    log: {
      what: `where a mount in the background logs, ${DEFAULT_LOG_FILE} by default`,
      value: FILE,
      set(to, value) {
        to.logFile = value;
      },
    },
  } satisfies Record<string, Setting>),
);

/** The same with values: util-linux sets them for its own use. */
const IGNORED_SETTINGS = new Set(['comment']);

/** Every option by name; beside them whatever begins with `x-` is accepted, for boot scripts. */
export const MOUNT_OPTIONS: readonly ListOption[] = [
  ...[...SETTINGS].map(([name, { what, value }]) => ({ name, description: what, value })),
  ...[...WORDS].map(([name, { what }]) => ({ name, description: what })),
  ...[...KERNEL_FLAGS.keys()].map((name) => ({ name, description: 'as in mount(8)' })),
  ...[...IGNORED].map((name) => ({ name, description: 'accepted, without effect here' })),
  ...[...IGNORED_SETTINGS].map((name) => ({
    name,
    description: 'accepted, without effect here',
    value: TEXT,
  })),
];

/** Our own options, as a help text tells them. */
export function mountOptionsHelp(): string {
  const ours = MOUNT_OPTIONS.filter(({ name }) => SETTINGS.has(name) || WORDS.has(name));
  return ours
    .map(({ name, description, value }) => {
      return `${value === undefined ? name : `${name}=${value.name}`} (${description})`;
    })
    .join(', ');
}

class Collector {
  readOnly = false;
  allowOther = true;
  cacheBytes = CACHE_BYTES_DEFAULT;
  port: number | undefined;
  cpuIdle: CpuIdleMode = 'auto';
  logFile: string | undefined;
  readonly flags: Set<string> = new Set();

  flag(option: string): boolean {
    const effects = KERNEL_FLAGS.get(option);
    for (const effect of effects ?? []) {
      if (effect.startsWith('+')) this.flags.add(effect.slice(1));
      else this.flags.delete(effect.slice(1));
    }
    return effects !== undefined;
  }

  word(option: string): boolean {
    const word = WORDS.get(option);
    if (word === undefined) return this.flag(option) || IGNORED.has(option) || option.startsWith('x-');
    word.set(this);
    return true;
  }

  setting(name: string, value: string): boolean {
    const setting = SETTINGS.get(name);
    if (setting === undefined) return IGNORED_SETTINGS.has(name) || name.startsWith('x-');
    setting.set(this, value);
    return true;
  }
}

/**
 * Parses the values of all `-o` options of one command line.
 *
 * @param sloppy - mount(8)'s -s: unknown options are left out instead of refused.
 */
export function parseMountOptions(values: readonly string[], sloppy = false): MountSettings {
  const collector = new Collector();
  for (const option of values.flatMap((value) => value.split(',')).filter((word) => word !== '')) {
    const equals = option.indexOf('=');
    const known =
      equals < 0
        ? collector.word(option)
        : collector.setting(option.slice(0, equals), option.slice(equals + 1));
    if (!known && !sloppy)
      throw new CliError(`unknown mount option: ${equals < 0 ? option : option.slice(0, equals)}`);
  }
  if (collector.cacheBytes < MIN_CACHE_BYTES) {
    throw new CliError(`-o cache: at least ${MIN_CACHE_BYTES / 1024 / 1024}M are needed`);
  }
  if (collector.logFile !== undefined && !collector.logFile.startsWith('/')) {
    throw new CliError(`-o log: the path must be absolute: ${collector.logFile}`);
  }
  return {
    readOnly: collector.readOnly,
    kernelFlags: [...collector.flags],
    allowOther: collector.allowOther,
    cacheBytes: collector.cacheBytes,
    port: collector.port,
    cpuIdle: collector.cpuIdle,
    logFile: collector.logFile,
  };
}
