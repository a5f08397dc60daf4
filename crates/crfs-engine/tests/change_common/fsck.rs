// SPDX-License-Identifier: GPL-2.0-or-later
//! A strict judge of the items in a model store, written from the rules of `btrfs check` and of Linux's tree checker:
//! names that agree three ways, link counts, sizes, nbytes, extents that do not overlap, exact references, orphans.

use super::model_store::{ModelStore, SECTOR};
use super::{ROOT, TREE};
use crfs_disk::constants::{file_extent, file_type, inode_flag};
use crfs_disk::dir::dir_entries;
use crfs_disk::file_extent::FileExtent;
use crfs_disk::hash::{extref_hash, name_hash};
use crfs_disk::inode::{InodeItem, inode_extrefs, inode_refs};
use crfs_disk::{Key, item_type, objectid};
use crfs_engine::DataRef;
use std::collections::{BTreeMap, BTreeSet};

type Check = Result<(), String>;

/// One name of an inode: directory, index, name.
type Name = (u64, u64, Vec<u8>);

#[derive(Default)]
struct Found {
    inodes: BTreeMap<u64, InodeItem>,
    /// By inode: from back references, from DIR_ITEMs (which carry no index), from DIR_INDEXes.
    refs: BTreeMap<u64, Vec<Name>>,
    dir_items: BTreeMap<u64, Vec<(u64, u8, Vec<u8>)>>,
    dir_indexes: BTreeMap<u64, Vec<(Name, u8)>>,
    /// Twice the sum of name lengths of each directory.
    dir_sizes: BTreeMap<u64, u64>,
    orphans: BTreeSet<u64>,
    extents: BTreeMap<u64, Vec<(u64, Vec<u8>)>>,
}

pub fn check(store: &ModelStore) -> Check {
    let mut found = Found::default();
    for ((tree, key), item) in &store.items {
        require(*tree == TREE, || format!("an item in tree {tree}"))?;
        require(item.len() + 25 <= store.leaf_space, || {
            format!("{key}: {} bytes exceed a leaf", item.len())
        })?;
        collect(&mut found, *key, item).map_err(|error| format!("{key}: {error}"))?;
    }
    check_names(&found)?;
    for (ino, inode) in &found.inodes {
        check_inode(store, &found, *ino, inode).map_err(|error| format!("inode {ino}: {error}"))?;
    }
    check_tree_of_dirs(&found)?;
    check_references(store, &found)
}

fn require(sound: bool, text: impl FnOnce() -> String) -> Check {
    if sound { Ok(()) } else { Err(text()) }
}

fn collect(found: &mut Found, key: Key, item: &[u8]) -> Check {
    if key.objectid == objectid::ORPHAN {
        require(key.kind == item_type::ORPHAN_ITEM && item.is_empty(), || "bad orphan item".into())?;
        found.orphans.insert(key.offset);
        return Ok(());
    }
    let ino = key.objectid;
    require(key.kind == item_type::INODE_ITEM || found.inodes.contains_key(&ino), || {
        "no inode item before".into()
    })?;
    match key.kind {
        item_type::INODE_ITEM => {
            require(item.len() == InodeItem::SIZE && key.offset == 0, || "bad inode item".into())?;
            found.inodes.insert(ino, InodeItem::parse(item).map_err(|error| error.to_string())?);
        }
        item_type::INODE_REF => {
            for entry in inode_refs(item) {
                let (_, entry) = entry.map_err(|error| error.to_string())?;
                found.refs.entry(ino).or_default().push((key.offset, entry.index, entry.name.to_vec()));
            }
        }
        item_type::INODE_EXTREF => {
            for entry in inode_extrefs(item) {
                let (_, entry) = entry.map_err(|error| error.to_string())?;
                require(extref_hash(entry.parent, entry.name) == key.offset, || "extref hash".into())?;
                found.refs.entry(ino).or_default().push((entry.parent, entry.index, entry.name.to_vec()));
            }
        }
        item_type::XATTR_ITEM => check_xattrs(key, item)?,
        item_type::DIR_ITEM | item_type::DIR_INDEX => collect_names(found, key, item)?,
        item_type::EXTENT_DATA => found.extents.entry(ino).or_default().push((key.offset, item.to_vec())),
        other => return Err(format!("unexpected item type {other}")),
    }
    require(!item.is_empty(), || "empty item".into())
}

fn check_xattrs(key: Key, item: &[u8]) -> Check {
    let mut names = BTreeSet::new();
    for entry in dir_entries(item) {
        let (_, entry) = entry.map_err(|error| error.to_string())?;
        require(entry.location == Key::MIN && entry.kind == file_type::XATTR, || "bad xattr head".into())?;
        require(name_hash(entry.name) == key.offset, || "xattr hash".into())?;
        require(names.insert(entry.name), || "xattr twice".into())?;
    }
    Ok(())
}

