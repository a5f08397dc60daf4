// SPDX-License-Identifier: GPL-2.0-or-later
//! What the tests of the volume share: images, volumes on them, batches, and reading files back.
#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../support/mod.rs"]
mod support;

use super::change_common::TREE;
use super::change_common::builder::Builder;
use crfs_device::{Access, BlockDevice, FileDevice, OpenError};
use crfs_disk::checksum::crc32c;
use crfs_engine::change::{Grants, Refusal};
use crfs_engine::{MkfsOptions, Volume, VolumeOptions, mkfs};
use crfs_testkit::{ScratchDir, scratch_dir};
use std::path::PathBuf;
use std::sync::Arc;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// An image file of its own.
pub struct Image {
    pub dir: ScratchDir,
    pub path: PathBuf,
}

impl Image {
    /// Made by `mkfs.btrfs`.
    pub fn by_progs(size: u64, args: &[&str]) -> Image {
        let image = Image::empty();
        crfs_testkit::mkfs_btrfs(&image.path, size, args);
        image
    }

    /// Made by the engine.
    pub fn by_engine(size: u64, options: &MkfsOptions) -> Image {
        let image = Image::empty();
        let device = FileDevice::create(&image.path, size).unwrap();
        mkfs(&device, options).unwrap();
        image
    }

    fn empty() -> Image {
        let dir = scratch_dir();
        let path = dir.file("image");
        Image { dir, path }
    }

    pub fn open(&self) -> Volume {
        open(Arc::new(self.device()))
    }

    pub fn device(&self) -> FileDevice {
        // A program that another test is just starting holds every descriptor, and its lock, until it runs.
        for _ in 0..500 {
            match FileDevice::open(&self.path, Access::ReadWrite) {
                Err(OpenError::Busy { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
                opened => return opened.unwrap(),
            }
        }
        panic!("{} stays busy", self.path.display());
    }

    /// Judged by `btrfs check`, and by reading every block and every sector with a checksum.
    pub fn check(&self) {
        crfs_testkit::btrfs_check(&self.path);
        let image = support::open(Arc::new(self.device()), false).unwrap();
        support::walk(&image);
    }
}

pub fn open(device: Arc<dyn BlockDevice>) -> Volume {
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    Volume::open(device, VolumeOptions { log, ..VolumeOptions::default() }).unwrap()
}

pub fn try_apply(volume: &Volume, builder: &Builder) -> Result<(), Refusal> {
    volume.apply(&builder.batch(), &Grants::all(), 0).map(|_| ())
}

pub fn apply(volume: &Volume, builder: &Builder) {
    try_apply(volume, builder).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
}

/// Bytes that tell files and offsets apart.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The bytes of a file, every sector compared with the checksum that came with it.
pub fn read(volume: &Volume, ino: u64, offset: u64, len: usize) -> Vec<u8> {
    let page = volume.snapshot().read_data(TREE, ino, offset, len as u64).unwrap();
    assert_eq!(page.crcs.len() * 4096, page.bytes.len());
    for (sector, crc) in page.bytes.chunks(4096).zip(&page.crcs) {
        assert_eq!(crc32c(sector), *crc);
    }
    page.bytes[..len].to_vec()
}
