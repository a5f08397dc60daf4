#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-or-later
// crfsd: makes images, serves one, tells about images and servers.
//
//   crfsd mkfs IMAGE --size SIZE [--force] [--label TEXT] [--nodesize SIZE] [--checksum NAME]
//   crfsd serve IMAGE --listen HOST:PORT|unix:PATH [--read-only] [--cache SIZE] [--sessions N] [--punch-freed]
//     [--insecure]
//   crfsd info IMAGE [--json]
//   crfsd stats ADDRESS [--json]
//   crfsd status ADDRESS [--json]

import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import { CPU_IDLE_MODES } from '../sys/cpu_idle.ts';
import { startWithV8Options } from '../sys/v8_options.ts';
import { SESSIONS_MAX } from '../util/limits.ts';
import { formatAddress, isLocal, parseAddress } from './address.ts';
import { CrfsCommand, runProgram } from './command_line.ts';
import { parseCpuIdle } from './cpu_idle_option.ts';
import { CliError, Exit } from './exit.ts';
import { describeImage, makeImage } from './image.ts';
import { stderrLog } from './log.ts';
import { report } from './report.ts';
import { serve } from './serve.ts';
import { serverStats } from './server_stats.ts';
import { parseCount, parseSize } from './size.ts';
import { serverStatusText } from './status.ts';
import { ADDRESS, NUMBER, oneOf, SIZE, TEXT } from './values.ts';

/** What the engine can make; Linux reads all of them. */
const CHECKSUMS = ['crc32c', 'xxhash64', 'sha256', 'blake2'];

class MkfsCommand extends CrfsCommand {
  static override paths = [['mkfs']];
  static override usage = Command.Usage({
    description: 'make a BTRFS image',
    details: `
      IMAGE is a file or a block device. SIZE is in bytes, or a number with K, M, G, T or P (powers of 1,024). Metadata
      is stored twice, data once. A file system that is there already is overwritten only with --force.
    `,
    examples: [
      ['A sparse image of 100 GiB', 'crfsd mkfs /srv/data.img --size 100G'],
      ['A whole partition, with a name', 'crfsd mkfs /dev/sdb1 --label projects'],
    ],
  });
  static override values = {
    '--size': SIZE,
    '--label': TEXT,
    '--nodesize': SIZE,
    '--checksum': oneOf('NAME', CHECKSUMS),
  };

  image: string = Option.String({ name: 'IMAGE' });
  size: string | undefined = Option.String('--size', {
    description:
      'size of the image file, which is made or lengthened; a block device is taken whole without it',
  });
  force: boolean = Option.Boolean('--force', false, { description: 'overwrite what the image holds' });
  label: string = Option.String('--label', '', { description: 'name of the file system' });
  nodesize: string = Option.String('--nodesize', '16K', { description: 'size of a tree block, 4K to 64K' });
  checksum: string = Option.String('--checksum', 'crc32c', {
    description: 'crc32c, xxhash64, sha256 or blake2',
  });

  async work(): Promise<number> {
    const image = resolve(this.image);
    const fsid = makeImage(image, {
      sizeBytes: this.size === undefined ? undefined : parseSize(this.size, '--size'),
      label: this.label,
      nodeSizeBytes: parseSize(this.nodesize, '--nodesize'),
      checksum: this.checksum,
      force: this.force,
    });
    this.context.stdout.write(`${image}: BTRFS ${fsid}\n`);
    return Exit.ok;
  }
}

class ServeCommand extends CrfsCommand {
  static override paths = [['serve']];
  static override usage = Command.Usage({
    description: 'serve an image until SIGTERM or SIGINT',
    details: `
      ADDRESS is HOST:PORT (an IPv6 address in brackets, default port 2737) or unix:PATH. Without authentication,
      which does not exist yet, only loopback and unix sockets are safe; others need --insecure.
    `,
    examples: [
      ['On this machine only', 'crfsd serve /srv/data.img --listen unix:/run/crfsd.sock'],
      [
        'On a unix socket and for the end of an SSH tunnel',
        'crfsd serve /srv/data.img --listen unix:/run/crfsd.sock --listen 127.0.0.1:2737',
      ],
    ],
  });
  static override values = {
    '--listen': ADDRESS,
    '--cache': SIZE,
    '--sessions': NUMBER,
    '--cpuidle': oneOf('MODE', CPU_IDLE_MODES),
  };

