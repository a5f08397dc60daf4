// SPDX-License-Identifier: GPL-2.0-or-later
// The judges of images: btrfs-progs and the kernel's own BTRFS.
//
// A loop mount is given a way back (`Cleanup`), so that a failed test leaves no mount and no loop device behind.

import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { run } from '../../ts/dev/command.ts';

/** Undoes things in reverse order; each step is tried even if another failed. */
export class Cleanup {
  readonly #steps: (() => Promise<unknown>)[] = [];

  add(step: () => Promise<unknown>): void {
    this.#steps.push(step);
  }

  async run(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        process.stderr.write(`cleanup: ${(error as Error).message}\n`);
      }
    }
  }
}

/** Makes an image with the system's mkfs.btrfs. */
export async function makeLinuxImage(path: string, size: string, options: string[] = []): Promise<void> {
  await writeFile(path, '');
  await run(['truncate', '-s', size, path]);
  await run(['mkfs.btrfs', '-q', ...options, path]);
}

/**
 * Runs `btrfs check` in both modes with checksums of all data.
 *
 * @throws Error - with the checker's words, when either finds anything.
 */
export async function checkImage(image: string): Promise<void> {
  for (const mode of ['original', 'lowmem']) {
    const argv = ['btrfs', 'check', '--readonly', '--check-data-csum', `--mode=${mode}`, image];
    const result = await run(argv, { allow: Array.from({ length: 256 }, (_, code) => code) });
    const said = `${result.stdout}${result.stderr}`;
    // The original mode reports some faults and still exits with 0.
    const faults = said.split('\n').filter((line) => /error|warning|mismatch|wrong|corrupt/i.test(line));
    const real = faults.filter((line) => !/^no .* error|found 0 errors|no error found/i.test(line));
    if (result.code !== 0 || real.length > 0)
      throw new Error(`btrfs check --mode=${mode} ${image}:\n${said}`);
  }
}

/** A place in the kernel's log, from which later lines can be looked at. */
export async function markKernelLog(): Promise<string> {
  const mark = `crfs-test-mark-${process.pid}-${process.hrtime.bigint()}`;
  await writeFile('/dev/kmsg', `<6>${mark}\n`);
  return mark;
}

/** What the kernel's BTRFS complained about since `mark`, on `device` (for example `loop3`). */
export async function btrfsComplaints(mark: string, device: string): Promise<string[]> {
  const { stdout } = await run(['dmesg']);
  const lines = stdout.split('\n');
  const after = lines.slice(lines.findIndex((line) => line.includes(mark)) + 1);
  return after.filter(
    (line) => line.includes(`(device ${device}`) && /BTRFS.*(warning|error|critical|alert)/i.test(line),
  );
}

export interface LoopMount {
  readonly directory: string;
  /** Unmounts, and throws if the kernel's BTRFS complained meanwhile. */
  unmount(): Promise<void>;
}

/** Mounts an image with the kernel's BTRFS. */
export async function loopMount(
  image: string,
  directory: string,
  cleanup: Cleanup,
  options = 'rw',
): Promise<LoopMount> {
  await mkdir(directory, { recursive: true });
  const mark = await markKernelLog();
  const { stdout } = await run(['losetup', '--find', '--show', image]);
  const device = stdout.trim();
  let attached = true;
  const detach = async (): Promise<void> => {
    if (!attached) return;
    attached = false;
    await run(['umount', directory], { allow: [0, 32] });
    await run(['losetup', '-d', device]);
  };
  cleanup.add(detach);
  await run(['mount', '-t', 'btrfs', '-o', options, device, directory]);
  return {
    directory,
    async unmount() {
      await detach();
      const complaints = await btrfsComplaints(mark, device.replace('/dev/', ''));
      if (complaints.length > 0) throw new Error(`the kernel complained:\n${complaints.join('\n')}`);
    },
  };
}

/** Drops the kernel's clean caches, on this machine client and server alike. */
export async function dropCaches(): Promise<void> {
  await run(['sync']);
  await writeFile('/proc/sys/vm/drop_caches', '3\n');
}

/** Makes an empty file of `bytes`. */
export async function makeSparse(path: string, bytes: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, bytes);
}
