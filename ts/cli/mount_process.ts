// SPDX-License-Identifier: GPL-2.0-or-later
// The life of one mount, in the process that serves it: connects and greets, mounts, serves until the mount is gone,
// makes everything durable, ends. mount.crfs runs it, in the foreground or in the background.
//
// A mount ends in one of these ways:
// - umount(8) by its helper, through the control socket: flush, unmount, flush what the unmount itself wrote, end.
// - SIGTERM, SIGINT: the same, but a mount in use is detached, and served until nobody uses it. A second signal aborts.
// - umount2(2) by somebody else: the channel ends, and what is dirty is flushed then.
// - The server is lost: every call fails with EIO from then on, and any of the ways above returns at once.
//
// Nothing here may touch the mounted directory: this very thread would have to answer.

import { hostname } from 'node:os';
import { Client } from '../client/client.ts';
import type { MountDriver, OperationsServer } from '../fuse/driver.ts';
import { FuseNativeDriver, mountFuseNative } from '../fuse/fuse_native_driver.ts';
import { MountError, mountNative, NativeDriver } from '../fuse/native_driver.ts';
import { RequestServer } from '../fuse/request_server.ts';
import { cpuIdle } from '../sys/cpu_idle.ts';
import { isKilled } from '../sys/killed.ts';
import { isRenamedTo } from '../sys/renaming.ts';
import { isRunning } from '../sys/running.ts';
import { connectSocket } from '../sys/socket_transport.ts';
import { renamedNames, systemCallOf } from '../sys/system_call.ts';
import { SystemClock } from '../sys/system_clock.ts';
import { timesRun } from '../sys/times_run.ts';
import { Errno, errnoName } from '../util/errno.ts';
import { FsError } from '../util/errors.ts';
import type { Log } from '../util/log.ts';
import { formatAddress, type Source } from './address.ts';
import {
  type ControlAnswer,
  type ControlRequest,
  type ControlServer,
  type FixedSetting,
  serveControl,
} from './control_socket.ts';
import { reportStart } from './daemonize.ts';
import { removeDeadMounts } from './dead_mount.ts';
import { CliError, Exit, messageOf } from './exit.ts';
import { readMounts } from './find_mount.ts';
import { fixedSettings, type MountSettings } from './mount_options.ts';
import { findMount } from './mountinfo.ts';
import { nativeCrc32c, nativeSectorSums } from './native_checksums.ts';
import { makeRuntimeDirectory } from './runtime_directory.ts';
import type { MountStatus } from './status.ts';
import { forgetForUmount, noteForUmount } from './umount_note.ts';

/**
 * The kernel ends a connection within umount(2), when nothing else has the mount; after this time something has, milliseconds.
 */
const ELSEWHERE_MS = 5000;

/** Time for a server to take the connection, milliseconds. */
const CONNECT_TIMEOUT_MS = 10_000;

/** The kernel's number of the root. */
const ROOT_NODE = 1;

export interface MountRequest {
  readonly source: Source;
  /** As the user wrote it: the first column of the mount table. */
  readonly sourceText: string;
  /** Absolute. */
  readonly directory: string;
  readonly settings: MountSettings;
  readonly log: Log;
}

/** Mounts, tells whoever waits, and serves. @returns the exit code, when the mount is gone. @throws CliError */
export async function runMount(request: MountRequest): Promise<number> {
  const mounted = await MountProcess.start(request);
  reportStart({ exitCode: Exit.ok });
  return mounted.ended;
}

async function openSession(
  request: MountRequest,
  clock: SystemClock,
  onEnded: (why: string) => void,
): Promise<Client> {
  const { source, sourceText, settings, log } = request;
  const peer = formatAddress(source.address);
  try {
    const transport = await connectSocket(source.address, CONNECT_TIMEOUT_MS);
    return await Client.connect({
      transport,
      clock,
      crc32c: nativeCrc32c,
      sectorSums: nativeSectorSums,
      path: Buffer.from(source.path),
      clientName: `${hostname()}:${request.directory}`,
      readOnly: settings.readOnly,
      cacheBytes: settings.cacheBytes,
      log,
      onEnded: (cause) => onEnded(`${peer}: ${cause.message}`),
    });
  } catch (error) {
    const text = messageOf(error);
    const place = error instanceof FsError ? sourceText : peer;
    throw new CliError(text.includes(place) ? text : `${place}: ${text}`, Exit.failed);
  }
}