fn collect_names(found: &mut Found, key: Key, item: &[u8]) -> Check {
    for (count, entry) in dir_entries(item).enumerate() {
        let (_, entry) = entry.map_err(|error| error.to_string())?;
        require(entry.location.kind == item_type::INODE_ITEM && entry.location.offset == 0, || {
            "location".into()
        })?;
        let (ino, name) = (entry.location.objectid, entry.name.to_vec());
        require((1..=255).contains(&name.len()) && entry.data.is_empty(), || "bad name".into())?;
        if key.kind == item_type::DIR_ITEM {
            require(name_hash(&name) == key.offset, || "name hash".into())?;
            found.dir_items.entry(ino).or_default().push((key.objectid, entry.kind, name));
        } else {
            require(count == 0 && key.offset >= 2, || "bad index item".into())?;
            *found.dir_sizes.entry(key.objectid).or_default() += 2 * name.len() as u64;
            found.dir_indexes.entry(ino).or_default().push(((key.objectid, key.offset, name), entry.kind));
        }
    }
    Ok(())
}

/// The three forms of every name agree, and no directory holds a name twice.
fn check_names(found: &Found) -> Check {
    let mut seen = BTreeSet::new();
    let inos: BTreeSet<u64> =
        found.refs.keys().chain(found.dir_items.keys()).chain(found.dir_indexes.keys()).copied().collect();
    for ino in inos.into_iter().filter(|ino| *ino != ROOT) {
        let inode = found.inodes.get(&ino).ok_or_else(|| format!("a name of missing inode {ino}"))?;
        let kind =
            file_type::of_mode(inode.mode).ok_or_else(|| format!("inode {ino}: mode {:#o}", inode.mode))?;
        let mut refs = found.refs.get(&ino).cloned().unwrap_or_default();
        let mut indexes: Vec<Name> = Vec::new();
        for (name, entry_kind) in found.dir_indexes.get(&ino).into_iter().flatten() {
            require(*entry_kind == kind, || format!("inode {ino}: type in index"))?;
            indexes.push(name.clone());
        }
        let mut names: Vec<(u64, Vec<u8>)> = Vec::new();
        for (dir, entry_kind, name) in found.dir_items.get(&ino).into_iter().flatten() {
            require(*entry_kind == kind, || format!("inode {ino}: type in dir item"))?;
            require(seen.insert((*dir, name.clone())), || format!("{name:?} twice in {dir}"))?;
            names.push((*dir, name.clone()));
        }
        refs.sort();
        indexes.sort();
        require(refs == indexes, || {
            format!("inode {ino}: back references {refs:?} but indexes {indexes:?}")
        })?;
        let mut plain: Vec<(u64, Vec<u8>)> = refs.into_iter().map(|(dir, _, name)| (dir, name)).collect();
        plain.sort();
        names.sort();
        require(plain == names, || {
            format!("inode {ino}: back references {plain:?} but dir items {names:?}")
        })?;
    }
    Ok(())
}

fn check_inode(store: &ModelStore, found: &Found, ino: u64, inode: &InodeItem) -> Check {
    let names = found.refs.get(&ino).map_or(0, Vec::len) as u32;
    require(inode.nlink == names, || format!("nlink {} with {names} names", inode.nlink))?;
    require(found.orphans.contains(&ino) == (inode.nlink == 0), || {
        format!("nlink {} and orphan item", inode.nlink)
    })?;
    require(inode.generation <= store.generation && inode.transid <= store.generation, || {
        "generation".into()
    })?;
    for time in [inode.atime, inode.ctime, inode.mtime, inode.otime] {
        require(time.nsec < 1_000_000_000, || "nanoseconds".into())?;
    }
    let size = if inode.is_dir() {
        require(inode.nlink <= 1, || "directory with several names".into())?;
        found.dir_sizes.get(&ino).copied().unwrap_or(0)
    } else {
        inode.size
    };
    require(inode.size == size, || format!("directory size {} expect {size}", inode.size))?;
    let nbytes = check_extents(store, found, ino, inode)?;
    require(inode.nbytes == nbytes, || format!("nbytes {} expect {nbytes}", inode.nbytes))
}

