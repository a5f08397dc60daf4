// SPDX-License-Identifier: GPL-2.0-or-later
//! Images made by `mkfs.btrfs` and filled by Linux are opened, and every block of every tree passes verification; every
//! checksummed sector of data matches.

use crfs_testkit::{LoopMount, mkfs_btrfs, scratch_dir};
mod support;

#[test]
fn a_default_image_opens() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    mkfs_btrfs(&image, 512 << 20, &[]);
    support::open_and_walk(&image);
    let mount = LoopMount::new(&image, "");
    std::fs::write(mount.path().join("file"), vec![7; 100_000]).unwrap();
    mount.unmount();
    let seen = support::open_and_walk(&image);
    assert_eq!(seen.data_sectors, 25);
}
