// SPDX-License-Identifier: GPL-2.0-or-later
//! Fills a mounted BTRFS directory with one of everything that changes the shape of the trees: what Linux writes there is
//! what the engine must be able to read and to go on from.

use crate::run;
use crfs_disk::hash::name_hash;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

/// Hard links of one file in one directory: with names of 200 bytes far more than one INODE_REF item holds.
const HARD_LINKS: usize = 400;
/// Files of which every second one is removed, which leaves more free runs than a small block group keeps as extents.
const FRAGMENTS: usize = 1200;

/// Writes files, names, links, xattrs and extents of every kind below `dir`, with a commit between the steps that need one.
pub fn fill_with_everything(dir: &Path) {
    small_and_large_files(dir);
    names(dir);
    hard_links(dir);
    xattrs(dir);
    extents(dir);
    special_files(dir);
    fragments(dir);
    sync(dir);
}

/// Commits the file system that holds `dir`.
pub fn sync(dir: &Path) {
    run("sync", [std::ffi::OsStr::new("-f"), dir.as_os_str()]);
}

/// Bytes that do not repeat from sector to sector, so that a misplaced one shows.
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

fn small_and_large_files(dir: &Path) {
    let many = dir.join("many");
    fs::create_dir(&many).expect("a fresh directory");
    for number in 0..3000_usize {
        fs::write(many.join(format!("file-{number:05}")), pattern(number as u64, number * 7 % 6000))
            .expect("space");
    }
    let mut deep = dir.join("deep");
    for level in 0..40 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep).expect("a fresh directory");
    fs::write(dir.join("large"), pattern(1, 5_000_001)).expect("space");
}

fn names(dir: &Path) {
    let names = dir.join("names");
    fs::create_dir(&names).expect("a fresh directory");
    fs::write(names.join(OsString::from_vec(vec![0xff; 255])), b"not utf-8").expect("a legal name");
    fs::write(names.join("line\nfeed"), b"").expect("a legal name");
    for name in colliding_names(6) {
        fs::write(names.join(&name), name.as_bytes()).expect("a legal name");
    }
}

/// Names of which each shares its hash with another one, so that they share a DIR_ITEM.
pub fn colliding_names(pairs: usize) -> Vec<String> {
    let mut by_hash: HashMap<u64, String> = HashMap::new();
    let mut found = Vec::new();
    for number in 0_u64.. {
        if found.len() >= 2 * pairs {
            break;
        }
        // Strings of random hex digits: consecutive numbers alone collide too rarely, crc32c is linear.
        let name = format!("{:016x}", number.wrapping_mul(0xd134_2543_de82_ef95) ^ (number << 31));
        if let Some(other) = by_hash.insert(name_hash(name.as_bytes()), name.clone()) {
            found.extend([other, name]);
        }
    }
    found
}

fn hard_links(dir: &Path) {
    let links = dir.join("links");
    fs::create_dir(&links).expect("a fresh directory");
    let target = links.join("target");
    fs::write(&target, b"linked").expect("space");
    for number in 0..HARD_LINKS {
        fs::hard_link(&target, links.join(format!("{number:0200}"))).expect("BTRFS takes 65535 links");
    }
}

fn xattrs(dir: &Path) {
    let file = dir.join("xattrs");
    fs::write(&file, b"").expect("space");
    for (name, len) in [("user.empty", 0), ("user.short", 10), ("user.long", 3000)] {
        let value = "x".repeat(len);
        run("setfattr", ["-n".as_ref(), name.as_ref(), "-v".as_ref(), value.as_ref(), file.as_os_str()]);
    }
    for name in colliding_xattr_names() {
        run("setfattr", ["-n".as_ref(), name.as_ref(), "-v".as_ref(), "collides".as_ref(), file.as_os_str()]);
    }
}

fn colliding_xattr_names() -> [String; 2] {
    let mut by_hash: HashMap<u64, String> = HashMap::new();
    for number in 0_u64.. {
        let name = format!("user.{:016x}", number.wrapping_mul(0xd134_2543_de82_ef95) ^ (number << 31));
        if let Some(other) = by_hash.insert(name_hash(name.as_bytes()), name.clone()) {
            return [other, name];
        }
    }
    unreachable!("64-bit numbers have more strings than there are hashes");
}

