// SPDX-License-Identifier: GPL-2.0-or-later
//! Freezing the running transaction into a commit.
//!
//! 1. References of data extents, and the checksums of those that died.
//! 2. Rounds, until nothing changes: an address, an extent item and space for each changed node that has none; extent items
//!    and space of replaced blocks go; items of new chunks; free-space tree, block groups and root items follow. Each of
//!    these changes nodes; a node that has its address stays where it is, so the rounds end.
//! 3. Every changed node is sealed: the trees point to addresses only, and the next transaction starts from them.
//!
//! A failure here leaves the transaction torn: the volume takes no more changes, and its last commit stands.

use super::csums::CsumTree;
use super::delayed_refs::DelayedExtent;
use super::extent_tree::ExtentTree;
use super::{Running, free_source};
use crate::error::{EngineError, Result};
use crate::space::free_space_tree::FreeSpaceTree;
use crate::space::{NewChunk, Purpose, coalesce};
use crate::tree::{FreedBlock, Node};
use crfs_disk::chunk::{BlockGroupItem, DevExtent};
use crfs_disk::constants::super_flag;
use crfs_disk::inode::Timespec;
use crfs_disk::superblock::BackupRoot;
use crfs_disk::{Key, Superblock, Uuid, item_type, objectid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Rounds after which a commit is given up as a bug; real ones need fewer than ten.
const ROUNDS_MAX: usize = 200;

/// A node with its address, ready to be written.
pub struct Sealed {
    pub tree: u64,
    pub node: Arc<Node>,
}

/// A commit whose blocks are not on the device yet.
pub struct Frozen {
    pub generation: u64,
    /// In the order of addresses.
    pub nodes: Vec<Sealed>,
    pub superblock: Superblock,
    pub chunk_tree_uuid: Uuid,
}

/// What a round made used and free in one block group.
#[derive(Default)]
struct Moved {
    used: Vec<(u64, u64)>,
    freed: Vec<(u64, u64)>,
}

struct Freeze<'a> {
    run: &'a mut Running,
    moved: BTreeMap<u64, Moved>,
    /// Block groups whose item must be compared with what they use.
    touched: BTreeSet<u64>,
    nodesize: u64,
}

impl Running {
    /// Turns everything applied so far into a commit; `None` when there is nothing.
    pub fn freeze(&mut self) -> Result<Option<Frozen>> {
        if !self.is_dirty() {
            return Ok(None);
        }
        let nodesize = u64::from(self.superblock.nodesize);
        let mut freeze = Freeze { run: self, moved: BTreeMap::new(), touched: BTreeSet::new(), nodesize };
        freeze.data_extents()?;
        freeze.settle()?;
        Ok(Some(self.seal()?))
    }

    fn seal(&mut self) -> Result<Frozen> {
        let generation = self.generation;
        let mut nodes = Vec::new();
        for tree in self.roots.values_mut().filter(|tree| tree.is_dirty()) {
            let mut sealed = Vec::new();
            tree.root = tree.root.seal(generation, &mut sealed);
            tree.node_delta = 0;
            if let Some(record) = self.root_items.get_mut(&tree.id) {
                record.bytes_committed = record.item.bytes_used;
            }
            nodes.extend(sealed.into_iter().map(|node| Sealed { tree: tree.id, node }));
        }
        nodes.sort_unstable_by_key(|sealed| sealed.node.address());
        let superblock = self.next_superblock()?;
        self.log.dirty_nodes = 0;
        self.generation += 1;
        self.superblock = superblock;
        let flying: Vec<Arc<Node>> = nodes.iter().map(|sealed| Arc::clone(&sealed.node)).collect();
        self.nodes.begin_flight(generation, &flying);
        let chunk_tree_uuid = self.reader.geometry().chunk_tree_uuid.unwrap_or(Uuid::NIL);
        Ok(Frozen { generation, nodes, superblock, chunk_tree_uuid })
    }

