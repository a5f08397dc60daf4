// SPDX-License-Identifier: GPL-2.0-or-later
//
// One message to a unix socket of the datagram kind, which Node does not know.

import { native } from '../../native/index.js';

/** Never waits. @returns whether somebody took it: false if nobody listens at `path`, or if he is behind. */
export function sendDatagram(path: string, message: Uint8Array): boolean {
  try {
    native.sendDatagram(path, message);
    return true;
  } catch {
    return false;
  }
}
