// SPDX-License-Identifier: GPL-2.0-or-later
// A mount namespace of its own, in which commands can be in /sbin, /etc/fstab and /etc/fuse.conf can say what a test
// wants, and nothing of it is seen on the machine: what mount(8), fusermount3 and ordinary users are tested in.
//
// /dev/fuse is open to all there, as udev makes it; /run and /var/log are empty, so that no journal listens; the working tree and Node
// are reachable for every user, whatever directories they lie in. Network and processes are the machine's.

import { spawn } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { findMount, type MountEntry, parseMountinfo } from '../../ts/cli/mountinfo.ts';
import { type CommandResult, run } from '../../ts/dev/command.ts';
import type { Cleanup } from './images.ts';
import { withTimeout } from './processes.ts';

/** The ordinary user. */
export const NOBODY = 65534;

const ANY = Array.from({ length: 256 }, (_, code) => code);
const COMMAND_MS = 60_000;

const SET_UP = `
  set -e
  own="$1" tree="$2" node="$3"
  mount -t tmpfs -o mode=755 tmpfs "$own"
  mkdir -p "$own/tree" "$own/bin" "$own/sbin"
  mount --bind "$tree" "$own/tree"
  touch "$own/bin/node"
  mount --bind "$node" "$own/bin/node"
  cp -a /sbin/. "$own/sbin"
  mount --bind "$own/sbin" "$(realpath /sbin)"
  for name in mount.crfs mount.fuse.crfs umount.crfs umount.fuse.crfs; do
    ln -sf "$own/tree/dist/cli/\${name%%.*}.crfs.js" "/sbin/$name"
  done
  mknod "$own/fuse" c 10 229
  chmod 666 "$own/fuse"
  mount --bind "$own/fuse" /dev/fuse
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t tmpfs -o mode=755 tmpfs /var/log
  echo ready
  exec sleep infinity
`;

export class PrivateMachine {
  /** Below it a test may make what it likes; everybody can enter. */
  readonly directory: string;
  readonly #pid: number;

  private constructor(directory: string, pid: number) {
    this.directory = directory;
    this.#pid = pid;
  }

  /** @param directory - of the test. */
  static async start(directory: string, cleanup: Cleanup): Promise<PrivateMachine> {
    const own = join(directory, 'machine');
    await mkdir(own);
    await chmod(directory, 0o755);
    // Helpers are called by their names; tsc does not make its output executable.
    for (const name of ['mount.crfs', 'umount.crfs']) await chmod(resolve('dist/cli', `${name}.js`), 0o755);
    const argv = ['--mount', 'sh', '-c', SET_UP, 'sh', own, resolve('.'), process.execPath];
    const child = spawn('unshare', argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise<void>((done) => child.once('close', () => done()));
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const ready = new Promise<void>((done, reject) => {
      child.stdout.once('data', () => done());
      void ended.then(() => reject(new Error(`the namespace cannot be made:\n${said}`)));
    });
    const machine = new PrivateMachine(directory, child.pid!);
    cleanup.add(async () => {
      await machine.#unmountAll();
      child.kill('SIGKILL');
      await ended;
    });
    await withTimeout(ready, COMMAND_MS, 'the namespace is not made');
    return machine;
  }

  /** Runs a command in it as root, to whatever end. */
  run(argv: readonly string[], timeoutMs = COMMAND_MS): Promise<CommandResult> {
    const path = `${this.directory}/machine/bin:${process.env['PATH'] ?? ''}`;
    return run(['nsenter', '--target', String(this.#pid), '--mount', '--', ...argv], {
      allow: ANY,
      timeoutMs,
      env: { PATH: path },
    });
  }

  /** The same as an ordinary user. */
  runAsUser(argv: readonly string[]): Promise<CommandResult> {
    return this.run([...AS_NOBODY, ...argv]);
  }

  shell(script: string, ...words: string[]): Promise<CommandResult> {
    return this.run(['sh', '-c', script, 'sh', ...words]);
  }

  shellAsUser(script: string, ...words: string[]): Promise<CommandResult> {
    return this.runAsUser(['sh', '-c', script, 'sh', ...words]);
  }

  /** A directory for a mount, or for anything; `uid` owns it. */
  async makeDirectory(name: string, uid = 0): Promise<string> {
    const directory = join(this.directory, name);
    await mkdir(directory, { mode: 0o755 });
    await run(['chown', String(uid), directory]);
    return directory;
  }

  /** Puts `text` in the place of a file that the machine has. */
  async replaceFile(path: string, text: string): Promise<void> {
    const own = join(this.directory, path.replaceAll('/', '-'));
    await writeFile(own, text, { mode: 0o644 });
    await this.run(['mount', '--bind', own, path]);
  }

  /** What is mounted on a directory there. */
  async mountOn(directory: string): Promise<MountEntry | undefined> {
    return findMount(await this.#mounts(), directory);
  }

  /** The flags of the mount on a directory, with those of the file system, as the kernel's table has them. */
  async optionsOf(directory: string): Promise<string[]> {
    const { stdout } = await this.run(['findmnt', '-n', '-o', 'OPTIONS', '--mountpoint', directory]);
    return stdout.trim().split(',');
  }

  /** The process that serves the mount on a directory. */
  async pidOf(directory: string): Promise<number> {
    const { stdout } = await this.run(['/sbin/mount.crfs', 'stats', directory, '--json']);
    return (JSON.parse(stdout) as { pid: number }).pid;
  }

  async #mounts(): Promise<MountEntry[]> {
    const { stdout } = await this.run(['cat', `/proc/${this.#pid}/mountinfo`]);
    return parseMountinfo(stdout);
  }

  /** Ends the processes that serve mounts: without a connection nothing is left to serve. */
  async #unmountAll(): Promise<void> {
    for (const { type, mountPoint } of (await this.#mounts()).reverse()) {
      if (type !== 'fuse.crfs') continue;
      await this.run(['umount', '-i', '-f', mountPoint]);
      await this.run(['umount', '-i', '-l', mountPoint]);
    }
  }
}

const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--'];

/** Waits until a process is gone (or a zombie that nobody has looked at yet). */
export async function whenGone(pid: number): Promise<void> {
  const state = (): Promise<CommandResult> => run(['cat', `/proc/${pid}/stat`], { allow: [0, 1] });
  const gone = async (): Promise<void> => {
    for (;;) {
      const { code, stdout } = await state();
      if (code !== 0 || /\) [ZX] /.test(stdout)) return;
      await new Promise((next) => setTimeout(next, 50));
    }
  };
  await withTimeout(gone(), COMMAND_MS, `process ${pid} does not end`);
}
