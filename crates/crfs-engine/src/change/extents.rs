// SPDX-License-Identifier: GPL-2.0-or-later
//! The EXTENT_DATA items of a file: dropping a byte range out of them, and making new ones.
//!
//! A data extent may be referenced by several items (pieces of one file after an overwrite in the middle, or other
//! files after `cp --reflink`). Its references are counted per (tree, inode, file offset - offset inside the extent),
//! which stays the same when a piece is trimmed at either end; so trimming changes no reference, splitting adds one and
//! removing a piece drops one. nbytes follows every change of a piece that is not a hole.

use super::inodes::Slot;
use super::{Running, corrupt, malformed};
use crate::error::{EngineError, Result};
use crate::store::{DataRef, DiskRun, Store};
use crfs_disk::constants::{MAX_EXTENT_SIZE, SECTOR_SIZE, file_extent};
use crfs_disk::file_extent::{FileExtent, FileExtentReg};
use crfs_disk::{Key, item_type};
use std::ops::Range;

/// Largest file that is stored inline in its leaf, bytes (Linux's default `max_inline`).
pub const MAX_INLINE: u64 = 2048;

pub(super) fn extent_key(ino: u64, offset: u64) -> Key {
    Key::new(ino, item_type::EXTENT_DATA, offset)
}

pub(super) fn first_extent_key(ino: u64) -> Key {
    extent_key(ino, 0)
}

pub(super) fn is_extent_of(ino: u64, key: Key) -> bool {
    key.objectid == ino && key.kind == item_type::EXTENT_DATA
}

/// The whole extent on disk that a piece belongs to.
fn disk_run(piece: &FileExtentReg) -> DiskRun {
    DiskRun { bytenr: piece.disk_bytenr, len: piece.disk_num_bytes }
}

fn data_ref(tree: u64, key: Key, piece: &FileExtentReg) -> DataRef {
    DataRef { root: tree, ino: key.objectid, offset: key.offset.wrapping_sub(piece.offset) }
}

/// The part of `piece` at file offset `at` that covers `range`.
fn part(piece: &FileExtentReg, at: u64, range: Range<u64>, generation: u64) -> FileExtentReg {
    let mut part = *piece;
    part.head.generation = generation;
    if !piece.is_hole() {
        part.offset += range.start - at;
    }
    part.num_bytes = range.end - range.start;
    part
}

/// What a piece adds to nbytes.
fn weight(piece: &FileExtentReg, bytes: u64) -> u64 {
    if piece.is_hole() { 0 } else { bytes }
}

/// The last extent before a place in a file.
pub(super) struct Neighbour {
    key: Key,
    piece: FileExtentReg,
}

impl Neighbour {
    /// Where on disk the file's next bytes would best lie.
    pub fn near(&self) -> Option<u64> {
        let piece = &self.piece;
        (!piece.is_hole())
            .then(|| piece.disk_bytenr.saturating_add(piece.offset).saturating_add(piece.num_bytes))
    }

    /// Whether data at file offset `at` could continue this piece by lengthening its extent.
    fn could_grow(&self, at: u64, generation: u64) -> bool {
        let piece = &self.piece;
        self.key.offset + piece.num_bytes == at
            && piece.head.kind == file_extent::REG
            && !piece.is_hole()
            && piece.head.compression == 0
            && piece.head.generation == generation
            && piece.offset + piece.num_bytes == piece.disk_num_bytes
            && piece.disk_num_bytes < MAX_EXTENT_SIZE
    }
}

