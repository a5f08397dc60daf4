// SPDX-License-Identifier: GPL-2.0-or-later
//! Items of the extent tree: one per tree block and data extent, with its references. Inline references come first, in
//! the order Linux searches them; what would make an item too large gets keyed items of its own.

use super::delayed_refs::{DelayedExtent, OwnerCount};
use crate::error::{EngineError, Result};
use crate::store::{DataRef, DiskRun};
use crate::tree::{Cursor, EditLog, FreedBlock, NodeSource, Tree};
use crfs_disk::constants::{extent_flag, item_type};
use crfs_disk::extent::{ExtentDataRef, ExtentHead, ExtentItem, InlineRef};
use crfs_disk::{FormatError, Key};

fn data_key(bytenr: u64, len: u64) -> Key {
    Key::new(bytenr, item_type::EXTENT_ITEM, len)
}

fn owner_of(data: &ExtentDataRef) -> DataRef {
    DataRef { root: data.root, ino: data.ino, offset: data.offset }
}

fn malformed(bytenr: u64) -> impl Fn(FormatError) -> EngineError {
    move |error| EngineError::corrupt(format!("extent {bytenr}: {error}"))
}

/// The committed references of a data extent. Shared references (of snapshots) are refused: what they count is not known
/// here.
pub fn load_owners(tree: &Tree, source: &dyn NodeSource, run: DiskRun) -> Result<Vec<OwnerCount>> {
    let mut raw = Vec::new();
    if !tree.get(source, data_key(run.bytenr, run.len), &mut raw)? {
        return Err(EngineError::corrupt(format!(
            "extent {}: no extent item of length {}",
            run.bytenr, run.len
        )));
    }
    let item = ExtentItem::parse(&raw, item_type::EXTENT_ITEM).map_err(malformed(run.bytenr))?;
    if item.head.flags & extent_flag::DATA == 0 {
        return Err(EngineError::corrupt(format!("extent {}: is a tree block, not data", run.bytenr)));
    }
    let mut owners = Vec::with_capacity(item.inline_refs.len());
    for inline in &item.inline_refs {
        match inline {
            InlineRef::Data(data) => push_owner(&mut owners, data),
            other => return Err(shared(run.bytenr, other.kind())),
        }
    }
    let counted = |owners: &[OwnerCount]| owners.iter().map(|owner| u64::from(owner.before)).sum::<u64>();
    if counted(&owners) < item.head.refs {
        load_keyed(tree, source, run.bytenr, &mut owners)?;
    }
    if counted(&owners) != item.head.refs {
        return Err(EngineError::corrupt(format!(
            "extent {}: has {} references, its item says {}",
            run.bytenr,
            counted(&owners),
            item.head.refs
        )));
    }
    Ok(owners)
}

fn load_keyed(tree: &Tree, source: &dyn NodeSource, bytenr: u64, owners: &mut Vec<OwnerCount>) -> Result<()> {
    let mut cursor = Cursor::seek(tree, source, Key::new(bytenr, item_type::EXTENT_DATA_REF, 0))?;
    while let Some((key, raw)) = cursor.item().filter(|(key, _)| key.objectid == bytenr) {
        if key.kind == item_type::SHARED_DATA_REF {
            return Err(shared(bytenr, key.kind));
        }
        if key.kind == item_type::EXTENT_DATA_REF {
            push_owner(owners, &ExtentDataRef::parse(raw).map_err(malformed(bytenr))?);
        }
        cursor.advance()?;
    }
    Ok(())
}

fn push_owner(owners: &mut Vec<OwnerCount>, data: &ExtentDataRef) {
    owners.push(OwnerCount { owner: owner_of(data), before: data.count, now: data.count });
}

fn shared(bytenr: u64, kind: u8) -> EngineError {
    EngineError::Unsupported(format!(
        "extent {bytenr} has a reference of type {kind}: extents shared with snapshots cannot be changed yet"
    ))
}

pub struct ExtentTree<'a> {
    pub tree: &'a mut Tree,
    pub source: &'a dyn NodeSource,
    pub log: &'a mut EditLog,
    pub generation: u64,
}

