// SPDX-License-Identifier: GPL-2.0-or-later
//! The checksum tree: runs of sector checksums, keyed by the address of the first sector.
//!
//! Checksums go into the tree when the data is written, so that a reader of the applied state finds them; they leave it at
//! commit, when the last reference to the extent is gone.

use crate::error::{EngineError, Result};
use crate::tree::{Cursor, EditLog, NodeSource, Tree};
use crfs_disk::constants::{SECTOR_SIZE, item_type, objectid};
use crfs_disk::{Header, ItemHeader, Key};

fn csum_key(bytenr: u64) -> Key {
    Key::new(objectid::EXTENT_CSUM, item_type::EXTENT_CSUM, bytenr)
}

fn is_csum(key: &Key) -> bool {
    key.objectid == objectid::EXTENT_CSUM && key.kind == item_type::EXTENT_CSUM
}

pub struct CsumTree<'a> {
    pub tree: &'a mut Tree,
    pub source: &'a dyn NodeSource,
    pub log: &'a mut EditLog,
    /// Bytes of one checksum.
    pub size: usize,
}

impl CsumTree<'_> {
    /// Longest run of one item, bytes: four items fill a leaf.
    fn item_bytes_max(&self) -> usize {
        (Header::leaf_space(self.source.nodesize()) / 4 - ItemHeader::SIZE) / self.size * self.size
    }

    fn covered(&self, item: &[u8]) -> u64 {
        (item.len() / self.size) as u64 * SECTOR_SIZE
    }

    /// Stores the checksums of consecutive sectors from `bytenr` on; older ones there give way.
    pub fn insert(&mut self, bytenr: u64, sums: &[u8]) -> Result<()> {
        let end = bytenr + self.covered(sums);
        let mut item = Vec::new();
        let mut before = self.tree.prev(self.source, csum_key(end - 1), &mut item)?.filter(is_csum);
        if before.is_some_and(|key| key.offset + self.covered(&item) > bytenr) {
            self.remove(bytenr, end - bytenr)?;
            before = self.tree.prev(self.source, csum_key(end - 1), &mut item)?.filter(is_csum);
        }
        let most = self.item_bytes_max();
        let mut rest = sums;
        let mut at = bytenr;
        if let Some(key) = before.filter(|key| key.offset + self.covered(&item) == bytenr) {
            let room = most.saturating_sub(item.len()) / self.size * self.size;
            let (head, tail) = rest.split_at(room.min(rest.len()));
            if !head.is_empty() {
                item.extend_from_slice(head);
                self.tree.replace(self.source, self.log, key, &item)?;
                at += self.covered(head);
                rest = tail;
            }
        }
        for part in rest.chunks(most) {
            self.tree.insert(self.source, self.log, csum_key(at), part)?;
            at += self.covered(part);
        }
        self.join_next(end)
    }

    /// Joins the item that ends at `border` with the one that starts there, if one item can hold both.
    fn join_next(&mut self, border: u64) -> Result<()> {
        let mut right = Vec::new();
        if !self.tree.get(self.source, csum_key(border), &mut right)? {
            return Ok(());
        }
        let mut left = Vec::new();
        let before = self.tree.prev(self.source, csum_key(border - 1), &mut left)?.filter(is_csum);
        let Some(key) = before.filter(|key| key.offset + self.covered(&left) == border) else {
            return Ok(());
        };
        if left.len() + right.len() > self.item_bytes_max() {
            return Ok(());
        }
        left.extend_from_slice(&right);
        self.tree.remove(self.source, self.log, csum_key(border))?;
        self.tree.replace(self.source, self.log, key, &left).map(|_| ())
    }

    /// Removes the checksums of a range; sectors without any are fine.
    pub fn remove(&mut self, bytenr: u64, len: u64) -> Result<()> {
        let mut end = bytenr + len;
        let mut item = Vec::new();
        while end > bytenr {
            let Some(key) = self.tree.prev(self.source, csum_key(end - 1), &mut item)?.filter(is_csum) else {
                return Ok(());
            };
            let (low, high) = (key.offset, key.offset + self.covered(&item));
            if high <= bytenr {
                return Ok(());
            }
            let keep_left = (bytenr.saturating_sub(low) / SECTOR_SIZE) as usize * self.size;
            if keep_left == 0 {
                self.tree.remove(self.source, self.log, key)?;
            } else {
                self.tree.replace(self.source, self.log, key, &item[..keep_left])?;
            }
            if high > end {
                let skip = ((end - low) / SECTOR_SIZE) as usize * self.size;
                self.tree.insert(self.source, self.log, csum_key(end), &item[skip..])?;
            }
            end = low.max(bytenr);
        }
        Ok(())
    }
}

/// Reads the checksums of consecutive sectors into `out`. What has none is an error that names the first such sector.
pub fn read(
    tree: &Tree,
    source: &dyn NodeSource,
    size: usize,
    bytenr: u64,
    len: u64,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.clear();
    let end = bytenr + len;
    let mut at = bytenr;
    let mut cursor = Cursor::seek(tree, source, csum_key(bytenr))?;
    // The item that covers the first sector may start before it.
    if cursor.item().is_none_or(|(key, _)| key != csum_key(bytenr)) {
        cursor.retreat()?;
    }
    while at < end {
        let Some((key, item)) = cursor.item().filter(|(key, _)| is_csum(key) && key.offset < end) else {
            break;
        };
        let high = key.offset + (item.len() / size) as u64 * SECTOR_SIZE;
        if high > at {
            if key.offset > at {
                break;
            }
            let stop = high.min(end);
            let from = ((at - key.offset) / SECTOR_SIZE) as usize * size;
            let to = ((stop - key.offset) / SECTOR_SIZE) as usize * size;
            out.extend_from_slice(&item[from..to]);
            at = stop;
        }
        cursor.advance()?;
    }
    if at < end {
        return Err(EngineError::corrupt(format!("csum tree: no checksum for the sector at logical {at}")));
    }
    Ok(())
}
