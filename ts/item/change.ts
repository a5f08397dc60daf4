// SPDX-License-Identifier: GPL-2.0-or-later
//
// Change records: what a client sends to have done (docs/protocol.md, "Changes").
//
// `ChangeLog` appends records to one growing buffer; no object is made per change. `ChangeReader` walks the records
// of a buffer and says in one line what is wrong with one that breaks the form. Whether a change is *allowed* is
// judged where it is applied.

import { copyBytes, NAME_MAX } from './dir_item.ts';
import { getI64, getU64, setI64, setU64 } from './number_fields.ts';

export const ChangeKind = {
  newInode: 1,
  setFields: 2,
  addName: 3,
  removeName: 4,
  rename: 5,
  setXattr: 6,
  removeXattr: 7,
  putData: 8,
  cut: 9,
  preallocate: 10,
  dropInode: 11,
} as const;

/** Bits of the mask of a set-fields change, in the order in which the fields follow. */
export const FieldMask = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  ctime: 64,
  inodeFlags: 128,
} as const;

/** Bits of the flags of a set-xattr change. */
export const XattrChangeFlags = { mustNotExist: 1, mustExist: 2 } as const;

export const CHANGE_HEAD_BYTES = 8;
export const SECTOR_BYTES = 4096;

/** Longest target of a symbolic link, in bytes. */
export const TARGET_MAX = 4095;

const TIME_BYTES = 12;
const NSEC_END = 1_000_000_000;

/** The fields of a set-fields change; one instance is reused. */
export class InodeFields {
  mask = 0;
  mode = 0;
  uid = 0;
  gid = 0;
  size = 0;
  atimeSec = 0;
  atimeNsec = 0;
  mtimeSec = 0;
  mtimeNsec = 0;
  ctimeSec = 0;
  ctimeNsec = 0;
  inodeFlags = 0;

  /** Takes over the fields that `other` names. */
  mergeFrom(other: InodeFields): void {
    const mask = other.mask;
    this.mask |= mask;
    if ((mask & FieldMask.mode) !== 0) this.mode = other.mode;
    if ((mask & FieldMask.uid) !== 0) this.uid = other.uid;
    if ((mask & FieldMask.gid) !== 0) this.gid = other.gid;
    if ((mask & FieldMask.size) !== 0) this.size = other.size;
    if ((mask & FieldMask.inodeFlags) !== 0) this.inodeFlags = other.inodeFlags;
    if ((mask & FieldMask.atime) !== 0) {
      this.atimeSec = other.atimeSec;
      this.atimeNsec = other.atimeNsec;
    }
    if ((mask & FieldMask.mtime) !== 0) {
      this.mtimeSec = other.mtimeSec;
      this.mtimeNsec = other.mtimeNsec;
    }
    if ((mask & FieldMask.ctime) !== 0) {
      this.ctimeSec = other.ctimeSec;
      this.ctimeNsec = other.ctimeNsec;
    }
  }
}

/** Bytes of a set-fields record with this mask. */
export function setFieldsBytes(mask: number): number {
  let bytes = CHANGE_HEAD_BYTES + 20;
  for (let bit = 1; bit <= FieldMask.inodeFlags; bit <<= 1) {
    if ((mask & bit) === 0) continue;
    if (bit <= FieldMask.gid) bytes += 4;
    else if (bit === FieldMask.size || bit === FieldMask.inodeFlags) bytes += 8;
    else bytes += TIME_BYTES;
  }
  return bytes;
}

/** A growing buffer of change records in operation order. */
export class ChangeLog {
  /** Records so far. */
  count = 0;
  /** Bytes so far. */
  length = 0;
  bytes: Uint8Array<ArrayBuffer>;
  #view: DataView<ArrayBuffer>;
  #at = 0;

  constructor(initialBytes = 65_536) {
    this.bytes = new Uint8Array(initialBytes);
    this.#view = new DataView(this.bytes.buffer);
  }

  clear(): void {
    this.count = 0;
    this.length = 0;
  }