    fn next_superblock(&self) -> Result<Superblock> {
        let mut sb = self.superblock;
        let (root, _, root_level) = self.place_of(objectid::ROOT_TREE);
        let (chunk_root, chunk_generation, chunk_level) = self.place_of(objectid::CHUNK_TREE);
        sb.generation = self.generation;
        sb.root = root;
        sb.root_level = root_level;
        sb.chunk_root = chunk_root;
        sb.chunk_root_generation = chunk_generation;
        sb.chunk_root_level = chunk_level;
        sb.log_root = 0;
        sb.log_root_level = 0;
        sb.log_root_transid = 0;
        sb.bytes_used = self.space.bytes_used();
        sb.flags |= super_flag::WRITTEN;
        sb.cache_generation = 0;
        sb.dev_item = self.space.device.item;
        // The UUID tree stays right as long as no subvolume comes or goes; an older number makes Linux rebuild it.
        if self.superblock.uuid_tree_generation == self.superblock.generation {
            sb.uuid_tree_generation = sb.generation;
        }
        let chunks = self.reader.chunks();
        let system = chunks.iter().filter(|chunk| Purpose::of_flags(chunk.flags) == Purpose::System);
        let system: Vec<_> = system
            .map(|chunk| {
                let key = Key::new(objectid::FIRST_CHUNK_TREE, item_type::CHUNK_ITEM, chunk.start);
                (key, &chunk.chunk)
            })
            .collect();
        sb.set_system_chunks(system.iter().map(|(key, chunk)| (*key, *chunk)))
            .map_err(|error| EngineError::NoSpace(error.0))?;
        let newest =
            sb.backup_roots.iter().position(|backup| backup.tree_root_gen == self.superblock.generation);
        let next = newest.map_or(0, |at| (at + 1) % sb.backup_roots.len());
        sb.backup_roots[next] = self.backup_root(&sb);
        Ok(sb)
    }

    /// Address, generation and level of a sealed tree's root.
    fn place_of(&self, tree: u64) -> (u64, u64, u8) {
        let tree = &self.roots[&tree];
        match tree.root {
            crate::tree::Child::Disk { bytenr, generation } => (bytenr, generation, tree.level),
            crate::tree::Child::Memory(_) => unreachable!("the tree is sealed"),
        }
    }

    fn backup_root(&self, sb: &Superblock) -> BackupRoot {
        let (extent_root, extent_root_gen, extent_root_level) = self.place_of(objectid::EXTENT_TREE);
        let (fs_root, fs_root_gen, fs_root_level) = self.place_of(objectid::FS_TREE);
        let (dev_root, dev_root_gen, dev_root_level) = self.place_of(objectid::DEV_TREE);
        let (csum_root, csum_root_gen, csum_root_level) = self.place_of(objectid::CSUM_TREE);
        BackupRoot {
            tree_root: sb.root,
            tree_root_gen: sb.generation,
            chunk_root: sb.chunk_root,
            chunk_root_gen: sb.chunk_root_generation,
            extent_root,
            extent_root_gen,
            fs_root,
            fs_root_gen,
            dev_root,
            dev_root_gen,
            csum_root,
            csum_root_gen,
            total_bytes: sb.total_bytes,
            bytes_used: sb.bytes_used,
            num_devices: sb.num_devices,
            unused_64: [0; 32],
            tree_root_level: sb.root_level,
            chunk_root_level: sb.chunk_root_level,
            extent_root_level,
            fs_root_level,
            dev_root_level,
            csum_root_level,
            unused_8: [0; 10],
        }
    }
}

