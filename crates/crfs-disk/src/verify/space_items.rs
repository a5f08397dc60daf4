// SPDX-License-Identifier: GPL-2.0-or-later
//! Rules of the items that describe space: extents and their references, checksums, block groups, free space, chunks,
//! devices.

use super::ItemContext;
use crate::chunk::{BlockGroupItem, Chunk, DevExtent, DevItem};
use crate::constants::{block_group, extent_flag, free_space_flag, item_type, objectid};
use crate::extent::{ExtentDataRef, ExtentHead, InlineRef, TreeBlockInfo};
use crate::free_space::{FreeSpaceInfo, bitmap_bytes};
use crate::header::MAX_LEVEL;
use crate::key::Key;

pub fn check_csum(item: &ItemContext<'_>) -> Result<(), String> {
    item.require(item.key.objectid == objectid::EXTENT_CSUM, || {
        format!(
            "invalid key objectid for csum item, have {} expect {}",
            item.key.objectid,
            objectid::EXTENT_CSUM
        )
    })?;
    item.require_aligned("key offset", item.key.offset)?;
    let csum_size = item.geometry.checksum.size();
    item.require(!item.data.is_empty() && item.data.len().is_multiple_of(csum_size), || {
        format!("invalid csum item size, have {} expect a multiple of {csum_size}", item.data.len())
    })?;
    let covered = |data: &[u8]| (data.len() / csum_size) as u64 * u64::from(item.geometry.sectorsize);
    item.require(item.key.offset.checked_add(covered(item.data)).is_some(), || "csum range wraps".into())?;
    if let Some((previous, data)) = item.previous.filter(|(key, _)| key.kind == item_type::EXTENT_CSUM) {
        let end = previous.offset.saturating_add(covered(data));
        item.require(end <= item.key.offset, || {
            format!("csum item starts inside the previous one, have {} after {end}", item.key.offset)
        })?;
    }
    Ok(())
}

pub fn check_extent_item(item: &ItemContext<'_>) -> Result<(), String> {
    let (key, geometry) = (item.key, item.geometry);
    let is_metadata_key = key.kind == item_type::METADATA_ITEM;
    item.require(!is_metadata_key || geometry.skinny_metadata, || {
        "METADATA_ITEM without the SKINNY_METADATA feature".into()
    })?;
    item.require_aligned("extent bytenr", key.objectid)?;
    let head = ExtentHead::parse(item.data).map_err(|error| error.to_string())?;
    item.require_generation("extent generation", head.generation)?;
    let known = extent_flag::DATA | extent_flag::TREE_BLOCK | extent_flag::FULL_BACKREF;
    let kind = head.flags & (extent_flag::DATA | extent_flag::TREE_BLOCK);
    item.require(kind.count_ones() == 1 && head.flags & !known == 0, || {
        format!("invalid extent flags, have {:#x} expect one of data and tree block", head.flags)
    })?;
    let is_tree_block = kind == extent_flag::TREE_BLOCK;
    let length = if is_tree_block {
        check_tree_block_key(item)?;
        u64::from(geometry.nodesize)
    } else {
        check_data_key(item, &head)?;
        key.offset
    };
    item.require(key.objectid.checked_add(length).is_some(), || "extent wraps".into())?;
    item.require(head.refs > 0, || "extent without references".into())?;
    let mut at = ExtentHead::SIZE;
    if is_tree_block && !is_metadata_key {
        let info = TreeBlockInfo::parse(&item.data[at..]).map_err(|error| error.to_string())?;
        item.require(info.level <= MAX_LEVEL, || {
            format!("invalid tree block level, have {} expect [0, {MAX_LEVEL}]", info.level)
        })?;
        at += TreeBlockInfo::SIZE;
    }
    let inline = check_inline_refs(item, at, is_tree_block)?;
    item.require(inline <= head.refs, || {
        format!("invalid extent refs, have {} expect at least the inline {inline}", head.refs)
    })?;
    check_extent_order(item)
}

fn check_tree_block_key(item: &ItemContext<'_>) -> Result<(), String> {
    let (key, nodesize) = (item.key, u64::from(item.geometry.nodesize));
    if key.kind == item_type::METADATA_ITEM {
        return item.require(key.offset <= u64::from(MAX_LEVEL), || {
            format!("invalid tree level, have {} expect [0, {MAX_LEVEL}]", key.offset)
        });
    }
    item.require(key.offset == nodesize, || {
        format!("invalid extent length, have {} expect {nodesize}", key.offset)
    })
}

fn check_data_key(item: &ItemContext<'_>, head: &ExtentHead) -> Result<(), String> {
    item.require(item.key.kind == item_type::EXTENT_ITEM, || {
        format!(
            "invalid key type for a data extent, have {} expect {}",
            item.key.kind,
            item_type::EXTENT_ITEM
        )
    })?;
    item.require(item.key.offset > 0, || "data extent of length 0".into())?;
    item.require_aligned("extent length", item.key.offset)?;
    item.require(head.flags & extent_flag::FULL_BACKREF == 0, || "data extent with full backref set".into())
}

