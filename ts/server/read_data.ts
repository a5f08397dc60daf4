// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bytes of files, with the checksum of each sector. All extents of a request come from the volume in one call, and
// its buffers go out as they are.
//
// Extents begin at sectors. One may end inside a sector: it is cut there, and the checksum is that of the whole sector,
// which the client can verify at the end of the file only, where zeros follow.

import { Errno } from '../util/errno.ts';
import { FsError } from '../util/errors.ts';
import { READ_BYTES_MAX } from '../util/limits.ts';
import type { FileExtent } from '../wire/message.ts';
import type { RequestFrom } from '../wire/peer.ts';
import type { ServerState } from './state.ts';

export async function onReadData(state: ServerState, request: RequestFrom<'readData'>): Promise<void> {
  const { extents } = request.fields;
  const sector = state.volume.info.sectorSize;
  let total = 0;
  for (const { offset, length } of extents) {
    if (offset % sector !== 0) throw new FsError(Errno.EINVAL, `read at ${offset}: inside a sector`);
    total += Math.ceil(length / sector) * sector;
  }
  if (total > READ_BYTES_MAX) throw new FsError(Errno.EINVAL, `read of ${total} bytes in one request`);
  const { bytes, checksums } = await state.volume.readData(extents);
  request.reply({ lengths: extents.map((extent) => extent.length) }, [
    checksums,
    ...cut(bytes, extents, sector),
  ]);
}

/** The bytes of each extent as views; one view of all when every extent is whole sectors. */
function cut(bytes: Buffer, extents: readonly FileExtent[], sector: number): Buffer[] {
  if (extents.every((extent) => extent.length % sector === 0)) return [bytes];
  let at = 0;
  return extents.map(({ length }) => {
    const part = bytes.subarray(at, at + length);
    at += Math.ceil(length / sector) * sector;
    return part;
  });
}
