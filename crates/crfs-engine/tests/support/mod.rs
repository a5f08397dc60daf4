// SPDX-License-Identifier: GPL-2.0-or-later
//! Opening an image and walking all of it, every block and every checksummed sector.
#![allow(dead_code)] // Each test binary uses its part.

use crfs_device::{Access, BlockDevice, FileDevice};
use crfs_disk::constants::{SECTOR_SIZE, item_type, objectid};
use crfs_disk::{Header, Key, Leaf};
use crfs_engine::{Image, OpenOptions, open_image};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// What a walk met.
#[derive(Default, Debug)]
pub struct Seen {
    pub blocks: usize,
    /// Items by type.
    pub items: BTreeMap<u8, usize>,
    pub data_sectors: u64,
}

impl Seen {
    pub fn count(&self, kind: u8) -> usize {
        self.items.get(&kind).copied().unwrap_or(0)
    }
}

pub fn open(device: Arc<dyn BlockDevice>, read_only: bool) -> crfs_engine::Result<Image> {
    open_image(device, OpenOptions { read_only, log: Arc::new(|line| eprintln!("{line}")) })
}

/// Opens an image file read-write and walks it.
pub fn open_and_walk(image: &Path) -> Seen {
    let device = Arc::new(FileDevice::open(image, Access::ReadWrite).unwrap());
    walk(&open(device, false).unwrap())
}

/// Reads every tree completely, then every sector that has a checksum.
pub fn walk(image: &Image) -> Seen {
    let mut seen = Seen::default();
    let trees = [objectid::ROOT_TREE, objectid::CHUNK_TREE].into_iter().chain(image.roots.keys().copied());
    for id in trees {
        let tree = image.tree(id).unwrap();
        tree.scan_blocks(|_, block| {
            seen.blocks += 1;
            if Header::parse(block).unwrap().level == 0 {
                for (key, _) in Leaf(block).iter() {
                    *seen.items.entry(key.kind).or_default() += 1;
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("tree {id}: {error}"));
    }
    seen.data_sectors = check_data(image);
    assert_eq!(image.reader.counters().copies_failed, 0);
    seen
}

fn check_data(image: &Image) -> u64 {
    let size = image.reader.geometry().checksum.size();
    let mut sectors = 0;
    let mut buf = Vec::new();
    image
        .tree(objectid::CSUM_TREE)
        .unwrap()
        .scan(Key::MIN, |key, csums| {
            assert_eq!(key.kind, item_type::EXTENT_CSUM);
            buf.resize(csums.len() / size * SECTOR_SIZE as usize, 0);
            image.reader.read_data_checked(key.offset, &mut buf, csums)?;
            sectors += (csums.len() / size) as u64;
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    sectors
}
