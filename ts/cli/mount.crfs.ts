#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
// mount.crfs: mounts a directory of a CRFS server, and shows the counters of a mount.
//
//   mount.crfs SOURCE DIR [-o OPTIONS]       also called by mount(8) as /sbin/mount.crfs, with [-sfnv] [-N ns] [-t type]
//   mount.crfs stats DIR [--json]
//   mount.crfs status DIR [--json]
//
// Without --foreground it returns when the mount stands, and a process in the background serves it
// (mount_process.ts). -f is mount(8)'s "fake": everything is checked, nothing is mounted. With -o remount the flags of a
// mount that stands are changed (remount.ts). Users other than root mount by fusermount3(1).

import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import { startWithV8Options } from '../sys/v8_options.ts';
import type { Log } from '../util/log.ts';
import { parseSource } from './address.ts';
import { CrfsCommand, runProgram } from './command_line.ts';
import { askControl } from './control_socket.ts';
import { isInBackground, reportStart, startInBackground } from './daemonize.ts';
import { CliError, Exit, messageOf } from './exit.ts';
import { findCrfsMount } from './find_mount.ts';
import { stderrLog } from './log.ts';
import {
  MOUNT_OPTIONS,
  type MountSettings,
  mountOptionsHelp,
  parseMountOptions,
  ROOT_LOG_FILE,
} from './mount_options.ts';
import { runMount } from './mount_process.ts';
import { remount } from './remount.ts';
import { report } from './report.ts';
import { makeRuntimeDirectory } from './runtime_directory.ts';
import { type MountStatus, mountStatusText } from './status.ts';
import { logCrash, systemLog } from './system_log.ts';
import { NAMESPACE, TYPE, type Values } from './values.ts';

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** Takes what a process in the background says on stderr, without `-o log=`. */
function defaultLogFile(): string {
  return isRoot() ? ROOT_LOG_FILE : `${makeRuntimeDirectory()}/mount.log`;
}

/** In the background the system's log, unless a file was chosen: stderr is that file then. */
function logOf(settings: MountSettings): Log {
  if (!isInBackground() || settings.logFile !== undefined) return stderrLog('mount.crfs');
  const log = systemLog('mount.crfs');
  logCrash(log);
  return log;
}

/** Flags that fusermount3 has no words for. */
const ROOT_FLAGS: readonly string[] = ['strictatime'];

class MountCommand extends CrfsCommand {
  static override paths = [Command.Default];
  static override usage = Command.Usage({
    description: 'mount a directory of a CRFS server',
    details: `
      SOURCE is HOST[:PORT]:/PATH (an IPv6 address in brackets) or unix:SOCKET:/PATH, with PATH a directory of the
      image.

      Options for -o: ${mountOptionsHelp()}; and nosuid, nodev, noexec, noatime and the like, as in mount(8).

      Users other than root mount by fusermount3, unmount by umount.crfs or fusermount3 -u, and are alone in their mounts
      unless /etc/fuse.conf lets them use allow_other.
    `,
    examples: [
      ['Over TCP', 'mount.crfs server:/ /mnt -o cache=1G'],
      ['By mount(8)', 'mount -t crfs unix:/run/crfsd.sock:/projects /mnt'],
      [
        'In the foreground, with its log on the terminal',
        'mount.crfs --foreground unix:/run/crfsd.sock:/ /mnt',
      ],
    ],
  });
  static override values = {
    '-o': { name: 'OPTIONS', offers: { list: MOUNT_OPTIONS } },
    '-N': NAMESPACE,
    '-t': TYPE,
  } satisfies Values;

  source: string = Option.String({ name: 'SOURCE' });
  directory: string = Option.String({ name: 'DIR' });
  options: string[] = Option.Array('-o', [], { description: 'mount options, separated by commas' });
  foreground: boolean = Option.Boolean('--foreground', false, {
    description: 'serve in this process, log to stderr',
  });
  fake: boolean = Option.Boolean('-f', false, { description: 'fake: check everything but do not mount' });
  sloppy: boolean = Option.Boolean('-s', false, { description: 'ignore unknown options' });
  noMtab: boolean = Option.Boolean('-n', false, { description: 'accepted for mount(8)' });
  verbose: boolean = Option.Boolean('-v', false, { description: 'say what was done' });
  namespace: string | undefined = Option.String('-N', { description: 'refused: other mount namespaces' });
  type: string | undefined = Option.String('-t', { description: 'accepted for mount(8)' });

