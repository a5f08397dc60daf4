// SPDX-License-Identifier: GPL-2.0-or-later
//
// Subvolumes as a client shows them: walked into, numbered, read-only ones, and placeholders of those that are not there.

import { Buffer } from 'node:buffer';
import { expect, test } from 'vitest';
import { nodeOf, placeholderNode } from '../../../ts/client/node_id.ts';
import { type DirSink, OpenFlags, RenameFlags, SetAttr, SetAttrMask } from '../../../ts/client/operations.ts';
import { DIR_ENTRY_HEAD_BYTES, FileType, writeEntry } from '../../../ts/item/dir_item.ts';
import { InodeField } from '../../../ts/item/inode_item.ts';
import { FS_TREE, ItemType, ROOT_INO } from '../../../ts/item/key.ts';
import { nameHash } from '../../../ts/item/name_hash.ts';
import { Errno } from '../../../ts/util/errno.ts';
import {
  AttrOut,
  bytes,
  connect,
  create,
  must,
  newVolume,
  read,
  run,
  type Session,
  TestServer,
  type TestVolume,
} from './harness.ts';

const ROOT = 1;
const attr = new AttrOut();

/** Puts an entry into a root directory that leads to a subvolume, or to the place of one. */
function enter(
  volume: TestVolume,
  tree: number,
  index: number,
  text: string,
  child: number,
  isThere = true,
): void {
  const { items } = volume;
  const name = bytes(text);
  for (const [type, offset] of [
    [ItemType.dirItem, nameHash(name)],
    [ItemType.dirIndex, index],
  ] as const) {
    items.insert(tree, ROOT_INO, type, offset, DIR_ENTRY_HEAD_BYTES + name.length);
    const { view, start } = items;
    writeEntry(items.bytes, view, start, child, FileType.directory, name, 0, name.length, 0);
    view.setUint8(start + 8, ItemType.rootItem);
    items.bytes.fill(isThere ? 0xff : 0, start + 9, start + 17);
  }
  items.find(tree, ROOT_INO, ItemType.inodeItem, 0);
  const size = items.start + InodeField.size;
  items.view.setUint32(size, items.view.getUint32(size, true) + 2 * name.length, true);
}

/** `/sub`, in it `/sub/inner`, and `/sealed`, which is read-only. */
function withSubvolumes(): TestVolume {
  const volume = newVolume();
  volume.addTree(256, { parentTree: FS_TREE, parentDir: ROOT_INO });
  volume.addTree(257, { parentTree: 256, parentDir: ROOT_INO });
  volume.addTree(258, { parentTree: FS_TREE, parentDir: ROOT_INO, readOnly: true });
  enter(volume, FS_TREE, 2, 'sub', 256);
  enter(volume, 256, 2, 'inner', 257);
  enter(volume, FS_TREE, 3, 'sealed', 258);
  return volume;
}

async function nodeAt({ ops }: Session, ...path: string[]): Promise<number> {
  let node = ROOT;
  for (const name of path) {
    const dir = node;
    await must(ops, () => ops.lookup(dir, bytes(name), attr));
    node = attr.node;
  }
  return node;
}

/** `name inode` of each entry. */
async function list({ ops }: Session, dir: number): Promise<string[]> {
  const found: string[] = [];
  const sink: DirSink = {
    add(from, start, length, _node, ino) {
      found.push(`${Buffer.from(from.subarray(start, start + length)).toString('latin1')} ${ino}`);
      return true;
    },
  };
  await must(ops, () => ops.readdir(dir, 0, Infinity, sink, null));
  return found;
}

test('one walks into subvolumes and out again; numbers tell them apart', async () => {
  const volume = withSubvolumes();
  const one = await connect(volume);
  const sub = await nodeAt(one, 'sub');
  const inner = await nodeAt(one, 'sub', 'inner');
  const [subIno, innerIno] = [nodeOf(256, ROOT_INO), nodeOf(257, ROOT_INO)];
  expect([sub, attr.node, attr.ino]).toEqual([subIno, innerIno, innerIno]);
  expect(await list(one, ROOT)).toEqual([
    '. 256',
    '.. 256',
    `sub ${subIno}`,
    `sealed ${nodeOf(258, ROOT_INO)}`,
  ]);
  expect(await list(one, sub)).toEqual([`. ${subIno}`, '.. 256', `inner ${innerIno}`]);
  expect(await list(one, inner)).toEqual([`. ${innerIno}`, `.. ${subIno}`]);

  // The same number in each tree, and nothing of one in the other.
  const { ops } = one;
  const inodes: number[] = [];
  for (const dir of [ROOT, sub, inner]) inodes.push(await create(one, dir, 'file', `in ${dir}`));
  expect(inodes).toEqual([257, nodeOf(256, 257), nodeOf(257, 257)]);
  for (const dir of [ROOT, sub, inner]) expect(await read(one, dir, 'file')).toBe(`in ${dir}`);
  expect(await ops.fsync(inner)).toBe(0);
  const other = await connect(volume, { path: bytes('/sub') });
  expect(await list(other, ROOT)).toEqual([
    `. ${subIno}`,
    `.. ${subIno}`,
    `inner ${innerIno}`,
    `file ${inodes[1]}`,
  ]);
  expect(await read(other, ROOT, 'file')).toBe(`in ${sub}`);
});

