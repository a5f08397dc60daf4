// SPDX-License-Identifier: GPL-2.0-or-later
//! Item pages: the items of a range of keys, packed as docs/protocol.md lays down ("Item page").
//!
//! Clients see no disk address, no orphan items and no items of types they do not use. An extent that reaches over an end
//! of the range is cut there: a grant of some bytes of a file brings those bytes' extents, wherever they begin. Entries of
//! directories that lead to a subvolume tell whether it is there.

use super::snapshot::Snapshot;
use crate::error::Result;
use crfs_disk::constants::{file_extent, item_type};
use crfs_disk::file_extent::FileExtentReg;
use crfs_disk::{ItemHeader, Key, checksum, objectid};

const PAGE_HEAD: usize = 16;

/// The items of `[start, covered_end)`, absence included.
#[derive(Clone, Debug)]
pub struct ItemPage {
    pub bytes: Vec<u8>,
    pub items: u32,
    pub covered_end: Key,
}

impl Snapshot {
    /// Packs the items of `[start, end)` into a page of `bytes_max` bytes at most (one item may take more); what did not
    /// fit starts at `covered_end`.
    pub fn read_items(&self, tree: u64, start: Key, end: Key, bytes_max: usize) -> Result<ItemPage> {
        self.subvolume(tree)?;
        let mut keys: Vec<(Key, usize)> = Vec::new();
        let mut data = Vec::new();
        let mut covered_end = end;
        if let Some(mut item) = self.extent_over(tree, start)? {
            let cut = bytes_before(start, end);
            scrub(&mut item, cut);
            keys.push((start, item.len()));
            data.extend_from_slice(&item);
        }
        let mut cursor = self.cursor(tree, start)?;
        while let Some((key, item)) = cursor.item().filter(|(key, _)| *key < end) {
            if is_for_clients(key) {
                let size = PAGE_HEAD + (keys.len() + 1) * ItemHeader::SIZE + data.len() + item.len();
                if size > bytes_max && !keys.is_empty() {
                    covered_end = key;
                    break;
                }
                let from = data.len();
                data.extend_from_slice(item);
                match key.kind {
                    item_type::EXTENT_DATA => scrub(&mut data[from..], bytes_before(key, end)),
                    item_type::DIR_ITEM | item_type::DIR_INDEX => {
                        self.subvolumes.mark_entries(tree, key.objectid, &mut data[from..]);
                    }
                    _ => {}
                }
                keys.push((key, item.len()));
            }
            cursor.advance()?;
        }
        Ok(ItemPage { bytes: pack(&keys, &data), items: keys.len() as u32, covered_end })
    }

    /// What of an extent that begins before the byte of `start` lies behind it.
    fn extent_over(&self, tree: u64, start: Key) -> Result<Option<Vec<u8>>> {
        if start.kind != item_type::EXTENT_DATA || start.offset == 0 {
            return Ok(None);
        }
        let before = Key::new(start.objectid, start.kind, start.offset - 1);
        let Some(key) = self.find_last(tree, before)? else { return Ok(None) };
        if key.objectid != start.objectid || key.kind != start.kind {
            return Ok(None);
        }
        let Some(mut item) = self.find(tree, key)? else { return Ok(None) };
        let Ok(mut extent) = FileExtentReg::parse(&item) else { return Ok(None) };
        let skipped = start.offset - key.offset;
        if !matches!(extent.head.kind, file_extent::REG | file_extent::PREALLOC)
            || extent.num_bytes <= skipped
        {
            return Ok(None);
        }
        extent.num_bytes -= skipped;
        extent.write_to(&mut item);
        Ok(Some(item))
    }
}

/// Bytes of the file from an extent's key up to the end of a range; without a bound if that lies in another inode.
fn bytes_before(key: Key, end: Key) -> u64 {
    if end.objectid == key.objectid && end.kind == key.kind { end.offset - key.offset } else { u64::MAX }
}

fn is_for_clients(key: Key) -> bool {
    let used = matches!(
        key.kind,
        item_type::INODE_ITEM
            | item_type::INODE_REF
            | item_type::INODE_EXTREF
            | item_type::XATTR_ITEM
            | item_type::DIR_ITEM
            | item_type::DIR_INDEX
            | item_type::EXTENT_DATA
    );
    used && key.objectid <= objectid::LAST_FREE
}

/// Takes the disk addresses out of a file extent, and cuts it off after `most` bytes. What is too short to have any stays as
/// it is.
fn scrub(item: &mut [u8], most: u64) {
    let Ok(mut extent) = FileExtentReg::parse(item) else { return };
    if !matches!(extent.head.kind, file_extent::REG | file_extent::PREALLOC) {
        return;
    }
    extent.num_bytes = extent.num_bytes.min(most);
    let mut seen = extent;
    seen.head.ram_bytes = extent.num_bytes;
    seen.disk_bytenr = u64::from(extent.disk_bytenr != 0);
    seen.disk_num_bytes = extent.num_bytes;
    seen.offset = 0;
    seen.write_to(item);
}

/// `data` holds the items one behind the other; in the page the first one lies at the end, as in a leaf.
fn pack(keys: &[(Key, usize)], data: &[u8]) -> Vec<u8> {
    let size = PAGE_HEAD + keys.len() * ItemHeader::SIZE + data.len();
    let mut page = vec![0; size];
    page[4..8].copy_from_slice(&(keys.len() as u32).to_le_bytes());
    page[8..12].copy_from_slice(&(size as u32).to_le_bytes());
    let (mut from, mut to) = (0, size);
    for (slot, (key, len)) in keys.iter().enumerate() {
        to -= len;
        page[to..to + len].copy_from_slice(&data[from..from + len]);
        from += len;
        let header = ItemHeader { key: *key, offset: (to - PAGE_HEAD) as u32, size: *len as u32 };
        header.write_to(&mut page[PAGE_HEAD + slot * ItemHeader::SIZE..]);
    }
    let sum = checksum::crc32c(&page[4..]);
    page[..4].copy_from_slice(&sum.to_le_bytes());
    page
}
