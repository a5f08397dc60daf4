// SPDX-License-Identifier: GPL-2.0-or-later
//! Space: which bytes of the logical address space may be taken, and where new block groups can lie on the device.
//!
//! The writer owns one `Space`. Free runs live in memory once a block group is in use; the free-space tree is only read
//! to load them and written at commit. Space that a commit frees is pinned: nothing of it is handed out before that
//! commit is durable and the last reader of an older state has gone (`transaction/`).

mod allocator;
mod device;
pub mod free_runs;
pub mod free_space_tree;
mod group;
mod growth;

pub use device::DeviceSpace;
pub use free_runs::{FreeRuns, coalesce};
pub use group::{BlockGroup, Purpose};
pub use growth::NewChunk;

use crate::block_reader::BlockReader;
use crate::error::{EngineError, Result};
use crate::tree::{NodeSource, Tree};
use allocator::Window;
use crfs_disk::chunk::BlockGroupItem;
use crfs_disk::{Key, item_type};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the allocator reads from, passed along instead of kept, since the trees change with every batch.
#[derive(Clone, Copy)]
pub struct FreeSource<'a> {
    /// The free-space tree as it runs.
    pub tree: &'a Tree,
    pub nodes: &'a dyn NodeSource,
}

pub struct Space {
    pub groups: BTreeMap<u64, BlockGroup>,
    pub device: DeviceSpace,
    reader: Arc<BlockReader>,
    nodesize: u64,
    /// Runs that commits freed and that may not be handed out yet: (commit's generation, start, length).
    pinned: Vec<(u64, u64, u64)>,
    pinned_bytes: u64,
    /// Chunks made since the trees last heard of them.
    new_chunks: Vec<NewChunk>,
    /// Where the next data goes that has no better place.
    data_window: Window,
    /// Where the next tree block of each purpose goes.
    metadata_cursor: u64,
    /// Room that data must leave to metadata when it takes a new chunk, bytes.
    metadata_kept: u64,
}

impl Space {
    /// Reads all block groups; `groups_tree` holds their BLOCK_GROUP_ITEMs.
    pub fn load(
        reader: Arc<BlockReader>,
        device: DeviceSpace,
        groups_tree: &Tree,
        nodes: &dyn NodeSource,
    ) -> Result<Space> {
        let chunks: Vec<_> = reader.chunks().iter().cloned().collect();
        let mut groups = BTreeMap::new();
        let mut item = Vec::new();
        for chunk in chunks {
            let key = Key::new(chunk.start, item_type::BLOCK_GROUP_ITEM, chunk.length);
            if !groups_tree.get(nodes, key, &mut item)? {
                return Err(EngineError::corrupt(format!(
                    "extent tree: chunk {} has no block group",
                    chunk.start
                )));
            }
            let group = BlockGroupItem::parse(&item)
                .map_err(|error| EngineError::Corrupt(format!("block group {}: {error}", chunk.start)))?;
            if group.used > chunk.length || group.flags != chunk.flags {
                return Err(EngineError::corrupt(format!(
                    "block group {}: used {} of {}, flags {:#x} expect {:#x}",
                    chunk.start, group.used, chunk.length, group.flags, chunk.flags
                )));
            }
            groups.insert(chunk.start, BlockGroup::of_chunk(&chunk, group.used));
        }
        Ok(Space {
            groups,
            device,
            nodesize: nodes.nodesize() as u64,
            reader,
            pinned: Vec::new(),
            pinned_bytes: 0,
            new_chunks: Vec::new(),
            data_window: Window::default(),
            metadata_cursor: 0,
            metadata_kept: 0,
        })
    }

    pub fn group_of(&self, bytenr: u64) -> Result<&BlockGroup> {
        let found = self.groups.range(..=bytenr).next_back().map(|(_, group)| group);
        found.filter(|group| group.contains(bytenr)).ok_or_else(|| no_group(bytenr))
    }

    pub fn group_of_mut(&mut self, bytenr: u64) -> Result<&mut BlockGroup> {
        let found = self.groups.range_mut(..=bytenr).next_back().map(|(_, group)| group);
        found.filter(|group| group.contains(bytenr)).ok_or_else(|| no_group(bytenr))
    }

    /// Sum of `used` over all block groups: the superblock's `bytes_used`.
    pub fn bytes_used(&self) -> u64 {
        self.groups.values().map(|group| group.used).sum()
    }

