// SPDX-License-Identifier: GPL-2.0-or-later
//! The subvolumes of an image as they were when it was opened: nothing here makes, moves or removes one.
//!
//! An entry of a directory whose location is a ROOT_ITEM leads to a subvolume only where that subvolume's ROOT_BACKREF names
//! this very entry. Any other is what a snapshot has copied of the tree that it was made of: there is nothing behind
//! it, and Linux shows an empty directory.

use crate::open::{Place, RootInfo};
use crfs_disk::constants::item_type;
use crfs_disk::dir::dir_entries;
use std::collections::BTreeMap;

/// A subvolume, the top one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    pub tree: u64,
    /// Linux was told that nothing in it may change.
    pub read_only: bool,
    /// None for the top one.
    pub place: Option<Place>,
}

/// By tree.
pub(super) struct Subvolumes(BTreeMap<u64, Subvolume>);

impl Subvolumes {
    pub fn of(roots: &BTreeMap<u64, RootInfo>) -> Subvolumes {
        let live = roots.values().filter(|root| root.is_live_subvolume());
        let entries = live.map(|root| {
            let (tree, read_only) = (root.id(), root.is_read_only_subvolume());
            (tree, Subvolume { tree, read_only, place: root.place.clone() })
        });
        Subvolumes(entries.collect())
    }

    pub fn has(&self, tree: u64) -> bool {
        self.0.contains_key(&tree)
    }

    pub fn all(&self) -> impl Iterator<Item = &Subvolume> {
        self.0.values()
    }

    fn is_at(&self, child: u64, parent: u64, dir: u64, name: &[u8]) -> bool {
        let place = self.0.get(&child).and_then(|subvolume| subvolume.place.as_ref());
        place.is_some_and(|place| (place.parent, place.dir, place.name.as_slice()) == (parent, dir, name))
    }

    /// Tells clients which entries of a DIR_ITEM or DIR_INDEX of directory `dir` lead to a subvolume: the location's offset
    /// is 2^64 - 1 if there is one, 0 if not. An item that cannot be read stays as it is.
    pub fn mark_entries(&self, tree: u64, dir: u64, item: &mut [u8]) {
        let mut marks = Vec::new();
        for entry in dir_entries(item) {
            let Ok((range, entry)) = entry else { break };
            if entry.location.kind == item_type::ROOT_ITEM {
                let is_there = self.is_at(entry.location.objectid, tree, dir, entry.name);
                marks.push((range.start + LOCATION_OFFSET, if is_there { u64::MAX } else { 0 }));
            }
        }
        for (at, offset) in marks {
            item[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        }
    }
}

/// Bytes before the offset in the key that begins an entry.
const LOCATION_OFFSET: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crfs_disk::dir::DirEntry;
    use crfs_disk::{Key, objectid};

    fn entry(location: Key, name: &[u8]) -> Vec<u8> {
        let mut item = Vec::new();
        DirEntry { location, transid: 9, kind: 2, name, data: b"" }.append_to(&mut item);
        item
    }

    #[test]
    fn only_the_entry_that_the_subvolume_names_leads_to_it() {
        let place = Some(Place { parent: 5, dir: 300, name: b"one".to_vec() });
        let subvolumes =
            Subvolumes(BTreeMap::from([(260, Subvolume { tree: 260, read_only: false, place })]));
        let leads = |tree, dir, child, name: &[u8]| {
            let other = entry(Key::new(301, item_type::INODE_ITEM, 0), b"file");
            let mut item = [other.clone(), entry(Key::new(child, item_type::ROOT_ITEM, 7), name)].concat();
            subvolumes.mark_entries(tree, dir, &mut item);
            assert_eq!(item[..other.len()], other);
            dir_entries(&item[other.len()..]).next().unwrap().unwrap().1.location.offset
        };
        assert_eq!(leads(objectid::FS_TREE, 300, 260, b"one"), u64::MAX);
        assert_eq!(leads(objectid::FS_TREE, 300, 260, b"two"), 0);
        assert_eq!(leads(objectid::FS_TREE, 301, 260, b"one"), 0);
        assert_eq!(leads(261, 300, 260, b"one"), 0, "a copy of the entry in a snapshot");
        assert_eq!(leads(objectid::FS_TREE, 300, 261, b"one"), 0, "a subvolume that is gone");
    }
}