impl<S: Store> Running<'_, S> {
    /// Parses the extent and checks what the arithmetic in here relies on.
    pub(super) fn parse_extent<'b>(&self, tree: u64, key: Key, item: &'b [u8]) -> Result<FileExtent<'b>> {
        let extent = FileExtent::parse(item).map_err(malformed(tree, key))?;
        let sound = match &extent {
            FileExtent::Inline { head, .. } => key.offset == 0 && head.ram_bytes <= SECTOR_SIZE,
            FileExtent::Reg(piece) => {
                let aligned = (key.offset | piece.num_bytes).is_multiple_of(SECTOR_SIZE);
                let end = key.offset.checked_add(piece.num_bytes);
                let extent_end = piece.offset.checked_add(piece.num_bytes);
                aligned
                    && piece.num_bytes > 0
                    && end.is_some()
                    && extent_end.is_some_and(|end| end <= piece.head.ram_bytes)
            }
        };
        if sound { Ok(extent) } else { Err(corrupt(tree, key, "invalid file extent")) }
    }

    /// Removes everything in the sectors `[start, end)` of the file: trims, splits and removes pieces and drops the
    /// references of what is gone. An inline extent in reach must lie inside the range.
    pub(super) fn drop_extents(&mut self, slot: Slot, range: Range<u64>) -> Result<()> {
        let inode = self.inodes.get(slot);
        if !inode.may_have_extents || range.is_empty() {
            return Ok(());
        }
        let (tree, ino) = (inode.tree, inode.ino);
        let mut item = std::mem::take(&mut self.item2);
        let mut found = self.first_overlap(tree, ino, range.start, &mut item)?;
        while let Some(key) = found.filter(|key| is_extent_of(ino, *key) && key.offset < range.end) {
            match self.parse_extent(tree, key, &item)? {
                FileExtent::Inline { head, .. } => {
                    assert!(
                        range.start == 0 && range.end >= SECTOR_SIZE,
                        "an inline extent was not converted first"
                    );
                    self.store.remove(tree, key)?;
                    self.subtract_bytes(slot, head.ram_bytes)?;
                }
                FileExtent::Reg(piece) => self.drop_part(slot, key, &piece, &range)?,
            }
            let Some(next) = key.successor() else { break };
            found = self.store.next(tree, next, &mut item)?;
        }
        self.item2 = item;
        Ok(())
    }

    /// The first extent item that reaches beyond `start`, or whatever item follows.
    pub(super) fn first_overlap(
        &mut self,
        tree: u64,
        ino: u64,
        start: u64,
        item: &mut Vec<u8>,
    ) -> Result<Option<Key>> {
        if start > 0
            && let Some(key) = self.store.prev(tree, extent_key(ino, start), item)?
            && is_extent_of(ino, key)
        {
            let end = match self.parse_extent(tree, key, item)? {
                FileExtent::Inline { .. } => SECTOR_SIZE,
                FileExtent::Reg(piece) => key.offset + piece.num_bytes,
            };
            if end > start {
                return Ok(Some(key));
            }
        }
        self.store.next(tree, extent_key(ino, start), item)
    }

    /// Takes what lies in `range` out of one piece, which may reach beyond the range or end before it.
    fn drop_part(&mut self, slot: Slot, key: Key, piece: &FileExtentReg, range: &Range<u64>) -> Result<()> {
        let (tree, start, end) = (self.inodes.get(slot).tree, key.offset, key.offset + piece.num_bytes);
        if end <= range.start {
            return Ok(());
        }
        let (keep_left, keep_right) = (start < range.start, end > range.end);
        let owner = data_ref(tree, key, piece);
        if keep_left {
            let left = part(piece, start, start..range.start, self.generation);
            self.store.replace(tree, key, &left.encode())?;
        } else {
            self.store.remove(tree, key)?;
        }
        if keep_right {
            let right = part(piece, start, range.end..end, self.generation);
            self.insert_new(tree, extent_key(key.objectid, range.end), &right.encode())?;
        }
        if !piece.is_hole() {
            match (keep_left, keep_right) {
                (true, true) => self.store.add_ref(disk_run(piece), owner, 1)?,
                (false, false) => self.store.drop_ref(disk_run(piece), owner)?,
                _ => {}
            }
        }
        let gone = end.min(range.end) - start.max(range.start);
        self.subtract_bytes(slot, weight(piece, gone))
    }

    /// Drops the reference of an extent item that is about to be removed with its inode.
    pub(super) fn drop_extent_refs(&mut self, tree: u64, key: Key, item: &[u8]) -> Result<()> {
        match self.parse_extent(tree, key, item)? {
            FileExtent::Reg(piece) if !piece.is_hole() => {
                self.store.drop_ref(disk_run(&piece), data_ref(tree, key, &piece))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn subtract_bytes(&mut self, slot: Slot, bytes: u64) -> Result<()> {
        let inode = self.inodes.change(slot);
        let key = super::inodes::inode_key(inode.ino);
        inode.item.nbytes = inode
            .item
            .nbytes
            .checked_sub(bytes)
            .ok_or_else(|| corrupt(inode.tree, key, "nbytes below the file's extents"))?;
        Ok(())
    }

    /// The file's last piece that starts before `at`.
    pub(super) fn neighbour(&mut self, slot: Slot, at: u64) -> Result<Option<Neighbour>> {
        let inode = self.inodes.get(slot);
        let (tree, ino) = (inode.tree, inode.ino);
        if !inode.may_have_extents || at == 0 {
            return Ok(None);
        }
        let mut item = std::mem::take(&mut self.item2);
        let found =
            self.store.prev(tree, extent_key(ino, at - 1), &mut item)?.filter(|key| is_extent_of(ino, *key));
        let neighbour = match found {
            Some(key) => match self.parse_extent(tree, key, &item)? {
                FileExtent::Reg(piece) => Some(Neighbour { key, piece }),
                FileExtent::Inline { .. } => None,
            },
            None => None,
        };
        self.item2 = item;
        Ok(neighbour)
    }

    /// Lengthens the extent before `at` by up to `more` bytes; the run that was gained.
    pub(super) fn grow_neighbour(
        &mut self,
        slot: Slot,
        neighbour: &Neighbour,
        at: u64,
        more: u64,
    ) -> Result<Option<DiskRun>> {
        if !neighbour.could_grow(at, self.generation) {
            return Ok(None);
        }
        let mut piece = neighbour.piece;
        let run = disk_run(&piece);
        let gained = self.store.extend_data(run, more.min(MAX_EXTENT_SIZE - run.len))?;
        if gained == 0 {
            return Ok(None);
        }
        piece.disk_num_bytes += gained;
        piece.head.ram_bytes += gained;
        piece.num_bytes += gained;
        let inode = self.inodes.change(slot);
        inode.item.nbytes = inode.item.nbytes.saturating_add(gained);
        self.store.replace(inode.tree, neighbour.key, &piece.encode())?;
        Ok(Some(DiskRun { bytenr: run.bytenr + run.len, len: gained }))
    }

    /// Takes space for at most `len` bytes of the file at offset `at`, which nothing covers, and writes the item for
    /// what was got.
    pub(super) fn add_extent(
        &mut self,
        slot: Slot,
        kind: u8,
        at: u64,
        len: u64,
        near: Option<u64>,
    ) -> Result<DiskRun> {
        let run = self.store.allocate_data(len.min(MAX_EXTENT_SIZE), near)?;
        assert!(
            run.len > 0 && run.len <= len && run.len.is_multiple_of(SECTOR_SIZE),
            "an allocation of {} bytes for {len}",
            run.len
        );
        let inode = self.inodes.change(slot);
        inode.item.nbytes = inode.item.nbytes.saturating_add(run.len);
        inode.may_have_extents = true;
        let (tree, ino) = (inode.tree, inode.ino);
        self.store.add_ref(run, DataRef { root: tree, ino, offset: at }, 1)?;
        let item = FileExtentReg::plain(self.generation, kind, run.bytenr, run.len);
        self.insert_new(tree, extent_key(ino, at), &item.encode())?;
        Ok(run)
    }

    /// The regular file that a change of data names.
    pub(super) fn data_file(&mut self, tree: u64, ino: u64) -> Result<Slot> {
        let slot = self.inode(tree, ino)?;
        if !self.inodes.get(slot).item.is_regular() {
            let text = format!("inode {ino} of tree {tree} is no regular file");
            return Err(EngineError::refused(libc::EINVAL, text));
        }
        self.check_mutable_data(slot)?;
        Ok(slot)
    }
}