/// Types ascend, and inside one type the sequences descend: Linux stops its search early in any other order.
/// Returns how many references they count.
fn check_inline_refs(item: &ItemContext<'_>, start: usize, is_tree_block: bool) -> Result<u64, String> {
    let (mut at, mut total) = (start, 0_u64);
    let mut last: Option<(u8, u64)> = None;
    while let Some(rest) = item.data.get(at..).filter(|rest| !rest.is_empty()) {
        let inline = InlineRef::parse(rest).map_err(|error| error.to_string())?;
        check_ref_members(item, &inline, is_tree_block)?;
        let place = (inline.kind(), inline.sequence());
        if let Some(last) = last {
            let ordered = last.0 < place.0 || (last.0 == place.0 && last.1 >= place.1);
            item.require(ordered, || {
                format!(
                    "inline refs out of order, have ({} {:#x}) after ({} {:#x})",
                    place.0, place.1, last.0, last.1
                )
            })?;
        }
        last = Some(place);
        total = total.saturating_add(inline.count());
        at += inline.size();
    }
    Ok(total)
}

fn check_ref_members(item: &ItemContext<'_>, inline: &InlineRef, is_tree_block: bool) -> Result<(), String> {
    let of_tree_block = matches!(inline, InlineRef::TreeBlock { .. } | InlineRef::SharedBlock { .. });
    item.require(of_tree_block == is_tree_block, || {
        format!(
            "invalid inline ref type {} for a {} extent",
            inline.kind(),
            if is_tree_block { "tree block" } else { "data" }
        )
    })?;
    match inline {
        InlineRef::TreeBlock { .. } | InlineRef::Owner { .. } => Ok(()),
        InlineRef::SharedBlock { parent } => item.require_aligned("parent bytenr", *parent),
        InlineRef::SharedData { parent, count } => {
            item.require_aligned("parent bytenr", *parent)?;
            item.require(*count > 0, || "shared data ref with count 0".into())
        }
        InlineRef::Data(data) => check_data_ref(item, data),
    }
}

fn check_data_ref(item: &ItemContext<'_>, data: &ExtentDataRef) -> Result<(), String> {
    item.require_aligned("data ref offset", data.offset)?;
    item.require(data.count > 0, || "data ref with count 0".into())
}

fn check_extent_order(item: &ItemContext<'_>) -> Result<(), String> {
    let Some((previous, _)) = item.previous else { return Ok(()) };
    let length = match previous.kind {
        item_type::EXTENT_ITEM => previous.offset,
        item_type::METADATA_ITEM => u64::from(item.geometry.nodesize),
        _ => return Ok(()),
    };
    item.require(previous.objectid.saturating_add(length) <= item.key.objectid, || {
        format!("extent overlaps the previous one {previous}")
    })
}

pub fn check_keyed_ref(item: &ItemContext<'_>) -> Result<(), String> {
    item.require_aligned("extent bytenr", item.key.objectid)?;
    if item.key.kind != item_type::TREE_BLOCK_REF {
        item.require_aligned("parent bytenr", item.key.offset)?;
    }
    if item.key.kind != item_type::SHARED_DATA_REF {
        return item.require_size(0);
    }
    item.require_size(4)?;
    item.require(crate::bytes::u32_at(item.data, 0) != Some(0), || "shared data ref with count 0".into())
}

pub fn check_extent_data_ref(item: &ItemContext<'_>) -> Result<(), String> {
    item.require_aligned("extent bytenr", item.key.objectid)?;
    // The hash in the key may be off by the number of collisions before it.
    item.require_size(ExtentDataRef::SIZE)?;
    let data = ExtentDataRef::parse(item.data).map_err(|error| error.to_string())?;
    check_data_ref(item, &data)
}

pub fn check_block_group(item: &ItemContext<'_>) -> Result<(), String> {
    let Key { objectid: start, offset: length, .. } = item.key;
    item.require(length > 0 && start.checked_add(length).is_some(), || {
        format!("invalid block group length, have {length} at {start}")
    })?;
    item.require_size(BlockGroupItem::SIZE)?;
    let group = BlockGroupItem::parse(item.data).map_err(|error| error.to_string())?;
    item.require(group.chunk_objectid == objectid::FIRST_CHUNK_TREE, || {
        format!("invalid block group chunk objectid, have {} expect 256", group.chunk_objectid)
    })?;
    item.require(group.used <= length, || {
        format!("invalid block group used, have {} expect [0, {length}]", group.used)
    })?;
    let profile = group.flags & block_group::PROFILE_MASK;
    item.require(profile.count_ones() <= 1, || format!("invalid profile flags, have {profile:#x}"))?;
    let kind = group.flags & block_group::TYPE_MASK;
    let mixed = block_group::DATA | block_group::METADATA;
    item.require(kind.count_ones() == 1 || kind == mixed, || {
        format!("invalid block group type, have {kind:#x}")
    })
}

