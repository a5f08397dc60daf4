// SPDX-License-Identifier: GPL-2.0-or-later
//! The judges must condemn what is bad, or every test that they pass proves nothing.

use crfs_testkit::{
    LoopMount, btrfs_check, btrfs_check_quick, colliding_names, mkfs_btrfs, pattern, run, scratch_dir,
    try_run,
};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Overwrites a data sector below the file system; returns the image.
fn image_with_bad_data(image: &Path) {
    mkfs_btrfs(image, 200 << 20, &[]);
    let mount = LoopMount::new(image, "");
    let content = pattern(1, 100_000);
    std::fs::write(mount.path().join("file"), &content).expect("space");
    mount.unmount();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(image).expect("just made");
    // The only data group of a fresh image lies at 13 MiB, logical and physical.
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 13 << 20).expect("inside the image");
    assert_eq!(head, content[..64]);
    file.write_all_at(b"damage", 13 << 20).expect("inside the image");
}

#[test]
fn bad_data_is_seen_by_check_and_by_the_kernel_log() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    image_with_bad_data(&image);
    let complaint = btrfs_check_quick(&image).expect_err("the data does not match its checksum");
    assert!(complaint.contains("csum"), "{complaint}");
    assert!(std::panic::catch_unwind(|| btrfs_check(&image)).is_err());
    let mount = LoopMount::new(&image, "");
    assert!(mount.kernel_complaints().is_empty());
    assert!(std::fs::read(mount.path().join("file")).is_err());
    let complaints = mount.kernel_complaints();
    assert!(complaints.iter().any(|line| line.contains("csum failed")), "{complaints:?}");
    assert!(std::panic::catch_unwind(|| mount.unmount()).is_err());
}

#[test]
fn nothing_is_left_behind_after_a_panic() {
    let scratch = scratch_dir();
    let image = scratch.file("image");
    mkfs_btrfs(&image, 200 << 20, &[]);
    let result = std::panic::catch_unwind(|| {
        let _mount = LoopMount::new(&image, "ro");
        panic!("the test fails while mounted");
    });
    assert!(result.is_err());
    assert!(!run("losetup", ["-a"]).contains(&image.display().to_string()));
    assert!(!run("cat", ["/proc/mounts"]).contains(&scratch.path().display().to_string()));
}

#[test]
fn failing_programs_show_their_output() {
    let (passed, text) = try_run("sh", ["-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((passed, text.as_str()), (false, "out\nerr\n"));
    assert!(std::panic::catch_unwind(|| run("false", [""; 0])).is_err());
}

#[test]
fn colliding_names_collide() {
    let names = colliding_names(2);
    let hash = |name: &String| crfs_disk::hash::name_hash(name.as_bytes());
    assert!(names.chunks(2).all(|pair| pair[0] != pair[1] && hash(&pair[0]) == hash(&pair[1])));
}
