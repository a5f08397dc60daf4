// SPDX-License-Identifier: GPL-2.0-or-later
//! File data by inode and offset, with the crc32c of each sector.
//!
//! Every sector is compared with the checksum tree before it is used. Where the image's checksum is crc32c, that very value
//! goes on to the client; else the engine makes one. Holes and preallocated extents read as zeros.

use super::snapshot::Snapshot;
use crate::error::{EngineError, Result};
use crate::transaction::read_csums;
use crfs_disk::checksum::crc32c_sectors;
use crfs_disk::constants::{SECTOR_SIZE, inode_flag, item_type, objectid};
use crfs_disk::file_extent::{FileExtent, FileExtentReg, compression};
use crfs_disk::inode::InodeItem;
use crfs_disk::{ChecksumKind, FormatError, Key};

/// Longest read of one call.
const READ_BYTES_MAX: u64 = 64 << 20;

/// Whole sectors of a file. What lies beyond its end is zero.
#[derive(Clone, Debug)]
pub struct DataPage {
    pub bytes: Vec<u8>,
    /// crc32c of each sector of `bytes`.
    pub crcs: Vec<u32>,
}

/// Where a read stands.
struct Reading<'a> {
    snapshot: &'a Snapshot,
    tree: u64,
    ino: u64,
    start: u64,
    end: u64,
    /// False for inodes whose data has no checksums.
    summed: bool,
    bytes: Vec<u8>,
    /// Known for sectors that were read with a crc32c checksum.
    crcs: Vec<Option<u32>>,
    sums: Vec<u8>,
}

impl Snapshot {
    /// Reads the sectors of `[offset, offset + len)`; `offset` is sector-aligned, `len` is rounded up to whole sectors.
    pub fn read_data(&self, tree: u64, ino: u64, offset: u64, len: u64) -> Result<DataPage> {
        let size = len.checked_next_multiple_of(SECTOR_SIZE).filter(|len| *len <= READ_BYTES_MAX);
        let end = size.and_then(|len| offset.checked_add(len)).filter(|_| offset.is_multiple_of(SECTOR_SIZE));
        let (Some(size), Some(end)) = (size, end) else {
            return Err(EngineError::refused(libc::EINVAL, format!("read of {len} bytes at {offset}")));
        };
        self.subvolume(tree)?;
        let inode = self
            .find(tree, Key::new(ino, item_type::INODE_ITEM, 0))?
            .ok_or_else(|| EngineError::refused(libc::ENOENT, format!("tree {tree} has no inode {ino}")))?;
        let inode = InodeItem::parse(&inode).map_err(|error| bad(tree, ino, offset, &error))?;
        let mut reading = Reading {
            snapshot: self,
            tree,
            ino,
            start: offset,
            end,
            summed: inode.flags & inode_flag::NODATASUM == 0,
            bytes: vec![0; size as usize],
            crcs: vec![None; (size / SECTOR_SIZE) as usize],
            sums: Vec::new(),
        };
        reading.extents()?;
        Ok(reading.finish())
    }
}

fn bad(tree: u64, ino: u64, offset: u64, error: &FormatError) -> EngineError {
    EngineError::corrupt(format!("file: tree={tree} inode={ino} offset={offset}, {error}"))
}

impl Reading<'_> {
    fn extents(&mut self) -> Result<()> {
        let snapshot = self.snapshot;
        let from = Key::new(self.ino, item_type::EXTENT_DATA, self.start);
        let mine = |key: &Key, ino: u64| key.objectid == ino && key.kind == item_type::EXTENT_DATA;
        let mut cursor = snapshot.cursor(self.tree, from)?;
        // The extent that covers the first byte may start before it.
        if cursor.item().is_none_or(|(key, _)| key != from) {
            let moved = cursor.retreat()?;
            if moved && cursor.item().is_none_or(|(key, _)| !mine(&key, self.ino)) {
                cursor.advance()?;
            }
        }
        while let Some((key, item)) = cursor.item() {
            if !mine(&key, self.ino) || key.offset >= self.end {
                break;
            }
            match FileExtent::parse(item).map_err(|error| bad(self.tree, self.ino, key.offset, &error))? {
                FileExtent::Inline { head, data } => {
                    self.require_plain(head.compression, key.offset)?;
                    self.inline(key.offset, data);
                }
                FileExtent::Reg(extent) => self.regular(key.offset, &extent)?,
            }
            cursor.advance()?;
        }
        Ok(())
    }

    fn require_plain(&self, kind: u8, offset: u64) -> Result<()> {
        if kind == compression::NONE {
            return Ok(());
        }
        Err(EngineError::Unsupported(format!(
            "tree {} inode {} offset {offset}: compressed extents (type {kind}) cannot be read yet; rewrite the file uncompressed in Linux",
            self.tree, self.ino
        )))
    }

    fn inline(&mut self, offset: u64, data: &[u8]) {
        let end = offset.saturating_add(data.len() as u64).min(self.end);
        let start = offset.max(self.start);
        if start < end {
            let from = (start - offset) as usize;
            let to = (start - self.start) as usize;
            let len = (end - start) as usize;
            self.bytes[to..to + len].copy_from_slice(&data[from..from + len]);
        }
    }

    fn regular(&mut self, offset: u64, extent: &FileExtentReg) -> Result<()> {
        let end = offset.saturating_add(extent.num_bytes).min(self.end);
        let start = offset.max(self.start);
        if start >= end || extent.is_hole() || extent.is_prealloc() {
            return Ok(());
        }
        self.require_plain(extent.head.compression, offset)?;
        let logical = extent
            .disk_bytenr
            .checked_add(extent.offset)
            .and_then(|at| at.checked_add(start - offset))
            .ok_or_else(|| bad(self.tree, self.ino, offset, &FormatError::new("address wraps")))?;
        self.read(logical, start, end).map_err(|error| match error {
            EngineError::Corrupt(text) => {
                EngineError::Corrupt(format!("{text} (tree={} inode={} offset={start})", self.tree, self.ino))
            }
            other => other,
        })
    }

    fn read(&mut self, logical: u64, start: u64, end: u64) -> Result<()> {
        let snapshot = self.snapshot;
        let range = (start - self.start) as usize..(end - self.start) as usize;
        if !self.summed {
            return snapshot.reader.read_data(logical, &mut self.bytes[range]);
        }
        let kind = snapshot.reader.geometry().checksum;
        let tree = snapshot.tree(objectid::CSUM_TREE)?;
        read_csums(tree, &*snapshot.nodes, kind.size(), logical, end - start, &mut self.sums)?;
        snapshot.reader.read_data_checked(logical, &mut self.bytes[range.clone()], &self.sums)?;
        if kind == ChecksumKind::Crc32c {
            let first = range.start / SECTOR_SIZE as usize;
            for (slot, sum) in self.crcs[first..].iter_mut().zip(self.sums.chunks_exact(4)) {
                *slot = sum.try_into().ok().map(u32::from_le_bytes);
            }
        }
        Ok(())
    }

    fn finish(self) -> DataPage {
        let sector = SECTOR_SIZE as usize;
        let mut made = Vec::with_capacity(1);
        let crcs = self
            .crcs
            .iter()
            .zip(self.bytes.chunks_exact(sector))
            .map(|(known, bytes)| {
                known.unwrap_or_else(|| {
                    made.clear();
                    crc32c_sectors(bytes, sector, &mut made);
                    made[0]
                })
            })
            .collect();
        DataPage { bytes: self.bytes, crcs }
    }
}
