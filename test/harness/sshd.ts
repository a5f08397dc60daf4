// SPDX-License-Identifier: GPL-2.0-or-later
// An OpenSSH server on loopback for the comparison with sshfs: its own port, host key, user key and configuration in a
// temporary directory, nothing of the machine's own ssh is touched.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../ts/dev/command.ts';
import type { Cleanup } from './images.ts';
import { usageOf } from './processes.ts';

/** A port of loopback that nobody uses now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

async function processes(): Promise<Process[]> {
  const found: Process[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = await readFile(`/proc/${name}/status`, 'utf8');
      const command = await readFile(`/proc/${name}/cmdline`, 'utf8');
      found.push({ pid: Number(name), parent: Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]), command });
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

async function cpuOf(some: readonly Process[]): Promise<number> {
  const usages = await Promise.all(some.map(({ pid }) => usageOf(pid)));
  return usages.reduce((sum, usage) => sum + usage.cpuSeconds, 0);
}

export class SshServer {
  readonly #directory: string;
  readonly #port: number;
  #process: ChildProcess | undefined;

  private constructor(directory: string, port: number) {
    this.#directory = directory;
    this.#port = port;
  }

  static async create(directory: string, cleanup: Cleanup): Promise<SshServer> {
    const server = new SshServer(directory, await freePort());
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // Where sshd shuts in its unprivileged part; the package's service file would make it.
    await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
    for (const key of ['host_key', 'user_key']) {
      await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(directory, key)]);
    }
    const lines = [
      `Port ${server.#port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${join(directory, 'host_key')}`,
      `AuthorizedKeysFile ${join(directory, 'user_key.pub')}`,
      `PidFile ${join(directory, 'sshd.pid')}`,
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'StrictModes no',
      'UsePAM no',
      'Subsystem sftp internal-sftp',
    ];
    await writeFile(join(directory, 'sshd_config'), `${lines.join('\n')}\n`);
    cleanup.add(() => server.stop());
    return server;
  }

  async start(): Promise<void> {
    const argv = ['-D', '-e', '-f', join(this.#directory, 'sshd_config')];
    this.#process = spawn('/usr/sbin/sshd', argv, { stdio: 'ignore' });
    for (let attempt = 0; attempt < 100; attempt += 1) {
      if (await answers(this.#port)) return;
      await sleep(100);
    }
    throw new Error('sshd does not answer');
  }

  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGTERM');
    await ended;
  }

  /** Mounts `remote` of this machine on `directory` by sshfs, with its defaults. */
  async mount(remote: string, directory: string): Promise<void> {
    await mkdir(directory, { recursive: true });
    const options = [
      `port=${this.#port}`,
      `IdentityFile=${join(this.#directory, 'user_key')}`,
      'StrictHostKeyChecking=no',
      'UserKnownHostsFile=/dev/null',
      'BatchMode=yes',
    ];
    await run(['sshfs', `root@127.0.0.1:${remote}`, directory, '-o', options.join(',')], {
      timeoutMs: 60_000,
    });
  }

  /** CPU time of what serves the connections, and of the sshfs and ssh at their other end. */
  async cpuSeconds(): Promise<{ client: number; server: number }> {
    const all = await processes();
    const server = new Set([this.#process?.pid]);
    for (let before = 0; before < server.size; ) {
      before = server.size;
      for (const { pid, parent } of all) if (server.has(parent)) server.add(pid);
    }
    const key = join(this.#directory, 'user_key');
    return {
      client: await cpuOf(all.filter(({ command }) => command.includes(`IdentityFile=${key}`))),
      server: await cpuOf(all.filter(({ pid }) => server.has(pid))),
    };
  }
}
