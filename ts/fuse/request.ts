// SPDX-License-Identifier: GPL-2.0-or-later
//
// A look at one request where it lies: in the region that the channel reads into, or in the copy of a parked one.
//
// The channel moves one `RequestView` from request to request; a handler reads it and returns, so that nothing is
// allocated. What must outlive the handler is copied by `park`. The channel has checked that every part lies inside.

import { get64, InHeader } from './abi.ts';

/** Words per request in the channel's table; as `META_WORDS` in Rust. */
export const META_WORDS = 8;

export class RequestView {
  /** The memory that the request lies in, by bytes and by words. */
  bytes: Uint8Array;
  words: Uint32Array;
  /** Word where the part after the header starts: fields are `words[body + In.x.y]`. */
  body = 0;
  opcode = 0;
  /** Identity of the request, two halves of a u64. */
  uniqueLow = 0;
  uniqueHigh = 0;
  /** The inode that the request is about. */
  node = 0;
  /** The number by which the kernel has it: another one for a directory with several (directory_nodes.ts). */
  kernelNode = 0;
  uid = 0;
  gid = 0;
  /** Thread that asks. */
  pid = 0;
  /** Places of the parts in `bytes`; 0 for a missing one. */
  nameStart = 0;
  nameLength = 0;
  secondStart = 0;
  secondLength = 0;
  dataStart = 0;
  /** Where the header lies in `bytes`, and the bytes in all. */
  start = 0;
  length = 0;
  /** Its effect has taken place and only its answer waits: a signal comes too late. */
  effective = false;
  /** How often its thread had not come to wait for the answer. */
  looks = 0;
  /** What it waits for may be with another client, which may be waiting for us. */
  waitsForOthers = true;
  /** A page that it keeps locked was left out of an invalidation, which must be made up for after the answer. */
  leftOut = false;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
  }

  /** Looks at the request that entry `index` of `meta` describes. */
  moveTo(meta: Uint32Array, index: number): void {
    const entry = index * META_WORDS;
    this.start = meta[entry]!;
    this.opcode = meta[entry + 1]!;
    this.length = meta[entry + 2]!;
    this.nameStart = meta[entry + 3]!;
    this.nameLength = meta[entry + 4]!;
    this.secondStart = meta[entry + 5]!;
    this.secondLength = meta[entry + 6]!;
    this.dataStart = meta[entry + 7]!;
    this.readHeader();
  }

  private readHeader(): void {
    const { words } = this;
    const header = this.start >>> 2;
    this.body = header + InHeader.words;
    this.uniqueLow = words[header + InHeader.unique]!;
    this.uniqueHigh = words[header + InHeader.unique + 1]!;
    this.node = get64(words, header + InHeader.node);
    this.kernelNode = this.node;
    this.looks = 0;
    this.uid = words[header + InHeader.uid]!;
    this.gid = words[header + InHeader.gid]!;
    this.pid = words[header + InHeader.pid]!;
  }

  /** Returns a view of a copy of the request, or of its first `length` bytes. */
  park(length: number = this.length): RequestView {
    const { start } = this;
    // Whole words, so that the copy has a word view too.
    const copy = new Uint8Array((length + 3) & ~3);
    copy.set(this.bytes.subarray(start, start + length));
    const parked = new RequestView(copy);
    const move = (offset: number): number => (offset === 0 ? 0 : offset - start);
    parked.opcode = this.opcode;
    parked.length = length;
    parked.nameStart = move(this.nameStart);
    parked.nameLength = this.nameLength;
    parked.secondStart = move(this.secondStart);
    parked.secondLength = this.secondLength;
    parked.dataStart = move(this.dataStart);
    parked.readHeader();
    parked.node = this.node;
    return parked;
  }

  /** The request's identity as one number, exact: the kernel counts requests from 2 on in steps of 2. */
  get unique(): number {
    return this.uniqueLow + this.uniqueHigh * 4_294_967_296;
  }
}
