// SPDX-License-Identifier: GPL-2.0-or-later
//
// 64-bit little-endian fields read and written as JavaScript numbers. What is stored must be a safe integer; what
// is read from a peer may be greater and is then not exact, which callers rule out by comparing with
// Number.MAX_SAFE_INTEGER.

const TWO_32 = 0x1_0000_0000;

export function getU64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

/** Seconds of a timestamp: negative before 1970. */
export function getI64(view: DataView, at: number): number {
  return view.getInt32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}

export function setI64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / TWO_32), true);
}
