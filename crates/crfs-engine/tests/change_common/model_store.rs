// SPDX-License-Identifier: GPL-2.0-or-later
//! A `Store` made of sorted maps. Cheap to clone, which is how tests roll back. Misuse that the real store could not
//! notice (a write outside a fresh extent, a reference that was never added) panics.

use super::{ROOT, TREE};
use crfs_disk::checksum::crc32c;
use crfs_disk::inode::{InodeItem, InodeRef, Timespec};
use crfs_disk::{Key, item_type};
use crfs_engine::{DataRef, DiskRun, EngineError, Result, Store};
use std::collections::BTreeMap;
use std::rc::Rc;

pub const SECTOR: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub len: u64,
    /// Generation in which it was allocated.
    pub born: u64,
    pub refs: BTreeMap<DataRef, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sector {
    pub bytes: Rc<Vec<u8>>,
    pub checksummed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStore {
    pub items: BTreeMap<(u64, Key), Rc<Vec<u8>>>,
    pub extents: BTreeMap<u64, Extent>,
    pub sectors: BTreeMap<u64, Sector>,
    pub generation: u64,
    pub leaf_space: usize,
    pub writable: bool,
    /// Freed in the running transaction: start and length, not to be used again before the commit.
    pinned: BTreeMap<u64, u64>,
    /// First byte behind the data space.
    pub end: u64,
    /// Longest run that one allocation gives, sectors.
    pub longest_run: u64,
    /// Calls of the trait, for judging the cost of changes.
    pub calls: u64,
}

impl ModelStore {
    /// An empty file tree, with a leaf of `nodesize` and data space for `sectors`.
    pub fn new(nodesize: usize, sectors: u64) -> ModelStore {
        let mut store = ModelStore {
            items: BTreeMap::new(),
            extents: BTreeMap::new(),
            sectors: BTreeMap::new(),
            generation: 7,
            leaf_space: nodesize - 101,
            writable: true,
            pinned: BTreeMap::new(),
            end: DATA_START + sectors * SECTOR,
            longest_run: u64::MAX,
            calls: 0,
        };
        let root = InodeItem {
            generation: 1,
            transid: 1,
            nlink: 1,
            mode: 0o040755,
            atime: START,
            ctime: START,
            mtime: START,
            otime: START,
            ..InodeItem::ZERO
        };
        store.put(Key::new(ROOT, item_type::INODE_ITEM, 0), root.encode().to_vec());
        let mut name = Vec::new();
        InodeRef { index: 0, name: b".." }.append_to(&mut name);
        store.put(Key::new(ROOT, item_type::INODE_REF, ROOT), name);
        store
    }

    /// Puts an item in place without any rule.
    pub fn put(&mut self, key: Key, data: Vec<u8>) {
        self.items.insert((TREE, key), Rc::new(data));
    }

    pub fn item(&self, key: Key) -> Option<&[u8]> {
        self.items.get(&(TREE, key)).map(|item| item.as_slice())
    }

    pub fn inode(&self, ino: u64) -> InodeItem {
        InodeItem::parse(self.item(Key::new(ino, item_type::INODE_ITEM, 0)).unwrap()).unwrap()
    }

    /// The items of one inode and type.
    pub fn items_of(&self, ino: u64, kind: u8) -> impl Iterator<Item = (Key, &[u8])> {
        let range = (TREE, Key::new(ino, kind, 0))..=(TREE, Key::new(ino, kind, u64::MAX));
        self.items.range(range).map(|((_, key), item)| (*key, item.as_slice()))
    }

    /// Ends the transaction: freed space may be used again, extents can no longer grow.
    pub fn commit(&mut self) {
        self.generation += 1;
        self.pinned.clear();
    }

    /// Bytes from `start` on that neither an extent nor pinned space uses, up to `limit`.
    fn free_at(&self, start: u64, limit: u64) -> u64 {
        let end = |map_end: Option<(u64, u64)>| map_end.map_or(0, |(at, len)| at + len);
        let extent_before =
            end(self.extents.range(..=start).next_back().map(|(at, extent)| (*at, extent.len)));
        let pinned_before = end(self.pinned.range(..=start).next_back().map(|(at, len)| (*at, *len)));
        if extent_before > start || pinned_before > start || start >= self.end {
            return 0;
        }
        let next_extent = self.extents.range(start..).next().map_or(self.end, |(at, _)| *at);
        let next_pinned = self.pinned.range(start..).next().map_or(self.end, |(at, _)| *at);
        (next_extent.min(next_pinned).min(self.end) - start).min(limit)
    }

    /// Start of the first free sector.
    fn first_free(&self) -> Option<u64> {
        let mut at = DATA_START;
        while at < self.end {
            if self.free_at(at, SECTOR) > 0 {
                return Some(at);
            }
            let extent =
                self.extents.range(..=at).next_back().map_or(0, |(start, extent)| start + extent.len);
            let pinned = self.pinned.range(..=at).next_back().map_or(0, |(start, len)| start + len);
            at = extent.max(pinned);
        }
        None
    }

    fn extent_holding(&self, bytenr: u64) -> Option<(u64, &Extent)> {
        let (start, extent) = self.extents.range(..=bytenr).next_back()?;
        (bytenr < start + extent.len).then_some((*start, extent))
    }
}

pub const START: Timespec = Timespec { sec: 1_700_000_000, nsec: 5 };
const DATA_START: u64 = 1 << 20;

impl Store for ModelStore {
    fn is_writable_tree(&self, tree: u64) -> bool {
        tree == TREE && self.writable
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn leaf_space(&self) -> usize {
        self.leaf_space
    }

    fn get(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<bool> {
        self.calls += 1;
        out.clear();
        let Some(item) = self.items.get(&(tree, key)) else { return Ok(false) };
        out.extend_from_slice(item);
        Ok(true)
    }

    fn next(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>> {
        self.calls += 1;
        out.clear();
        let Some(((_, key), item)) = self.items.range((tree, key)..=(tree, Key::MAX)).next() else {
            return Ok(None);
        };
        out.extend_from_slice(item);
        Ok(Some(*key))
    }

    fn prev(&mut self, tree: u64, key: Key, out: &mut Vec<u8>) -> Result<Option<Key>> {
        self.calls += 1;
        out.clear();
        let range = (tree, Key::MIN)..=(tree, key);
        let Some(((_, key), item)) = self.items.range(range).next_back() else { return Ok(None) };
        out.extend_from_slice(item);
        Ok(Some(*key))
    }

    fn insert(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<bool> {
        self.calls += 1;
        assert!(data.len() + 25 <= self.leaf_space, "item {key} of {} bytes exceeds a leaf", data.len());
        if self.items.contains_key(&(tree, key)) {
            return Ok(false);
        }
        self.items.insert((tree, key), Rc::new(data.to_vec()));
        Ok(true)
    }

    fn replace(&mut self, tree: u64, key: Key, data: &[u8]) -> Result<()> {
        self.calls += 1;
        assert!(data.len() + 25 <= self.leaf_space, "item {key} of {} bytes exceeds a leaf", data.len());
        let item = self.items.get_mut(&(tree, key)).unwrap_or_else(|| panic!("replace of missing {key}"));
        *item = Rc::new(data.to_vec());
        Ok(())
    }

    fn remove(&mut self, tree: u64, key: Key) -> Result<()> {
        self.calls += 1;
        self.items.remove(&(tree, key)).unwrap_or_else(|| panic!("remove of missing {key}"));
        Ok(())
    }

    fn allocate_data(&mut self, len: u64, near: Option<u64>) -> Result<DiskRun> {
        self.calls += 1;
        assert!(len > 0 && len.is_multiple_of(SECTOR) && len <= 128 << 20, "allocation of {len}");
        let at = near.filter(|near| self.free_at(*near, SECTOR) > 0).or_else(|| self.first_free());
        let at = at.ok_or_else(|| EngineError::NoSpace("data".into()))?;
        let run =
            DiskRun { bytenr: at, len: self.free_at(at, len.min(self.longest_run.saturating_mul(SECTOR))) };
        self.extents.insert(at, Extent { len: run.len, born: self.generation, refs: BTreeMap::new() });
        Ok(run)
    }

    fn extend_data(&mut self, run: DiskRun, more: u64) -> Result<u64> {
        self.calls += 1;
        let more = self.free_at(run.bytenr + run.len, more.min(self.longest_run.saturating_mul(SECTOR)));
        let generation = self.generation;
        let extent = self.extents.get_mut(&run.bytenr).expect("extending an extent that exists");
        assert_eq!(extent.len, run.len);
        if extent.born != generation || extent.refs.values().sum::<u32>() != 1 {
            return Ok(0);
        }
        extent.len += more;
        assert!(extent.len <= 128 << 20);
        Ok(more)
    }

    fn add_ref(&mut self, extent: DiskRun, owner: DataRef, count: u32) -> Result<()> {
        self.calls += 1;
        let found = self.extents.get_mut(&extent.bytenr).expect("a reference to an extent that exists");
        assert_eq!(found.len, extent.len);
        *found.refs.entry(owner).or_default() += count;
        Ok(())
    }

    fn drop_ref(&mut self, extent: DiskRun, owner: DataRef) -> Result<()> {
        self.calls += 1;
        let found = self.extents.get_mut(&extent.bytenr).expect("a reference to an extent that exists");
        assert_eq!(found.len, extent.len);
        let count = found.refs.get_mut(&owner).unwrap_or_else(|| panic!("dropping a missing {owner:?}"));
        *count -= 1;
        if *count == 0 {
            found.refs.remove(&owner);
        }
        if found.refs.is_empty() {
            self.extents.remove(&extent.bytenr);
            self.pinned.insert(extent.bytenr, extent.len);
            let gone: Vec<u64> =
                self.sectors.range(extent.bytenr..extent.bytenr + extent.len).map(|(at, _)| *at).collect();
            for at in gone {
                self.sectors.remove(&at);
            }
        }
        Ok(())
    }

    fn write_data(&mut self, bytenr: u64, data: &[u8], crcs: &[u32]) -> Result<()> {
        self.calls += 1;
        assert!(
            !data.is_empty() && bytenr.is_multiple_of(SECTOR) && data.len().is_multiple_of(SECTOR as usize)
        );
        let (start, extent) = self.extent_holding(bytenr).expect("a write into an extent");
        assert_eq!(extent.born, self.generation, "a write into an extent of an earlier transaction");
        assert!(bytenr + data.len() as u64 <= start + extent.len, "a write beyond its extent");
        assert!(crcs.is_empty() || crcs.len() == data.len() / SECTOR as usize);
        for (index, sector) in data.chunks(SECTOR as usize).enumerate() {
            if let Some(crc) = crcs.get(index) {
                assert_eq!(*crc, crc32c(sector), "a checksum that was not verified");
            }
            let sector = Sector { bytes: Rc::new(sector.to_vec()), checksummed: !crcs.is_empty() };
            self.sectors.insert(bytenr + index as u64 * SECTOR, sector);
        }
        Ok(())
    }
}
