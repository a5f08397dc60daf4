// SPDX-License-Identifier: GPL-2.0-or-later
//! One batch on the running transaction: the `Store` that the rules work on, and the way back.
//!
//! Trees go back by their old roots. What lies beside them (space, delayed references) is undone step by step. A chunk
//! that the batch made stays.

use super::csums::CsumTree;
use super::{Roots, Running, free_source};
use crate::error::{EngineError, Result};
use crate::store::{DataRef, DiskRun, Store};
use crate::tree::Tree;
use crfs_disk::constants::{MAX_EXTENT_SIZE, SECTOR_SIZE};
use crfs_disk::{Header, ItemHeader, Key, objectid};

enum Undo {
    Allocated(DiskRun),
    Extended { run: DiskRun, by: u64 },
    Reference { bytenr: u64, owner: DataRef, delta: i64 },
}

pub struct BatchStore<'a> {
    run: &'a mut Running,
    before: Roots,
    freed_before: usize,
    dirty_before: i64,
    undo: Vec<Undo>,
    /// Leaf bytes that the batch added (or gave back).
    net_item_bytes: i64,
    /// Some allocation failed that a commit would make possible.
    commit_helps: bool,
    /// What the batch costs, and the part of it that was promised to its sender (`reserve`).
    cost: u64,
    covered: u64,
}

impl<'a> BatchStore<'a> {
    /// `cost` is that of the batch (`change::cost`), `promised` what its sender may count on.
    pub fn begin(run: &'a mut Running, cost: u64, promised: u64) -> BatchStore<'a> {
        let covered = cost.min(promised);
        run.keep_room_for_metadata(covered);
        BatchStore {
            before: run.roots.clone(),
            freed_before: run.log.freed.len(),
            dirty_before: run.log.dirty_nodes,
            run,
            undo: Vec::new(),
            net_item_bytes: 0,
            commit_helps: false,
            cost,
            covered,
        }
    }

    /// Whether the refusal of this batch was for space that the next commit frees.
    pub fn commit_helps(&self) -> bool {
        self.commit_helps
    }

    /// Makes sure that the commit of everything so far cannot run out of space, and takes what the batch cost from what was
    /// promised to its sender. To be called when the batch is complete.
    pub fn check_reserve(&mut self) -> Result<()> {
        let result = self.run.check_reserve(self.net_item_bytes, self.cost, self.covered);
        match result {
            Ok(()) => self.run.account(self.net_item_bytes, self.covered),
            Err(_) => self.commit_helps = self.dirty_before > 0 || self.run.frees_at_commit(),
        }
        result
    }

    /// Back to the state before the batch.
    pub fn roll_back(self) {
        let run = self.run;
        for step in self.undo.into_iter().rev() {
            match step {
                Undo::Allocated(extent) => {
                    run.refs.extents.remove(&extent.bytenr);
                    run.space.free_now(extent.bytenr, extent.len).expect("it was allocated by this batch");
                }
                Undo::Extended { run: extent, by } => {
                    let grown =
                        run.refs.extents.get_mut(&extent.bytenr).expect("it was there to be extended");
                    grown.len = extent.len;
                    run.space
                        .free_now(extent.bytenr + extent.len, by)
                        .expect("it was allocated by this batch");
                }
                Undo::Reference { bytenr, owner, delta } => run.refs.undo_change(bytenr, owner, delta),
            }
        }
        run.roots = self.before;
        run.log.freed.truncate(self.freed_before);
        run.log.dirty_nodes = self.dirty_before;
    }

    fn tree(&self, tree: u64) -> Result<&Tree> {
        self.run.roots.get(&tree).ok_or_else(|| no_tree(tree))
    }

    fn out_of_space(&mut self, error: EngineError) -> EngineError {
        if matches!(error, EngineError::NoSpace(_)) {
            self.commit_helps = self.run.frees_at_commit();
        }
        error
    }
}

fn no_tree(tree: u64) -> EngineError {
    EngineError::refused(libc::ENOENT, format!("there is no tree {tree}"))
}

fn item_cost(data: &[u8]) -> i64 {
    (ItemHeader::SIZE + data.len()) as i64
}

impl Store for BatchStore<'_> {
    fn is_writable_tree(&self, tree: u64) -> bool {
        self.run.writable.contains(&tree)
    }

    fn generation(&self) -> u64 {
        self.run.generation
    }

    fn leaf_space(&self) -> usize {
        Header::leaf_space(self.run.superblock.nodesize as usize)
    }

