// SPDX-License-Identifier: GPL-2.0-or-later
//
// What changes cost of a reservation of space, in bytes (docs/protocol.md, "Space"). Client and server count alike:
// the client before it accepts an operation, the server when a batch was applied.

import { ChangeKind } from '../item/change.ts';

const SECTOR_BYTES = 4096;
/** Cost of a name, new or moved: its three items, and the leaves that they may split. */
export const NAME_COST: number = SECTOR_BYTES;
/** Cost of a cut: the extent in whose middle it lies becomes two. */
export const CUT_COST: number = SECTOR_BYTES;

/** Cost of a new inode. @param targetLength - of a symbolic link; 0 for others */
export function newInodeCost(targetLength: number): number {
  return SECTOR_BYTES + 2 * targetLength;
}

/** Cost of put data and preallocate. @param length - bytes */
export function bytesCost(length: number): number {
  return Math.ceil(length / SECTOR_BYTES) * SECTOR_BYTES;
}

/** Cost of set xattr. @param valueLength - bytes */
export function xattrCost(valueLength: number): number {
  return SECTOR_BYTES + 2 * valueLength;
}

const TARGET_LENGTH_AT = 56;
const LENGTH_AT = 32;
const XATTR_VALUE_LENGTH_AT = 38;

/**
 * Cost of all changes of a batch. Looks at heads and lengths only; records that break the form end the count, since
 * such a batch is refused anyway.
 */
export function changesCost(changes: Uint8Array): number {
  const view = new DataView(changes.buffer, changes.byteOffset, changes.byteLength);
  let cost = 0;
  let size: number;
  for (let at = 0; at + 8 <= changes.length; at += size) {
    size = view.getUint32(at, true);
    if (size < 8 || at + size > changes.length) break;
    const kind = changes[at + 4]!;
    if (kind === ChangeKind.newInode && size >= TARGET_LENGTH_AT + 2) {
      cost += newInodeCost(view.getUint16(at + TARGET_LENGTH_AT, true));
    } else if (kind === ChangeKind.addName || kind === ChangeKind.rename) cost += NAME_COST;
    else if (kind === ChangeKind.cut) cost += CUT_COST;
    else if (kind === ChangeKind.setXattr && size >= XATTR_VALUE_LENGTH_AT + 4) {
      cost += xattrCost(view.getUint32(at + XATTR_VALUE_LENGTH_AT, true));
    } else if (kind === ChangeKind.putData && size >= LENGTH_AT + 4) {
      cost += bytesCost(view.getUint32(at + LENGTH_AT, true));
    } else if (kind === ChangeKind.preallocate && size >= LENGTH_AT + 8) {
      cost += bytesCost(
        view.getUint32(at + LENGTH_AT + 4, true) * 0x1_0000_0000 + view.getUint32(at + LENGTH_AT, true),
      );
    }
  }
  return cost;
}
