// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bytes of files, with the checksum of each sector. All extents of a request come from the volume in one call, and
// its buffers go out as they are.

import { Errno } from '../util/errno.ts';
import { FsError } from '../util/errors.ts';
import { READ_BYTES_MAX } from '../util/limits.ts';
import type { RequestFrom } from '../wire/peer.ts';
import type { ServerState } from './state.ts';

export async function onReadData(state: ServerState, request: RequestFrom<'readData'>): Promise<void> {
  const { extents } = request.fields;
  const sector = state.volume.info.sectorSize;
  let total = 0;
  for (const { offset, length } of extents) {
    if (offset % sector !== 0 || length % sector !== 0) {
      throw new FsError(Errno.EINVAL, `read of ${length} bytes at ${offset}: not whole sectors`);
    }
    total += length;
  }
  if (total > READ_BYTES_MAX) throw new FsError(Errno.EINVAL, `read of ${total} bytes in one request`);
  const { bytes, checksums } = await state.volume.readData(extents);
  request.reply({ lengths: extents.map((extent) => extent.length) }, [checksums, bytes]);
}