impl Freeze<'_> {
    fn data_extents(&mut self) -> Result<()> {
        let extents = std::mem::take(&mut self.run.refs.extents);
        for (bytenr, extent) in &extents {
            self.data_extent(*bytenr, extent)?;
        }
        Ok(())
    }

    fn data_extent(&mut self, bytenr: u64, extent: &DelayedExtent) -> Result<()> {
        let alive = extent.refs_now() > 0;
        if extent.changed().next().is_some() && (alive || !extent.born) {
            self.extent_tree().write_data_extent(bytenr, extent)?;
        }
        if alive {
            if extent.born {
                self.note_used(bytenr, extent.len)?;
            }
            return Ok(());
        }
        self.csum_tree().remove(bytenr, extent.len)?;
        // Readers of the applied state may still use what was born and died within the transaction: pinned like the rest.
        self.run.space.free_pinned(self.run.generation, bytenr, extent.len)?;
        if !extent.born {
            self.note_freed(bytenr, extent.len)?;
        }
        Ok(())
    }

    /// The rounds; see the head of this file.
    fn settle(&mut self) -> Result<()> {
        let root_key = Key::new(objectid::EXTENT_TREE, item_type::ROOT_ITEM, 0);
        let run = &mut *self.run;
        let root_tree = run.roots.get_mut(&objectid::ROOT_TREE).expect("every image has a root tree");
        root_tree.touch(&*run.nodes, &mut run.log, root_key)?;
        for _ in 0..ROUNDS_MAX {
            let placed = self.place_nodes()?;
            let freed = self.remove_freed()?;
            self.insert_chunks()?;
            self.update_free_space()?;
            self.update_groups()?;
            let rooted = self.update_roots()?;
            if placed + freed + rooted == 0 && !self.run.space.has_new_chunks() {
                return Ok(());
            }
        }
        Err(EngineError::corrupt(format!("commit: not settled after {ROUNDS_MAX} rounds")))
    }

    fn insert_chunks(&mut self) -> Result<()> {
        let chunks = self.run.space.take_new_chunks();
        if chunks.is_empty() {
            return Ok(());
        }
        for new in &chunks {
            self.insert_chunk(new)?;
        }
        let device = self.run.space.device.item;
        let key = Key::new(objectid::DEV_ITEMS, item_type::DEV_ITEM, device.devid);
        self.replace(objectid::CHUNK_TREE, key, &device.encode())
    }

    fn insert_chunk(&mut self, new: &NewChunk) -> Result<()> {
        let start = new.key.offset;
        self.insert(objectid::CHUNK_TREE, new.key, &new.chunk.encode())?;
        let extent = DevExtent {
            chunk_tree: objectid::CHUNK_TREE,
            chunk_objectid: objectid::FIRST_CHUNK_TREE,
            chunk_offset: start,
            length: new.chunk.head.length,
            chunk_tree_uuid: self.run.reader.geometry().chunk_tree_uuid.unwrap_or(Uuid::NIL),
        };
        for stripe in &new.chunk.stripes {
            let key = Key::new(stripe.devid, item_type::DEV_EXTENT, stripe.offset);
            self.insert(objectid::DEV_TREE, key, &extent.encode())?;
        }
        let item = BlockGroupItem {
            used: 0,
            chunk_objectid: objectid::FIRST_CHUNK_TREE,
            flags: new.chunk.head.flags,
        };
        let key = Key::new(start, item_type::BLOCK_GROUP_ITEM, new.chunk.head.length);
        self.insert(self.run.groups_tree_id(), key, &item.encode())?;
        let group = self.run.space.group_of(start)?.clone();
        self.touched.insert(start);
        self.free_space_tree().create(&group)
    }

    /// Gives every changed node its address; returns how many had none.
    fn place_nodes(&mut self) -> Result<usize> {
        let mut homeless: Vec<(u64, Arc<Node>)> = Vec::new();
        for tree in self.run.roots.values() {
            tree.root.visit_memory(&mut |node| {
                if node.address() == 0 {
                    homeless.push((tree.id, Arc::clone(node)));
                }
            });
        }
        let count = homeless.len();
        let mut placed = Vec::with_capacity(count);
        for purpose in [Purpose::System, Purpose::Metadata] {
            let mine: Vec<_> = homeless.iter().filter(|(tree, _)| purpose_of(*tree) == purpose).collect();
            if mine.is_empty() {
                continue;
            }
            let run = &mut *self.run;
            let source = free_source(&run.roots, &run.nodes);
            let blocks = run.space.allocate_nodes(purpose, mine.len(), source)?;
            for ((tree, node), bytenr) in mine.iter().zip(blocks) {
                node.set_address(bytenr);
                placed.push((bytenr, node.level(), *tree));
            }
        }
        // Inserting edits nodes of this very list: whoever still holds them would make each edit a copy.
        drop(homeless);
        for (bytenr, level, tree) in placed {
            self.extent_tree().insert_block(bytenr, level, tree)?;
            self.note_used(bytenr, self.nodesize)?;
        }
        Ok(count)
    }

    /// Takes replaced blocks, and nodes that vanished after they had an address, out of the extent tree.
    fn remove_freed(&mut self) -> Result<usize> {
        let freed = std::mem::take(&mut self.run.log.freed);
        let vanished = std::mem::take(&mut self.run.log.freed_new);
        for block in &freed {
            self.remove_block(*block)?;
            self.run.space.free_pinned(self.run.generation, block.bytenr, self.nodesize)?;
        }
        for block in &vanished {
            self.remove_block(*block)?;
            self.run.space.free_now(block.bytenr, self.nodesize)?;
        }
        Ok(freed.len() + vanished.len())
    }

    fn remove_block(&mut self, block: FreedBlock) -> Result<()> {
        self.extent_tree().remove_block(block)?;
        self.note_freed(block.bytenr, self.nodesize)
    }

    fn update_free_space(&mut self) -> Result<()> {
        for (start, moved) in std::mem::take(&mut self.moved) {
            let group = self.run.space.group_of(start)?.clone();
            let (used, freed) = (coalesce(moved.used), coalesce(moved.freed));
            self.free_space_tree().update(&group, &used, &freed)?;
        }
        Ok(())
    }

    fn update_groups(&mut self) -> Result<()> {
        for start in std::mem::take(&mut self.touched) {
            let group = self.run.space.group_of(start)?;
            if group.used == group.item_used {
                continue;
            }
            let item = BlockGroupItem {
                used: group.used,
                chunk_objectid: objectid::FIRST_CHUNK_TREE,
                flags: group.flags,
            };
            let key = Key::new(start, item_type::BLOCK_GROUP_ITEM, group.len);
            self.replace(self.run.groups_tree_id(), key, &item.encode())?;
            let group = self.run.space.group_of_mut(start)?;
            group.item_used = group.used;
        }
        Ok(())
    }

    /// Brings the ROOT_ITEMs of changed trees up to date; returns how many differed.
    fn update_roots(&mut self) -> Result<usize> {
        let mut changed = 0;
        let generation = self.run.generation;
        let now = now();
        let ids: Vec<u64> = self.run.root_items.keys().copied().collect();
        for id in ids {
            let tree = &self.run.roots[&id];
            let crate::tree::Child::Memory(root) = &tree.root else { continue };
            let (bytenr, level, delta) = (root.address(), tree.level, tree.node_delta);
            let record = self.run.root_items.get_mut(&id).expect("the id comes from this map");
            let bytes_used = record.bytes_committed.saturating_add_signed(delta * self.nodesize as i64);
            let mut item = record.item;
            if (item.generation, item.bytenr, item.level, item.bytes_used)
                == (generation, bytenr, level, bytes_used)
            {
                continue;
            }
            item.bytenr = bytenr;
            item.level = level;
            item.bytes_used = bytes_used;
            item.generation = generation;
            item.generation_v2 = generation;
            if crfs_disk::verify::is_fs_tree(id) {
                item.ctransid = generation;
                item.ctime = now;
            }
            record.item = item;
            let key = record.key;
            self.replace(objectid::ROOT_TREE, key, &item.encode())?;
            changed += 1;
        }
        Ok(changed)
    }

    fn note_used(&mut self, start: u64, len: u64) -> Result<()> {
        let group = self.run.space.group_of(start)?.start;
        self.moved.entry(group).or_default().used.push((start, len));
        self.touched.insert(group);
        Ok(())
    }

    fn note_freed(&mut self, start: u64, len: u64) -> Result<()> {
        let group = self.run.space.group_of(start)?.start;
        self.moved.entry(group).or_default().freed.push((start, len));
        self.touched.insert(group);
        Ok(())
    }

    fn extent_tree(&mut self) -> ExtentTree<'_> {
        let run = &mut *self.run;
        ExtentTree {
            tree: run.roots.get_mut(&objectid::EXTENT_TREE).expect("checked at open"),
            source: &*run.nodes,
            log: &mut run.log,
            generation: run.generation,
        }
    }

    fn csum_tree(&mut self) -> CsumTree<'_> {
        let run = &mut *self.run;
        CsumTree {
            tree: run.roots.get_mut(&objectid::CSUM_TREE).expect("checked at open"),
            source: &*run.nodes,
            log: &mut run.log,
            size: run.reader.geometry().checksum.size(),
        }
    }

    fn free_space_tree(&mut self) -> FreeSpaceTree<'_> {
        let run = &mut *self.run;
        FreeSpaceTree {
            tree: run.roots.get_mut(&objectid::FREE_SPACE_TREE).expect("checked at open"),
            source: &*run.nodes,
            log: &mut run.log,
        }
    }

    fn insert(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<()> {
        let run = &mut *self.run;
        let tree = run.roots.get_mut(&tree).expect("checked at open");
        tree.insert(&*run.nodes, &mut run.log, key, data)
    }

    fn replace(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<()> {
        let run = &mut *self.run;
        let tree = run.roots.get_mut(&tree).expect("checked at open");
        tree.replace(&*run.nodes, &mut run.log, key, data).map(|_| ())
    }
}

fn purpose_of(tree: u64) -> Purpose {
    if tree == objectid::CHUNK_TREE { Purpose::System } else { Purpose::Metadata }
}

fn now() -> Timespec {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timespec { sec: now.as_secs() as i64, nsec: now.subsec_nanos() }
}
