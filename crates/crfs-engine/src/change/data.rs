// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes on the bytes of a file: put data, cut, preallocate, and what a new size does to the extents.
//!
//! A file is inline when it has one inline extent and nothing else; its bytes then are exactly the file. It becomes so
//! by a put data that writes all of a file of at most `MAX_INLINE` bytes which has no extent beyond its first sector,
//! and stops being so when it grows or gets another extent. Everything else is regular extents of whole sectors: new
//! data always goes to new space. Clients predict by the same rule (`ts/item/apply_extent.ts`).
//!
//! Every sector of a payload is compared with the checksum that travelled with it before anything is written.

use super::extents::{MAX_INLINE, extent_key, first_extent_key, is_extent_of};
use super::inodes::Slot;
use super::{Running, corrupt};
use crate::error::{EngineError, Result};
use crate::store::{DiskRun, Store};
use crfs_disk::checksum::{crc32c, crc32c_sectors};
use crfs_disk::constants::{SECTOR_SIZE, file_extent, inode_flag};
use crfs_disk::file_extent::{FileExtent, FileExtentHead, FileExtentReg};
use crfs_disk::inode::Timespec;
use std::ops::Range;

const SECTOR: usize = SECTOR_SIZE as usize;

/// A put data apart from its inode.
pub(super) struct Put {
    pub offset: u64,
    pub length: u32,
    pub new_size: u64,
    pub time: Timespec,
}

/// Whole sectors to write: the payload, its last sector filled up with zeros, and their checksums.
struct Sectors<'p> {
    /// The full sectors.
    body: &'p [u8],
    /// The last, partial one.
    tail: Option<&'p [u8]>,
    crcs: &'p [u32],
}

/// `value` rounded up to whole sectors. Only a broken inode item has a size at which this saturates.
pub(super) fn sector_up(value: u64) -> u64 {
    value.div_ceil(SECTOR_SIZE).saturating_mul(SECTOR_SIZE)
}

impl<'a, S: Store> Running<'a, S> {
    pub(super) fn put_data(&mut self, tree: u64, ino: u64, put: &Put) -> Result<()> {
        let (payload, checksums) = self.take_payload(put.length)?;
        let end = put.offset + u64::from(put.length);
        self.check_tree(tree)?;
        self.grants.need_bytes(tree, ino, put.offset, Some(end))?;
        self.grants.need_derived(tree, ino)?;
        let slot = self.data_file(tree, ino)?;
        let old_size = self.inodes.get(slot).item.size;
        let size = old_size.max(put.new_size);
        check_extent_of_put(put, old_size, size)?;
        let beyond = usize::try_from(end.saturating_sub(size)).unwrap_or(0);
        if payload.iter().rev().take(beyond).any(|byte| *byte != 0) {
            let text = format!("data of inode {ino} beyond the end of the file at {size} is not zero");
            return Err(EngineError::refused(libc::EINVAL, text));
        }

        let mut crcs = std::mem::take(&mut self.crcs);
        let mut padded = std::mem::take(&mut self.padded);
        let sectors = verified_sectors(payload, checksums, &mut padded, &mut crcs)
            .map_err(|sector| bad_checksum(tree, ino, put.offset + sector as u64 * SECTOR_SIZE))?;
        if put.offset == 0 && size <= MAX_INLINE && self.make_room_for_inline(slot)? {
            self.put_inline(slot, payload, size as usize)?;
        } else {
            self.put_regular(slot, put.offset..sector_up(end), &sectors)?;
        }
        self.crcs = crcs;
        self.padded = padded;
        self.stamp_data(slot, size, put.time);
        Ok(())
    }

    pub(super) fn cut(
        &mut self,
        tree: u64,
        ino: u64,
        offset: u64,
        length: u64,
        time: Timespec,
    ) -> Result<()> {
        self.check_tree(tree)?;
        self.grants.need_bytes(tree, ino, offset, Some(offset + length))?;
        self.grants.need_derived(tree, ino)?;
        let slot = self.data_file(tree, ino)?;
        self.drop_extents(slot, offset..offset + length)?;
        let size = self.inodes.get(slot).item.size;
        self.stamp_data(slot, size, time);
        Ok(())
    }

