// SPDX-License-Identifier: GPL-2.0-or-later
//! The model file system beside a whole volume: where it starts, and whether both say the same.

use super::compare::compare;
use super::model_fs::ModelFs;
use super::{ROOT, TREE};
use crfs_disk::inode::InodeItem;
use crfs_disk::{Key, item_type};
use crfs_engine::{Snapshot, Volume};
use std::rc::Rc;

const ROOT_KEY: Key = Key::new(ROOT, item_type::INODE_ITEM, 0);

/// The model of a volume that mkfs just made.
pub fn model_of(volume: &Volume, nodesize: usize) -> ModelFs {
    let root = volume.snapshot().find(TREE, ROOT_KEY).unwrap().unwrap();
    let root = InodeItem::parse(&root).unwrap();
    let mut fs = ModelFs::new(nodesize, root.mtime);
    let node = Rc::get_mut(fs.nodes.get_mut(&ROOT).unwrap()).unwrap();
    (node.atime, node.ctime, node.otime) = (root.atime, root.ctime, root.otime);
    (node.mode, node.flags) = (root.mode, root.flags);
    fs
}

/// Whether a snapshot says the same as the model.
pub fn compare_snapshot(snapshot: &Snapshot, fs: &ModelFs) -> Result<(), String> {
    let mut items = Vec::new();
    let mut cursor = snapshot.cursor(TREE, Key::MIN).unwrap();
    while let Some((key, data)) = cursor.item() {
        let mut data = data.to_vec();
        if key == ROOT_KEY {
            // mkfs gives the root directory the bytes of its leaf, and nobody ever changes them.
            let inode = InodeItem::parse(&data).unwrap();
            data = InodeItem { nbytes: 0, ..inode }.encode().to_vec();
        }
        items.push((key, data));
        cursor.advance().unwrap();
    }
    compare(&items, |ino, offset, len| snapshot.read_data(TREE, ino, offset, len).unwrap().bytes, fs)
}