/** The exit code of mount(8) for a mount that could not be made. */
function exitCodeOf(error: unknown): number {
  if (!(error instanceof MountError)) return Exit.failed;
  if (error.isOfTheSystem) return Exit.system;
  return error.errno === Errno.EPERM || error.errno === Errno.EACCES ? Exit.usage : Exit.failed;
}

class MountProcess {
  /** Resolves with the exit code when the mount is gone and its session closed. */
  readonly ended: Promise<number>;
  readonly #request: MountRequest;
  readonly #client: Client;
  readonly #driver: MountDriver;
  readonly #server: OperationsServer;
  readonly #startedMs = performance.now();
  #control: ControlServer | undefined;
  /** Resolves when the kernel's connection has ended. */
  readonly #channelClosed: Promise<Error | null>;
  #lost: string | undefined;
  #lossErrno = 0;
  #signals = 0;

  static async start(request: MountRequest): Promise<MountProcess> {
    const clock = new SystemClock();
    let mounted: MountProcess | undefined;
    const client = await openSession(request, clock, (why) => mounted?.onServerLost(why));
    const { settings, directory, sourceText } = request;
    cpuIdle.configure(settings.cpuIdle);
    let driver: NativeDriver | FuseNativeDriver;
    const flags = [...settings.kernelFlags, settings.readOnly ? 'ro' : 'rw'];
    const mount = { source: sourceText, target: directory, flags };
    try {
      // Where the control socket will be: better no mount than one that cannot be asked.
      makeRuntimeDirectory();
      await removeDeadMounts(directory, request.log);
      if (settings.driver === 'fuse-native') driver = mountFuseNative({ ...mount, isRenamedTo });
      else {
        driver = mountNative({
          ...mount,
          allowOther: settings.allowOther,
          isContended: () => client.isContended,
          onBurst: cpuIdle.worked,
        });
      }
    } catch (error) {
      await client.close();
      if (error instanceof CliError) throw error;
      const text = messageOf(error);
      throw new CliError(text.includes(directory) ? text : `${directory}: ${text}`, exitCodeOf(error));
    }
    mounted = new MountProcess(request, client, driver);
    await mounted.#openControl();
    await noteForUmount(sourceText, driver.target, request.log);
    return mounted;
  }

