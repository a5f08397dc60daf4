// SPDX-License-Identifier: GPL-2.0-or-later
//! Images made by `mkfs.btrfs` and filled by Linux are opened, and every block of every tree passes verification; every
//! checksummed sector of data matches.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod support;

use crfs_disk::constants::item_type;
use crfs_testkit::{LoopMount, btrfs_check, fill_with_everything, mkfs_btrfs, scratch_dir, sync};
use std::path::Path;
use support::{Seen, open_and_walk};

fn fill(image: &Path, options: &str) -> Seen {
    let mount = LoopMount::new(image, options);
    fill_with_everything(mount.path());
    mount.unmount();
    btrfs_check(image);
    open_and_walk(image)
}

/// The items that filling must have brought about, or the test tests nothing.
fn assert_has_everything(seen: &Seen) {
    for kind in [
        item_type::INODE_ITEM,
        item_type::INODE_REF,
        item_type::INODE_EXTREF,
        item_type::XATTR_ITEM,
        item_type::DIR_ITEM,
        item_type::DIR_INDEX,
        item_type::EXTENT_DATA,
        item_type::EXTENT_CSUM,
        item_type::ROOT_ITEM,
        item_type::EXTENT_ITEM,
        item_type::METADATA_ITEM,
        item_type::EXTENT_DATA_REF,
        item_type::BLOCK_GROUP_ITEM,
        item_type::FREE_SPACE_INFO,
        item_type::FREE_SPACE_EXTENT,
        item_type::FREE_SPACE_BITMAP,
        item_type::DEV_EXTENT,
        item_type::DEV_ITEM,
        item_type::CHUNK_ITEM,
        item_type::UUID_KEY_SUBVOL,
    ] {
        assert!(seen.count(kind) > 0, "no item of type {kind}");
    }
    assert!(seen.blocks > 50 && seen.data_sectors > 3000, "{seen:?}");
}

#[test]
fn every_node_size() {
    let scratch = scratch_dir();
    for nodesize in ["4k", "16k", "64k"] {
        let image = scratch.file(nodesize);
        mkfs_btrfs(&image, 600 << 20, &["-n", nodesize]);
        open_and_walk(&image);
        assert_has_everything(&fill(&image, ""));
    }
}

#[test]
fn every_checksum() {
    let scratch = scratch_dir();
    for checksum in ["crc32c", "xxhash64", "sha256", "blake2b"] {
        let image = scratch.file(checksum);
        mkfs_btrfs(&image, 600 << 20, &["--csum", checksum]);
        assert_has_everything(&fill(&image, ""));
    }
}

#[test]
fn the_smallest_image_and_single_metadata() {
    let scratch = scratch_dir();
    for (name, size, args) in [("small", 114_294_784, &[][..]), ("single", 300 << 20, &["-m", "single"])] {
        let image = scratch.file(name);
        mkfs_btrfs(&image, size, args);
        fill(&image, "");
    }
}

#[test]
fn compressed_images() {
    let scratch = scratch_dir();
    for options in ["compress-force=zstd", "compress-force=lzo", "compress-force=zlib"] {
        let image = scratch.file(options);
        mkfs_btrfs(&image, 600 << 20, &[]);
        fill(&image, options);
    }
}

#[test]
fn subvolumes_have_roots_of_their_own() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    mkfs_btrfs(&image, 600 << 20, &[]);
    let mount = LoopMount::new(&image, "");
    let subvolume = mount.path().join("subvolume");
    crfs_testkit::run("btrfs", ["subvolume".as_ref(), "create".as_ref(), subvolume.as_os_str()]);
    fill_with_everything(&subvolume);
    mount.unmount();
    let device =
        std::sync::Arc::new(crfs_device::FileDevice::open(&image, crfs_device::Access::ReadWrite).unwrap());
    let opened = support::open(device, false).unwrap();
    let live: Vec<u64> =
        opened.roots.values().filter(|root| root.is_live_subvolume()).map(|root| root.id()).collect();
    assert_eq!(live, [5, 256]);
    assert!(support::walk(&opened).count(item_type::ROOT_BACKREF) == 1);
}

#[test]
fn an_open_unlinked_file_leaves_an_orphan_that_is_read() {
    let scratch = scratch_dir();
    let (image, copy) = (scratch.file("image"), scratch.file("copy"));
    mkfs_btrfs(&image, 300 << 20, &[]);
    let mount = LoopMount::new(&image, "");
    let path = mount.path().join("unlinked");
    std::fs::write(&path, crfs_testkit::pattern(1, 100_000)).unwrap();
    let held = std::fs::File::open(&path).unwrap();
    sync(mount.path());
    std::fs::remove_file(&path).unwrap();
    sync(mount.path());
    // The image as a power cut would leave it, with the file still open.
    crfs_testkit::run("cp", ["--sparse=always".as_ref(), image.as_os_str(), copy.as_os_str()]);
    drop(held);
    mount.unmount();
    let seen = open_and_walk(&copy);
    assert_eq!((seen.count(item_type::ORPHAN_ITEM), seen.data_sectors), (1, 25));
}
