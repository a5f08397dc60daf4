// SPDX-License-Identifier: GPL-2.0-or-later
// crc32c by the addon, for what mount.crfs and crfsd give to the layers below, which know no addon.
//
// A call into the addon costs more than the sum of a short string, so short ones stay in JavaScript.

import { native } from '../../native/index.js';
import type { SectorSums } from '../client/core.ts';
import { type Crc32c, crc32c as tableCrc32c } from '../util/crc32c.ts';

/** Bytes from which on the addon is faster (measured: 0.24 us a call, some ns a byte without it). */
const ADDON_BYTES_MIN = 64;

const SECTOR_BYTES = 4096;

export const nativeCrc32c: Crc32c = (bytes, previous = 0) =>
  bytes.length < ADDON_BYTES_MIN || previous !== 0 ? tableCrc32c(bytes, previous) : native.crc32c(bytes);

export const nativeSectorSums: SectorSums = (data, sums, at) =>
  native.sectorChecksums(data, sums.subarray(at, at + Math.ceil(data.length / SECTOR_BYTES)));
