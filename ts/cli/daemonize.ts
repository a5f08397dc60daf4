// SPDX-License-Identifier: GPL-2.0-or-later
// Puts a mount into the background. Node cannot fork, so the command starts itself again as a child in a session of its
// own, and waits on a pipe until the child says that the mount stands or why it does not.

import { spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { V8_OPTIONS } from '../sys/v8_options.ts';
import { CliError, Exit, messageOf } from './exit.ts';

/** The descriptor on which the child reports. */
const READY_FD = 3;

/** Set in the child's environment: how it knows that somebody waits on descriptor 3. */
const READY_VARIABLE = 'CRFS_READY_FD';

interface Outcome {
  readonly exitCode: number;
  readonly error?: string;
}

/** Whether somebody waits for this process to say that the mount stands: it is to go on in the background. */
export function isInBackground(): boolean {
  return process.env[READY_VARIABLE] === String(READY_FD);
}

/** Tells the waiting parent how the start went. Without a parent (foreground) nothing happens. */
export function reportStart(outcome: Outcome): void {
  if (!isInBackground()) return;
  delete process.env[READY_VARIABLE];
  try {
    writeSync(READY_FD, `${JSON.stringify(outcome)}\n`);
    closeSync(READY_FD);
  } catch {
    // The parent was killed meanwhile; the mount stands all the same.
  }
}

function openLog(path: string): number {
  try {
    return openSync(path, 'a', 0o640);
  } catch (error) {
    throw new CliError(`cannot open the log file: ${messageOf(error)}`, Exit.system);
  }
}

/**
 * Starts `argv` (a script of ours and its arguments) in the background and waits for its report.
 *
 * @param logFile - takes its stdout and stderr.
 * @returns when it reported success.
 * @throws CliError - when it was interrupted; with its message and exit code, when it reported failure or ended before.
 */
export async function startInBackground(argv: readonly string[], logFile: string): Promise<void> {
  const log = openLog(logFile);
  const child = spawn(process.execPath, [...V8_OPTIONS, ...process.execArgv, ...argv], {
    cwd: '/',
    detached: true,
    env: { ...process.env, [READY_VARIABLE]: String(READY_FD) },
    stdio: ['ignore', log, log, 'pipe'],
  });
  closeSync(log);
  let interruptedBy: NodeJS.Signals | undefined;
  const passOn = (signal: NodeJS.Signals): void => {
    interruptedBy = signal;
    child.kill('SIGTERM');
  };
  process.once('SIGINT', passOn).once('SIGTERM', passOn);
  const text = await new Promise<string>((resolve, reject) => {
    let said = '';
    const pipe = child.stdio[READY_FD]!;
    child.once('error', reject);
    pipe.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    pipe.once('close', () => resolve(said));
  });
  process.off('SIGINT', passOn).off('SIGTERM', passOn);
  child.unref();
  if (interruptedBy !== undefined) throw new CliError(`interrupted by ${interruptedBy}`, Exit.interrupted);
  if (text === '') {
    throw new CliError(`the background process ended before the mount stood, see ${logFile}`, Exit.system);
  }
  const outcome = JSON.parse(text) as Outcome;
  if (outcome.error !== undefined) throw new CliError(outcome.error, outcome.exitCode);
}
