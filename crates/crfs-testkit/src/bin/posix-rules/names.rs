// SPDX-License-Identifier: GPL-2.0-or-later
//! Names: special files, the kinds of rename, files without a name, hard links, names whose hashes are equal.

use crate::ground::{Ground, Said, fails, holds, same, sys};
use crate::support::sys::{
    Fd, c, fstat, link_at, mkdir_at, open_at, pread, pwrite, rename_at, rmdir_at, stat_at, unlink_at,
};
use crate::support::{Random, Result, make_node};
use crfs_disk::hash::name_hash;
use std::collections::HashMap;

pub fn special_files(ground: &Ground) -> Result<()> {
    let device = libc::makedev(8, 259);
    let kinds = [
        ("fifo", libc::S_IFIFO, 0),
        ("socket", libc::S_IFSOCK, 0),
        ("char", libc::S_IFCHR, device),
        ("block", libc::S_IFBLK, device),
    ];
    for (name, kind, device) in kinds {
        make_node(&ground.a.join(name), kind | 0o640, device).said(name)?;
        let metadata = std::fs::symlink_metadata(ground.b.join(name)).said(name)?;
        use std::os::unix::fs::MetadataExt;
        same(name, (metadata.mode(), metadata.rdev()), (kind | 0o640, device))?;
        let again = make_node(&ground.a.join(name), kind | 0o640, device);
        fails(name, again.map_err(|error| error.raw_os_error().unwrap_or(0)), libc::EEXIST)?;
    }
    Ok(())
}

pub fn rename_noreplace(ground: &Ground) -> Result<()> {
    let at = &ground.at_a;
    for name in ["one", "two"] {
        ground.file(name)?;
    }
    let noreplace = libc::RENAME_NOREPLACE;
    fails("over a file", rename_at(at, c"one", at, c"two", noreplace), libc::EEXIST)?;
    fails("of nothing", rename_at(at, c"none", at, c"three", noreplace), libc::ENOENT)?;
    rename_at(at, c"one", at, c"three", noreplace).said("to a new name")?;
    let both = noreplace | libc::RENAME_EXCHANGE;
    fails("with EXCHANGE", rename_at(at, c"two", at, c"three", both), libc::EINVAL)?;
    fails("the old name in B", stat_at(&ground.at_b, c"one"), libc::ENOENT)?;
    ground.stat_b("three").map(|_| ())
}

pub fn rename_exchange(ground: &Ground) -> Result<()> {
    let at = &ground.at_a;
    mkdir_at(at, c"left", 0o755).said("mkdir")?;
    mkdir_at(at, c"right", 0o755).said("mkdir")?;
    mkdir_at(at, c"left/dir", 0o755).said("mkdir")?;
    mkdir_at(at, c"left/dir/below", 0o755).said("mkdir")?;
    ground.file("left/file")?;
    ground.file("right/file")?;
    let exchange = |from: &str, to: &str| rename_at(at, &c(from), at, &c(to), libc::RENAME_EXCHANGE);
    for (from, to) in [("left/file", "right/file"), ("left/dir", "right/file")] {
        let (one, two) = (ground.stat_a(from)?.ino, ground.stat_a(to)?.ino);
        exchange(from, to).said("exchange")?;
        same(
            &format!("{from} and {to} in B"),
            (ground.stat_b(from)?.ino, ground.stat_b(to)?.ino),
            (two, one),
        )?;
    }
    same(
        "links of the directories",
        (ground.stat_b("right/file/below")?.kind(), ground.stat_b("left/dir")?.kind()),
        (libc::S_IFDIR, libc::S_IFREG),
    )?;
    fails("with nothing", exchange("left/file", "none"), libc::ENOENT)?;
    fails("with what lies below", exchange("right/file", "right/file/below"), libc::EINVAL)?;
    fails("with what lies above", exchange("right/file/below", "right/file"), libc::EINVAL)
}

