// SPDX-License-Identifier: GPL-2.0-or-later
//! Images that our mkfs makes are judged by `btrfs check` in both modes, by Linux, which mounts and writes them, and by
//! our own reader.
#![allow(clippy::unwrap_used)] // A test fails by panicking, in its helpers too.

mod support;

use crfs_device::{Access, BlockDevice, FileDevice, MemoryDevice, RecordingDevice};
use crfs_disk::{ChecksumKind, Uuid};
use crfs_engine::{EngineError, MkfsOptions, mkfs};
use crfs_testkit::{LoopDevice, LoopMount, btrfs_check, run, scratch_dir};
use std::path::Path;

fn make(image: &Path, size: u64, options: &MkfsOptions) -> Uuid {
    let device = FileDevice::create(image, size).unwrap();
    mkfs(&device, options).unwrap()
}

/// Checks the image, lets Linux write into it, and checks and walks it again.
fn judge(image: &Path) {
    btrfs_check(image);
    support::open_and_walk(image);
    let mount = LoopMount::new(image, "");
    let dir = mount.path().join("dir");
    std::fs::create_dir(&dir).unwrap();
    for number in 0..500 {
        std::fs::write(dir.join(format!("file {number}")), vec![number as u8; 100 * number]).unwrap();
    }
    run("sync", ["-f", mount.path().to_str().unwrap()]);
    std::fs::remove_file(dir.join("file 499")).unwrap();
    mount.unmount();
    btrfs_check(image);
    let seen = support::open_and_walk(image);
    assert!(seen.data_sectors > 1000);
}

#[test]
fn every_node_size_passes_check_and_is_written_by_linux() {
    let scratch = scratch_dir();
    for nodesize in [4096, 8192, 16384, 32768, 65536] {
        let image = scratch.file(format!("node{nodesize}"));
        make(&image, 400 << 20, &MkfsOptions { nodesize, ..MkfsOptions::default() });
        judge(&image);
    }
}

#[test]
fn every_checksum_passes_check_and_is_written_by_linux() {
    let scratch = scratch_dir();
    for checksum in ChecksumKind::ALL {
        let image = scratch.file(checksum.name());
        make(&image, 300 << 20, &MkfsOptions { checksum, ..MkfsOptions::default() });
        judge(&image);
    }
}

#[test]
fn small_odd_and_large_devices_pass_check() {
    let scratch = scratch_dir();
    for size in [114_294_784, (200 << 20) + 777, 60 << 30, 300 << 30] {
        let image = scratch.file(format!("size{size}"));
        make(&image, size, &MkfsOptions::default());
        btrfs_check(&image);
        support::open_and_walk(&image);
        LoopMount::new(&image, "").unmount();
        btrfs_check(&image);
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn label_and_uuid_are_what_was_asked_for() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    let uuid = Uuid::from_text("01234567-89ab-4cde-8f01-23456789abcd");
    let made =
        make(&image, 256 << 20, &MkfsOptions { label: b"my label".to_vec(), uuid, ..MkfsOptions::default() });
    assert_eq!(Some(made), uuid);
    let text = run("btrfs", ["filesystem", "show", image.to_str().unwrap()]);
    assert!(text.contains("'my label'") && text.contains("01234567-89ab-4cde-8f01-23456789abcd"), "{text}");
}

#[test]
fn an_image_that_holds_a_file_system_needs_force() {
    let scratch = scratch_dir();
    for (program, what) in [("mkfs.btrfs", "BTRFS"), ("mkfs.ext4", "ext4"), ("mkswap", "swap")] {
        let image = scratch.file(program);
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run(
            program,
            ["-q", image.to_str().unwrap()].iter().filter(|arg| program != "mkswap" || **arg != "-q"),
        );
        let device = FileDevice::create(&image, 256 << 20).unwrap();
        let error = mkfs(&device, &MkfsOptions::default()).unwrap_err();
        assert!(error.to_string().contains(what) && error.to_string().contains("--force"), "{error}");
        mkfs(&device, &MkfsOptions { force: true, ..MkfsOptions::default() }).unwrap();
        drop(device);
        btrfs_check(&image);
        let text = run("blkid", ["-p", image.to_str().unwrap()]);
        assert!(text.contains("TYPE=\"btrfs\""), "{text}");
    }
}

#[test]
fn bad_options_are_refused_before_anything_is_written() {
    let device = MemoryDevice::new(256 << 20);
    let refused = |options: MkfsOptions| match mkfs(&device, &options) {
        Err(EngineError::Refused { errno: libc::EINVAL, .. }) => {}
        other => panic!("{options:?}: {other:?}"),
    };
    refused(MkfsOptions { nodesize: 12288, ..MkfsOptions::default() });
    refused(MkfsOptions { nodesize: 131_072, ..MkfsOptions::default() });
    refused(MkfsOptions { label: vec![b'x'; 256], ..MkfsOptions::default() });
    refused(MkfsOptions { label: b"a\nb".to_vec(), ..MkfsOptions::default() });
    assert!(mkfs(&MemoryDevice::new(64 << 20), &MkfsOptions::default()).is_err());
}

#[test]
fn a_power_cut_leaves_a_whole_file_system_or_none() {
    let device = RecordingDevice::new(MemoryDevice::new(256 << 20));
    mkfs(&device, &MkfsOptions::default()).unwrap();
    let end = device.position();
    for cut in 0..=end {
        for reached in [0_usize, 1, 2, 3] {
            let image = device.crash_image(cut, |at| (at + reached).is_multiple_of(2) || reached == 3);
            let opened = support::open(std::sync::Arc::new(image), false);
            if let Ok(image) = opened {
                support::walk(&image);
            } else {
                assert_ne!(cut, end, "the finished file system must open");
            }
        }
    }
}

#[test]
fn a_block_device_is_made_and_held() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    let loop_device = LoopDevice::new(&image);
    let device = FileDevice::create(loop_device.path(), 256 << 20).unwrap();
    mkfs(&device, &MkfsOptions::default()).unwrap();
    assert!(FileDevice::open(loop_device.path(), Access::ReadWrite).is_err());
    drop(device);
    let device = FileDevice::open(loop_device.path(), Access::ReadWrite).unwrap();
    assert_eq!(device.size(), 256 << 20);
    support::walk(&support::open(std::sync::Arc::new(device), false).unwrap());
    btrfs_check(loop_device.path());
    drop(loop_device);
    btrfs_check(&image);
}

#[test]
fn a_busy_image_says_so() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    make(&image, 256 << 20, &MkfsOptions::default());
    let first = FileDevice::open(&image, Access::ReadWrite).unwrap();
    let error = FileDevice::open(&image, Access::ReadOnly).unwrap_err();
    assert_eq!(
        (error.errno(), error.to_string().contains("is in use by another process")),
        (libc::EBUSY, true)
    );
    drop(first);
    let readers = [(); 2].map(|()| FileDevice::open(&image, Access::ReadOnly).unwrap());
    assert!(readers[0].write_at(0, &[1]).is_err() && FileDevice::open(&image, Access::ReadWrite).is_err());
    drop(readers);
    let mount = LoopMount::new(&image, "");
    let error = FileDevice::open(&image, Access::ReadWrite).unwrap_err();
    assert!(error.to_string().contains("loop"), "{error}");
    let error = FileDevice::open(mount.loop_device(), Access::ReadWrite).unwrap_err();
    assert!(error.to_string().contains("mounted"), "{error}");
    mount.unmount();
    FileDevice::open(&image, Access::ReadWrite).unwrap();
}