    /// Notes that a committed extent is no longer used as of the commit of `generation`.
    pub fn free_pinned(&mut self, generation: u64, start: u64, len: u64) -> Result<()> {
        let group = self.group_of_mut(start)?;
        group.used = group.used.checked_sub(len).ok_or_else(|| {
            EngineError::corrupt(format!(
                "block group {}: freeing {len} bytes of {} used",
                group.start, group.used
            ))
        })?;
        group.pinned += len;
        self.pinned.push((generation, start, len));
        self.pinned_bytes += len;
        Ok(())
    }

    /// Gives space back that no committed state and no reader knows.
    pub fn free_now(&mut self, start: u64, len: u64) -> Result<()> {
        let group = self.group_of_mut(start)?;
        let free = group.free.as_mut().expect("space is only allocated from loaded block groups");
        let inserted = free.insert(start, len);
        assert!(inserted, "allocated space cannot be free at the same time");
        group.used -= len;
        Ok(())
    }

    /// Bytes that become free when the last commit is durable and older readers have gone.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    /// Makes pinned space of the commits up to `generation` allocatable; returns it, joined.
    pub fn unpin(&mut self, generation: u64) -> Result<Vec<(u64, u64)>> {
        let (out, kept): (Vec<_>, Vec<_>) = self.pinned.drain(..).partition(|(pin, _, _)| *pin <= generation);
        self.pinned = kept;
        let mut runs = Vec::with_capacity(out.len());
        for (_, start, len) in out {
            self.pinned_bytes -= len;
            let group = self.group_of_mut(start)?;
            group.pinned -= len;
            if let Some(free) = &mut group.free {
                if !free.insert(start, len) {
                    return Err(EngineError::corrupt(format!(
                        "extent {start}: {len} bytes were free while in use"
                    )));
                }
                // A foreign extent may have lain on a superblock's stripe.
                for (at, size) in &group.excluded {
                    free.exclude(*at, *size);
                }
            }
            runs.push((start, len));
        }
        Ok(coalesce(runs))
    }

    /// Loads the free runs of a block group if that has not happened.
    fn load_free(&mut self, start: u64, source: FreeSource<'_>) -> Result<()> {
        let group = &self.groups[&start];
        if group.free.is_some() {
            return Ok(());
        }
        let mut free = free_space_tree::load(source.tree, source.nodes, group)?;
        if free.total() != group.len - group.item_used {
            return Err(EngineError::corrupt(format!(
                "free-space tree: block group {} has {} bytes free, expect {}",
                group.start,
                free.total(),
                group.len - group.item_used
            )));
        }
        for (at, len) in &group.excluded {
            free.exclude(*at, *len);
        }
        for (_, at, len) in &self.pinned {
            if group.contains(*at) {
                free.exclude(*at, *len);
            }
        }
        self.groups.get_mut(&start).expect("the group was found above").free = Some(free);
        Ok(())
    }

    /// Starts of the groups of one purpose, by address.
    fn groups_for(&self, purpose: Purpose) -> Vec<u64> {
        self.groups.values().filter(|group| group.purpose() == purpose).map(|group| group.start).collect()
    }

    /// Bytes that groups of this purpose can still give without growing.
    pub fn free_bytes(&self, purpose: Purpose) -> u64 {
        self.groups.values().filter(|group| group.purpose() == purpose).map(BlockGroup::free_bytes).sum()
    }

    pub fn total_bytes(&self, purpose: Purpose) -> u64 {
        self.groups.values().filter(|group| group.purpose() == purpose).map(|group| group.len).sum()
    }

    pub fn used_bytes(&self, purpose: Purpose) -> u64 {
        self.groups.values().filter(|group| group.purpose() == purpose).map(|group| group.used).sum()
    }

    /// Data takes no new chunk that would leave less room than this to metadata.
    pub fn keep_metadata_room(&mut self, bytes: u64) {
        self.metadata_kept = bytes;
    }

    /// Takes the chunks that the trees must hear of.
    pub fn take_new_chunks(&mut self) -> Vec<NewChunk> {
        std::mem::take(&mut self.new_chunks)
    }

    pub fn has_new_chunks(&self) -> bool {
        !self.new_chunks.is_empty()
    }
}

fn no_group(bytenr: u64) -> EngineError {
    EngineError::corrupt(format!("address: no block group holds {bytenr}"))
}
