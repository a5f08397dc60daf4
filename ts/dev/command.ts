// SPDX-License-Identifier: GPL-2.0-or-later
// Runs child processes for the development scripts and the test harness.
//
// Everything is asynchronous: a test that waited synchronously for a child which uses a mount served by the same
// process would hang for ever. A command that fails throws, with its last output in the message.

import { spawn } from 'node:child_process';

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  /** Given to the child on its standard input, which is closed afterwards. */
  readonly input?: string | Uint8Array;
  /** The child is killed (SIGKILL) after this time, and the command throws. */
  readonly timeoutMs?: number;
  /** Exit codes that are not a failure; default only 0. */
  readonly allow?: readonly number[];
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `argv` with its output shown to the user, and returns its exit code (128 + n for signal n). */
export function runShown(argv: readonly string[], options: CommandOptions = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
  });
}

/** Runs `argv`, shows its output and returns it too: for commands whose output is both progress and result. */
export function runTeed(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      process.stdout.write(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => process.stderr.write(chunk));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

/**
 * Runs `argv` to its end and returns what it printed.
 *
 * @throws Error - when it ends with a code outside `allow`, by a signal, or after `timeoutMs`.
 */
export function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let timedOut = false;
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            child.kill('SIGKILL');
          }, options.timeoutMs);
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    if (options.input !== undefined) {
      child.stdin?.on('error', () => {}); // The child may end without reading; its exit code tells.
      child.stdin?.end(options.input);
    }
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const result = {
        code: code ?? 128,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      };
      if (code !== null && !timedOut && (options.allow ?? [0]).includes(code)) return resolve(result);
      const how = timedOut ? `no end after ${options.timeoutMs} ms` : (signal ?? `exit code ${code}`);
      const said = `${result.stdout.slice(-2000)}${result.stderr.slice(-2000)}`.trim();
      reject(new Error(`${argv.join(' ')}: ${how}${said === '' ? '' : `\n${said}`}`));
    });
  });
}