    pub(super) fn preallocate(
        &mut self,
        tree: u64,
        ino: u64,
        range: Range<u64>,
        new_size: u64,
        time: Timespec,
    ) -> Result<()> {
        self.check_tree(tree)?;
        self.grants.need_bytes(tree, ino, range.start, Some(range.end))?;
        self.grants.need_derived(tree, ino)?;
        let slot = self.data_file(tree, ino)?;
        // An inline extent stands alone.
        self.convert_inline(slot)?;
        let mut at = range.start;
        while at < range.end {
            let (hole_end, next) = self.hole_at(slot, at, range.end)?;
            self.fill_hole(slot, at..hole_end)?;
            at = next;
        }
        let inode = self.inodes.change(slot);
        inode.item.flags |= inode_flag::PREALLOC;
        let size = inode.item.size.max(new_size);
        self.stamp_data(slot, size, time);
        Ok(())
    }

    fn stamp_data(&mut self, slot: Slot, size: u64, time: Timespec) {
        let item = &mut self.inodes.change(slot).item;
        item.size = size;
        item.mtime = time;
        item.ctime = time;
    }

    /// The next `length` bytes of the data section and their checksums.
    fn take_payload(&mut self, length: u32) -> Result<(&'a [u8], &'a [u8])> {
        let length = length as usize;
        let short = || EngineError::refused(libc::EPROTO, "the batch's data ends before its changes do");
        let (payload, data) = self.data.split_at_checked(length).ok_or_else(short)?;
        let (crcs, checksums) =
            self.checksums.split_at_checked(length.div_ceil(SECTOR) * 4).ok_or_else(short)?;
        (self.data, self.checksums) = (data, checksums);
        Ok((payload, crcs))
    }

    /// Drops the regular extent of a file's only sector; false, and nothing done, if there are extents behind it.
    fn make_room_for_inline(&mut self, slot: Slot) -> Result<bool> {
        let inode = self.inodes.get(slot);
        if !inode.may_have_extents {
            return Ok(true);
        }
        let (tree, ino) = (inode.tree, inode.ino);
        let last = self.store.prev(tree, extent_key(ino, u64::MAX), &mut self.item)?;
        let Some(key) = last.filter(|key| is_extent_of(ino, *key)) else { return Ok(true) };
        match self.parse_extent(tree, key, &self.item)? {
            FileExtent::Inline { .. } => Ok(true),
            FileExtent::Reg(piece) if key.offset == 0 && piece.num_bytes == SECTOR_SIZE => {
                self.drop_extents(slot, 0..SECTOR_SIZE)?;
                Ok(true)
            }
            FileExtent::Reg(_) => Ok(false),
        }
    }

    /// Writes the whole file, `payload` cut or filled with zeros to `size` bytes, as its inline extent.
    fn put_inline(&mut self, slot: Slot, payload: &[u8], size: usize) -> Result<()> {
        let mut item = std::mem::take(&mut self.item);
        item.clear();
        item.extend_from_slice(&inline_head(self.generation, size).encode());
        item.extend_from_slice(&payload[..payload.len().min(size)]);
        item.resize(FileExtentHead::SIZE + size, 0);
        self.write_inline(slot, &item)?;
        self.item = item;
        Ok(())
    }

    /// Puts `item` in the place of the inline extent that may be there.
    fn write_inline(&mut self, slot: Slot, item: &[u8]) -> Result<()> {
        let inode = self.inodes.get(slot);
        let (tree, key) = (inode.tree, first_extent_key(inode.ino));
        let mut old_bytes = None;
        if inode.may_have_extents {
            let mut old = std::mem::take(&mut self.item2);
            if self.store.get(tree, key, &mut old)? {
                old_bytes = Some(self.parse_extent(tree, key, &old)?.file_bytes());
            }
            self.item2 = old;
        }
        match old_bytes {
            Some(old) => {
                self.store.replace(tree, key, item)?;
                self.subtract_bytes(slot, old)?;
            }
            None => self.insert_new(tree, key, item)?,
        }
        let inode = self.inodes.change(slot);
        inode.item.nbytes = inode.item.nbytes.saturating_add((item.len() - FileExtentHead::SIZE) as u64);
        inode.may_have_extents = true;
        Ok(())
    }

    fn put_regular(&mut self, slot: Slot, range: Range<u64>, sectors: &Sectors<'_>) -> Result<()> {
        if range.start > 0 {
            self.convert_inline(slot)?;
        }
        self.drop_extents(slot, range.clone())?;
        let checksummed = self.inodes.get(slot).item.flags & inode_flag::NODATASUM == 0;
        let neighbour = self.neighbour(slot, range.start)?;
        let mut near = neighbour.as_ref().and_then(|neighbour| neighbour.near());
        let mut at = range.start;
        if let Some(neighbour) = &neighbour
            && let Some(run) = self.grow_neighbour(slot, neighbour, at, range.end - at)?
        {
            self.write_run(run, sectors, at - range.start, checksummed)?;
            at += run.len;
            near = Some(run.bytenr + run.len);
        }
        while at < range.end {
            let run = self.add_extent(slot, file_extent::REG, at, range.end - at, near)?;
            self.write_run(run, sectors, at - range.start, checksummed)?;
            at += run.len;
            near = Some(run.bytenr + run.len);
        }
        Ok(())
    }

