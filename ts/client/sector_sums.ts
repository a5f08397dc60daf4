// SPDX-License-Identifier: GPL-2.0-or-later
//
// Checksums of sectors by a function that sums one stretch of bytes: for tests, and where the addon's bulk function
// is not at hand.

import type { Crc32c } from '../util/crc32c.ts';
import type { SectorSums } from './core.ts';

const SECTOR = 4096;

/** The sums of each sector of the data; the last one is padded with zeros. */
export function sectorSumsBy(crc32c: Crc32c): SectorSums {
  const padded = new Uint8Array(SECTOR);
  return (data, sums, at) => {
    let place = at;
    for (let start = 0; start < data.length; start += SECTOR) {
      const end = start + SECTOR;
      if (end <= data.length) {
        sums[place++] = crc32c(data.subarray(start, end));
      } else {
        padded.fill(0);
        padded.set(data.subarray(start));
        sums[place++] = crc32c(padded);
      }
    }
  };
}
