// SPDX-License-Identifier: GPL-2.0-or-later
// What `crfs-bench files` is asked to do: its options, checked. Whether a directory is there is seen when a test directory is
// made in it.

import { resolve } from 'node:path';
import { CliError } from '../cli/exit.ts';
import { parseCount, parseSize } from '../cli/size.ts';

/** Nobody reads a table of more. */
const DIRECTORIES_MAX = 16;
/** Characters of a name: a column of the table. */
const NAME_MAX = 24;
/** The paths of all files lie in memory, about 50 bytes each. */
const FILES_MAX = 1_000_000;
/** The names of directories have five digits. */
const SUBDIRECTORIES_MAX = 10_000;
/** A buffer of the loops, and what "small" may mean. */
const FILE_BYTES_MAX = 64 * 1024 ** 2;
/** Two buffers of the loops. */
const BLOCK_BYTES_MAX = 64 * 1024 ** 2;
const STREAM_BYTES_MAX = 1024 ** 4;
/** All samples lie in memory and in the JSON. */
const REPETITIONS_MAX = 1_000;

/** As they stand on the command line. */
export interface FilesOptions {
  readonly dir: readonly string[];
  readonly base: string | undefined;
  readonly files: string;
  readonly directories: string;
  readonly bytes: string;
  readonly size: string;
  readonly block: string;
  readonly repetitions: string;
  readonly warmUp: string;
  readonly dropCaches: boolean;
}

export interface NamedDirectory {
  readonly name: string;
  /** Absolute. */
  readonly path: string;
}

export interface FilesSettings {
  readonly directories: readonly NamedDirectory[];
  /** The name of the directory that the others are compared with. */
  readonly base?: string;
  /** Small files, in how many directories, of how many bytes each. */
  readonly files: number;
  readonly subdirectories: number;
  readonly fileBytes: number;
  /** The streamed file, and of how many bytes each call on it is. */
  readonly streamBytes: number;
  readonly blockBytes: number;
  readonly repetitions: number;
  /** Repetitions before those that count. */
  readonly warmUp: number;
  /** Whether all that the kernel keeps is dropped before a cold read. */
  readonly dropCaches: boolean;
}

function parseDirectory(text: string): NamedDirectory {
  const equals = text.indexOf('=');
  const name = text.slice(0, equals);
  const path = text.slice(equals + 1);
  if (equals < 1 || path === '') throw new CliError(`--dir ${text}: write NAME=PATH`);
  if (name.length > NAME_MAX || !/^[\w.+-]+$/.test(name)) {
    throw new CliError(`--dir ${text}: a name is up to ${NAME_MAX} letters, digits and any of _ . + -`);
  }
  return { name, path: resolve(path) };
}

function parseDirectories(texts: readonly string[]): NamedDirectory[] {
  if (texts.length === 0) throw new CliError('at least one --dir NAME=PATH is needed');
  if (texts.length > DIRECTORIES_MAX) throw new CliError(`--dir: at most ${DIRECTORIES_MAX}`);
  const directories = texts.map(parseDirectory);
  const names = new Set<string>();
  for (const { name } of directories) {
    if (names.has(name)) throw new CliError(`--dir: two directories have the name ${name}`);
    names.add(name);
  }
  return directories;
}

function parseBytes(text: string, what: string, min: number, max: number): number {
  const bytes = parseSize(text, what);
  if (bytes < min || bytes > max) throw new CliError(`${what}: ${text} is not from ${min} to ${max} bytes`);
  return bytes;
}

/**
 * @param mayDropCaches - whether this process is root.
 * @throws CliError - an option that is not as it must be, by its name.
 */
export function parseFilesOptions(options: FilesOptions, mayDropCaches: boolean): FilesSettings {
  const directories = parseDirectories(options.dir);
  const { base } = options;
  if (base !== undefined && !directories.some(({ name }) => name === base)) {
    throw new CliError(`--base: no --dir has the name ${base}`);
  }
  if (options.dropCaches && !mayDropCaches) throw new CliError('--drop-caches: only root can');
  const files = parseCount(options.files, '--files', FILES_MAX);
  const subdirectories = parseCount(options.directories, '--directories', SUBDIRECTORIES_MAX);
  if (subdirectories > files) throw new CliError(`--directories: ${subdirectories} for ${files} files`);
  return {
    directories,
    ...(base === undefined ? {} : { base }),
    files,
    subdirectories,
    fileBytes: parseBytes(options.bytes, '--bytes', 0, FILE_BYTES_MAX),
    streamBytes: parseBytes(options.size, '--size', 1, STREAM_BYTES_MAX),
    blockBytes: parseBytes(options.block, '--block', 8, BLOCK_BYTES_MAX),
    repetitions: parseCount(options.repetitions, '--repetitions', REPETITIONS_MAX),
    warmUp: parseCount(options.warmUp, '--warm-up', REPETITIONS_MAX, 0),
    dropCaches: options.dropCaches,
  };
}
