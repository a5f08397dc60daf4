// SPDX-License-Identifier: GPL-2.0-or-later
//! Rules of the items of an inode: its inode item, names, xattrs and file extents.

use super::{ItemContext, is_fs_tree};
use crate::constants::{NAME_MAX, file_extent, file_type, inode_flag, item_type, objectid};
use crate::dir::{DirEntry, dir_entries};
use crate::file_extent::{FileExtent, FileExtentHead, FileExtentReg, compression};
use crate::hash::{extref_hash, name_hash};
use crate::header::{Header, ItemHeader};
use crate::inode::{InodeExtref, InodeItem, InodeRef, S_IFMT, inode_extrefs, inode_refs};
use crate::key::Key;

/// Every item of an inode in a subvolume follows another item of that inode; else its INODE_ITEM is missing.
fn check_previous_ino(item: &ItemContext<'_>) -> Result<(), String> {
    match item.previous {
        Some((previous, _)) if is_fs_tree(item.owner) && previous.objectid != item.key.objectid => Err(
            format!("invalid previous key objectid, have {} expect {}", previous.objectid, item.key.objectid),
        ),
        _ => Ok(()),
    }
}

fn check_ino(item: &ItemContext<'_>, what: &str, ino: u64) -> Result<(), String> {
    let range = objectid::FIRST_FREE..=objectid::LAST_FREE;
    let sound = range.contains(&ino) || ino == objectid::ROOT_TREE_DIR || ino == objectid::FREE_INO;
    item.require(sound, || {
        format!(
            "invalid {what}, have {ino} expect 6, {} or [256, {}]",
            objectid::FREE_INO,
            objectid::LAST_FREE
        )
    })
}

pub fn check_inode_item(item: &ItemContext<'_>) -> Result<(), String> {
    check_ino(item, "key objectid", item.key.objectid)?;
    item.require(item.key.offset == 0, || format!("invalid key offset, have {} expect 0", item.key.offset))?;
    item.require_size(InodeItem::SIZE)?;
    let inode = InodeItem::parse(item.data).map_err(|error| error.to_string())?;
    item.require_generation("inode generation", inode.generation)?;
    item.require_generation("inode transid", inode.transid)?;
    let unknown_mode = inode.mode & !(S_IFMT | 0o7777);
    item.require(unknown_mode == 0, || format!("unknown mode bit detected: {unknown_mode:#x}"))?;
    item.require(file_type::of_mode(inode.mode).is_some(), || {
        format!("invalid mode, have {:#o} expect a valid file type", inode.mode & S_IFMT)
    })?;
    item.require(!inode.is_dir() || inode.nlink <= 1, || {
        format!("invalid nlink, have {} expect no more than 1 for a directory", inode.nlink)
    })?;
    let unknown_flags = inode.flags & !(inode_flag::MASK | inode_flag::RO_VERITY);
    item.require(unknown_flags == 0, || format!("unknown inode flags detected: {unknown_flags:#x}"))?;
    for (name, time) in [("atime", inode.atime), ("ctime", inode.ctime), ("mtime", inode.mtime)] {
        item.require(time.nsec < 1_000_000_000, || {
            format!("invalid {name}, have {} nanoseconds", time.nsec)
        })?;
    }
    Ok(())
}

fn check_name_len(item: &ItemContext<'_>, len: usize) -> Result<(), String> {
    item.require((1..=NAME_MAX).contains(&len), || {
        format!("invalid name length, have {len} expect [1, {NAME_MAX}]")
    })
}

pub fn check_inode_ref(item: &ItemContext<'_>) -> Result<(), String> {
    check_previous_ino(item)?;
    item.require(item.data.len() > InodeRef::HEAD, || {
        format!("invalid item size, have {} expect more than {}", item.data.len(), InodeRef::HEAD)
    })?;
    for entry in inode_refs(item.data) {
        let (_, entry) = entry.map_err(|error| error.to_string())?;
        check_name_len(item, entry.name.len())?;
    }
    Ok(())
}

