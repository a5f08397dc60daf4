// SPDX-License-Identifier: GPL-2.0-or-later
// Operations by path, over a file system in memory: what libfuse's hiding of open files is made into, what is refused
// because a path does not say which inode is meant, and that a step which misses something changes nothing.

import { expect, test } from 'vitest';
import { MISS } from '../../../ts/client/operations.ts';
import { Listing, PathOperations } from '../../../ts/fuse/path_operations.ts';
import { Errno } from '../../../ts/util/errno.ts';
import { MemoryFs } from '../../fixtures/memory_fs.ts';

const O_RDWR = 2;
const S_IFREG = 0o100000;

class Bench {
  readonly fs = new MemoryFs();
  /** Names to which a program waits to rename. */
  readonly renamed = new Set<string>();
  readonly paths = new PathOperations(this.fs, 12, 34);

  make(path: string, text: string): number {
    expect(this.paths.mknod(path, S_IFREG | 0o644, 0)).toBe(0);
    const file = this.paths.open(path, O_RDWR);
    expect(this.paths.write(file, 0, Buffer.from(text))).toBe(text.length);
    return file;
  }

  text(file: number): string {
    const bytes = Buffer.alloc(100);
    return bytes.subarray(0, this.paths.read(file, 0, bytes)).toString();
  }

  names(path: string): string[] {
    const listing = new Listing();
    expect(this.paths.readdir(path, listing)).toBe(0);
    return listing.names.filter((name) => !name.startsWith('.')).sort();
  }

  allNames(): string[] {
    return [...this.fs.root.children.keys()].sort();
  }
}

const HIDDEN = '/.fuse_hidden0000000700000001';

test('what is made belongs to whom the driver serves', () => {
  const { paths } = new Bench();
  paths.mkdir('/d', 0o755);
  expect(paths.getattr('/d')).toBe(0);
  expect(paths.attr).toMatchObject({ uid: 12, gid: 34 });
});

test('an open file that libfuse hides loses its name at once, and lives on until it is closed', () => {
  const bench = new Bench();
  const { paths } = bench;
  const file = bench.make('/a', 'text');
  const caller = {};
  expect(paths.rename('/a', HIDDEN, caller)).toBe(0);
  expect(bench.allNames()).toEqual([]);
  expect(paths.replacedBy(caller)).toBeUndefined();
  expect(paths.getattr('/a')).toBe(-Errno.ENOENT);
  expect(paths.getattr(HIDDEN)).toBe(0);
  expect(paths.attr).toMatchObject({ nlink: 0, size: 4 });
  expect(paths.chmod(HIDDEN, 0o600)).toBe(0);
  expect(paths.getattrOf(file)).toBe(0);
  expect(paths.attr.mode).toBe(S_IFREG | 0o600);
  expect(bench.text(file)).toBe('text');
  expect(paths.release(file)).toBe(0);
  expect(paths.unlink(HIDDEN)).toBe(0);
  // For a program that found it by its name just before: it must find what has the name now.
  expect(paths.getattr(HIDDEN)).toBe(-Errno.ESTALE);
  expect(paths.getattr('/.fuse_hidden0000000700000002')).toBe(-Errno.ENOENT);
});

test('of a file with another name libfuse is told one link more, since it counts its own', () => {
  const bench = new Bench();
  bench.make('/a', 'text');
  bench.paths.link('/a', '/b');
  bench.paths.rename('/a', HIDDEN, {});
  bench.paths.getattr(HIDDEN);
  expect(bench.paths.attr.nlink).toBe(2);
  bench.paths.getattr('/b');
  expect(bench.paths.attr.nlink).toBe(1);
});

test('before a rename the hidden file keeps its name, and is replaced at one moment', () => {
  const bench = new Bench();
  const { paths } = bench;
  const old = bench.make('/a', 'old');
  paths.release(bench.make('/new', 'new'));
  const caller = {};
  expect(Buffer.from(paths.hidesName('/a', HIDDEN)!).toString()).toBe('a');
  expect(paths.rename('/a', HIDDEN, caller, true)).toBe(0);
  expect(bench.allNames()).toEqual(['a', 'new']);
  const replaced = paths.replacedBy(caller)!;
  expect(paths.rename('/new', '/a', caller)).toBe(0);
  expect(bench.allNames()).toEqual(['a']);
  // The rename has come: the end of the wait for it finds nothing to do.
  expect(paths.endReplacing(caller, replaced)).toBe(0);
  expect(bench.allNames()).toEqual(['a']);
  const other = paths.open('/a', O_RDWR);
  expect([bench.text(old), bench.text(other)]).toEqual(['old', 'new']);
  expect(paths.chmod('/a', 0o600)).toBe(0);
});

test('a rename that fails leaves the name to the file that it would have replaced', () => {
  const bench = new Bench();
  bench.make('/a', 'old');
  const caller = {};
  bench.paths.rename('/a', HIDDEN, caller, true);
  expect(bench.paths.rename('/missing', '/a', caller)).toBe(-Errno.ENOENT);
  expect(bench.paths.replacedBy(caller)).toBeUndefined();
  expect(bench.allNames()).toEqual(['a']);
});

