// SPDX-License-Identifier: GPL-2.0-or-later
// The directories in which `crfs-bench files` works: one of a new name in each that the user names, so that nothing of the
// user's is touched, and all removed in the end. Made and removed by a program, because they may lie in mounts that hang.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { CliError, Exit, messageOf } from '../cli/exit.ts';
import type { NamedDirectory } from './files_settings.ts';
import { Interrupted } from './interrupt.ts';
import { runLoops } from './loops.ts';

export class TestDirectories {
  readonly #program: string;
  /** By the name that the user gave. */
  readonly #paths = new Map<string, string>();

  constructor(program: string) {
    this.#program = program;
  }

  /** @throws CliError - it cannot be made there, with the errno. @throws Interrupted */
  async make({ name, path }: NamedDirectory, interrupt: AbortSignal): Promise<void> {
    const made = join(path, `crfs-bench-${process.pid}-${randomBytes(4).toString('hex')}`);
    this.#paths.set(name, made);
    try {
      await runLoops(this.#program, [made, 'make'], { interrupt, apart: true });
    } catch (error) {
      // Whoever was interrupted may have made it.
      if (error instanceof Interrupted) throw error;
      this.#paths.delete(name);
      throw new CliError(`--dir ${name}=${path}: no directory can be made in it: ${messageOf(error)}`);
    }
  }

  pathOf(name: string): string {
    const path = this.#paths.get(name);
    if (path === undefined) throw new Error(`${name} has no test directory`);
    return path;
  }

  /** Those that are not removed yet. */
  get left(): string[] {
    return [...this.#paths.values()];
  }

  /** Removes all; each is tried. @throws CliError - what is left, and why. */
  async removeAll(): Promise<void> {
    const failures: string[] = [];
    for (const [name, path] of this.#paths) {
      try {
        await runLoops(this.#program, [path, 'remove'], { apart: true });
        this.#paths.delete(name);
      } catch (error) {
        failures.push(`${path} is left behind: ${messageOf(error)}`);
      }
    }
    if (failures.length > 0) throw new CliError(failures.join('; '), Exit.failed);
  }
}