pub fn check_inode_extref(item: &ItemContext<'_>) -> Result<(), String> {
    check_previous_ino(item)?;
    item.require(item.data.len() > InodeExtref::HEAD, || {
        format!("invalid item size, have {} expect more than {}", item.data.len(), InodeExtref::HEAD)
    })?;
    for entry in inode_extrefs(item.data) {
        let (_, entry) = entry.map_err(|error| error.to_string())?;
        check_name_len(item, entry.name.len())?;
        let hash = extref_hash(entry.parent, entry.name);
        item.require(hash == item.key.offset, || {
            format!("extref hash mismatch with key, have {hash:#x} expect {:#x}", item.key.offset)
        })?;
    }
    Ok(())
}

pub fn check_dir_item(item: &ItemContext<'_>) -> Result<(), String> {
    check_previous_ino(item)?;
    let mut count = 0;
    for entry in dir_entries(item.data) {
        let (_, entry) = entry.map_err(|error| error.to_string())?;
        check_location(item, &entry)?;
        check_entry(item, &entry)?;
        count += 1;
    }
    item.require(count > 0, || "dir item without an entry".into())?;
    item.require(count == 1 || item.key.kind != item_type::DIR_INDEX, || {
        format!("dir index with {count} entries, expect 1")
    })
}

fn check_location(item: &ItemContext<'_>, entry: &DirEntry<'_>) -> Result<(), String> {
    let location = entry.location;
    if item.key.kind == item_type::XATTR_ITEM {
        return item.require(location == Key::MIN, || {
            format!("invalid xattr location, have {location} expect zero")
        });
    }
    match location.kind {
        item_type::INODE_ITEM => {
            check_ino(item, "location key objectid", location.objectid)?;
            item.require(location.offset == 0, || {
                format!("invalid location key offset, have {} expect 0", location.offset)
            })
        }
        item_type::ROOT_ITEM => item.require(is_fs_tree(location.objectid), || {
            format!("invalid location key objectid, have {} expect a subvolume", location.objectid)
        }),
        other => Err(format!(
            "invalid location key type, have {other} expect {} or {}",
            item_type::ROOT_ITEM,
            item_type::INODE_ITEM
        )),
    }
}

fn check_entry(item: &ItemContext<'_>, entry: &DirEntry<'_>) -> Result<(), String> {
    let is_xattr = item.key.kind == item_type::XATTR_ITEM;
    item.require(entry.kind < file_type::MAX && (entry.kind == file_type::XATTR) == is_xattr, || {
        format!("invalid dir item type, have {} for a key of type {}", entry.kind, item.key.kind)
    })?;
    check_name_len(item, entry.name.len())?;
    let max = Header::leaf_space(item.geometry.nodesize as usize) - ItemHeader::SIZE - DirEntry::HEAD;
    let len = entry.name.len() + entry.data.len();
    item.require(len <= max, || format!("dir item name and data too long, have {len} max {max}"))?;
    item.require(is_xattr || entry.data.is_empty(), || {
        format!("dir item with invalid data length, have {} expect 0", entry.data.len())
    })?;
    // A path walker would take such a name for something else.
    let legal = !entry.name.contains(&0) && (is_xattr || is_legal_file_name(entry.name));
    item.require(legal, || format!("illegal name {:?}", String::from_utf8_lossy(entry.name)))?;
    if item.key.kind != item_type::DIR_INDEX {
        let hash = name_hash(entry.name);
        item.require(hash == item.key.offset, || {
            format!("name hash mismatch with key, have {hash:#x} expect {:#x}", item.key.offset)
        })?;
    }
    Ok(())
}

fn is_legal_file_name(name: &[u8]) -> bool {
    !name.contains(&b'/') && name != b"." && name != b".."
}

