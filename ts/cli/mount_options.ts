// SPDX-License-Identifier: GPL-2.0-or-later
// The options of a mount, as mount(8), /etc/fstab and people write them after -o.
//
// Options are read from left to right, a later one wins. An option that is not known is refused by name: a
// misspelt option that does nothing is worse than a mount that fails.
//
// With `remount` the options are those of a mount that stands, from /etc/fstab or the mount table of the kernel, and what
// is to be changed; mount(8) has put them together.
//
// The tables below are the one list of options: completions are made from them, and a test holds the manual page of
// mount.crfs against them.

import { CACHE_BYTES_DEFAULT } from '../client/limits.ts';
import { CPU_IDLE_MODES, type CpuIdleMode } from '../sys/cpu_idle.ts';
import { parsePort } from './address.ts';
import type { FixedSetting } from './control_socket.ts';
import { parseCpuIdle } from './cpu_idle_option.ts';
import { CliError } from './exit.ts';
import { parseSize } from './size.ts';
import { FILE, type ListOption, oneOf, SIZE, TEXT, type Value } from './values.ts';

/** Where a mount of root's in the background logs without `-o log=`, and without a journal or syslog. */
export const ROOT_LOG_FILE = '/var/log/crfs-mount.log';

/** What serves the kernel: our own channel, or libfuse by the package fuse-native. */
export type DriverName = 'native' | 'fuse-native';

/** Below this the caches could not hold what a single operation may need. */
export const MIN_CACHE_BYTES: number = 16 * 1024 * 1024;

export interface MountSettings {
  readonly readOnly: boolean;
  /** Flags for the kernel, by their names in mount(8): nosuid, nodev, noexec, noatime, ... */
  readonly kernelFlags: readonly string[];
  readonly allowOther: boolean;
  readonly driver: DriverName;
  readonly cacheBytes: number;
  readonly port: number | undefined;
  readonly cpuIdle: CpuIdleMode;
  /** File that takes the log lines of a mount in the background. */
  readonly logFile: string | undefined;
  /** A mount that stands is to be changed. */
  readonly remount: boolean;
  /** Options that were given, of those in `fixedSettings`. */
  readonly given: ReadonlySet<string>;
}

/** What a remount cannot change, by option. */
export function fixedSettings(settings: Omit<MountSettings, 'given'>): Record<string, FixedSetting> {
  return {
    allow_other: settings.allowOther,
    driver: settings.driver,
    cache: settings.cacheBytes,
    port: settings.port ?? null,
    cpuidle: settings.cpuIdle,
    log: settings.logFile ?? null,
  };
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

const DRIVERS: readonly DriverName[] = ['native', 'fuse-native'];

function parseDriver(text: string): DriverName {
  const driver = DRIVERS.find((name) => name === text);
  if (driver === undefined) throw new CliError(`-o driver: one of native, fuse-native, not ${text}`);
  return driver;
}

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
    remount: {
      what: 'give the mount that stands other flags',
      set(to) {
        to.remount = true;
      },
    },
    allow_other: {
      what: 'let all users enter whom permissions let in, the default for root',
      set(to) {
        to.allowOthers(true);
      },
    },
    noallow_other: {
      what: 'let only who mounts enter, the default for others',
      set(to) {
        to.allowOthers(false);
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
    driver: {
      what: 'fuse-native: libfuse 2 instead of our own channel, slower, and without some of POSIX',
      value: oneOf('NAME', DRIVERS),
      set(to, value) {
        to.driver = parseDriver(value);
      },
    },
    log: {
      what: `where a mount in the background logs; by default to the journal or syslog, without them ${ROOT_LOG_FILE}`,
      value: FILE,
      set(to, value) {
        to.logFile = value;
      },
    },
  } satisfies Record<string, Setting>),
);

/** The same with values. util-linux keeps who mounted and the helper of umount(8) in its own table. */
const IGNORED_SETTINGS = new Set(['comment', 'user', 'uhelper']);