  #begin(kind: number, flags: number, size: number): void {
    const end = this.length + size;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
      larger.set(this.bytes.subarray(0, this.length));
      this.bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#view.setUint32(this.length, size, true);
    this.#view.setUint32(this.length + 4, kind | (flags << 8), true);
    this.#at = this.length + CHANGE_HEAD_BYTES;
    this.length = end;
    this.count++;
  }

  #u16(value: number): void {
    this.#view.setUint16(this.#at, value, true);
    this.#at += 2;
  }

  #u32(value: number): void {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
  }

  #u64(value: number): void {
    setU64(this.#view, this.#at, value);
    this.#at += 8;
  }

  #time(sec: number, nsec: number): void {
    setI64(this.#view, this.#at, sec);
    this.#view.setUint32(this.#at + 8, nsec, true);
    this.#at += TIME_BYTES;
  }

  #raw(bytes: Uint8Array, start: number, length: number): void {
    copyBytes(this.bytes, this.#at, bytes, start, length);
    this.#at += length;
  }

  /** @param target - of a symbolic link; empty otherwise. */
  newInode(
    tree: number,
    ino: number,
    mode: number,
    uid: number,
    gid: number,
    rdev: number,
    sec: number,
    nsec: number,
    target: Uint8Array,
  ): void {
    this.#begin(ChangeKind.newInode, 0, CHANGE_HEAD_BYTES + 50 + target.length);
    this.#u64(tree);
    this.#u64(ino);
    this.#u32(mode);
    this.#u32(uid);
    this.#u32(gid);
    this.#u64(rdev);
    this.#time(sec, nsec);
    this.#u16(target.length);
    this.#raw(target, 0, target.length);
  }

  setFields(tree: number, ino: number, fields: InodeFields): void {
    const mask = fields.mask;
    this.#begin(ChangeKind.setFields, 0, setFieldsBytes(mask));
    this.#u64(tree);
    this.#u64(ino);
    this.#u32(mask);
    if ((mask & FieldMask.mode) !== 0) this.#u32(fields.mode);
    if ((mask & FieldMask.uid) !== 0) this.#u32(fields.uid);
    if ((mask & FieldMask.gid) !== 0) this.#u32(fields.gid);
    if ((mask & FieldMask.size) !== 0) this.#u64(fields.size);
    if ((mask & FieldMask.atime) !== 0) this.#time(fields.atimeSec, fields.atimeNsec);
    if ((mask & FieldMask.mtime) !== 0) this.#time(fields.mtimeSec, fields.mtimeNsec);
    if ((mask & FieldMask.ctime) !== 0) this.#time(fields.ctimeSec, fields.ctimeNsec);
    if ((mask & FieldMask.inodeFlags) !== 0) this.#u64(fields.inodeFlags);
  }

  #name(
    kind: number,
    tree: number,
    dir: number,
    index: number,
    ino: number,
    sec: number,
    nsec: number,
    name: Uint8Array,
  ): void {
    this.#begin(kind, 0, CHANGE_HEAD_BYTES + 46 + name.length);
    this.#u64(tree);
    this.#u64(dir);
    this.#u64(index);
    this.#u64(ino);
    this.#time(sec, nsec);
    this.#u16(name.length);
    this.#raw(name, 0, name.length);
  }

  addName(
    tree: number,
    dir: number,
    index: number,
    ino: number,
    sec: number,
    nsec: number,
    name: Uint8Array,
  ): void {
    this.#name(ChangeKind.addName, tree, dir, index, ino, sec, nsec, name);
  }

  removeName(
    tree: number,
    dir: number,
    index: number,
    ino: number,
    sec: number,
    nsec: number,
    name: Uint8Array,
  ): void {
    this.#name(ChangeKind.removeName, tree, dir, index, ino, sec, nsec, name);
  }

  rename(
    tree: number,
    ino: number,
    sec: number,
    nsec: number,
    sourceDir: number,
    sourceIndex: number,
    targetDir: number,
    targetIndex: number,
    sourceName: Uint8Array,
    targetName: Uint8Array,
  ): void {
    const names = sourceName.length + targetName.length;
    this.#begin(ChangeKind.rename, 0, CHANGE_HEAD_BYTES + 64 + names);
    this.#u64(tree);
    this.#u64(ino);
    this.#time(sec, nsec);
    this.#u64(sourceDir);
    this.#u64(sourceIndex);
    this.#u64(targetDir);
    this.#u64(targetIndex);
    this.#u16(sourceName.length);
    this.#u16(targetName.length);
    this.#raw(sourceName, 0, sourceName.length);
    this.#raw(targetName, 0, targetName.length);
  }

  setXattr(
    tree: number,
    ino: number,
    sec: number,
    nsec: number,
    flags: number,
    name: Uint8Array,
    value: Uint8Array,
  ): void {
    this.#begin(ChangeKind.setXattr, flags, CHANGE_HEAD_BYTES + 34 + name.length + value.length);
    this.#u64(tree);
    this.#u64(ino);
    this.#time(sec, nsec);
    this.#u16(name.length);
    this.#u32(value.length);
    this.#raw(name, 0, name.length);
    this.#raw(value, 0, value.length);
  }

  removeXattr(tree: number, ino: number, sec: number, nsec: number, name: Uint8Array): void {
    this.#begin(ChangeKind.removeXattr, 0, CHANGE_HEAD_BYTES + 30 + name.length);
    this.#u64(tree);
    this.#u64(ino);
    this.#time(sec, nsec);
    this.#u16(name.length);
    this.#raw(name, 0, name.length);
  }

  /** The payload goes to the batch's data section. */
  putData(
    tree: number,
    ino: number,
    offset: number,
    length: number,
    newSize: number,
    sec: number,
    nsec: number,
  ): void {
    this.#begin(ChangeKind.putData, 0, CHANGE_HEAD_BYTES + 48);
    this.#u64(tree);
    this.#u64(ino);
    this.#u64(offset);
    this.#u32(length);
    this.#u64(newSize);
    this.#time(sec, nsec);
  }

  cut(tree: number, ino: number, offset: number, length: number, sec: number, nsec: number): void {
    this.#begin(ChangeKind.cut, 0, CHANGE_HEAD_BYTES + 44);
    this.#u64(tree);
    this.#u64(ino);
    this.#u64(offset);
    this.#u64(length);
    this.#time(sec, nsec);
  }

  preallocate(
    tree: number,
    ino: number,
    offset: number,
    length: number,
    newSize: number,
    sec: number,
    nsec: number,
  ): void {
    this.#begin(ChangeKind.preallocate, 0, CHANGE_HEAD_BYTES + 52);
    this.#u64(tree);
    this.#u64(ino);
    this.#u64(offset);
    this.#u64(length);
    this.#u64(newSize);
    this.#time(sec, nsec);
  }

  dropInode(tree: number, ino: number): void {
    this.#begin(ChangeKind.dropInode, 0, CHANGE_HEAD_BYTES + 16);
    this.#u64(tree);
    this.#u64(ino);
  }

  /** Whether the record at `at` is the last one. */
  endsAt(at: number): boolean {
    return at < this.length && at + this.#view.getUint32(at, true) === this.length;
  }

  /** Takes the last record back, which begins at `at`. */
  cutBack(at: number): void {
    this.length = at;
    this.count--;
  }

  /** Appends records as they are, for what is left of a refused batch. */
  copyRecord(bytes: Uint8Array, start: number, size: number): void {
    this.#begin(bytes[start + 4]!, bytes[start + 5]!, size);
    this.bytes.set(bytes.subarray(start + CHANGE_HEAD_BYTES, start + size), this.#at);
  }
}

