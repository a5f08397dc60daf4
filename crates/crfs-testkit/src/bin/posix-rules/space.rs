// SPDX-License-Identifier: GPL-2.0-or-later
//! The space of files: preallocation, holes, copies within the file system, the largest size.

use crate::ground::{Ground, Said, bytes, fails, same, sys};
use crate::support::Result;
use crate::support::sys::{Fd, Sys, c, fallocate, open_at, pread, pwrite, truncate};

const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
const BLOCK: u64 = 65_536;
/// Sizes are JavaScript numbers in CRFS.
const LARGEST: u64 = (1 << 53) - 1;

fn seek(fd: &Fd, offset: u64, whence: i32) -> Sys<u64> {
    // SAFETY: a call with numbers.
    sys(unsafe { libc::lseek(fd.raw(), offset as i64, whence) })
}

fn other(ground: &Ground, name: &str) -> Result<Fd> {
    open_at(&ground.at_b, &c(name), libc::O_RDONLY, 0).said("open in B")
}

pub fn preallocation(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    fallocate(&file, 0, 0, 4 * BLOCK).said("plain")?;
    same("size in B", ground.stat_b("file")?.size, 4 * BLOCK)?;
    same("it reads as zeros", pread(&other(ground, "file")?, 4_096, BLOCK).said("read")?, vec![0; 4_096])?;
    fallocate(&file, KEEP, 4 * BLOCK, BLOCK).said("keep-size")?;
    same("size in B", ground.stat_b("file")?.size, 4 * BLOCK)?;
    use std::os::unix::fs::MetadataExt;
    let blocks = std::fs::metadata(ground.b.join("file")).said("stat")?.blocks();
    same("blocks in B", blocks * 512, 5 * BLOCK)?;
    pwrite(&file, b"data", 4 * BLOCK).said("write")?;
    same("size in B", ground.stat_b("file")?.size, 4 * BLOCK + 4)?;
    fails("no length", fallocate(&file, 0, 0, 0), libc::EINVAL)?;
    let reader = open_at(&ground.at_a, c"file", libc::O_RDONLY, 0).said("open")?;
    fails("open for reading", fallocate(&reader, 0, 0, BLOCK), libc::EBADF)
}

pub fn punch_and_zero(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    let mut data = bytes(1, 4 * BLOCK as usize);
    pwrite(&file, &data, 0).said("write")?;
    let zero = libc::FALLOC_FL_ZERO_RANGE;
    // Ends that are not on blocks.
    let steps = [
        (libc::FALLOC_FL_PUNCH_HOLE | KEEP, 5_000, 70_000),
        (zero, 150_001, 9_000),
        (zero | KEEP, 200_000, 10),
    ];
    for (mode, offset, length) in steps {
        fallocate(&file, mode, offset as u64, length as u64).said("fallocate")?;
        data[offset..offset + length].fill(0);
        let came = pread(&other(ground, "file")?, data.len() + 1, 0).said("read")?;
        same(&format!("data in B after mode {mode}"), came == data, true)?;
    }
    fallocate(&file, zero | KEEP, 4 * BLOCK, BLOCK).said("zero beyond the end")?;
    same("size kept in B", ground.stat_b("file")?.size, 4 * BLOCK)?;
    fallocate(&file, zero, 4 * BLOCK, BLOCK).said("zero beyond the end")?;
    same("size in B", ground.stat_b("file")?.size, 5 * BLOCK)?;
    fails("punch without keep-size", fallocate(&file, libc::FALLOC_FL_PUNCH_HOLE, 0, BLOCK), libc::EOPNOTSUPP)
}

pub fn collapse_and_insert(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    truncate(&file, 4 * BLOCK).said("truncate")?;
    for mode in [libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE] {
        fails("fallocate", fallocate(&file, mode, 0, BLOCK), libc::EOPNOTSUPP)?;
    }
    same("size in B", ground.stat_b("file")?.size, 4 * BLOCK)
}

pub fn holes(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    pwrite(&file, &bytes(1, BLOCK as usize), 0).said("write")?;
    pwrite(&file, &bytes(2, BLOCK as usize), 4 * BLOCK).said("write")?;
    truncate(&file, 8 * BLOCK).said("truncate")?;
    for (side, fd) in [("A", &file), ("B", &other(ground, "file")?)] {
        let steps = [
            (0, libc::SEEK_DATA, 0),
            (0, libc::SEEK_HOLE, BLOCK),
            (BLOCK, libc::SEEK_DATA, 4 * BLOCK),
            (4 * BLOCK, libc::SEEK_HOLE, 5 * BLOCK),
            (6 * BLOCK, libc::SEEK_HOLE, 6 * BLOCK),
        ];
        for (offset, whence, want) in steps {
            same(&format!("lseek {offset} {whence} in {side}"), seek(fd, offset, whence), Ok(want))?;
        }
        fails("no data to the end", seek(fd, 5 * BLOCK, libc::SEEK_DATA), libc::ENXIO)?;
        fails("beyond the end", seek(fd, 8 * BLOCK, libc::SEEK_HOLE), libc::ENXIO)?;
    }
    Ok(())
}

fn copy(from: &Fd, offset: i64, to: &Fd, at: i64, length: usize) -> Sys<u64> {
    let (mut offset, mut at) = (offset, at);
    // SAFETY: both offsets are live.
    sys(unsafe { libc::copy_file_range(from.raw(), &mut offset, to.raw(), &mut at, length, 0) } as i64)
}

pub fn copy_range(ground: &Ground) -> Result<()> {
    let (from, to) = (ground.file("from")?, ground.file("to")?);
    let data = bytes(3, 3 * BLOCK as usize);
    pwrite(&from, &data, 0).said("write")?;
    same("unaligned", copy(&from, 1_001, &to, 77, 100_000), Ok(100_000))?;
    let came = pread(&other(ground, "to")?, 200_000, 0).said("read")?;
    same("size", came.len(), 100_077)?;
    same("data in B", came[77..] == data[1_001..101_001], true)?;
    same("short at the end", copy(&from, 3 * BLOCK as i64 - 10, &to, 0, 100), Ok(10))?;
    same("beyond the end", copy(&from, 4 * BLOCK as i64, &to, 0, 100), Ok(0))?;
    fails("onto itself", copy(&from, 0, &from, 10, 100), libc::EINVAL)
}

pub fn file_size_limit(ground: &Ground) -> Result<()> {
    let file = ground.file("file")?;
    truncate(&file, LARGEST).said("truncate to 2^53-1")?;
    same("size in B", ground.stat_b("file")?.size, LARGEST)?;
    pwrite(&file, b"x", LARGEST - 1).said("write the last byte")?;
    same("the last byte in B", pread(&other(ground, "file")?, 10, LARGEST - 1).said("read")?, b"x".to_vec())?;
    if ground.is_crfs {
        fails("truncate beyond", truncate(&file, LARGEST + 1), libc::EFBIG)?;
        fails("write beyond", pwrite(&file, b"x", LARGEST), libc::EFBIG)?;
        fails("fallocate beyond", fallocate(&file, 0, LARGEST, 1), libc::EFBIG)?;
        same("size in B", ground.stat_b("file")?.size, LARGEST)?;
    }
    Ok(())
}