fn link_by_proc(file: &Fd, to: &Fd, name: &str) -> crate::support::sys::Sys<u64> {
    let path = c(&format!("/proc/self/fd/{}", file.raw()));
    let name = c(name);
    // SAFETY: the strings are NUL-terminated.
    sys(i64::from(unsafe {
        libc::linkat(libc::AT_FDCWD, path.as_ptr(), to.raw(), name.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    }))
}

pub fn tmpfile(ground: &Ground) -> Result<()> {
    let open = |flags: i32| open_at(&ground.at_a, c".", libc::O_TMPFILE | flags, 0o600);
    fails("for reading alone", open(libc::O_RDONLY), libc::EINVAL)?;
    let file = open(libc::O_RDWR).said("O_TMPFILE")?;
    pwrite(&file, b"without a name", 0).said("write")?;
    same("links", fstat(&file).said("fstat")?.nlink, 0)?;
    same("names in B", ground.list_b()?.iter().filter(|(name, ..)| !name.starts_with('.')).count(), 0)?;
    link_by_proc(&file, &ground.at_a, "named").said("linkat")?;
    let other = open_at(&ground.at_b, c"named", libc::O_RDONLY, 0).said("open in B")?;
    same("data in B", pread(&other, 64, 0).said("read")?, b"without a name".to_vec())?;
    same("links in B", fstat(&other).said("fstat")?.nlink, 1)?;
    let exclusive = open(libc::O_RDWR | libc::O_EXCL).said("O_TMPFILE with O_EXCL")?;
    fails("linkat of an exclusive one", link_by_proc(&exclusive, &ground.at_a, "never"), libc::ENOENT)
}

pub fn link_limit(ground: &Ground) -> Result<()> {
    const LIMIT: u64 = 65_535;
    ground.file("first")?;
    let at = &ground.at_a;
    for number in 2..=LIMIT {
        link_at(at, c"first", at, &c(&format!("{number}"))).said(&format!("link {number}"))?;
    }
    fails("one more", link_at(at, c"first", at, c"more"), libc::EMLINK)?;
    same("links in B", ground.stat_b("first")?.nlink, LIMIT)?;
    unlink_at(at, c"2").said("unlink")?;
    link_at(at, c"first", at, c"more").said("a link in the place of another")?;
    same("links in B", ground.stat_b("more")?.nlink, LIMIT)
}

/// Pairs of names with equal hashes: the birthday paradox finds some among 300,000.
fn colliding() -> Vec<(String, String)> {
    let mut random = Random::new(1);
    let mut seen = HashMap::new();
    let mut pairs = Vec::new();
    for _ in 0..300_000 {
        let name = format!("{:016x}", random.next());
        if let Some(other) = seen.insert(name_hash(name.as_bytes()), name.clone()) {
            pairs.push((other, name));
        }
    }
    pairs
}

pub fn hash_collisions(ground: &Ground) -> Result<()> {
    let pairs = colliding();
    holds("there are pairs of names with equal hashes", !pairs.is_empty())?;
    let at = &ground.at_a;
    for (one, two) in &pairs {
        let (first, second) = (c(one), c(two));
        ground.file(one)?;
        fails("the other name, before", stat_at(&ground.at_b, &second), libc::ENOENT)?;
        mkdir_at(at, &second, 0o755).said(two)?;
        same(
            "kinds in B",
            (ground.stat_b(one)?.kind(), ground.stat_b(two)?.kind()),
            (libc::S_IFREG, libc::S_IFDIR),
        )?;
        let listed = ground.list_b()?;
        holds(
            "both are listed",
            [one, two].iter().all(|name| listed.iter().any(|(each, ..)| each == *name)),
        )?;
        unlink_at(at, &first).said(one)?;
        fails("the removed name", stat_at(&ground.at_b, &first), libc::ENOENT)?;
        same("the other stays", ground.stat_b(two)?.kind(), libc::S_IFDIR)?;
        rename_at(at, &second, at, &first, 0).said("rename to the same hash")?;
        same("renamed", ground.stat_b(one)?.kind(), libc::S_IFDIR)?;
        rmdir_at(at, &first).said(one)?;
    }
    same("nothing stays", ground.stat_b(".")?.size, 0)
}

/// As BTRFS counts: one link however many directories lie below, two bytes of size for each byte of a name.
pub fn directory_links(ground: &Ground) -> Result<()> {
    let at = &ground.at_a;
    mkdir_at(at, c"dir", 0o755).said("mkdir")?;
    mkdir_at(at, c"dir/below", 0o755).said("mkdir")?;
    ground.file("dir/file")?;
    same("links and size in B", (ground.stat_b("dir")?.nlink, ground.stat_b("dir")?.size), (1, 18))?;
    fails("rmdir of a full one", rmdir_at(at, c"dir"), libc::ENOTEMPTY)?;
    fails("a link of a directory", link_at(at, c"dir", at, c"other"), libc::EPERM)?;
    unlink_at(at, c"dir/file").said("unlink")?;
    same("size in B", ground.stat_b("dir")?.size, 10)
}