test('where the rename does not come it was an unlink', () => {
  const bench = new Bench();
  bench.make('/a', 'old');
  const caller = {};
  bench.paths.rename('/a', HIDDEN, caller, true);
  const replaced = bench.paths.replacedBy(caller)!;
  bench.fs.missWhen = (operation) => operation === 'unlink';
  expect(bench.paths.endReplacing(caller, replaced)).toBe(MISS);
  bench.fs.missWhen = null;
  expect(bench.paths.endReplacing(caller, replaced)).toBe(0);
  expect(bench.allNames()).toEqual([]);
  expect(bench.paths.replacedBy(caller)).toBeUndefined();
});

test.each([
  ['a file that is not open', '/closed', HIDDEN],
  ['another directory', '/a', '/d/.fuse_hidden0000000700000001'],
  ['a number that libfuse would not take next', '/a', '/.fuse_hidden00000007000000ff'],
])('a rename to such a name is one like any other with %s', (_what, from, to) => {
  const bench = new Bench();
  bench.make('/a', 'open');
  bench.paths.release(bench.make('/closed', ''));
  bench.paths.mkdir('/d', 0o755);
  expect(bench.paths.hidesName(from, to)).toBeNull();
  expect(bench.paths.rename(from, to, {})).toBe(0);
  expect(bench.fs.find(to).nlink).toBe(1);
});

test('handles follow what this mount renames, and nothing is changed by a name that others gave to another file', () => {
  const bench = new Bench();
  const { paths, fs } = bench;
  paths.mkdir('/d', 0o755);
  const file = bench.make('/d/a', 'mine');
  paths.rename('/d', '/e', {});
  expect(paths.utimens('/e/a', -1500, 2500)).toBe(0);
  expect(fs.find('/e/a')).toMatchObject({
    atime: -2,
    atimeNsec: 500_000_000,
    mtime: 2,
    mtimeNsec: 500_000_000,
  });
  fs.unlink(fs.find('/e').id, Buffer.from('a'));
  fs.remoteCreate('/e', 'a', 'of others');
  for (const refused of [
    paths.chmod('/e/a', 0o600),
    paths.chown('/e/a', 1, 1),
    paths.utimens('/e/a', 0, 0),
    paths.truncate('/e/a', 0),
    paths.setxattr('/e/a', 'user.x', Buffer.from('x'), 0),
    paths.removexattr('/e/a', 'user.x'),
    paths.link('/e/a', '/linked'),
  ]) {
    expect(refused).toBe(-Errno.ESTALE);
  }
  expect(paths.truncateOf(file, 2)).toBe(0);
  expect(bench.text(file)).toBe('mi');
  paths.release(file);
  expect(paths.chmod('/e/a', 0o600)).toBe(0);
});

test('the kernel must look again where a name is not what it believes', () => {
  const bench = new Bench();
  bench.make('/a', '');
  bench.paths.mkdir('/d', 0o755);
  expect(bench.paths.mknod('/a', S_IFREG | 0o644, 0)).toBe(-Errno.ESTALE);
  expect(bench.paths.open('/missing', O_RDWR)).toBe(-Errno.ESTALE);
  expect(bench.paths.open('/d', O_RDWR)).toBe(-Errno.ESTALE);
  expect(bench.paths.mkdir('/a', 0o755)).toBe(-Errno.EEXIST);
});

test('a path in which bytes were lost is refused, and shown', () => {
  const bench = new Bench();
  bench.fs.mkdir(1, Buffer.from('caf\xe9', 'latin1'), 0o755, 0, 0, bench.paths.attr);
  bench.fs.mkdir(1, Buffer.alloc(255, 0xff), 0o755, 0, 0, bench.paths.attr);
  const [name, long] = bench.names('/');
  expect(name).toBe('caf\ufffd');
  expect(Buffer.byteLength(long!)).toBe(255);
  expect(bench.paths.getattr(`/${name}`)).toBe(-Errno.EILSEQ);
  expect(bench.paths.rename('/d', `/${name}`, {})).toBe(-Errno.EILSEQ);
  expect(bench.paths.symlink(name!, '/link')).toBe(-Errno.EILSEQ);
  expect(bench.paths.getxattr('/', `user.${name}`, Buffer.alloc(9))).toBe(-Errno.EILSEQ);
});

test('a step that misses something has changed nothing, and a listing goes on where it was', () => {
  const bench = new Bench();
  for (const name of ['a', 'b', 'c']) bench.paths.mkdir(`/${name}`, 0o755);
  let isMissing = true;
  bench.fs.missWhen = () => isMissing;
  const listing = new Listing();
  expect(bench.paths.readdir('/', listing)).toBe(MISS);
  expect(bench.paths.mkdir('/d', 0o755)).toBe(MISS);
  expect(bench.paths.open('/a', O_RDWR)).toBe(MISS);
  isMissing = false;
  expect(bench.paths.readdir('/', listing)).toBe(0);
  expect(listing.names.filter((name) => !name.startsWith('.'))).toEqual(['a', 'b', 'c']);
  expect(bench.paths.openFiles).toBe(0);
});
