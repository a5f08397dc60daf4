// SPDX-License-Identifier: GPL-2.0-or-later
//! The rules of the file system: judges a client's batch of changes against the running trees and turns each change
//! into its items.
//!
//! crfsd calls `apply` for every batch, on the one thread that writes a volume. A sender says what shall happen
//! (docs/protocol.md, "Changes"); what follows from it (back references, link counts, directory sizes, nbytes, orphan
//! items, extents and their references, generation and transid) is computed here alone. So no batch, hostile or
//! broken, makes an image that `btrfs check` rejects, and none reaches a key outside the sender's write grants.
//!
//! Invariants:
//! - A change is judged against the state that the changes before it left. Judging and writing go hand in hand: on a
//!   refusal the store is left half-way, and the caller takes it back to the state before the batch.
//! - Inode items are changed in memory and written once at the end of the batch (`inodes`); all other items at once.
//! - Work and memory are bounded by the size of the batch and of what it removes, never by a number in it alone.
//!
//! Left out: clone (kind 12), subvolumes (entries that lead to another tree can be neither removed nor moved), writing
//! into preallocated extents in place (a new extent replaces them), compression of new data.

pub mod codec;
pub mod cost;
mod data;
mod extents;
pub mod grants;
mod inode;
mod inodes;
mod links;
mod names;
pub mod orphans;
mod xattrs;

use crate::error::{EngineError, Result};
use crate::store::Store;
use codec::{Change, Changes};
use crfs_disk::{FormatError, Key};
pub use extents::MAX_INLINE;
pub use grants::Grants;
use inodes::Inodes;

/// One batch as it travelled.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The change records.
    pub changes: &'a [u8],
    /// How many there are.
    pub count: u32,
    /// A crc32c (u32, little-endian) for each sector of every put data, in order.
    pub checksums: &'a [u8],
    /// The payloads of every put data, in order.
    pub data: &'a [u8],
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub changes: u32,
    /// Payload bytes written.
    pub data_bytes: u64,
}

/// Why a batch was not applied. The store is half-way: the caller goes back to the state before the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the change that failed; the number of changes when the batch as a whole is wrong.
    pub index: u32,
    /// Linux errno.
    pub errno: i32,
    /// One line for the log and the sender.
    pub text: String,
}

/// Directory levels that the renames of one batch may climb together, apart from 256 for each change: deep trees work,
/// and no batch makes the server climb for seconds.
const CLIMB_BUDGET: u64 = 1 << 20;

/// Applies all changes of `batch` to the running transaction, or none (the caller then rolls the store back).
pub fn apply<S: Store>(
    store: &mut S,
    batch: &Batch<'_>,
    grants: &Grants,
) -> std::result::Result<Applied, Refusal> {
    let mut running = Running::new(store, batch, grants);
    let refusal = |index: u32| {
        move |error: EngineError| Refusal { index, errno: error.errno(), text: error.to_string() }
    };
    let mut changes = Changes::new(batch.changes);
    for index in 0..batch.count {
        let change =
            changes.next().unwrap_or_else(|| Err(miscounted(format!("the batch has {index} changes"))));
        change.and_then(|change| running.apply(&change)).map_err(refusal(index))?;
    }
    if changes.next().is_some() {
        return Err(refusal(batch.count)(miscounted(format!(
            "the batch has more than {} changes",
            batch.count
        ))));
    }
    running.finish().map_err(refusal(batch.count))?;
    Ok(Applied { changes: batch.count, data_bytes: batch.data.len() as u64 })
}

fn miscounted(text: String) -> EngineError {
    EngineError::refused(libc::EPROTO, text)
}

/// A batch being applied.
struct Running<'a, S: Store> {
    store: &'a mut S,
    grants: &'a Grants,
    inodes: Inodes,
    /// Payload and checksums not consumed yet.
    data: &'a [u8],
    checksums: &'a [u8],
    generation: u64,
    /// The tree that the last change named, once it was found writable.
    tree: Option<u64>,
    /// Directory levels that renames may still climb.
    climb_budget: u64,
    /// Scratch for one item each, taken and put back by who needs it.
    item: Vec<u8>,
    item2: Vec<u8>,
    /// Scratch for the checksums of one payload, and for its last sector filled up with zeros.
    crcs: Vec<u32>,
    padded: Vec<u8>,
}

impl<'a, S: Store> Running<'a, S> {
    fn new(store: &'a mut S, batch: &Batch<'a>, grants: &'a Grants) -> Running<'a, S> {
        Running {
            generation: store.generation(),
            store,
            grants,
            inodes: Inodes::default(),
            data: batch.data,
            checksums: batch.checksums,
            tree: None,
            climb_budget: CLIMB_BUDGET + 256 * u64::from(batch.count),
            item: Vec::new(),
            item2: Vec::new(),
            crcs: Vec::new(),
            padded: Vec::new(),
        }
    }

    fn apply(&mut self, change: &Change<'_>) -> Result<()> {
        match change {
            Change::NewInode(new) => self.new_inode(new),
            Change::SetFields { tree, ino, fields } => self.set_fields(*tree, *ino, fields),
            Change::AddName(name) => self.add_name(name),
            Change::RemoveName(name) => self.remove_name(name),
            Change::Rename(rename) => self.rename(rename),
            Change::SetXattr { tree, ino, time, flags, name, value } => {
                self.set_xattr(*tree, *ino, *time, *flags, name, value)
            }
            Change::RemoveXattr { tree, ino, time, name } => self.remove_xattr(*tree, *ino, *time, name),
            Change::PutData { tree, ino, offset, length, new_size, time } => {
                let put = data::Put { offset: *offset, length: *length, new_size: *new_size, time: *time };
                self.put_data(*tree, *ino, &put)
            }
            Change::Cut { tree, ino, offset, length, time } => self.cut(*tree, *ino, *offset, *length, *time),
            Change::Preallocate { tree, ino, offset, length, new_size, time } => {
                self.preallocate(*tree, *ino, *offset..offset + length, *new_size, *time)
            }
            Change::DropInode { tree, ino } => self.drop_inode(*tree, *ino),
            Change::Clone(_) => Err(EngineError::refused(libc::EOPNOTSUPP, "clone is reserved")),
        }
    }

    /// Writes what waited for the end of the batch.
    fn finish(&mut self) -> Result<()> {
        if !self.data.is_empty() || !self.checksums.is_empty() {
            return Err(miscounted(format!(
                "{} bytes of data and {} of checksums belong to no change",
                self.data.len(),
                self.checksums.len()
            )));
        }
        self.flush_inodes()
    }

    fn check_tree(&mut self, tree: u64) -> Result<()> {
        if self.tree != Some(tree) {
            if !self.store.is_writable_tree(tree) {
                return Err(EngineError::refused(
                    libc::EROFS,
                    format!("tree {tree} is not a writable file tree"),
                ));
            }
            self.tree = Some(tree);
        }
        Ok(())
    }

    /// Inserts an item whose absence the rules guarantee: an existing one contradicts the image's other items.
    fn insert_new(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<()> {
        if self.store.insert(tree, key, data)? {
            Ok(())
        } else {
            Err(corrupt(tree, key, "an unexpected item"))
        }
    }
}

/// An item that contradicts the format or other items.
fn corrupt(tree: u64, key: Key, what: impl std::fmt::Display) -> EngineError {
    EngineError::corrupt(format!("item: tree={tree} key={key}, {what}"))
}

/// For `map_err` after parsing the item at `key`.
fn malformed(tree: u64, key: Key) -> impl Fn(FormatError) -> EngineError {
    move |error| corrupt(tree, key, error)
}