    /// Writes the part of `sectors` from byte `from` on that fills `run`.
    fn write_run(&mut self, run: DiskRun, sectors: &Sectors<'_>, from: u64, checksummed: bool) -> Result<()> {
        let (from, to) = (from as usize, (from + run.len) as usize);
        let body_end = to.min(sectors.body.len());
        let crcs = |range: Range<usize>| {
            if checksummed { &sectors.crcs[range.start / SECTOR..range.end / SECTOR] } else { &[] }
        };
        if from < body_end {
            self.store.write_data(run.bytenr, &sectors.body[from..body_end], crcs(from..body_end))?;
        }
        match sectors.tail {
            Some(tail) if to > sectors.body.len() => {
                let bytenr = run.bytenr + (to - SECTOR - from) as u64;
                self.store.write_data(bytenr, tail, crcs(to - SECTOR..to))
            }
            _ => Ok(()),
        }
    }

    /// Turns an inline extent into a regular one of one sector with the same bytes.
    fn convert_inline(&mut self, slot: Slot) -> Result<()> {
        let inode = self.inodes.get(slot);
        let (tree, ino, size) = (inode.tree, inode.ino, inode.item.size);
        let checksummed = inode.item.flags & inode_flag::NODATASUM == 0;
        let mut item = std::mem::take(&mut self.item2);
        if let Some(data) = self.inline_data(slot, &mut item)? {
            let mut sector = [0; SECTOR];
            let used = data.len().min(usize::try_from(size).unwrap_or(SECTOR));
            sector[..used].copy_from_slice(&data[..used]);
            self.subtract_bytes(slot, data.len() as u64)?;
            self.store.remove(tree, first_extent_key(ino))?;
            let run = self.add_extent(slot, file_extent::REG, 0, SECTOR_SIZE, None)?;
            let crc = [crc32c(&sector)];
            self.store.write_data(run.bytenr, &sector, if checksummed { &crc } else { &[] })?;
        }
        self.item2 = item;
        Ok(())
    }

    /// The bytes of the file's inline extent, read into `item`; `None` when it has none.
    fn inline_data<'b>(&mut self, slot: Slot, item: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>> {
        let inode = self.inodes.get(slot);
        let (tree, ino, key) = (inode.tree, inode.ino, first_extent_key(inode.ino));
        if !inode.may_have_extents || !self.store.get(tree, key, item)? {
            return Ok(None);
        }
        match self.parse_extent(tree, key, item)? {
            FileExtent::Inline { head, .. } if head.compression != 0 => {
                let text = format!(
                    "inode {ino} of tree {tree} has compressed inline data, which cannot be changed yet"
                );
                Err(EngineError::refused(libc::EOPNOTSUPP, text))
            }
            FileExtent::Inline { head, data }
                if data.len() as u64 != head.ram_bytes || data.len() > SECTOR =>
            {
                Err(corrupt(tree, key, "invalid length of inline data"))
            }
            FileExtent::Inline { data, .. } => Ok(Some(data)),
            FileExtent::Reg(_) => Ok(None),
        }
    }

    /// Drops what lies beyond the new, smaller size: whole sectors, or the end of an inline extent.
    pub(super) fn shrink(&mut self, slot: Slot, size: u64) -> Result<()> {
        if size == 0 {
            return self.drop_extents(slot, 0..u64::MAX);
        }
        let mut old = std::mem::take(&mut self.item);
        if let Some(data) = self.inline_data(slot, &mut old)? {
            let kept = data.len().min(usize::try_from(size).unwrap_or(SECTOR));
            let mut item = inline_head(self.generation, kept).encode().to_vec();
            item.extend_from_slice(&data[..kept]);
            self.write_inline(slot, &item)?;
        } else {
            self.drop_extents(slot, sector_up(size)..u64::MAX)?;
        }
        self.item = old;
        Ok(())
    }

    /// A larger size: an inline extent is filled with zeros up to it, or becomes regular.
    pub(super) fn grow(&mut self, slot: Slot, size: u64) -> Result<()> {
        if size > MAX_INLINE {
            return self.convert_inline(slot);
        }
        let mut old = std::mem::take(&mut self.item);
        if let Some(data) = self.inline_data(slot, &mut old)? {
            let known = data.len().min(usize::try_from(self.inodes.get(slot).item.size).unwrap_or(SECTOR));
            let mut item = inline_head(self.generation, size as usize).encode().to_vec();
            item.extend_from_slice(&data[..known]);
            item.resize(FileExtentHead::SIZE + size as usize, 0);
            self.write_inline(slot, &item)?;
        }
        self.item = old;
        Ok(())
    }

    /// The hole at file offset `at`, which ends at the first of the two offsets (`at` itself when there is none), and
    /// where to look on: behind the extent that ends it.
    fn hole_at(&mut self, slot: Slot, at: u64, limit: u64) -> Result<(u64, u64)> {
        let inode = self.inodes.get(slot);
        if !inode.may_have_extents {
            return Ok((limit, limit));
        }
        let (tree, ino) = (inode.tree, inode.ino);
        let mut item = std::mem::take(&mut self.item2);
        let mut found = self.first_overlap(tree, ino, at, &mut item)?;
        let mut answer = (limit, limit);
        while let Some(key) = found.filter(|key| is_extent_of(ino, *key) && key.offset < limit) {
            let end = match self.parse_extent(tree, key, &item)? {
                FileExtent::Inline { .. } => SECTOR_SIZE,
                FileExtent::Reg(piece) => key.offset + piece.num_bytes,
            };
            if !is_hole_item(&item) {
                answer = (key.offset.max(at), end);
                break;
            }
            let Some(next) = key.successor() else { break };
            found = self.store.next(tree, next, &mut item)?;
        }
        self.item2 = item;
        Ok(answer)
    }

    fn fill_hole(&mut self, slot: Slot, hole: Range<u64>) -> Result<()> {
        if hole.is_empty() {
            return Ok(());
        }
        // Images that were made without NO_HOLES may keep items for holes.
        self.drop_extents(slot, hole.clone())?;
        let mut near = self.neighbour(slot, hole.start)?.and_then(|neighbour| neighbour.near());
        let mut at = hole.start;
        while at < hole.end {
            let run = self.add_extent(slot, file_extent::PREALLOC, at, hole.end - at, near)?;
            at += run.len;
            near = Some(run.bytenr + run.len);
        }
        Ok(())
    }
}

