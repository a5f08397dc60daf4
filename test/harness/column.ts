// SPDX-License-Identifier: GPL-2.0-or-later
// One image, one crfsd, one mount: the arrangement that most scenarios begin with. Everything runs over a unix
// socket in a temporary directory, through the real commands.

import { join } from 'node:path';
import { run } from '../../ts/dev/command.ts';
import { type Cleanup, checkImage, loopMount } from './images.ts';
import { command, mountCrfs, type RunningMount, type RunningServer, startServer } from './processes.ts';

export interface ColumnOptions {
  /** As `crfsd mkfs --size` takes it. */
  readonly size: string;
  readonly serveOptions?: readonly string[];
  readonly mountOptions?: readonly string[];
  /** The image is there already. */
  readonly existing?: boolean;
}

export class Column {
  readonly directory: string;
  readonly image: string;
  readonly socket: string;
  readonly mountPoint: string;
  readonly options: ColumnOptions;
  readonly cleanup: Cleanup;
  server!: RunningServer;
  mount!: RunningMount;
  /** The mount goes through this socket instead of the server's own (a relay). */
  relaySocket: string | undefined;

  private constructor(directory: string, cleanup: Cleanup, options: ColumnOptions) {
    this.directory = directory;
    this.image = join(directory, 'image');
    this.socket = join(directory, 'crfsd.sock');
    this.mountPoint = join(directory, 'mnt');
    this.options = options;
    this.cleanup = cleanup;
  }

  /** Makes the image; nothing runs yet. */
  static async make(directory: string, cleanup: Cleanup, options: ColumnOptions): Promise<Column> {
    const column = new Column(directory, cleanup, options);
    if (options.existing !== true) {
      const argv = [process.execPath, command('crfsd'), 'mkfs', column.image, '--size', options.size];
      await run(argv, { timeoutMs: 60_000 });
    }
    return column;
  }

  /** Makes the image, starts the server, mounts. */
  static async start(directory: string, cleanup: Cleanup, options: ColumnOptions): Promise<Column> {
    const column = await Column.make(directory, cleanup, options);
    await column.startServer();
    await column.startMount();
    return column;
  }

  async startServer(): Promise<void> {
    const options = this.options.serveOptions;
    this.server = await startServer(this.image, `unix:${this.socket}`, this.cleanup, options);
  }

  async startMount(path = '/'): Promise<void> {
    const source = `unix:${this.relaySocket ?? this.socket}:${path}`;
    this.mount = await mountCrfs(source, this.mountPoint, this.cleanup, this.options.mountOptions);
  }

  async remount(): Promise<void> {
    await this.mount.unmount();
    await this.startMount();
  }

  /** Unmounts and stops the server; the image is whole afterwards. */
  async stop(): Promise<void> {
    await this.mount.unmount();
    await this.server.stop();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.startServer();
    await this.startMount();
  }

  /** Both modes of `btrfs check`. */
  check(): Promise<void> {
    return checkImage(this.image);
  }

  /** Runs `body` with the image mounted by Linux. */
  async inLinux(options: 'ro' | 'rw', body: (directory: string) => Promise<void>): Promise<void> {
    const mounted = await loopMount(this.image, join(this.directory, 'linux'), this.cleanup, options);
    await body(mounted.directory);
    await mounted.unmount();
  }
}
