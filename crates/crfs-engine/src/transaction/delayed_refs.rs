// SPDX-License-Identifier: GPL-2.0-or-later
//! References to data extents that batches added and dropped, until the commit writes them to the extent tree in one
//! sorted pass. What was born and died in between never reaches the tree.
//!
//! An extent's committed references are read (and judged) when it is first touched, so that a reference which does not
//! exist is reported by the batch, not by the commit.

use super::extent_tree;
use crate::error::{EngineError, Result};
use crate::store::{DataRef, DiskRun};
use crate::tree::{NodeSource, Tree};
use std::collections::BTreeMap;

/// How often one owner refers to an extent: as committed, and now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerCount {
    pub owner: DataRef,
    pub before: u32,
    pub now: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DelayedExtent {
    pub len: u64,
    /// Allocated in the running transaction.
    pub born: bool,
    pub owners: Vec<OwnerCount>,
}

impl DelayedExtent {
    pub fn refs_now(&self) -> u64 {
        self.owners.iter().map(|owner| u64::from(owner.now)).sum()
    }

    pub fn changed(&self) -> impl Iterator<Item = &OwnerCount> {
        self.owners.iter().filter(|owner| owner.before != owner.now)
    }
}

#[derive(Default)]
pub struct DelayedRefs {
    pub extents: BTreeMap<u64, DelayedExtent>,
}

impl DelayedRefs {
    /// A run that was just allocated.
    pub fn born(&mut self, run: DiskRun) -> Result<()> {
        if self.extents.contains_key(&run.bytenr) {
            return Err(EngineError::corrupt(format!(
                "extent {}: its space was free while in use",
                run.bytenr
            )));
        }
        self.extents.insert(run.bytenr, DelayedExtent { len: run.len, born: true, owners: Vec::new() });
        Ok(())
    }

    /// Changes the count of one owner by `delta`.
    pub fn change(
        &mut self,
        tree: &Tree,
        source: &dyn NodeSource,
        run: DiskRun,
        owner: DataRef,
        delta: i64,
    ) -> Result<()> {
        let extent = match self.extents.entry(run.bytenr) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let owners = extent_tree::load_owners(tree, source, run)?;
                entry.insert(DelayedExtent { len: run.len, born: false, owners })
            }
        };
        if extent.len != run.len {
            return Err(EngineError::corrupt(format!(
                "extent {}: a file extent says {} bytes, the extent has {}",
                run.bytenr, run.len, extent.len
            )));
        }
        extent.adjust(run.bytenr, owner, delta)
    }

    /// Takes a change back that `change` made.
    pub fn undo_change(&mut self, bytenr: u64, owner: DataRef, delta: i64) {
        let extent = self.extents.get_mut(&bytenr).expect("what was changed is still there");
        extent.adjust(bytenr, owner, -delta).expect("taking a change back cannot fail");
    }

    /// The extent born in the running transaction that contains the range.
    pub fn born_around(&self, bytenr: u64, len: u64) -> bool {
        let found = self.extents.range(..=bytenr).next_back();
        found.is_some_and(|(start, extent)| extent.born && bytenr + len <= start + extent.len)
    }
}

impl DelayedExtent {
    fn adjust(&mut self, bytenr: u64, owner: DataRef, delta: i64) -> Result<()> {
        let at = match self.owners.iter().position(|have| have.owner == owner) {
            Some(at) => at,
            None => {
                self.owners.push(OwnerCount { owner, before: 0, now: 0 });
                self.owners.len() - 1
            }
        };
        let have = &mut self.owners[at];
        have.now = u32::try_from(i64::from(have.now) + delta).map_err(|_| {
            EngineError::corrupt(format!(
                "extent {bytenr}: no reference from root {} inode {} offset {} (have {}, change {delta})",
                owner.root, owner.ino, owner.offset, have.now
            ))
        })?;
        if have.before == 0 && have.now == 0 {
            self.owners.swap_remove(at);
        }
        Ok(())
    }
}