    fn get(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<bool> {
        self.tree(tree)?.get(&*self.run.nodes, key, out)
    }

    fn next(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>> {
        self.tree(tree)?.next(&*self.run.nodes, key, out)
    }

    fn prev(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>> {
        self.tree(tree)?.prev(&*self.run.nodes, key, out)
    }

    fn insert(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<bool> {
        let run = &mut *self.run;
        let root = run.roots.get_mut(&tree).ok_or_else(|| no_tree(tree))?;
        let inserted = root.try_insert(&*run.nodes, &mut run.log, key, data)?;
        if inserted {
            self.net_item_bytes += item_cost(data);
        }
        Ok(inserted)
    }

    fn replace(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<()> {
        let run = &mut *self.run;
        let root = run.roots.get_mut(&tree).ok_or_else(|| no_tree(tree))?;
        let old = root.replace(&*run.nodes, &mut run.log, key, data)?;
        self.net_item_bytes += data.len() as i64 - old as i64;
        Ok(())
    }

    fn remove(&mut self, tree: u64, key: Key) -> Result<()> {
        let run = &mut *self.run;
        let root = run.roots.get_mut(&tree).ok_or_else(|| no_tree(tree))?;
        let old = root.remove(&*run.nodes, &mut run.log, key)?;
        self.net_item_bytes -= (ItemHeader::SIZE + old) as i64;
        Ok(())
    }

    fn allocate_data(&mut self, len: u64, near: Option<u64>) -> Result<DiskRun> {
        let run = &mut *self.run;
        let len = len.next_multiple_of(SECTOR_SIZE);
        let found = run.space.allocate_data(len, near, free_source(&run.roots, &run.nodes));
        let (bytenr, len) = found.map_err(|error| self.out_of_space(error))?;
        let extent = DiskRun { bytenr, len };
        if let Err(error) = self.run.refs.born(extent) {
            self.run.space.free_now(bytenr, len)?;
            return Err(error);
        }
        self.undo.push(Undo::Allocated(extent));
        self.net_item_bytes += item_cost(&[]);
        Ok(extent)
    }

    fn extend_data(&mut self, run: DiskRun, more: u64) -> Result<u64> {
        let Some(extent) = self.run.refs.extents.get_mut(&run.bytenr) else { return Ok(0) };
        if !extent.born || extent.len != run.len || extent.refs_now() != 1 {
            return Ok(0);
        }
        let more = more.next_multiple_of(SECTOR_SIZE).min(MAX_EXTENT_SIZE.saturating_sub(run.len));
        let by = self.run.space.extend_data(run.bytenr + run.len, more);
        if by > 0 {
            extent.len += by;
            self.undo.push(Undo::Extended { run, by });
        }
        Ok(by)
    }

    fn add_ref(&mut self, extent: DiskRun, owner: DataRef, count: u32) -> Result<()> {
        self.change_ref(extent, owner, i64::from(count))
    }

    fn drop_ref(&mut self, extent: DiskRun, owner: DataRef) -> Result<()> {
        self.change_ref(extent, owner, -1)
    }

    fn write_data(&mut self, bytenr: u64, data: &[u8], crcs: &[u32]) -> Result<()> {
        let run = &mut *self.run;
        if !run.refs.born_around(bytenr, data.len() as u64) {
            return Err(EngineError::corrupt(format!(
                "extent: {} bytes at {bytenr} are not of an extent allocated in this transaction",
                data.len()
            )));
        }
        run.reader.write_logical(bytenr, data)?;
        if crcs.is_empty() {
            return Ok(());
        }
        let kind = run.reader.geometry().checksum;
        let mut sums = Vec::with_capacity(crcs.len() * kind.size());
        if kind == crfs_disk::ChecksumKind::Crc32c {
            sums.extend(crcs.iter().flat_map(|crc| crc.to_le_bytes()));
        } else {
            kind.append_sectors(data, SECTOR_SIZE as usize, &mut sums);
        }
        let tree = run.roots.get_mut(&objectid::CSUM_TREE).ok_or_else(|| no_tree(objectid::CSUM_TREE))?;
        let size = kind.size();
        self.net_item_bytes += sums.len() as i64;
        CsumTree { tree, source: &*run.nodes, log: &mut run.log, size }.insert(bytenr, &sums)
    }
}

impl BatchStore<'_> {
    fn change_ref(&mut self, extent: DiskRun, owner: DataRef, delta: i64) -> Result<()> {
        let run = &mut *self.run;
        let tree = &run.roots[&objectid::EXTENT_TREE];
        run.refs.change(tree, &*run.nodes, extent, owner, delta)?;
        self.undo.push(Undo::Reference { bytenr: extent.bytenr, owner, delta });
        Ok(())
    }
}