pub fn check_free_space(item: &ItemContext<'_>) -> Result<(), String> {
    let Key { objectid: start, offset: length, .. } = item.key;
    item.require_aligned("start", start)?;
    item.require_aligned("length", length)?;
    item.require(length > 0 && start.checked_add(length).is_some(), || {
        format!("invalid free space length, have {length} at {start}")
    })?;
    match item.key.kind {
        item_type::FREE_SPACE_INFO => {
            item.require_size(FreeSpaceInfo::SIZE)?;
            let info = FreeSpaceInfo::parse(item.data).map_err(|error| error.to_string())?;
            item.require(info.flags & !free_space_flag::USING_BITMAPS == 0, || {
                format!("unknown free space flags {:#x}", info.flags)
            })
        }
        item_type::FREE_SPACE_EXTENT => item.require_size(0),
        _ => {
            let bytes = bitmap_bytes(length / u64::from(item.geometry.sectorsize));
            item.require(item.data.len() as u64 == bytes, || {
                format!("invalid bitmap size, have {} expect {bytes}", item.data.len())
            })
        }
    }?;
    check_free_space_order(item)
}

fn check_free_space_order(item: &ItemContext<'_>) -> Result<(), String> {
    let Some((previous, _)) = item.previous else { return Ok(()) };
    // The INFO of a group starts where the group's first run may start too.
    if previous.kind == item_type::FREE_SPACE_INFO && previous.objectid <= item.key.objectid {
        return Ok(());
    }
    item.require(previous.objectid.saturating_add(previous.offset) <= item.key.objectid, || {
        format!("free space starts inside the previous one {previous}")
    })
}

pub fn check_chunk(item: &ItemContext<'_>) -> Result<(), String> {
    item.require(item.key.objectid == objectid::FIRST_CHUNK_TREE, || {
        format!("invalid key objectid for chunk, have {} expect 256", item.key.objectid)
    })?;
    let chunk = Chunk::parse(item.data).map_err(|error| error.to_string())?;
    item.require_size(Chunk::item_size(chunk.stripes.len()))?;
    chunk.check(item.key.offset, item.geometry.sectorsize).map_err(|error| error.to_string())?;
    for stripe in &chunk.stripes {
        item.require_aligned("stripe offset", stripe.offset)?;
        item.require(stripe.offset.checked_add(chunk.head.length).is_some(), || {
            format!("invalid stripe offset {}", stripe.offset)
        })?;
    }
    Ok(())
}

pub fn check_dev_item(item: &ItemContext<'_>) -> Result<(), String> {
    item.require(item.key.objectid == objectid::DEV_ITEMS, || {
        format!("invalid key objectid for device, have {} expect 1", item.key.objectid)
    })?;
    item.require_size(DevItem::SIZE)?;
    let device = DevItem::parse(item.data).map_err(|error| error.to_string())?;
    item.require(device.devid == item.key.offset, || {
        format!("devid mismatch, key has {} item has {}", item.key.offset, device.devid)
    })?;
    item.require(device.bytes_used <= device.total_bytes, || {
        format!("invalid bytes used, have {} expect [0, {}]", device.bytes_used, device.total_bytes)
    })
}

pub fn check_dev_extent(item: &ItemContext<'_>) -> Result<(), String> {
    item.require_size(DevExtent::SIZE)?;
    let extent = DevExtent::parse(item.data).map_err(|error| error.to_string())?;
    item.require(extent.chunk_tree == objectid::CHUNK_TREE, || {
        format!("invalid dev extent chunk tree, have {} expect 3", extent.chunk_tree)
    })?;
    item.require(extent.chunk_objectid == objectid::FIRST_CHUNK_TREE, || {
        format!("invalid dev extent chunk objectid, have {} expect 256", extent.chunk_objectid)
    })?;
    item.require_aligned("dev extent offset", item.key.offset)?;
    item.require_aligned("dev extent chunk offset", extent.chunk_offset)?;
    item.require_aligned("dev extent length", extent.length)?;
    item.require(extent.length > 0 && item.key.offset.checked_add(extent.length).is_some(), || {
        format!("invalid dev extent length, have {}", extent.length)
    })?;
    let Some((previous, data)) = item.previous else { return Ok(()) };
    if previous.objectid != item.key.objectid || previous.kind != item.key.kind {
        return Ok(());
    }
    let Ok(before) = DevExtent::parse(data) else { return Ok(()) };
    item.require(previous.offset.saturating_add(before.length) <= item.key.offset, || {
        format!("dev extent overlaps the previous one at {} of length {}", previous.offset, before.length)
    })
}
