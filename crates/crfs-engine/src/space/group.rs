// SPDX-License-Identifier: GPL-2.0-or-later
//! One block group: how full it is, and where it is free.

use super::free_runs::FreeRuns;
use crate::chunk_map::ChunkMapping;
use crfs_disk::constants::{STRIPE_LEN, SUPER_OFFSETS, block_group};

/// What a block group holds; each has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Data,
    Metadata,
    System,
}

impl Purpose {
    pub fn of_flags(flags: u64) -> Purpose {
        if flags & block_group::DATA != 0 {
            Purpose::Data
        } else if flags & block_group::SYSTEM != 0 {
            Purpose::System
        } else {
            Purpose::Metadata
        }
    }
}

#[derive(Clone, Debug)]
pub struct BlockGroup {
    pub start: u64,
    pub len: u64,
    pub flags: u64,
    pub copies: u64,
    /// Bytes of extents, those allocated in the running transaction included.
    pub used: u64,
    /// What the BLOCK_GROUP_ITEM in the running tree says.
    pub item_used: u64,
    /// Bytes freed that may not be handed out yet.
    pub pinned: u64,
    /// Runs that may be allocated; `None` until somebody needs them.
    pub free: Option<FreeRuns>,
    /// Parts that hold superblocks, never allocated: (start, length).
    pub excluded: Vec<(u64, u64)>,
}

impl BlockGroup {
    pub fn of_chunk(chunk: &ChunkMapping, used: u64) -> BlockGroup {
        BlockGroup {
            start: chunk.start,
            len: chunk.length,
            flags: chunk.flags,
            copies: chunk.physical.len() as u64,
            used,
            item_used: used,
            pinned: 0,
            free: None,
            excluded: super_stripes(chunk),
        }
    }

    pub fn purpose(&self) -> Purpose {
        Purpose::of_flags(self.flags)
    }

    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    pub fn contains(&self, bytenr: u64) -> bool {
        (self.start..self.end()).contains(&bytenr)
    }

    /// Bytes that may be allocated, as far as is known without loading the free runs.
    pub fn free_bytes(&self) -> u64 {
        match &self.free {
            Some(free) => free.total(),
            None => (self.len - self.used.min(self.len)).saturating_sub(self.excluded_bytes() + self.pinned),
        }
    }

    pub fn excluded_bytes(&self) -> u64 {
        self.excluded.iter().map(|(_, len)| len).sum()
    }
}

/// Logical ranges whose stripes hold a superblock copy. Linux leaves out the whole 64 KiB, whether or not the mirror exists.
fn super_stripes(chunk: &ChunkMapping) -> Vec<(u64, u64)> {
    let mut found = FreeRuns::default();
    let mut add = |start: u64, end: u64| {
        if start < end {
            found.exclude(start, end - start);
            let added = found.insert(start, end - start);
            debug_assert!(added, "the range was cleared before");
        }
    };
    add(chunk.start, chunk.end().min(SUPER_OFFSETS[0]));
    for physical in &chunk.physical {
        for super_at in SUPER_OFFSETS {
            let stripe_end = super_at + STRIPE_LEN;
            if stripe_end <= *physical || super_at >= physical + chunk.length {
                continue;
            }
            let from = super_at.saturating_sub(*physical) / STRIPE_LEN * STRIPE_LEN;
            let to = (stripe_end - physical).next_multiple_of(STRIPE_LEN).min(chunk.length);
            add(chunk.start + from, chunk.start + to);
        }
    }
    found.iter().collect()
}