fn extents(dir: &Path) {
    let path = |name: &str| dir.join(name);
    // Preallocated, partly written, with a hole punched.
    let prealloc = path("prealloc");
    run("fallocate", ["-l".as_ref(), "1M".as_ref(), prealloc.as_os_str()]);
    let file = fs::OpenOptions::new().write(true).open(&prealloc).expect("just made");
    file.write_all_at(&pattern(2, 100_000), 200_000).expect("space is reserved");
    file.sync_all().expect("space is reserved");
    run(
        "fallocate",
        ["-p", "-o", "262144", "-l", "8192"].map(AsRef::as_ref).into_iter().chain([prealloc.as_os_str()]),
    );
    // Sparse, with a tail past the last extent.
    let sparse = fs::File::create(path("sparse")).expect("space");
    sparse.write_all_at(&pattern(3, 5000), 10 << 20).expect("space");
    sparse.set_len(1 << 40).expect("a sparse file takes no space");
    // Shared by reflink, then overwritten in the middle: one extent, several references at several offsets.
    sync(dir);
    for copy in ["copy 1", "copy 2"] {
        run("cp", ["--reflink=always".as_ref(), path("large").as_os_str(), path(copy).as_os_str()]);
    }
    let copy = fs::OpenOptions::new().write(true).open(path("copy 1")).expect("just made");
    copy.write_all_at(&pattern(4, 12_345), 1_000_000).expect("space");
    // Unchecksummed and not copied on write.
    let nocow = path("nocow");
    fs::write(&nocow, b"").expect("space");
    run("chattr", ["+C".as_ref(), nocow.as_os_str()]);
    fs::write(&nocow, pattern(5, 300_000)).expect("space");
    // Many references from one file to one extent: keyed references.
    let many = path("many references");
    fs::File::create(&many).expect("space").write_all(&pattern(6, 4096)).expect("space");
    sync(dir);
    for number in 1..200_u64 {
        clone_sector(&many, number * 8192);
    }
}

/// `struct file_clone_range` of the FICLONERANGE ioctl.
#[repr(C)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

/// Clones the first sector of a file to another place in it.
fn clone_sector(path: &Path, at: u64) {
    const FICLONERANGE: libc::c_ulong = 0x4020_940d;
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("just made");
    let fd = file.as_raw_fd();
    let range = FileCloneRange { src_fd: i64::from(fd), src_offset: 0, src_length: 4096, dest_offset: at };
    // SAFETY: the ioctl reads one FileCloneRange from the address, which points to one.
    let failed = unsafe { libc::ioctl(fd, FICLONERANGE as _, &range as *const FileCloneRange) } != 0;
    assert!(!failed, "cloning failed: {}", std::io::Error::last_os_error());
}

fn special_files(dir: &Path) {
    let path = |name: &str| dir.join(name);
    symlink("target of a symlink", path("symlink")).expect("a fresh name");
    symlink("t".repeat(3000), path("long symlink")).expect("a fresh name");
    run("mkfifo", [path("fifo").as_os_str()]);
    run("mknod", [path("char device").as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
    run("mknod", [path("block device").as_os_str(), "b".as_ref(), "7".as_ref(), "200".as_ref()]);
    run(
        "touch",
        ["-d".as_ref(), "1960-01-02 03:04:05.678901234".as_ref(), path("symlink").as_os_str(), "-h".as_ref()],
    );
}

fn fragments(dir: &Path) {
    let fragments = dir.join("fragments");
    fs::create_dir(&fragments).expect("a fresh directory");
    let path = |number: usize| fragments.join(number.to_string());
    for number in 0..FRAGMENTS {
        fs::write(path(number), pattern(number as u64, 5000)).expect("space");
    }
    sync(dir);
    for number in (0..FRAGMENTS).step_by(2) {
        fs::remove_file(path(number)).expect("just made");
    }
}