  image: string = Option.String({ name: 'IMAGE' });
  listen: string[] = Option.Array('--listen', [], { description: 'where to listen; may be repeated' });
  readOnly: boolean = Option.Boolean('--read-only', false, { description: 'let nobody change anything' });
  cache: string = Option.String('--cache', '256M', { description: 'memory for tree blocks' });
  punchFreed: boolean = Option.Boolean('--punch-freed', false, {
    description: 'give freed space back to the file that holds the image',
  });
  sessions: string = Option.String('--sessions', String(SESSIONS_MAX), { description: 'mounts at a time' });
  cpuidle: string = Option.String('--cpuidle', 'auto', {
    description: 'poll: idle processors poll while much is to do; sleep: never; auto: poll if they are few',
  });
  insecure: boolean = Option.Boolean('--insecure', false, {
    description: 'listen where anybody who can connect may read and write everything',
  });

  async work(): Promise<number> {
    const listen = this.listen.map((text) => parseAddress(text, '--listen'));
    if (listen.length === 0)
      throw new CliError('where to listen? give --listen HOST:PORT or --listen unix:PATH');
    const open = listen.find((address) => !isLocal(address));
    if (open !== undefined && !this.insecure) {
      throw new CliError(
        `${formatAddress(open)} can be reached by others, and there is no authentication; --insecure allows it`,
      );
    }
    const log = stderrLog('crfsd');
    startWithV8Options(log);
    return serve({
      image: resolve(this.image),
      listen,
      readOnly: this.readOnly,
      cacheBytes: parseSize(this.cache, '--cache'),
      punchFreed: this.punchFreed,
      sessionsMax: parseCount(this.sessions, '--sessions', SESSIONS_MAX),
      cpuIdle: parseCpuIdle(this.cpuidle, '--cpuidle'),
      log,
    });
  }
}

class InfoCommand extends CrfsCommand {
  static override paths = [['info']];
  static override usage = Command.Usage({
    description: 'tell what an image is that is not being served',
    details: `
      Nothing is changed. What keeps an image from being written is named in readOnlyReasons; such an image can still
      be served with --read-only.
    `,
    examples: [
      ['For people', 'crfsd info /srv/data.img'],
      ['For programs', 'crfsd info /srv/data.img --json | jq .usedBytes'],
    ],
  });

  image: string = Option.String({ name: 'IMAGE' });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object' });

  async work(): Promise<number> {
    this.context.stdout.write(report(describeImage(resolve(this.image)), this.json));
    return Exit.ok;
  }
}

class StatsCommand extends CrfsCommand {
  static override paths = [['stats']];
  static override usage = Command.Usage({
    description: 'print the live counters of a server on this machine',
    details: `
      ADDRESS is one at which the server listens, as for serve. Names of counters end with their units; they count
      from the start of the server.
    `,
    examples: [
      ['Of a server on the default port', 'crfsd stats 127.0.0.1'],
      ['For programs', 'crfsd stats unix:/run/crfsd.sock --json'],
    ],
  });

  address: string = Option.String({ name: 'ADDRESS' });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object' });

  async work(): Promise<number> {
    const stats = await serverStats(parseAddress(this.address, 'ADDRESS'));
    this.context.stdout.write(report(stats, this.json));
    return Exit.ok;
  }
}

class StatusCommand extends CrfsCommand {
  static override paths = [['status']];
  static override usage = Command.Usage({
    description: 'show who holds and waits for what at a server on this machine',
    details: `
      A line for each mount (session): ranges that it holds to read and to write, operations that wait, revokes that it
      has not answered. Then how long revokes took, and who waits for whom. With --json, the same as stats --json.
    `,
    examples: [['Of a server on a unix socket', 'crfsd status unix:/run/crfsd.sock']],
  });

  address: string = Option.String({ name: 'ADDRESS' });
  json: boolean = Option.Boolean('--json', false, { description: 'one JSON object' });

  async work(): Promise<number> {
    const stats = await serverStats(parseAddress(this.address, 'ADDRESS'));
    this.context.stdout.write(this.json ? report(stats, true) : serverStatusText(stats));
    return Exit.ok;
  }
}

await runProgram('crfsd', [MkfsCommand, ServeCommand, InfoCommand, StatsCommand, StatusCommand]);