/** Walks change records. After `next`, the fields that the kind has are valid; names are ranges of `bytes`. */
export class ChangeReader {
  kind = 0;
  flags = 0;
  /** Where the record begins, and its bytes. */
  at = 0;
  size = 0;
  tree = 0;
  /** The inode; for add and remove name the inode that the name leads to. */
  ino = 0;
  /** The directory of add and remove name; the source directory of rename. */
  dir = 0;
  index = 0;
  targetDir = 0;
  targetIndex = 0;
  mode = 0;
  uid = 0;
  gid = 0;
  rdev = 0;
  sec = 0;
  nsec = 0;
  fileOffset = 0;
  length = 0;
  newSize = 0;
  /** The name (of add, remove, xattrs; the source name of rename). */
  nameStart = 0;
  nameLength = 0;
  /** The target of a symbolic link or the target name of rename. */
  targetStart = 0;
  targetLength = 0;
  valueStart = 0;
  valueLength = 0;
  readonly fields: InodeFields = new InodeFields();
  /** What is wrong with the record at which `next` stopped, or null at the end. */
  error: string | null = null;

  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #end: number;
  #next: number;
  #cursor = 0;

  constructor(bytes: Uint8Array, start = 0, end: number = bytes.length) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#next = start;
    this.#end = end;
  }

  /** Goes on to the next record. @returns false at the end and at a record that breaks the form. */
  next(): boolean {
    const at = this.#next;
    if (at === this.#end) return false;
    if (at + CHANGE_HEAD_BYTES > this.#end) return this.#fail('a change is cut short');
    this.at = at;
    this.size = this.#view.getUint32(at, true);
    if (this.size < CHANGE_HEAD_BYTES || at + this.size > this.#end) return this.#fail('bad change size');
    this.kind = this.bytes[at + 4]!;
    this.flags = this.bytes[at + 5]!;
    if (this.#view.getUint16(at + 6, true) !== 0) return this.#fail('reserved bytes of a change are set');
    if (this.flags !== 0 && (this.kind !== ChangeKind.setXattr || this.flags > 2)) {
      return this.#fail('unknown flags of a change');
    }
    const minimum = MINIMUM_BYTES[this.kind];
    if (minimum === undefined) return this.#fail(`unknown kind of change ${this.kind}`);
    if (this.size < minimum) return this.#fail('a change is shorter than its fields');
    this.#cursor = at + CHANGE_HEAD_BYTES;
    this.#next = at + this.size;
    this.tree = this.#u64();
    const problem = this.#readFields();
    if (problem !== null) return this.#fail(problem);
    if (this.#cursor !== this.#next) return this.#fail('a change has bytes after its fields');
    return true;
  }

  #fail(error: string): false {
    this.error = error;
    return false;
  }

  #u32(): number {
    this.#cursor += 4;
    return this.#view.getUint32(this.#cursor - 4, true);
  }

  #u16(): number {
    this.#cursor += 2;
    return this.#view.getUint16(this.#cursor - 2, true);
  }

  #u64(): number {
    this.#cursor += 8;
    return getU64(this.#view, this.#cursor - 8);
  }

  #time(): void {
    this.sec = getI64(this.#view, this.#cursor);
    this.nsec = this.#view.getUint32(this.#cursor + 8, true);
    this.#cursor += TIME_BYTES;
  }

  #readFields(): string | null {
    switch (this.kind) {
      case ChangeKind.newInode:
        return this.#readNewInode();
      case ChangeKind.setFields:
        return this.#readSetFields();
      case ChangeKind.addName:
      case ChangeKind.removeName:
        this.dir = this.#u64();
        this.index = this.#u64();
        this.ino = this.#u64();
        this.#time();
        this.nameLength = this.#u16();
        this.#takeName();
        return (
          this.#numbersProblem(this.dir, this.index) ??
          nameProblem(this.bytes, this.nameStart, this.nameLength)
        );
      case ChangeKind.rename:
        return this.#readRename();
      case ChangeKind.setXattr:
      case ChangeKind.removeXattr:
        return this.#readXattr();
      case ChangeKind.putData:
      case ChangeKind.cut:
      case ChangeKind.preallocate:
        return this.#readBytes();
      default:
        this.ino = this.#u64();
        this.nsec = 0;
        return this.#numbersProblem(0, 0);
    }
  }

  /** Checks what every kind has, and two numbers more. */
  #numbersProblem(one: number, two: number): string | null {
    const max = Number.MAX_SAFE_INTEGER;
    if (this.tree > max || this.ino > max || one > max || two > max)
      return 'a number of a change is over 2^53';
    if (this.nsec >= NSEC_END) return 'a time of a change has too many nanoseconds';
    return null;
  }

  #takeName(): void {
    this.nameStart = this.#cursor;
    this.#cursor += this.nameLength;
  }

  #readNewInode(): string | null {
    this.ino = this.#u64();
    this.mode = this.#u32();
    this.uid = this.#u32();
    this.gid = this.#u32();
    this.rdev = this.#u64();
    this.#time();
    this.targetLength = this.#u16();
    this.targetStart = this.#cursor;
    this.#cursor += this.targetLength;
    if (this.targetLength > TARGET_MAX) return 'the target of a symbolic link is too long';
    return this.#numbersProblem(this.rdev, 0);
  }

  #readSetFields(): string | null {
    this.ino = this.#u64();
    const fields = this.fields;
    const mask = this.#u32();
    fields.mask = mask;
    if (mask >= FieldMask.inodeFlags * 2) return 'a set-fields change has an unknown field';
    if (this.size !== setFieldsBytes(mask)) return 'a set-fields change has the wrong size';
    this.nsec = 0;
    if ((mask & FieldMask.mode) !== 0) fields.mode = this.#u32();
    if ((mask & FieldMask.uid) !== 0) fields.uid = this.#u32();
    if ((mask & FieldMask.gid) !== 0) fields.gid = this.#u32();
    if ((mask & FieldMask.size) !== 0) fields.size = this.#u64();
    let nsec = 0;
    if ((mask & FieldMask.atime) !== 0) {
      this.#time();
      fields.atimeSec = this.sec;
      fields.atimeNsec = this.nsec;
      nsec = Math.max(nsec, this.nsec);
    }
    if ((mask & FieldMask.mtime) !== 0) {
      this.#time();
      fields.mtimeSec = this.sec;
      fields.mtimeNsec = this.nsec;
      nsec = Math.max(nsec, this.nsec);
    }
    if ((mask & FieldMask.ctime) !== 0) {
      this.#time();
      fields.ctimeSec = this.sec;
      fields.ctimeNsec = this.nsec;
      nsec = Math.max(nsec, this.nsec);
    }
    if ((mask & FieldMask.inodeFlags) !== 0) fields.inodeFlags = this.#u64();
    this.nsec = nsec;
    return this.#numbersProblem((mask & FieldMask.size) !== 0 ? fields.size : 0, 0);
  }

  #readRename(): string | null {
    this.ino = this.#u64();
    this.#time();
    this.dir = this.#u64();
    this.index = this.#u64();
    this.targetDir = this.#u64();
    this.targetIndex = this.#u64();
    this.nameLength = this.#u16();
    this.targetLength = this.#u16();
    this.#takeName();
    this.targetStart = this.#cursor;
    this.#cursor += this.targetLength;
    return (
      this.#numbersProblem(this.dir, this.index) ??
      this.#numbersProblem(this.targetDir, this.targetIndex) ??
      nameProblem(this.bytes, this.nameStart, this.nameLength) ??
      nameProblem(this.bytes, this.targetStart, this.targetLength)
    );
  }

  #readXattr(): string | null {
    this.ino = this.#u64();
    this.#time();
    this.nameLength = this.#u16();
    this.valueLength = this.kind === ChangeKind.setXattr ? this.#u32() : 0;
    this.#takeName();
    this.valueStart = this.#cursor;
    this.#cursor += this.valueLength;
    if (this.nameLength === 0 || this.nameLength > NAME_MAX) return 'the name of an xattr has a bad length';
    return this.#numbersProblem(0, 0);
  }

  #readBytes(): string | null {
    this.ino = this.#u64();
    this.fileOffset = this.#u64();
    this.length = this.kind === ChangeKind.putData ? this.#u32() : this.#u64();
    this.newSize = this.kind === ChangeKind.cut ? 0 : this.#u64();
    this.#time();
    if (this.fileOffset % SECTOR_BYTES !== 0) return 'a change of bytes begins inside a sector';
    if (this.kind !== ChangeKind.putData && this.length % SECTOR_BYTES !== 0) {
      return 'a change of bytes ends inside a sector';
    }
    if (this.length === 0) return 'a change of no bytes';
    return (
      this.#numbersProblem(this.fileOffset, this.newSize) ??
      this.#numbersProblem(this.fileOffset + this.length, 0)
    );
  }
}