/// Judges the file extents of one inode; the sum of their bytes.
fn check_extents(store: &ModelStore, found: &Found, ino: u64, inode: &InodeItem) -> Result<u64, String> {
    let Some(list) = found.extents.get(&ino) else {
        require(!inode.is_symlink(), || "symlink without target".into())?;
        return Ok(0);
    };
    require(inode.is_regular() || inode.is_symlink(), || "extents of what is no file".into())?;
    let (mut nbytes, mut reached) = (0, 0);
    for (offset, item) in list {
        require(*offset >= reached && offset.is_multiple_of(SECTOR), || {
            format!("extent at {offset} overlaps")
        })?;
        match FileExtent::parse(item).map_err(|error| error.to_string())? {
            FileExtent::Inline { head, data } => {
                require(list.len() == 1 && *offset == 0, || "inline extent with others".into())?;
                require(head.ram_bytes == data.len() as u64, || "inline length".into())?;
                require(inode.size == data.len() as u64, || "inline length is not the size".into())?;
                require(inode.is_symlink() || data.len() <= 2048, || "long inline data".into())?;
                require(!data.is_empty(), || "empty inline data".into())?;
                nbytes = head.ram_bytes;
            }
            FileExtent::Reg(piece) => {
                require(inode.is_regular(), || "regular extent of a symlink".into())?;
                require(piece.head.generation <= store.generation, || "extent generation".into())?;
                let fields = [
                    piece.head.ram_bytes,
                    piece.disk_bytenr,
                    piece.disk_num_bytes,
                    piece.offset,
                    piece.num_bytes,
                ];
                require(fields.iter().all(|field| field.is_multiple_of(SECTOR)), || "alignment".into())?;
                require(
                    piece.num_bytes > 0 && piece.offset + piece.num_bytes <= piece.disk_num_bytes,
                    || "piece".into(),
                )?;
                require(piece.head.ram_bytes == piece.disk_num_bytes, || "ram_bytes".into())?;
                check_sectors(store, inode, &piece)?;
                let beyond = *offset >= inode.size.div_ceil(SECTOR) * SECTOR;
                require(!beyond || piece.is_prealloc(), || {
                    format!("data at {offset} beyond the end {}", inode.size)
                })?;
                reached = offset + piece.num_bytes;
                nbytes += piece.num_bytes;
            }
        }
    }
    Ok(nbytes)
}

fn check_sectors(
    store: &ModelStore,
    inode: &InodeItem,
    piece: &crfs_disk::file_extent::FileExtentReg,
) -> Check {
    let start = piece.disk_bytenr + piece.offset;
    for at in (start..start + piece.num_bytes).step_by(SECTOR as usize) {
        let sector = store.sectors.get(&at);
        let sound = match piece.head.kind {
            file_extent::PREALLOC => sector.is_none(),
            _ => {
                sector.is_some_and(|sector| sector.checksummed == (inode.flags & inode_flag::NODATASUM == 0))
            }
        };
        require(sound, || format!("sector {at} of an extent of type {}", piece.head.kind))?;
    }
    Ok(())
}

/// Every named directory is reached from the root.
fn check_tree_of_dirs(found: &Found) -> Check {
    let root = found.inodes.get(&ROOT).ok_or("no root directory")?;
    require(root.is_dir() && found.refs[&ROOT] == [(ROOT, 0, b"..".to_vec())], || {
        "bad root directory".into()
    })?;
    for (ino, inode) in &found.inodes {
        let (mut dir, mut steps) = (*ino, 0);
        while inode.is_dir() && inode.nlink > 0 && dir != ROOT {
            dir = found.refs[&dir][0].0;
            steps += 1;
            require(steps <= found.inodes.len(), || format!("directory {ino} is its own ancestor"))?;
        }
    }
    for orphan in &found.orphans {
        require(found.inodes.contains_key(orphan), || format!("orphan item of missing inode {orphan}"))?;
    }
    Ok(())
}

/// References counted from the items are exactly those that the extents have.
fn check_references(store: &ModelStore, found: &Found) -> Check {
    let mut counted: BTreeMap<u64, (u64, BTreeMap<DataRef, u32>)> = BTreeMap::new();
    for (ino, list) in &found.extents {
        for (offset, item) in list {
            let Ok(FileExtent::Reg(piece)) = FileExtent::parse(item) else { continue };
            let owner = DataRef { root: TREE, ino: *ino, offset: offset.wrapping_sub(piece.offset) };
            let (len, refs) =
                counted.entry(piece.disk_bytenr).or_insert((piece.disk_num_bytes, BTreeMap::new()));
            require(*len == piece.disk_num_bytes, || {
                format!("extent {} has two lengths", piece.disk_bytenr)
            })?;
            *refs.entry(owner).or_default() += 1;
        }
    }
    for (bytenr, extent) in &store.extents {
        let same = counted.get(bytenr).is_some_and(|(len, refs)| *len == extent.len && *refs == extent.refs);
        require(same, || format!("extent {bytenr} {extent:?} but counted {:?}", counted.get(bytenr)))?;
    }
    require(counted.len() == store.extents.len(), || "references to extents that do not exist".into())?;
    let mut reached = 0;
    for (bytenr, extent) in &store.extents {
        require(*bytenr >= reached, || format!("extent {bytenr} overlaps the one before"))?;
        reached = bytenr + extent.len;
    }
    require(reached <= store.end, || "an extent beyond the data space".into())
}
