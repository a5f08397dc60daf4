// SPDX-License-Identifier: GPL-2.0-or-later
// Real and made-up trees, moved by tar and compared by manifests (crates/crfs-testkit).

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { run } from '../../ts/dev/command.ts';
import { testProgram } from '../../ts/dev/test_programs.ts';

/** What keeps every attribute on the way through tar. */
const TAR_ATTRIBUTES = ['--xattrs', '--xattrs-include=*', '--numeric-owner'];

const LINUX_SOURCE = '/usr/src/linux-source-6.1.tar.xz';

/** Where a shell puts the output of the rest of its arguments. */
const TO_FILE = 'out="$1"; shift; exec "$@" > "$out"';

/** Packs a directory with everything that pax can hold. */
export async function pack(directory: string, tar: string): Promise<void> {
  const argv = ['tar', '--format=pax', '--sparse', ...TAR_ATTRIBUTES, '-C', directory, '-cf', tar, '.'];
  await run(argv);
}

export function unpackArguments(tar: string, directory: string): string[] {
  return ['tar', ...TAR_ATTRIBUTES, '--warning=no-timestamp', '-C', directory, '-xpf', tar];
}

/** Unpacks with all attributes. */
export async function unpack(tar: string, directory: string, timeoutMs = 900_000): Promise<void> {
  await mkdir(directory, { recursive: true });
  await run(unpackArguments(tar, directory), { timeoutMs });
}

/**
 * The kernel source of Debian's package as an uncompressed tar in `shared`, made once. It is packed afresh, since the
 * package's own tar has no entries for some directories, whose times would then differ from copy to copy.
 *
 * @param part - only this folder of it, for quick runs.
 */
export async function linuxTar(shared: string, part?: string): Promise<string> {
  const name = part === undefined ? 'linux' : `linux-${part.replaceAll('/', '-')}`;
  const tar = join(shared, `${name}.tar`);
  if ((await stat(tar).catch(() => undefined)) !== undefined) return tar;
  const unpacked = join(shared, name);
  await mkdir(unpacked, { recursive: true });
  const folder = part === undefined ? [] : [`linux-source-6.1/${part}`];
  await run(['tar', '-C', unpacked, '-xf', LINUX_SOURCE, ...folder]);
  await pack(unpacked, tar);
  await run(['rm', '-r', unpacked]);
  return tar;
}

/** The first `entries` entries of the kernel source, in the order of Debian's tar, packed like `linuxTar`. */
export async function linuxPart(shared: string, entries: number): Promise<string> {
  const tar = join(shared, `linux-first-${entries}.tar`);
  if ((await stat(tar).catch(() => undefined)) !== undefined) return tar;
  const unpacked = join(shared, `first-${entries}`);
  const list = join(shared, `first-${entries}.list`);
  await mkdir(unpacked, { recursive: true });
  // tar is ended by the closed pipe once head has seen enough.
  await run([
    'sh',
    '-c',
    'tar -tf "$1" 2> /dev/null | head -n "$2" > "$3"',
    'sh',
    LINUX_SOURCE,
    String(entries),
    list,
  ]);
  await run(['tar', '-C', unpacked, '-xf', LINUX_SOURCE, '--no-recursion', '--occurrence=1', '-T', list]);
  await pack(unpacked, tar);
  await run(['rm', '-r', unpacked, list]);
  return tar;
}

/** A tar of a seeded synthetic tree; `scratch` must lie on a file system with xattrs and 64-bit times (btrfs). */
export async function syntheticTar(
  scratch: string,
  tar: string,
  options: { seed: number; entries: number },
): Promise<void> {
  await mkdir(scratch, { recursive: true });
  const numbers = ['--seed', String(options.seed), '--entries', String(options.entries)];
  await run([testProgram('synthetic-tree'), scratch, ...numbers, '--special']);
  await pack(scratch, tar);
}

/** Writes the manifest of `directory` to `file`. */
export async function writeManifest(
  directory: string,
  file: string,
  options: readonly string[] = [],
): Promise<void> {
  const argv = [testProgram('tree-manifest'), directory, ...options];
  await run(['sh', '-c', TO_FILE, 'sh', file, ...argv], { timeoutMs: 1_800_000 });
}

async function digest(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function firstDifferences(left: string, right: string): Promise<string> {
  const { stdout } = await run(['diff', '--speed-large-files', left, right], { allow: [0, 1] });
  const lines = stdout.split('\n').slice(0, 12);
  return lines.map((line) => (line.length > 400 ? `${line.slice(0, 400)}...` : line)).join('\n');
}

/** @throws Error - with the first lines that differ. */
export async function compareManifests(expected: string, found: string, what: string): Promise<void> {
  if ((await digest(expected)) === (await digest(found))) return;
  throw new Error(`${what}: the trees differ\n${await firstDifferences(expected, found)}`);
}

export async function countLines(file: string): Promise<number> {
  let count = 0;
  for await (const _ of createInterface({ input: createReadStream(file) })) count += 1;
  return count;
}
