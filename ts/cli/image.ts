// SPDX-License-Identifier: GPL-2.0-or-later
// What the commands do with an image that is not being served: making one, and telling what is in it.
//
// crfsd serves through store/native_volume.ts; these two need the addon's own answers.

import { native } from '../../native/index.js';
import { CliError, messageOf } from './exit.ts';

export interface MakeImageOptions {
  /** The file is made, or lengthened, to this; without it what is there (a device) is taken whole. Bytes. */
  readonly sizeBytes: number | undefined;
  readonly label: string;
  readonly nodeSizeBytes: number;
  /** crc32c, xxhash64, sha256 or blake2. */
  readonly checksum: string;
  /** Overwrites a file system. */
  readonly force: boolean;
}

/** What `crfsd info` prints. */
export interface ImageDescription {
  readonly fsid: string;
  readonly label: string;
  readonly generation: number;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly nodeSizeBytes: number;
  readonly sectorSizeBytes: number;
  readonly checksum: string;
  readonly incompatFlags: string;
  readonly compatRoFlags: string;
  /** Why it could only be served read-only; empty if it could be written. */
  readonly readOnlyReasons: readonly string[];
}

/** The addon's errors start with the number of an errno, which says nothing more than the words behind it. */
function asCliError(path: string, error: unknown): CliError {
  const text = messageOf(error).replace(/^\d+ /, '');
  return new CliError(text.includes(path) ? text : `${path}: ${text}`);
}

/** Makes a file system. @returns its id. @throws CliError */
export function makeImage(path: string, options: MakeImageOptions): string {
  try {
    return native.makeFileSystem(path, options.sizeBytes ?? null, {
      label: Buffer.from(options.label),
      nodesize: options.nodeSizeBytes,
      checksum: options.checksum,
      force: options.force,
    });
  } catch (error) {
    throw asCliError(path, error);
  }
}

/** Opens an image without changing anything and says what it is. @throws CliError */
export function describeImage(path: string): ImageDescription {
  let volume: InstanceType<typeof native.NativeVolume>;
  try {
    const options = { readOnly: true, cacheBytes: 1024 * 1024, punchFreed: false };
    volume = new native.NativeVolume(
      path,
      options,
      () => {},
      () => {},
    );
  } catch (error) {
    throw asCliError(path, error);
  }
  const info = volume.info();
  volume.close();
  return {
    fsid: info.fsid,
    label: Buffer.from(info.label).toString(),
    generation: info.generation,
    totalBytes: info.deviceBytes,
    usedBytes: info.bytesUsed,
    nodeSizeBytes: info.nodesize,
    sectorSizeBytes: info.sectorsize,
    checksum: info.checksum,
    incompatFlags: `0x${info.incompatFlags.toString(16)}`,
    compatRoFlags: `0x${info.compatRoFlags.toString(16)}`,
    readOnlyReasons: info.readOnlyReasons,
  };
}
