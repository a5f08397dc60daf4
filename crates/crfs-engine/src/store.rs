// SPDX-License-Identifier: GPL-2.0-or-later
//! The seam between the rules of the file system (`change/`) and the machinery of trees, space and commit
//! (`tree/`, `transaction/`). The rules see sorted items and data extents only; a sorted map implements this trait
//! in tests, the running transaction implements it in earnest.
//!
//! Everything done through a store inside one batch takes effect together: the caller of `change::apply` goes back to
//! the state before the batch when it fails.

use crate::error::Result;
use crfs_disk::Key;

/// One reference to a data extent, as an EXTENT_DATA_REF names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct DataRef {
    /// Tree (subvolume) id.
    pub root: u64,
    pub ino: u64,
    /// File offset minus the offset inside the extent, wrapping, in bytes.
    pub offset: u64,
}

/// A run of bytes on the logical address space, sector-aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskRun {
    pub bytenr: u64,
    pub len: u64,
}

pub trait Store {
    /// Whether `tree` is a live, writable file tree.
    fn is_writable_tree(&self, tree: u64) -> bool;
    /// Generation of the running transaction.
    fn generation(&self) -> u64;
    /// Bytes of item data that an empty leaf can hold, item headers included (nodesize - 101).
    fn leaf_space(&self) -> usize;

    /// Copies the item into `out` (cleared first); false when there is none.
    fn get(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<bool>;
    /// First item with key >= `key`; its data is copied into `out`.
    fn next(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>>;
    /// Last item with key <= `key`; its data is copied into `out`.
    fn prev(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>>;
    /// Inserts a new item; false, and nothing changed, when the key is taken.
    fn insert(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<bool>;
    /// Replaces the data of an existing item; the size may change.
    fn replace(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<()>;
    /// Removes an existing item.
    fn remove(&mut self, tree: u64, key: Key) -> Result<()>;

    /// Takes data space, at most `len` bytes, a whole number of sectors; the run may be shorter than asked for, never
    /// empty. `near` is where the caller would like it (the end of the file's previous extent). The run has no
    /// reference yet: `add_ref` follows in the same batch. ENOSPC when none is left.
    fn allocate_data(&mut self, len: u64, near: Option<u64>) -> Result<DiskRun>;
    /// Tries to lengthen, in place, the extent `run`; returns by how many bytes it grew (0 to `more`, whole sectors).
    /// Only an extent that was allocated in the running transaction and has exactly one reference grows; any other
    /// one, or one that is followed by used space, answers 0.
    fn extend_data(&mut self, run: DiskRun, more: u64) -> Result<u64>;
    /// Adds `count` references from `owner` to the extent that starts at `extent.bytenr` with full length `extent.len`.
    fn add_ref(&mut self, extent: DiskRun, owner: DataRef, count: u32) -> Result<()>;
    /// Drops one; with the last one the space is freed (after the commit) and its checksums go.
    fn drop_ref(&mut self, extent: DiskRun, owner: DataRef) -> Result<()>;
    /// Writes sectors into a run allocated in the running transaction and records their checksums. `crcs` are the
    /// crc32c of each 4 KiB, which the caller has verified against `data`; none at all means that no checksums are to
    /// be recorded (an inode with NODATASUM).
    fn write_data(&mut self, bytenr: u64, data: &[u8], crcs: &[u32]) -> Result<()>;
}