  private constructor(request: MountRequest, client: Client, driver: NativeDriver | FuseNativeDriver) {
    this.#request = request;
    this.#client = client;
    this.#driver = driver;
    this.#server =
      driver instanceof FuseNativeDriver
        ? driver
        : new RequestServer(driver, { isKilled, isRunning, renamedNames, systemCallOf, timesRun });
    client.attachKernel(this.#server.kernel);
    this.#channelClosed = new Promise((resolve) => this.#server.start(client.operations, resolve));
    this.ended = this.#finish();
    process.on('SIGTERM', () => this.#onSignal('SIGTERM'));
    process.on('SIGINT', () => this.#onSignal('SIGINT'));
    // A mount outlives the terminal from which it was made.
    process.on('SIGHUP', () => {});
    request.log(`${request.sourceText} mounted on ${driver.target}`);
    if (driver instanceof NativeDriver && !driver.wideReadahead)
      request.log(`${driver.target}: /sys cannot be written, so the kernel reads ahead little`);
  }

  async #openControl(): Promise<void> {
    const entry = findMount(await readMounts(), this.#driver.target);
    if (entry === undefined) return; // Unmounted again already.
    try {
      this.#control = await serveControl(entry.device, (asked) => this.#answer(asked));
    } catch (error) {
      await this.#driver.unmount('lazy');
      throw new CliError(`cannot make the control socket: ${messageOf(error)}`, Exit.system);
    }
  }

  #answer(asked: ControlRequest): Promise<ControlAnswer> {
    if (asked.op === 'status') return Promise.resolve({ ok: true, stats: this.#status() });
    if (asked.op === 'stats') return Promise.resolve({ ok: true, stats: this.#stats() });
    if (asked.op === 'remount') return this.#mayRemount(asked.readOnly, asked.fixed);
    if (asked.op === 'readOnly') return this.#setReadOnly(asked.readOnly);
    return this.#unmount(asked.force ? 'force' : asked.lazy ? 'lazy' : 'plain');
  }

  async #mayRemount(
    readOnly: boolean,
    fixed: Readonly<Record<string, FixedSetting>>,
  ): Promise<ControlAnswer> {
    const { directory, settings } = this.#request;
    const refuse = (why: string): ControlAnswer => ({
      ok: false,
      error: `${directory}: ${why}`,
      exitCode: Exit.failed,
    });
    const own = fixedSettings(settings);
    const changed = Object.keys(fixed).find((option) => fixed[option] !== own[option]);
    if (changed !== undefined)
      return refuse(`${changed} cannot be changed by a remount; unmount and mount again`);
    if (!readOnly && settings.readOnly) {
      return refuse('was mounted read-only, so its session cannot write; unmount and mount again');
    }
    // Here so that the remount itself finds little to write.
    return readOnly ? this.#flush() : { ok: true };
  }

  async #setReadOnly(readOnly: boolean): Promise<ControlAnswer> {
    const flushed = readOnly ? await this.#flush() : ({ ok: true } as const);
    if (!flushed.ok) return flushed;
    this.#client.setReadOnly(readOnly);
    this.#request.log(`${this.#request.directory} is mounted ${readOnly ? 'read-only' : 'for writing'} now`);
    return flushed;
  }

  /** Makes everything durable. */
  async #flush(): Promise<ControlAnswer> {
    const result = await this.#client.operations.fsync(ROOT_NODE);
    if (result >= 0) return { ok: true };
    const why = this.#lost ?? errnoName(-result) ?? `errno ${-result}`;
    return {
      ok: false,
      error: `${this.#request.directory}: cannot be written back: ${why}`,
      exitCode: Exit.failed,
    };
  }

  onServerLost(why: string): void {
    this.#lost = why;
    this.#request.log(`${why}; every call fails with EIO until the mount is unmounted`, 'error');
    // What the kernel holds is covered by no grant any more.
    void this.#server.kernel.forgetEverything();
  }

  async #unmount(mode: 'plain' | 'lazy' | 'force'): Promise<ControlAnswer> {
    const { directory } = this.#request;
    // First while everything still works: what fails here can still be read and saved elsewhere.
    if (mode !== 'force') this.#noteLoss(await this.#client.operations.fsync(ROOT_NODE));
    const isAborted = mode === 'force' && this.#driver.tryAbort();
    const errno = await this.#driver.unmount(mode);
    if (mode === 'force' && !isAborted && process.geteuid?.() !== 0) return this.#endAtOnce();
    if (errno !== 0) {
      const why = errno === Errno.EBUSY ? 'target is busy' : (errnoName(errno) ?? `errno ${errno}`);
      return { ok: false, error: `${directory}: ${why}`, exitCode: Exit.failed };
    }
    if (mode === 'lazy') return { ok: true };
    if (await this.#isElsewhere()) return this.#leaveElsewhere();
    await this.ended;
    if (this.#lossErrno === 0) return { ok: true };
    const why = this.#lost ?? errnoName(this.#lossErrno) ?? `errno ${this.#lossErrno}`;
    return {
      ok: false,
      error: `${directory}: unmounted, but changes were lost: ${why}`,
      exitCode: Exit.system,
    };
  }

  /** Whether another mount namespace, a container's mostly, has a copy of the mount: then the connection does not end with ours. */
  async #isElsewhere(): Promise<boolean> {
    const late = new Promise<boolean>((resolve) => setTimeout(resolve, ELSEWHERE_MS, true).unref());
    return Promise.race([this.#channelClosed.then(() => false), late]);
  }

  /** The mount is served on for the other namespace, and what was changed here is durable. */
  async #leaveElsewhere(): Promise<ControlAnswer> {
    const flushed = await this.#flush();
    if (!flushed.ok) return flushed;
    this.#request.log('unmounted, but another mount namespace has it too: served until that lets it go');
    return { ok: true, isServedOn: true };
  }

  /** The kernel ends a connection whose descriptor is closed: what is left to a user without fusectl in /sys. */
  async #endAtOnce(): Promise<ControlAnswer> {
    await this.#control?.close();
    // Behind the answer.
    setImmediate(() => process.exit(Exit.ok));
    return { ok: true };
  }

  /** A flush that failed has lost something only if there was something that was not durable. */
  #noteLoss(result: number): void {
    const { dirtyBytes, batchesApplied, batchesDurable } = this.#client.stats();
    if (result < 0 && (dirtyBytes > 0 || batchesApplied > batchesDurable)) this.#lossErrno = -result;
  }

  #onSignal(signal: string): void {
    const { log, directory } = this.#request;
    this.#signals += 1;
    if (this.#signals > 1) {
      log(`${signal} again: aborting`, 'warning');
      this.#driver.abort();
      return;
    }
    log(`${signal}: unmounting`);
    void this.#unmount('plain').then(async (answer) => {
      if (answer.ok || this.#lossErrno !== 0) return;
      log(`${answer.error}; detached, and served until nobody uses it`, 'warning');
      const errno = await this.#driver.unmount('lazy');
      if (errno !== 0) log(`${directory}: cannot be detached: ${errnoName(errno) ?? errno}`, 'error');
    });
  }

