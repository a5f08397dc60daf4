// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether a tree's items say the same as the model file system: every inode with all attributes, every listing, every
//! xattr, every byte.

use super::TREE;
use super::model_fs::{ModelFs, Node};
use super::model_store::{ModelStore, SECTOR};
use crfs_disk::dir::dir_entries;
use crfs_disk::file_extent::FileExtent;
use crfs_disk::inode::InodeItem;
use crfs_disk::{Key, item_type, objectid};
use std::collections::BTreeMap;

#[derive(Default)]
struct Seen {
    children: BTreeMap<Vec<u8>, (u64, u64)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    target: Vec<u8>,
    contents: BTreeMap<u64, Vec<u8>>,
}

/// `items` are all of the tree in key order; `read` gives bytes (inode, offset, length) of regular extents.
pub fn compare(
    items: &[(Key, Vec<u8>)],
    mut read: impl FnMut(u64, u64, u64) -> Vec<u8>,
    fs: &ModelFs,
) -> Result<(), String> {
    let mut expected = fs.nodes.iter();
    for group in items.chunk_by(|a, b| a.0.objectid == b.0.objectid) {
        let ino = group[0].0.objectid;
        if ino == objectid::ORPHAN {
            continue;
        }
        let (want_ino, node) = expected.next().ok_or_else(|| format!("inode {ino} should not exist"))?;
        if *want_ino != ino || group[0].0.kind != item_type::INODE_ITEM {
            return Err(format!("inode {want_ino} is missing, found {}", group[0].0));
        }
        let inode = InodeItem::parse(&group[0].1).map_err(|error| error.to_string())?;
        compare_attributes(&inode, node).map_err(|error| format!("inode {ino}: {error}"))?;
        let seen = gather(ino, &inode, &group[1..], &mut read)?;
        compare_contents(&seen, node).map_err(|error| format!("inode {ino}: {error}"))?;
    }
    expected.next().map_or(Ok(()), |(ino, _)| Err(format!("inode {ino} is missing")))
}

fn compare_attributes(inode: &InodeItem, node: &Node) -> Result<(), String> {
    let have =
        (inode.mode, inode.uid, inode.gid, inode.rdev, inode.flags, inode.nlink, inode.size, inode.nbytes);
    let want = (node.mode, node.uid, node.gid, node.rdev, node.flags, node.nlink, node.size, node.nbytes());
    if have != want {
        return Err(format!("attributes {have:?} expect {want:?}"));
    }
    let have = (inode.atime, inode.mtime, inode.ctime, inode.otime);
    let want = (node.atime, node.mtime, node.ctime, node.otime);
    if have == want { Ok(()) } else { Err(format!("times {have:?} expect {want:?}")) }
}

fn gather(
    ino: u64,
    inode: &InodeItem,
    items: &[(Key, Vec<u8>)],
    read: &mut impl FnMut(u64, u64, u64) -> Vec<u8>,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    for (key, item) in items {
        match key.kind {
            item_type::DIR_INDEX | item_type::XATTR_ITEM => {
                for entry in dir_entries(item) {
                    let (_, entry) = entry.map_err(|error| error.to_string())?;
                    if key.kind == item_type::XATTR_ITEM {
                        seen.xattrs.insert(entry.name.to_vec(), entry.data.to_vec());
                    } else {
                        seen.children.insert(entry.name.to_vec(), (key.offset, entry.location.objectid));
                    }
                }
            }
            item_type::EXTENT_DATA => match FileExtent::parse(item).map_err(|error| error.to_string())? {
                FileExtent::Inline { data, .. } if inode.is_symlink() => seen.target = data.to_vec(),
                FileExtent::Inline { data, .. } => add_sectors(&mut seen, inode.size, 0, data),
                FileExtent::Reg(piece) if !piece.is_prealloc() && !piece.is_hole() => {
                    let data = read(ino, key.offset, piece.num_bytes);
                    add_sectors(&mut seen, inode.size, key.offset, &data);
                }
                FileExtent::Reg(_) => {}
            },
            _ => {}
        }
    }
    Ok(seen)
}

/// Keeps the bytes below the end of the file of every sector that is not all zero.
fn add_sectors(seen: &mut Seen, size: u64, offset: u64, data: &[u8]) {
    for (index, sector) in data.chunks(SECTOR as usize).enumerate() {
        let at = offset + index as u64 * SECTOR;
        let inside = size.saturating_sub(at).min(sector.len() as u64) as usize;
        let end = sector[..inside].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if end > 0 {
            seen.contents.insert(at / SECTOR, sector[..end].to_vec());
        }
    }
}

fn compare_contents(seen: &Seen, node: &Node) -> Result<(), String> {
    if seen.children != *node.children {
        return Err(format!("listing {:?} expect {:?}", seen.children, node.children));
    }
    if seen.xattrs != *node.xattrs {
        return Err("xattrs differ".into());
    }
    if seen.target != *node.target {
        return Err("symlink targets differ".into());
    }
    let want = node.contents();
    if seen.contents == want {
        return Ok(());
    }
    let differs = |sector: &&u64| seen.contents.get(sector) != want.get(sector);
    let first = seen.contents.keys().chain(want.keys()).find(differs);
    Err(format!("contents differ at sector {first:?}"))
}

/// `compare` of a model store.
pub fn compare_store(store: &ModelStore, fs: &ModelFs) -> Result<(), String> {
    let items: Vec<(Key, Vec<u8>)> =
        store.items.iter().map(|((_, key), item)| (*key, item.to_vec())).collect();
    compare(&items, |ino, offset, len| read_extent(store, ino, offset, len), fs)
}

/// The bytes of the extent item at exactly this offset.
fn read_extent(store: &ModelStore, ino: u64, offset: u64, len: u64) -> Vec<u8> {
    let key = Key::new(ino, item_type::EXTENT_DATA, offset);
    let item = &store.items[&(TREE, key)];
    let Ok(FileExtent::Reg(piece)) = FileExtent::parse(item) else { panic!("no regular extent at {key}") };
    let start = piece.disk_bytenr + piece.offset;
    let mut bytes = Vec::with_capacity(len as usize);
    for at in (start..start + len).step_by(SECTOR as usize) {
        bytes.extend_from_slice(&store.sectors[&at].bytes);
    }
    bytes
}