fn is_hole_item(item: &[u8]) -> bool {
    matches!(FileExtent::parse(item), Ok(FileExtent::Reg(FileExtentReg { disk_bytenr: 0, .. })))
}

fn inline_head(generation: u64, len: usize) -> FileExtentHead {
    FileExtentHead {
        generation,
        ram_bytes: len as u64,
        compression: 0,
        encryption: 0,
        other_encoding: 0,
        kind: file_extent::INLINE,
    }
}

/// A put data must fill whole sectors unless it reaches the end of the file, and must not reach beyond the sector in
/// which the file will end.
fn check_extent_of_put(put: &Put, old_size: u64, size: u64) -> Result<()> {
    let end = put.offset + u64::from(put.length);
    let whole = u64::from(put.length).is_multiple_of(SECTOR_SIZE) || end >= old_size;
    if whole && sector_up(end) <= sector_up(size) {
        return Ok(());
    }
    let text = format!(
        "put data of bytes {}..{end} into a file of {old_size} bytes that will have {size}",
        put.offset
    );
    Err(EngineError::refused(libc::EINVAL, text))
}

/// Fills the last sector up and compares every sector with its checksum; the error is the index of a bad sector.
fn verified_sectors<'p>(
    payload: &'p [u8],
    checksums: &[u8],
    padded: &'p mut Vec<u8>,
    crcs: &'p mut Vec<u32>,
) -> std::result::Result<Sectors<'p>, usize> {
    let (body, rest) = payload.split_at(payload.len() / SECTOR * SECTOR);
    let tail = (!rest.is_empty()).then(|| {
        padded.clear();
        padded.extend_from_slice(rest);
        padded.resize(SECTOR, 0);
        &padded[..]
    });
    crcs.clear();
    crc32c_sectors(body, SECTOR, crcs);
    crcs.extend(tail.iter().map(|sector| crc32c(sector)));
    let sent = checksums.chunks_exact(4);
    match crcs.iter().zip(sent).position(|(crc, sent)| crc.to_le_bytes() != sent) {
        Some(bad) => Err(bad),
        None => Ok(Sectors { body, tail, crcs }),
    }
}

fn bad_checksum(tree: u64, ino: u64, offset: u64) -> EngineError {
    let text =
        format!("checksum of the sector at {offset} of inode {ino} in tree {tree} differs from its data");
    EngineError::refused(libc::EIO, text)
}