  /** Waits for the end of the mount, then of the session. */
  async #finish(): Promise<number> {
    const fault = await this.#channelClosed;
    const { log, sourceText, directory } = this.#request;
    if (fault !== null) log(`the kernel channel failed: ${fault.message}`, 'error');
    const result = await this.#client.close();
    this.#noteLoss(result);
    if (result < 0 && this.#lost === undefined) {
      this.#lossErrno = -result;
      log(`closing the session failed: ${errnoName(-result) ?? result}`, 'error');
    }
    await forgetForUmount(this.#driver.target);
    await this.#control?.close();
    log(`${sourceText} unmounted from ${directory}`);
    return fault === null ? Exit.ok : Exit.bug;
  }

  #status(): MountStatus {
    const { sourceText, directory } = this.#request;
    const { parked, parkedBytes, nodes, names, staled } = this.#server.counters();
    const session = this.#client.stats();
    return {
      source: sourceText,
      directory,
      connected: this.#lost === undefined,
      grants: {
        read: session.readRanges,
        write: session.writeRanges,
        leaving: session.leavingRanges,
        contendedInodes: session.contendedInodes,
      },
      dirty: {
        bytes: session.dirtyBytes,
        files: session.dirtyFiles,
        unsentChanges: session.unsentChanges,
        batchesInFlight: session.batchesInFlight,
      },
      cache: {
        itemBytes: session.cacheBytes,
        items: session.cacheItems,
        dataBytes: session.dataCacheBytes,
        boundBytes: session.cacheBytesMax,
      },
      waiting: { requests: parked, bytes: parkedBytes },
      kernel: { inodes: nodes, names, askedAgain: staled },
      revokes: this.#client.revokes(),
    };
  }

  #stats(): object {
    const { sourceText, directory } = this.#request;
    const { messages, bytes } = this.#client.peer.counters.report();
    const { requests, ...kernel } = this.#server.counters();
    return {
      pid: process.pid,
      source: sourceText,
      directory,
      uptimeMs: Math.round(performance.now() - this.#startedMs),
      connected: this.#lost === undefined,
      messages,
      bytes,
      requests,
      kernel,
      channel: this.#driver instanceof NativeDriver ? this.#driver.counters() : {},
      session: this.#client.stats(),
      residentBytes: process.memoryUsage.rss(),
    };
  }
}