impl ExtentTree<'_> {
    /// A new tree block, referenced by its tree.
    pub fn insert_block(&mut self, bytenr: u64, level: u8, owner: u64) -> Result<()> {
        let item = ExtentItem {
            head: ExtentHead { refs: 1, generation: self.generation, flags: extent_flag::TREE_BLOCK },
            block_info: None,
            inline_refs: vec![InlineRef::TreeBlock { root: owner }],
        };
        let key = Key::new(bytenr, item_type::METADATA_ITEM, u64::from(level));
        self.tree.insert(self.source, self.log, key, &item.encode())
    }

    /// A tree block that its tree no longer uses. It must be referenced by that tree alone.
    pub fn remove_block(&mut self, block: FreedBlock) -> Result<()> {
        let key = Key::new(block.bytenr, item_type::METADATA_ITEM, u64::from(block.level));
        let bad = |what: String| {
            EngineError::corrupt(format!(
                "extent {}: tree block of level {} {what}",
                block.bytenr, block.level
            ))
        };
        let mut raw = Vec::new();
        if !self.tree.get(self.source, key, &mut raw)? {
            return Err(bad("has no item".into()));
        }
        let item = ExtentItem::parse(&raw, key.kind).map_err(malformed(block.bytenr))?;
        let own = InlineRef::TreeBlock { root: block.tree };
        if item.head.refs != 1 || item.inline_refs.iter().any(|inline| *inline != own) {
            return Err(bad(format!("is not tree {}'s alone", block.tree)));
        }
        if item.inline_refs.is_empty() {
            let keyed = Key::new(block.bytenr, item_type::TREE_BLOCK_REF, block.tree);
            self.tree.remove(self.source, self.log, keyed)?;
        }
        self.tree.remove(self.source, self.log, key).map(|_| ())
    }

    /// Brings a data extent's items to what its owners count now.
    pub fn write_data_extent(&mut self, bytenr: u64, extent: &DelayedExtent) -> Result<()> {
        let key = data_key(bytenr, extent.len);
        let mut item = if extent.born {
            let head = ExtentHead { refs: 0, generation: self.generation, flags: extent_flag::DATA };
            ExtentItem { head, block_info: None, inline_refs: Vec::new() }
        } else {
            let mut raw = Vec::new();
            if !self.tree.get(self.source, key, &mut raw)? {
                return Err(EngineError::corrupt(format!(
                    "extent {bytenr}: its item of length {} is gone",
                    extent.len
                )));
            }
            ExtentItem::parse(&raw, key.kind).map_err(malformed(bytenr))?
        };
        // Drops first: they make room for inline references.
        for owner in extent.changed().filter(|owner| owner.now < owner.before) {
            self.set_count(bytenr, &mut item, owner)?;
        }
        for owner in extent.changed().filter(|owner| owner.now > owner.before) {
            self.set_count(bytenr, &mut item, owner)?;
        }
        item.head.refs = extent.refs_now();
        match (extent.born, item.head.refs) {
            (true, _) => self.tree.insert(self.source, self.log, key, &item.encode()),
            (false, 0) => self.tree.remove(self.source, self.log, key).map(|_| ()),
            (false, _) => self.tree.replace(self.source, self.log, key, &item.encode()).map(|_| ()),
        }
    }

    fn set_count(&mut self, bytenr: u64, item: &mut ExtentItem, change: &OwnerCount) -> Result<()> {
        let owner = change.owner;
        let new = ExtentDataRef { root: owner.root, ino: owner.ino, offset: owner.offset, count: change.now };
        let inline = item
            .inline_refs
            .iter()
            .position(|have| matches!(have, InlineRef::Data(data) if owner_of(data) == owner));
        match inline {
            Some(at) if change.now == 0 => {
                item.inline_refs.remove(at);
                Ok(())
            }
            Some(at) => {
                item.inline_refs[at] = InlineRef::Data(new);
                Ok(())
            }
            None if change.before > 0 => self.set_keyed(bytenr, &new),
            None => {
                let size: usize =
                    ExtentHead::SIZE + item.inline_refs.iter().map(InlineRef::size).sum::<usize>();
                let inline = InlineRef::Data(new);
                if size + inline.size() < ExtentItem::max_size(self.source.nodesize()) {
                    item.inline_refs.insert(item.insert_position(&inline), inline);
                    return Ok(());
                }
                self.insert_keyed(bytenr, &new)
            }
        }
    }

    fn set_keyed(&mut self, bytenr: u64, new: &ExtentDataRef) -> Result<()> {
        let mut found = None;
        let mut cursor = Cursor::seek(self.tree, self.source, keyed(bytenr, new.hash()))?;
        while let Some((key, raw)) = cursor.item() {
            if key.objectid != bytenr || key.kind != item_type::EXTENT_DATA_REF {
                break;
            }
            let have = ExtentDataRef::parse(raw).map_err(malformed(bytenr))?;
            if owner_of(&have) == owner_of(new) {
                found = Some(key);
                break;
            }
            cursor.advance()?;
        }
        drop(cursor);
        let key = found.ok_or_else(|| {
            EngineError::corrupt(format!("extent {bytenr}: the reference of inode {} is gone", new.ino))
        })?;
        if new.count == 0 {
            self.tree.remove(self.source, self.log, key).map(|_| ())
        } else {
            self.tree.replace(self.source, self.log, key, &new.encode()).map(|_| ())
        }
    }

    fn insert_keyed(&mut self, bytenr: u64, new: &ExtentDataRef) -> Result<()> {
        let mut hash = new.hash();
        while !self.tree.try_insert(self.source, self.log, keyed(bytenr, hash), &new.encode())? {
            hash = hash.wrapping_add(1);
        }
        Ok(())
    }
}

fn keyed(bytenr: u64, hash: u64) -> Key {
    Key::new(bytenr, item_type::EXTENT_DATA_REF, hash)
}
