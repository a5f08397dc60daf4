// SPDX-License-Identifier: GPL-2.0-or-later
//! Images that must not be written, or not be served at all: each is refused with a line that says why and what to do,
//! and where reading is sound a read-only open works.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod support;

use crfs_device::{BlockDevice, MemoryDevice};
use crfs_disk::Superblock;
use crfs_disk::constants::{compat_ro, incompat, super_flag};
use crfs_engine::{MkfsOptions, mkfs};
use crfs_testkit::{LoopMount, ScratchDir, mkfs_btrfs, run, scratch_dir, sync};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUPER_AT: u64 = 65536;

fn load(image: &Path) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::from_file(image).unwrap())
}

/// Both opens of an image that may only be read.
fn only_read(device: Arc<MemoryDevice>, words: &str) {
    let error = support::open(device.clone(), false).err().expect("a read-write open must fail").to_string();
    assert!(error.contains("can only be served read-only") && error.contains(words), "{error}");
    let image = support::open(device, true).unwrap();
    assert!(image.read_only && image.read_only_reasons.iter().any(|reason| reason.contains(words)));
    support::walk(&image);
}

fn refused(device: Arc<MemoryDevice>, words: &str) {
    for read_only in [false, true] {
        let error = support::open(device.clone(), read_only).err().expect("the open must fail").to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A sound image of ours with a changed superblock.
fn with_super(change: impl FnOnce(&mut Superblock)) -> Arc<MemoryDevice> {
    let device = MemoryDevice::new(128 << 20);
    mkfs(&device, &MkfsOptions::default()).unwrap();
    let mut bytes = [0; 4096];
    device.read_at(SUPER_AT, &mut bytes).unwrap();
    let mut sb = Superblock::parse_checked(&bytes, SUPER_AT).unwrap();
    change(&mut sb);
    device.write_at(SUPER_AT, &sb.seal_for(SUPER_AT, sb.checksum_kind().unwrap())).unwrap();
    Arc::new(device)
}

#[test]
fn feature_bits() {
    let incompatible = |bit| with_super(|sb| sb.incompat_flags |= bit);
    for (bit, words) in [
        (1 << 40, "unknown incompatible features 0x10000000000"),
        (incompat::RAID56, "RAID5/6"),
        (incompat::ZONED, "zoned"),
        (incompat::EXTENT_TREE_V2, "extent tree v2"),
        (incompat::RAID_STRIPE_TREE, "stripe tree"),
        (incompat::REMAP_TREE, "remap tree"),
        (incompat::MIXED_GROUPS, "mixed block groups"),
    ] {
        refused(incompatible(bit), words);
    }
    only_read(incompatible(incompat::SIMPLE_QUOTA), "simple quotas");
    only_read(with_super(|sb| sb.incompat_flags &= !incompat::NO_HOLES), "features 0x200 are missing");
    only_read(
        with_super(|sb| sb.compat_ro_flags |= 1 << 20),
        "unknown read-only-compatible features 0x100000",
    );
    only_read(with_super(|sb| sb.compat_ro_flags |= compat_ro::VERITY), "fs-verity");
    only_read(
        with_super(|sb| sb.compat_ro_flags |= compat_ro::BLOCK_GROUP_TREE),
        "--convert-from-block-group-tree",
    );
    only_read(with_super(|sb| sb.compat_ro_flags &= !compat_ro::FREE_SPACE_TREE_VALID), "free-space tree");
    only_read(with_super(|sb| sb.log_root = 1 << 25), "log tree");
    only_read(with_super(|sb| sb.flags |= super_flag::SEEDING), "seed");
    only_read(with_super(|sb| sb.flags |= super_flag::ERROR), "btrfs check");
    refused(with_super(|sb| sb.flags |= super_flag::METADUMP_V2), "metadata dump");
    refused(with_super(|sb| sb.flags |= super_flag::CHANGING_FSID_V2), "btrfstune");
    refused(with_super(|sb| sb.num_devices = 2), "2 devices");
    refused(with_super(|sb| (sb.sectorsize, sb.stripesize) = (8192, 8192)), "");
}

#[test]
fn broken_superblocks() {
    refused(Arc::new(MemoryDevice::new(128 << 20)), "not BTRFS: no superblock");
    refused(Arc::new(MemoryDevice::new(1000)), "not BTRFS: the image has only 1000 bytes");
    let device = with_super(|_| ());
    device.write_at(SUPER_AT + 600, &[1]).unwrap();
    refused(device.clone(), "btrfs rescue super-recover");
    device.write_at((64 << 20) + 600, &[1]).unwrap();
    refused(device, "superblock checksum mismatch");
    refused(with_super(|sb| sb.nodesize = 0), "invalid nodesize 0");
    refused(with_super(|sb| sb.root = 5), "unaligned");
    refused(with_super(|sb| sb.root_level = 8), "root level too big");
    refused(with_super(|sb| sb.generation = 7), "parent transid mismatch");
    refused(with_super(|sb| sb.sys_chunk_array_size = 4000), "sys_chunk_array");
    refused(with_super(|sb| sb.sys_chunk_array_size = 0), "sys_chunk_array: empty");
    refused(with_super(|sb| sb.root = 1 << 40), "no chunk holds logical");
    refused(with_super(|sb| sb.chunk_root += 16384), "tree block");
}

/// An image that `mkfs.btrfs` made with these arguments, changed by `change`.
struct Linux {
    _scratch: ScratchDir,
    image: PathBuf,
}

fn linux_image(args: &[&str]) -> Linux {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    mkfs_btrfs(&image, 300 << 20, args);
    Linux { _scratch: scratch, image }
}

#[test]
fn what_mkfs_btrfs_can_make() {
    refused(load(&linux_image(&["-M"]).image), "mixed block groups");
    refused(load(&linux_image(&["-s", "8192"]).image), "sector size 8192 is not supported");
    only_read(load(&linux_image(&["-R", "^free-space-tree"]).image), "free-space tree");
    only_read(load(&linux_image(&["-O", "^no-holes"]).image), "features 0x200");
    only_read(load(&linux_image(&["-R", "quota"]).image), "quotas are enabled");
    let made = linux_image(&[]);
    run("btrfstune", ["-f".as_ref(), "-S".as_ref(), "1".as_ref(), made.image.as_os_str()]);
    only_read(load(&made.image), "seed");
    let made = linux_image(&[]);
    let file = std::fs::OpenOptions::new().write(true).open(&made.image).unwrap();
    file.set_len(299 << 20).unwrap();
    refused(load(&made.image), "cut short");
}

#[test]
fn several_devices() {
    let scratch = scratch_dir();
    let images = ["a", "b"].map(|name| scratch.file(name));
    std::fs::File::create(&images[1]).unwrap().set_len(300 << 20).unwrap();
    std::fs::File::create(&images[0]).unwrap().set_len(300 << 20).unwrap();
    run(
        "mkfs.btrfs",
        ["-q".as_ref(), "-d".as_ref(), "single".as_ref(), images[0].as_os_str(), images[1].as_os_str()],
    );
    refused(load(&images[0]), "2 devices");
}

/// A changed metadata uuid is not a reason to refuse anything.
#[test]
fn a_metadata_uuid_is_served() {
    let made = linux_image(&[]);
    run("btrfstune", ["-f".as_ref(), "-m".as_ref(), made.image.as_os_str()]);
    let image = support::open(load(&made.image), false).unwrap();
    assert_ne!(image.superblock.incompat_flags & incompat::METADATA_UUID, 0);
    support::walk(&image);
}

#[test]
fn snapshots_and_balances_share_blocks() {
    let made = linux_image(&[]);
    let mount = LoopMount::new(&made.image, "");
    std::fs::write(mount.path().join("file"), b"content").unwrap();
    let snapshot = mount.path().join("snapshot");
    run("btrfs", ["subvolume".as_ref(), "snapshot".as_ref(), mount.path().as_os_str(), snapshot.as_os_str()]);
    mount.unmount();
    only_read(load(&made.image), "subvolume 5 may share blocks");

    let made = linux_image(&[]);
    let mount = LoopMount::new(&made.image, "");
    std::fs::write(mount.path().join("file"), b"content").unwrap();
    run("btrfs", ["balance".as_ref(), "start".as_ref(), "--full-balance".as_ref(), mount.path().as_os_str()]);
    mount.unmount();
    let device = load(&made.image);
    match support::open(device.clone(), false) {
        Ok(image) => drop(support::walk(&image)),
        Err(_) => only_read(device, "may share blocks"),
    }
}

#[test]
fn a_log_tree_left_by_a_power_cut() {
    let made = linux_image(&[]);
    let copy = made._scratch.file("copy");
    let mount = LoopMount::new(&made.image, "");
    sync(mount.path());
    let file = std::fs::File::create(mount.path().join("file")).unwrap();
    file.sync_all().unwrap();
    run("cp", ["--sparse=always".as_ref(), made.image.as_os_str(), copy.as_os_str()]);
    drop(file);
    mount.unmount();
    only_read(load(&copy), "btrfs rescue zero-log");
}