  async work(): Promise<number> {
    try {
      return await this.#mount();
    } catch (error) {
      const exitCode = error instanceof CliError ? error.exitCode : Exit.bug;
      reportStart({ exitCode, error: messageOf(error) });
      throw error;
    }
  }

  async #mount(): Promise<number> {
    if (this.namespace !== undefined)
      throw new CliError('-N: mounting in another namespace is not supported');
    const settings = parseMountOptions(this.options, this.sloppy, isRoot());
    const source = parseSource(this.source, settings.port);
    const flag = settings.kernelFlags.find((name) => ROOT_FLAGS.includes(name));
    if (flag !== undefined && !isRoot()) throw new CliError(`only root can mount with ${flag}`);
    const directory = resolve(this.directory);
    if (this.fake) return Exit.ok;
    if (settings.remount) {
      await remount(directory, settings);
      if (this.verbose) this.context.stdout.write(`mount.crfs: ${directory} remounted\n`);
      return Exit.ok;
    }
    if (this.foreground) {
      const log = logOf(settings);
      startWithV8Options(log);
      return runMount({ source, sourceText: this.source, directory, settings, log });
    }
    const options = this.options.flatMap((value) => ['-o', value]);
    if (this.sloppy) options.push('-s');
    const argv = [process.argv[1]!, '--foreground', this.source, directory, ...options];
    await startInBackground(argv, settings.logFile ?? defaultLogFile());
    if (this.verbose) this.context.stdout.write(`mount.crfs: ${this.source} mounted on ${directory}\n`);
    return Exit.ok;
  }
}

/** What the process that serves a mount answers. @throws CliError */
async function askMount(directory: string, op: 'stats' | 'status'): Promise<object> {
  const mount = await findCrfsMount(directory);
  const reply = await askControl(mount, { op });
  if (reply === undefined)
    throw new CliError(`${directory}: the process of this mount has ended`, Exit.failed);
  reply.forget();
  if (!reply.answer.ok) throw new CliError(reply.answer.error, reply.answer.exitCode);
  return reply.answer.stats ?? {};
}

class StatsCommand extends CrfsCommand {
  static override paths = [['stats']];
  static override usage = Command.Usage({
    description: 'print the live counters of a mount',
    details: `
      They come from the process that serves the mount; the mount itself is not touched, so this answers while calls
      in it hang. Only root and who mounted can ask.
    `,
    examples: [
      ['For people', 'mount.crfs stats /mnt'],
      ['For programs', 'mount.crfs stats /mnt --json | jq .session.dirtyBytes'],
    ],
  });

  directory: string = Option.String({ name: 'DIR' });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object' });

  async work(): Promise<number> {
    this.context.stdout.write(report(await askMount(this.directory, 'stats'), this.json));
    return Exit.ok;
  }
}

class StatusCommand extends CrfsCommand {
  static override paths = [['status']];
  static override usage = Command.Usage({
    description: 'show what a mount holds, what is dirty in it and what waits',
    details: `
      Dirty is what was written and has not reached the server. Waiting are requests of programs that need a grant or
      room. Only root and who mounted can ask.
    `,
    examples: [['Of the mount on /mnt', 'mount.crfs status /mnt']],
  });

  directory: string = Option.String({ name: 'DIR' });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object' });

  async work(): Promise<number> {
    const status = (await askMount(this.directory, 'status')) as MountStatus;
    this.context.stdout.write(this.json ? report(status, true) : mountStatusText(status));
    return Exit.ok;
  }
}

await runProgram('mount.crfs', [MountCommand, StatsCommand, StatusCommand]);
