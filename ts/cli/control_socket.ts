// SPDX-License-Identifier: GPL-2.0-or-later
// The socket by which a running mount can be asked for its counters and to end: <major>:<minor>.sock in the directory
// of whoever mounted (runtime_directory.ts), found by the device number of the mount, so that nobody needs to touch the
// mounted directory itself.
//
// Only that user and root can reach it. A connection carries one request and one answer, each a line of JSON. Root may
// ask about the mount of a user, who may answer anything: an answer is bounded, and nothing but text.

import { chmod, rename, rm, stat } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { messageOf } from './exit.ts';
import { makeRuntimeDirectory, runtimeDirectories } from './runtime_directory.ts';

/** A request is one short line; whoever sends more is not one of ours. */
const REQUEST_BYTES_MAX = 4096;

/** Far more than the counters of a mount are. */
const ANSWER_BYTES_MAX = 1 << 20;

export type ControlRequest =
  | { readonly op: 'stats' }
  | { readonly op: 'status' }
  | { readonly op: 'unmount'; readonly lazy: boolean; readonly force: boolean }
  /** Whether a remount is possible; `fixed` must be what the mount has. To be read-only everything is made durable. */
  | {
      readonly op: 'remount';
      readonly readOnly: boolean;
      readonly fixed: Readonly<Record<string, FixedSetting>>;
    }
  /** From now on changes are refused, or not. */
  | { readonly op: 'readOnly'; readonly readOnly: boolean };

export type FixedSetting = number | string | boolean | null;

export type ControlAnswer =
  | {
      readonly ok: true;
      readonly stats?: object;
      /** Unmounted, but the process goes on for others. */
      readonly isServedOn?: boolean;
    }
  | { readonly ok: false; readonly error: string; readonly exitCode: number };

/** The mount that is asked: its device number and who mounted it. */
export interface ControlledMount {
  /** `major:minor`. */
  readonly device: string;
  readonly userId: number;
}

function socketName(device: string): string {
  return `${device}.sock`;
}

export interface ControlServer {
  /** Removes the socket. Connections that still wait for an answer keep it until the process ends. */
  close(): Promise<void>;
}

function serveOne(socket: Socket, answer: (request: ControlRequest) => Promise<ControlAnswer>): void {
  let text = '';
  // It stays open until this process ends, and must not be what keeps it from ending.
  socket.unref();
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    if (text.length > REQUEST_BYTES_MAX) return void socket.destroy();
    const end = text.indexOf('\n');
    if (end < 0) return;
    const line = text.slice(0, end);
    socket.removeAllListeners('data');
    socket.resume();
    void Promise.resolve()
      .then(() => answer(JSON.parse(line) as ControlRequest))
      .catch(
        (error: unknown) => ({ ok: false, error: messageOf(error), exitCode: 4 }) satisfies ControlAnswer,
      )
      // Not ended: that it closes tells the asker that this process has ended.
      .then((result) => socket.write(`${JSON.stringify(result)}\n`));
  });
}

/**
 * Listens for requests about the mount with this device number.
 *
 * The socket is made under a name of its own and then put in place: the kernel gives device numbers out again, and
 * an older process that ends late must not take away the socket of a newer mount.
 */
export async function serveControl(
  device: string,
  answer: (request: ControlRequest) => Promise<ControlAnswer>,
): Promise<ControlServer> {
  const directory = makeRuntimeDirectory();
  const path = `${directory}/${socketName(device)}`;
  const own = `${directory}/${process.pid}-${device}.new`;
  await rm(own, { force: true });
  const server: Server = createServer((socket) => serveOne(socket, answer));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(own, () => resolve());
  });
  await chmod(own, 0o600);
  const { ino } = await stat(own);
  await rename(own, path);
  server.unref();
  return {
    async close() {
      server.close();
      const found = await stat(path).catch(() => undefined);
      if (found?.ino === ino) await rm(path, { force: true });
    },
  };
}

export interface ControlReply {
  readonly answer: ControlAnswer;
  /** Resolves when the mount's process has ended (or the connection was closed by `forget`). */
  readonly ended: Promise<void>;
  forget(): void;
}

/**
 * Asks the process behind a mount.
 *
 * @returns undefined when no process listens: the mount is dead, or none of ours.
 */
export async function askControl(
  mount: ControlledMount,
  request: ControlRequest,
): Promise<ControlReply | undefined> {
  for (const directory of runtimeDirectories(mount.userId)) {
    const reply = await askSocket(`${directory}/${socketName(mount.device)}`, request);
    if (reply !== undefined) return reply;
  }
  return undefined;
}

function askSocket(path: string, request: ControlRequest): Promise<ControlReply | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const ended = new Promise<void>((done) => socket.once('close', () => done()));
    let text = '';
    socket.on('error', () => resolve(undefined));
    socket.once('close', () => resolve(undefined));
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf('\n');
      if (text.length > ANSWER_BYTES_MAX) return void socket.destroy();
      if (end < 0) return;
      const answer = parseAnswer(text.slice(0, end));
      if (answer === undefined) return void socket.destroy();
      resolve({
        answer,
        ended,
        forget: () => socket.destroy(),
      });
    });
  });
}

function parseAnswer(line: string): ControlAnswer | undefined {
  try {
    return JSON.parse(line) as ControlAnswer;
  } catch {
    return undefined; // None of ours.
  }
}
