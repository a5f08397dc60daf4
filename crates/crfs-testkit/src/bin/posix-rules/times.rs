// SPDX-License-Identifier: GPL-2.0-or-later
//! Times: birth, set by hand to the nanosecond, what a change changes, when reading is noted.

use crate::ground::{Ground, Said, holds, same};
use crate::support::sys::{c, chmod_at, link_at, open_at, pread, pwrite};
use crate::support::{Result, set_times};
use std::os::unix::fs::MetadataExt;

const OMIT: u32 = libc::UTIME_OMIT as u32;
const NOW: u32 = libc::UTIME_NOW as u32;

pub fn birth_time(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    let born =
        |side: &std::path::Path| std::fs::metadata(side.join("file")).and_then(|found| found.created());
    let first = born(&ground.a).said("birth time in A")?;
    same("in B", born(&ground.b).said("birth time in B")?, first)?;
    set_times(&ground.a.join("file"), (1, 1), (2, 2)).said("utimensat")?;
    same("it stays", born(&ground.b).said("birth time in B")?, first)
}

pub fn set_times_by_hand(ground: &Ground) -> Result<()> {
    ground.file("file")?;
    let path = ground.a.join("file");
    let look = || std::fs::metadata(ground.b.join("file")).said("stat in B");
    set_times(&path, (1_000, 123_456_789), (-5, 999_999_999)).said("utimensat")?;
    let found = look()?;
    let times = (found.atime(), found.atime_nsec(), found.mtime(), found.mtime_nsec());
    same("nanoseconds in B", times, (1_000, 123_456_789, -5, 999_999_999))?;
    set_times(&path, (7, OMIT), (9, 9)).said("utimensat with UTIME_OMIT")?;
    let found = look()?;
    same("UTIME_OMIT in B", (found.atime(), found.mtime(), found.mtime_nsec()), (1_000, 9, 9))?;
    set_times(&path, (0, NOW), (0, OMIT)).said("utimensat with UTIME_NOW")?;
    let found = look()?;
    same("UTIME_NOW with UTIME_OMIT in B", (found.atime() > 1_000_000_000, found.mtime()), (true, 9))
}

pub fn change_times(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    let at = &ground.at_a;
    set_times(&ground.a.join("file"), (1, 0), (1, 0)).said("utimensat")?;
    let mut before = ground.stat_b("file")?;
    let mut changes = |what: &str, mtime: bool| -> Result<()> {
        let now = ground.stat_b("file")?;
        let came = (now.ctime > before.ctime, now.mtime > before.mtime);
        before = now;
        // The kernel's clock for times moves every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        same(&format!("{what} changes (ctime, mtime)"), came, (true, mtime))
    };
    std::thread::sleep(std::time::Duration::from_millis(20));
    chmod_at(at, c"file", 0o600).said("chmod")?;
    changes("chmod", false)?;
    link_at(at, c"file", at, c"link").said("link")?;
    changes("link", false)?;
    pwrite(&file, b"x", 0).said("write")?;
    changes("write", true)
}

/// @returns whether a read through A, opened with `flags`, moves an access time that is older than the modification.
fn read_is_noted(ground: &Ground, name: &str, flags: i32) -> Result<bool> {
    pwrite(&ground.file(name)?, b"data", 0).said("write")?;
    set_times(&ground.a.join(name), (1_000, 0), (2_000, 0)).said("utimensat")?;
    let file = open_at(&ground.at_a, &c(name), libc::O_RDONLY | flags, 0).said("open")?;
    pread(&file, 4, 0).said("read")?;
    let atime = |side: &std::path::Path| std::fs::metadata(side.join(name)).map(|found| found.atime());
    let (a, b) = (atime(&ground.a).said("stat in A")?, atime(&ground.b).said("stat in B")?);
    same("the access time in B as in A", b, a)?;
    Ok(a > 2_000)
}

pub fn relatime(ground: &Ground) -> Result<()> {
    holds(
        "a read is noted when the access time is before the modification",
        read_is_noted(ground, "file", 0)?,
    )
}

pub fn no_access_time(ground: &Ground) -> Result<()> {
    holds("a read with O_NOATIME is not noted", !read_is_noted(ground, "file", libc::O_NOATIME)?)
}
