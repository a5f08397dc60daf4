// SPDX-License-Identifier: GPL-2.0-or-later
//! Rules of the items that describe trees: root items, links between subvolumes, orphans, the uuid tree.

use super::{ItemContext, is_fs_tree};
use crate::constants::{NAME_MAX, objectid, root_flag};
use crate::header::MAX_LEVEL;
use crate::root::{RootItem, RootRef};

pub fn check_root_item(item: &ItemContext<'_>) -> Result<(), String> {
    let key = item.key;
    item.require(key.objectid != 0, || "invalid root id 0".into())?;
    item.require(key.objectid != objectid::TREE_RELOC || is_fs_tree(key.offset), || {
        format!("invalid relocation tree for root {}, expect a subvolume", key.offset)
    })?;
    let size = item.data.len();
    item.require(size == RootItem::SIZE || size == RootItem::LEGACY_SIZE, || {
        format!("invalid root item size, have {size} expect {} or {}", RootItem::SIZE, RootItem::LEGACY_SIZE)
    })?;
    let mut bytes = [0; RootItem::SIZE];
    bytes[..size].copy_from_slice(item.data);
    let root = RootItem::parse(&bytes).map_err(|error| error.to_string())?;
    item.require_generation("root generation", root.generation)?;
    item.require_generation("root generation_v2", root.generation_v2)?;
    item.require_generation("root last_snapshot", root.last_snapshot)?;
    item.require_aligned("root bytenr", root.bytenr)?;
    item.require(root.level <= MAX_LEVEL, || {
        format!("invalid root level, have {} expect [0, {MAX_LEVEL}]", root.level)
    })?;
    item.require(root.drop_level <= MAX_LEVEL, || {
        format!("invalid root drop_level, have {} expect [0, {MAX_LEVEL}]", root.drop_level)
    })?;
    item.require(root.drop_progress.objectid == 0 || root.drop_level > 0, || {
        format!("invalid root drop_level 0 with drop_progress {}", root.drop_progress)
    })?;
    let unknown = root.flags & !(root_flag::SUBVOL_RDONLY | root_flag::SUBVOL_DEAD);
    item.require(unknown == 0, || format!("invalid root flags, have {unknown:#x}"))
}

pub fn check_root_ref(item: &ItemContext<'_>) -> Result<(), String> {
    let link = RootRef::parse(item.data).map_err(|error| error.to_string())?;
    let len = link.name.len();
    item.require((1..=NAME_MAX).contains(&len), || {
        format!("invalid name length, have {len} expect [1, {NAME_MAX}]")
    })?;
    let legal =
        !link.name.contains(&0) && !link.name.contains(&b'/') && link.name != b"." && link.name != b"..";
    item.require(legal, || format!("illegal name {:?}", String::from_utf8_lossy(link.name)))
}

pub fn check_orphan(item: &ItemContext<'_>) -> Result<(), String> {
    item.require(item.key.objectid == objectid::ORPHAN, || {
        format!(
            "invalid key objectid for orphan item, have {} expect {}",
            item.key.objectid,
            objectid::ORPHAN
        )
    })?;
    item.require_size(0)
}

pub fn check_uuid(item: &ItemContext<'_>) -> Result<(), String> {
    let size = item.data.len();
    item.require(size > 0 && size.is_multiple_of(8), || {
        format!("invalid uuid item size, have {size} expect a multiple of 8")
    })
}