/** Bytes of the shortest record of each kind. */
const MINIMUM_BYTES: Readonly<Record<number, number>> = {
  [ChangeKind.newInode]: CHANGE_HEAD_BYTES + 50,
  [ChangeKind.setFields]: CHANGE_HEAD_BYTES + 20,
  [ChangeKind.addName]: CHANGE_HEAD_BYTES + 46,
  [ChangeKind.removeName]: CHANGE_HEAD_BYTES + 46,
  [ChangeKind.rename]: CHANGE_HEAD_BYTES + 64,
  [ChangeKind.setXattr]: CHANGE_HEAD_BYTES + 34,
  [ChangeKind.removeXattr]: CHANGE_HEAD_BYTES + 30,
  [ChangeKind.putData]: CHANGE_HEAD_BYTES + 48,
  [ChangeKind.cut]: CHANGE_HEAD_BYTES + 44,
  [ChangeKind.preallocate]: CHANGE_HEAD_BYTES + 52,
  [ChangeKind.dropInode]: CHANGE_HEAD_BYTES + 16,
};

/** What is wrong with a name that a peer sent, or null. */
export function nameProblem(bytes: Uint8Array, start: number, length: number): string | null {
  if (length === 0 || length > NAME_MAX) return 'a name has a bad length';
  for (let index = start; index < start + length; index++) {
    const byte = bytes[index]!;
    if (byte === 0 || byte === 0x2f) return 'a name holds a slash or a NUL';
  }
  if (bytes[start] === 0x2e && (length === 1 || (length === 2 && bytes[start + 1] === 0x2e))) {
    return 'a name is . or ..';
  }
  return null;
}
