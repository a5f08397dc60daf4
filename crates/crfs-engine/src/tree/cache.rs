// SPDX-License-Identifier: GPL-2.0-or-later
//! Nodes of the device, kept in memory within a bound, plus the nodes of the commit that is being written.
//!
//! A block address is used again after a commit, so an entry counts only with the right generation. Eviction is CLOCK:
//! one bit per entry says whether it was used since the hand passed.

use super::node::{Node, NodeSource, Wanted};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Locks that divide the cache, so that readers on several threads rarely meet.
const SHARDS: usize = 16;
/// Nodes that a shard keeps whatever the bound says: a path through every tree must fit.
const SHARD_NODES_MIN: usize = 8;

/// Reads one block and verifies everything about it.
pub trait BlockSource: Send + Sync {
    fn read_block(&self, wanted: &Wanted) -> Result<Box<[u8]>>;
    fn nodesize(&self) -> usize;
}

pub struct NodeCache {
    blocks: Box<dyn BlockSource>,
    shards: Vec<Mutex<Shard>>,
    /// Nodes of a commit whose writing has not ended: their blocks must not be read yet.
    in_flight: RwLock<HashMap<u64, (u64, Arc<Node>)>>,
    any_in_flight: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    by_bytenr: HashMap<u64, usize>,
    hand: usize,
    capacity: usize,
}

struct Slot {
    bytenr: u64,
    generation: u64,
    node: Arc<Node>,
    used: bool,
}

impl NodeCache {
    pub fn new(blocks: Box<dyn BlockSource>, bytes_max: usize) -> NodeCache {
        let capacity = (bytes_max / blocks.nodesize() / SHARDS).max(SHARD_NODES_MIN);
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard { capacity, ..Shard::default() })).collect();
        NodeCache {
            blocks,
            shards,
            in_flight: RwLock::new(HashMap::new()),
            any_in_flight: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Makes nodes readable whose blocks a commit is about to write.
    pub fn begin_flight(&self, generation: u64, nodes: &[Arc<Node>]) {
        let mut map = self.in_flight.write().unwrap_or_else(PoisonError::into_inner);
        for node in nodes {
            map.insert(node.address(), (generation, Arc::clone(node)));
        }
        self.any_in_flight.store(true, Ordering::Release);
    }

    /// The blocks are on the device: their nodes become ordinary cache entries.
    pub fn end_flight(&self) {
        let mut map = self.in_flight.write().unwrap_or_else(PoisonError::into_inner);
        for (bytenr, (generation, node)) in map.iter() {
            self.shard(*bytenr).put(*bytenr, *generation, Arc::clone(node));
        }
        map.clear();
        self.any_in_flight.store(false, Ordering::Release);
    }

    /// Lookups answered from memory, and those that read the device.
    pub fn counters(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Nodes held at the moment.
    pub fn node_count(&self) -> usize {
        (0..SHARDS).map(|shard| lock(&self.shards[shard]).slots.len()).sum()
    }

    fn shard(&self, bytenr: u64) -> MutexGuard<'_, Shard> {
        // Addresses are multiples of the node size: mix the bits before cutting.
        let mixed = bytenr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        lock(&self.shards[mixed as usize % SHARDS])
    }

    fn flying(&self, wanted: &Wanted) -> Option<Arc<Node>> {
        if !self.any_in_flight.load(Ordering::Acquire) {
            return None;
        }
        let map = self.in_flight.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&wanted.bytenr)
            .filter(|(generation, node)| *generation == wanted.generation && fits(node, wanted))
            .map(|(_, node)| Arc::clone(node))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A damaged image can point to one block from two places. What does not fit its pointer is read (and refused) again.
fn fits(node: &Node, wanted: &Wanted) -> bool {
    node.level() == wanted.level && wanted.first_key.is_none_or(|key| node.first_key() == Some(key))
}

impl NodeSource for NodeCache {
    fn load(&self, wanted: &Wanted) -> Result<Arc<Node>> {
        if let Some(node) = self.shard(wanted.bytenr).get(wanted) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(node);
        }
        if let Some(node) = self.flying(wanted) {
            return Ok(node);
        }
        // A commit may have landed between the two looks: its nodes moved from the one place to the other.
        if let Some(node) = self.shard(wanted.bytenr).get(wanted) {
            return Ok(node);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let node = Arc::new(Node::from_block(self.blocks.read_block(wanted)?));
        self.shard(wanted.bytenr).put(wanted.bytenr, wanted.generation, Arc::clone(&node));
        Ok(node)
    }

    fn nodesize(&self) -> usize {
        self.blocks.nodesize()
    }
}

impl Shard {
    fn get(&mut self, wanted: &Wanted) -> Option<Arc<Node>> {
        let slot = &mut self.slots[*self.by_bytenr.get(&wanted.bytenr)?];
        if slot.generation != wanted.generation || !fits(&slot.node, wanted) {
            return None;
        }
        slot.used = true;
        Some(Arc::clone(&slot.node))
    }

    fn put(&mut self, bytenr: u64, generation: u64, node: Arc<Node>) {
        let fresh = Slot { bytenr, generation, node, used: false };
        if let Some(at) = self.by_bytenr.get(&bytenr) {
            self.slots[*at] = fresh;
            return;
        }
        if self.slots.len() < self.capacity {
            self.by_bytenr.insert(bytenr, self.slots.len());
            self.slots.push(fresh);
            return;
        }
        while std::mem::take(&mut self.slots[self.hand].used) {
            self.hand = (self.hand + 1) % self.slots.len();
        }
        self.by_bytenr.remove(&self.slots[self.hand].bytenr);
        self.by_bytenr.insert(bytenr, self.hand);
        self.slots[self.hand] = fresh;
        self.hand = (self.hand + 1) % self.slots.len();
    }
}