test('names stay within their subvolume, and subvolumes where they are', async () => {
  const one = await connect(withSubvolumes());
  const { ops } = one;
  const sub = await nodeAt(one, 'sub');
  const inner = await nodeAt(one, 'sub', 'inner');
  const file = await create(one, ROOT, 'file');
  await must(ops, () => ops.mkdir(ROOT, bytes('dir'), 0o755, 0, 0, attr));
  const rename = (dir: number, name: string, target: number, to: string): Promise<number> =>
    run(ops, () => ops.rename(dir, bytes(name), target, bytes(to), 0));
  expect(await run(ops, () => ops.link(file, sub, bytes('link'), attr))).toBe(-Errno.EXDEV);
  expect(await rename(ROOT, 'file', sub, 'file')).toBe(-Errno.EXDEV);
  expect(await rename(ROOT, 'sub', ROOT, 'other')).toBe(-Errno.EBUSY);
  expect(await run(ops, () => ops.rename(ROOT, bytes('dir'), ROOT, bytes('sub'), RenameFlags.exchange))).toBe(
    -Errno.EBUSY,
  );
  expect(await rename(ROOT, 'dir', ROOT, 'sub')).toBe(-Errno.ENOTEMPTY);
  expect(await rename(ROOT, 'file', ROOT, 'sub')).toBe(-Errno.EISDIR);
  expect(await run(ops, () => ops.rmdir(ROOT, bytes('sub')))).toBe(-Errno.ENOTEMPTY);
  expect(await run(ops, () => ops.rmdir(sub, bytes('inner')))).toBe(-Errno.EPERM);
  expect(await run(ops, () => ops.unlink(ROOT, bytes('sub')))).toBe(-Errno.EISDIR);
  await must(ops, () => ops.create(inner, bytes('file'), 0o644, 0, 0, 0, attr));
  expect(await ops.fsync(inner)).toBe(0);
});

test('nothing changes in a read-only subvolume: the client says so, and so does the server', async () => {
  const volume = withSubvolumes();
  const server = new TestServer(volume);
  await server.server.start();
  const one = await server.connect();
  const { ops } = one;
  const sealed = await nodeAt(one, 'sealed');
  const set = new SetAttr();
  set.mask = SetAttrMask.mode;
  const changes: (() => number)[] = [
    () => ops.create(sealed, bytes('file'), 0o644, 0, 0, 0, attr),
    () => ops.mkdir(sealed, bytes('dir'), 0o755, 0, 0, attr),
    () => ops.setattr(sealed, set, attr),
    () => ops.setxattr(sealed, bytes('user.x'), bytes('y'), 0),
    () => ops.rename(sealed, bytes('a'), sealed, bytes('b'), 0),
    () => ops.rename(ROOT, bytes('sub'), sealed, bytes('b'), 0),
    () => ops.open(sealed, OpenFlags.write),
  ];
  const before = one.messages();
  for (const change of changes) expect(change()).toBe(-Errno.EROFS);
  expect(one.messages()).toBe(before);
  // One that does not know it, or pretends to.
  one.client.inner.subvolumes.clear();
  for (const change of changes.slice(0, 4)) expect(await run(ops, change)).toBe(-Errno.EROFS);
  expect(one.messages()).toBeGreaterThan(before);
  expect(volume.batches).toEqual([]);
  await create(one, ROOT, 'file');
  expect(await ops.fsync(ROOT)).toBe(0);
});

test('a subvolume that is not there is an empty directory in which nothing can change', async () => {
  const volume = withSubvolumes();
  enter(volume, 256, 3, 'absent', 300, false);
  const one = await connect(volume);
  const { ops } = one;
  const sub = await nodeAt(one, 'sub');
  await must(ops, () => ops.getattr(sub, attr));
  const parent = { uid: attr.uid, mtimeSec: attr.mtimeSec };
  const node = await nodeAt(one, 'sub', 'absent');
  expect([node, attr.ino]).toEqual([placeholderNode(256, 300), node]);
  expect({ ...attr }).toMatchObject({ ...parent, mode: 0o40755, nlink: 1, size: 0, cacheable: false });
  await must(ops, () => ops.getattr(node, attr));
  expect(attr.node).toBe(node);
  expect(await list(one, sub)).toContain(`absent ${node}`);
  expect(await list(one, node)).toEqual([`. ${node}`, `.. ${sub}`]);
  expect(await run(ops, () => ops.lookup(node, bytes('file'), attr))).toBe(-Errno.ENOENT);
  expect(await run(ops, () => ops.listxattr(node, new Uint8Array(0)))).toBe(0);
  // The kernel takes an error that it does not expect for an ACL that refuses everything.
  const acl = bytes('system.posix_acl_access');
  expect(await run(ops, () => ops.getxattr(node, acl, new Uint8Array(0)))).toBe(-Errno.ENODATA);
  expect(await run(ops, () => ops.open(node, 0))).toBe(0);
  ops.release(node, 0);
  expect(await run(ops, () => ops.mkdir(node, bytes('dir'), 0o755, 0, 0, attr))).toBe(-Errno.EROFS);
  expect(await run(ops, () => ops.rmdir(sub, bytes('absent')))).toBe(-Errno.EPERM);
  ops.forget(node);
  expect(await run(ops, () => ops.getattr(node, attr))).toBe(-Errno.ESTALE);
  expect(await nodeAt(one, 'sub', 'absent')).toBe(node);
  await expect(connect(volume, { path: bytes('/sub/absent') })).rejects.toThrow('does not contain');
});