pub fn check_extent_data(item: &ItemContext<'_>) -> Result<(), String> {
    item.require_aligned("file offset", item.key.offset)?;
    check_previous_ino(item)?;
    let extent = FileExtent::parse(item.data).map_err(|error| error.to_string())?;
    let head = match &extent {
        FileExtent::Inline { head, .. } => *head,
        FileExtent::Reg(extent) => extent.head,
    };
    item.require(head.compression <= compression::MAX, || {
        format!("invalid compression, have {} expect [0, {}]", head.compression, compression::MAX)
    })?;
    item.require(head.encryption == 0 && head.other_encoding == 0, || {
        format!("invalid encoding, have encryption {} other {}", head.encryption, head.other_encoding)
    })?;
    item.require_generation("file extent generation", head.generation)?;
    match extent {
        FileExtent::Inline { head, data } => check_inline(item, &head, data),
        FileExtent::Reg(extent) => check_regular(item, &extent),
    }?;
    check_extent_overlap(item)
}

fn check_inline(item: &ItemContext<'_>, head: &FileExtentHead, data: &[u8]) -> Result<(), String> {
    item.require(item.key.offset == 0, || {
        format!("inline extent at file offset {}, expect 0", item.key.offset)
    })?;
    let sector = u64::from(item.geometry.sectorsize);
    item.require(head.ram_bytes <= sector, || {
        format!("invalid inline ram_bytes, have {} expect at most {sector}", head.ram_bytes)
    })?;
    item.require(head.compression != compression::NONE || data.len() as u64 == head.ram_bytes, || {
        format!(
            "invalid ram_bytes for uncompressed inline extent, have {} expect {}",
            head.ram_bytes,
            data.len()
        )
    })
}

fn check_regular(item: &ItemContext<'_>, extent: &FileExtentReg) -> Result<(), String> {
    item.require_size(FileExtentReg::SIZE)?;
    item.require_aligned("ram_bytes", extent.head.ram_bytes)?;
    item.require_aligned("disk_bytenr", extent.disk_bytenr)?;
    item.require_aligned("disk_num_bytes", extent.disk_num_bytes)?;
    item.require_aligned("extent offset", extent.offset)?;
    item.require_aligned("num_bytes", extent.num_bytes)?;
    let end = item.key.offset.checked_add(extent.num_bytes);
    item.require(extent.num_bytes > 0 && end.is_some(), || {
        format!("invalid num_bytes, have {} at file offset {}", extent.num_bytes, item.key.offset)
    })?;
    let inside = |limit: u64| extent.offset.checked_add(extent.num_bytes).is_some_and(|end| end <= limit);
    item.require(inside(extent.head.ram_bytes), || {
        format!(
            "invalid extent offset {} with num_bytes {}, expect at most ram_bytes {}",
            extent.offset, extent.num_bytes, extent.head.ram_bytes
        )
    })?;
    if extent.is_hole() {
        return item.require(extent.head.kind == file_extent::REG, || {
            "preallocated extent without an address".into()
        });
    }
    item.require(
        extent.disk_num_bytes > 0 && extent.disk_bytenr.checked_add(extent.disk_num_bytes).is_some(),
        || format!("invalid disk_num_bytes, have {} at {}", extent.disk_num_bytes, extent.disk_bytenr),
    )?;
    if extent.head.compression != compression::NONE {
        return item.require(!extent.is_prealloc(), || "preallocated extent with compression".into());
    }
    item.require(inside(extent.disk_num_bytes), || {
        format!(
            "invalid extent offset {} with num_bytes {}, expect at most disk_num_bytes {}",
            extent.offset, extent.num_bytes, extent.disk_num_bytes
        )
    })
}

fn check_extent_overlap(item: &ItemContext<'_>) -> Result<(), String> {
    let Some((previous, data)) = item.previous else { return Ok(()) };
    if previous.objectid != item.key.objectid || previous.kind != item_type::EXTENT_DATA {
        return Ok(());
    }
    let Ok(extent) = FileExtent::parse(data) else { return Ok(()) };
    let sector = u64::from(item.geometry.sectorsize);
    let end = previous.offset.saturating_add(extent.file_bytes()).div_ceil(sector).saturating_mul(sector);
    item.require(end <= item.key.offset, || {
        format!("file extent starts inside the previous one, have {} after {end}", item.key.offset)
    })
}