/** Every option by name; beside them whatever begins with `x-` or `X-` is accepted, for boot scripts. */
export const MOUNT_OPTIONS: readonly ListOption[] = [
  ...[...SETTINGS].map(([name, { what, value }]) => ({ name, description: what, value })),
  ...[...WORDS].map(([name, { what }]) => ({ name, description: what })),
  ...[...KERNEL_FLAGS.keys()].map((name) => ({ name, description: 'as in mount(8)' })),
  ...[...IGNORED].map((name) => ({ name, description: 'accepted, without effect here' })),
  ...[...IGNORED_SETTINGS]
    .filter((name) => !KERNEL_FLAGS.has(name))
    .map((name) => ({
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

/** The kernel's words for what every mount has, in its mount table: only `remount` brings them along. */
const IN_MOUNT_TABLE = new Set(['user_id', 'group_id', 'max_read']);

class Collector {
  readOnly = false;
  remount = false;
  allowOther: boolean;
  /** Whether `allow_other` was asked for by its name. */
  asksForOther = false;
  driver: DriverName = 'native';
  cacheBytes = CACHE_BYTES_DEFAULT;
  port: number | undefined;
  cpuIdle: CpuIdleMode = 'auto';
  logFile: string | undefined;
  readonly flags: Set<string> = new Set();
  readonly given: Set<string> = new Set();
  /** The first one of IN_MOUNT_TABLE. */
  tableOption: string | undefined;

  constructor(allowOther: boolean) {
    this.allowOther = allowOther;
  }

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
    if (word === undefined) return this.flag(option) || IGNORED.has(option) || isForOthers(option);
    word.set(this);
    return true;
  }

  allowOthers(allowOther: boolean): void {
    this.allowOther = allowOther;
    this.asksForOther = allowOther;
    this.given.add('allow_other');
  }

  setting(name: string, value: string): boolean {
    const setting = SETTINGS.get(name);
    if (setting !== undefined) {
      setting.set(this, value);
      this.given.add(name);
    } else if (IN_MOUNT_TABLE.has(name)) this.tableOption ??= name;
    else return IGNORED_SETTINGS.has(name) || isForOthers(name);
    return true;
  }
}

/** Options for boot scripts and for util-linux itself. */
function isForOthers(option: string): boolean {
  return option.startsWith('x-') || option.startsWith('X-');
}

/**
 * Parses the values of all `-o` options of one command line.
 *
 * @param sloppy - mount(8)'s -s: unknown options are left out instead of refused.
 * @param allowOther - what holds without an option: root lets others in, a user cannot without further ado.
 */
export function parseMountOptions(
  values: readonly string[],
  sloppy = false,
  allowOther = true,
): MountSettings {
  const collector = new Collector(allowOther);
  for (const option of values.flatMap((value) => value.split(',')).filter((word) => word !== '')) {
    const equals = option.indexOf('=');
    const known =
      equals < 0
        ? collector.word(option)
        : collector.setting(option.slice(0, equals), option.slice(equals + 1));
    if (!known && !sloppy)
      throw new CliError(`unknown mount option: ${equals < 0 ? option : option.slice(0, equals)}`);
  }
  if (collector.tableOption !== undefined && !collector.remount && !sloppy) {
    throw new CliError(`unknown mount option: ${collector.tableOption}`);
  }
  if (collector.cacheBytes < MIN_CACHE_BYTES) {
    throw new CliError(`-o cache: at least ${MIN_CACHE_BYTES / 1024 / 1024}M are needed`);
  }
  if (collector.driver === 'fuse-native' && collector.asksForOther) {
    throw new CliError('allow_other: driver=fuse-native does not know who asks, so only root may enter');
  }
  if (collector.logFile !== undefined && !collector.logFile.startsWith('/')) {
    throw new CliError(`-o log: the path must be absolute: ${collector.logFile}`);
  }
  return {
    readOnly: collector.readOnly,
    kernelFlags: [...collector.flags],
    allowOther: collector.allowOther && collector.driver === 'native',
    driver: collector.driver,
    cacheBytes: collector.cacheBytes,
    port: collector.port,
    cpuIdle: collector.cpuIdle,
    logFile: collector.logFile,
    remount: collector.remount,
    given: collector.given,
  };
}
