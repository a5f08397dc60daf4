// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether a thread is being killed. The kernel tells of any signal to a thread that waits for us; calls on files of a
// local disk go on over signals, and programs rely on it. Only a thread that is to die must not be kept.

import { readFileSync } from 'node:fs';

/** SIGKILL in a mask of signals; a fatal signal of another kind becomes it in every thread. */
const SIGKILL_BIT = 1n << 8n;

/** Reads /proc, which is memory. A thread that is gone counts as killed. */
export function isKilled(tid: number): boolean {
  try {
    const status = readFileSync(`/proc/${tid}/status`, 'latin1');
    for (const [, mask] of status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)) {
      if ((BigInt(`0x${mask}`) & SIGKILL_BIT) !== 0n) return true;
    }
    return false;
  } catch {
    return true;
  }
}
