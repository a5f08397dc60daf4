// SPDX-License-Identifier: GPL-2.0-or-later
//
// Names that the kernel is about to be told of, packed: an eviction names tens of thousands, and an object with a
// buffer for each would outlive the young generation and stay until the whole heap is collected.

const FIRST_BYTES = 4096;

export class NameList {
  private readonly dirs: number[] = [];
  private readonly expires: boolean[] = [];
  /** Where each name ends in `bytes`; it begins where the one before ends. */
  private readonly ends: number[] = [];
  private bytes = new Uint8Array(FIRST_BYTES);
  private used = 0;

  get count(): number {
    return this.dirs.length;
  }

  /** Adds a copy of `name`. @param expire - asked for again at its next use, rather than dropped at once. */
  add(dir: number, name: Uint8Array, expire: boolean): void {
    const end = this.used + name.length;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
      larger.set(this.bytes.subarray(0, this.used));
      this.bytes = larger;
    }
    this.bytes.set(name, this.used);
    this.used = end;
    this.dirs.push(dir);
    this.expires.push(expire);
    this.ends.push(end);
  }

  dirAt(place: number): number {
    return this.dirs[place]!;
  }

  /** The directories of all names. */
  directories(): Set<number> {
    return new Set(this.dirs);
  }

  expiresAt(place: number): boolean {
    return this.expires[place]!;
  }

  /** The name's bytes, valid as long as nothing is added. */
  nameAt(place: number): Uint8Array {
    return this.bytes.subarray(place === 0 ? 0 : this.ends[place - 1]!, this.ends[place]!);
  }
}
