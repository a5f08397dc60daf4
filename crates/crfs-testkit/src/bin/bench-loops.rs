// SPDX-License-Identifier: GPL-2.0-or-later
//! `bench-loops DIR PHASE [--files N] [--directories N] [--bytes N] [--size N] [--block N] [--drop-caches]`: the timed part of
//! `crfs-bench files`. DIR is a directory that the phases have for themselves: `make` makes it, `remove` removes it with
//! everything below, and the others are run in the order in which each finds what it works on:
//!
//! | phase | timed, as the rows that it prints |
//! |---|---|
//! | `create` | `create`: `--files` files of `--bytes` each, spread over `--directories` directories, made, written and closed |
//! | `stat` | `stat`: of each by its path |
//! | `open+read` | `open+read`: each opened, read to its end and closed |
//! | `readdir` | `readdir`: all directories listed; `readdir+stat`: with a stat of each name, as `ls -l` does |
//! | `rename` | `rename`: each to another name in its directory |
//! | `unlink` | `unlink`: all |
//! | `write` | `write`: one file of `--size` in calls of `--block`; `write+fsync`: the same time with the fsync that follows |
//! | `read` | `read`: that file, from warm caches; `read cold`: after the kernel was asked to drop its pages, and with `--drop-caches` all that it keeps |
//!
//! Prints one JSON object, `{"ROW":{"count":N,"nanoseconds":N}}`; what is counted is files, entries or bytes. What only reads is
//! done once untimed, and compared with what was written, then again and again until some time is over. What a
//! phase has left to be written back is written before it ends, untimed, so that it is not paid for by whoever is timed next.

mod support;

use std::ffi::CString;
use std::path::Path;
use std::process::ExitCode;

use support::sys::{self, Fd, Sys, c, errno_name, now};
use support::{Arguments, Random, Result, c_path, main_of, say};

/// Passes over what only reads go on for so long: a pass of few files would be over before a clock has run.
const READING_NANOSECONDS: u64 = 50_000_000;
/// As large as glibc's for readdir(3).
const LISTING_BYTES: usize = 32_768;
const STREAM: &std::ffi::CStr = c"stream";

fn told<T>(what: &str, result: Sys<T>) -> Result<T> {
    result.map_err(|errno| format!("{what}: {}", errno_name(errno)))
}

fn told_of<T>(what: &str, name: &CString, result: Sys<T>) -> Result<T> {
    result.map_err(|errno| format!("{what} {}: {}", name.to_string_lossy(), errno_name(errno)))
}

/// What took how long.
struct Row {
    name: &'static str,
    count: u64,
    nanoseconds: u64,
}

/// A first pass untimed, then passes until enough time is over. Each returns how much it has done.
fn reading(name: &'static str, mut pass: impl FnMut(bool) -> Result<u64>) -> Result<Row> {
    pass(true)?;
    let start = now();
    let mut count = 0;
    loop {
        count += pass(false)?;
        let nanoseconds = now() - start;
        if nanoseconds >= READING_NANOSECONDS {
            return Ok(Row { name, count, nanoseconds });
        }
    }
}

struct Bench {
    root: Fd,
    files: u64,
    directories: u64,
    bytes: usize,
    size: u64,
    block: usize,
    drop_caches: bool,
}

impl Bench {
    fn directory_names(&self) -> Vec<CString> {
        (0..self.directories).map(|number| c(&format!("d{number:05}"))).collect()
    }

    /// Neighbours are made one after the other, as unpacking does. Made ready before anything is timed.
    fn paths(&self, prefix: char) -> Vec<CString> {
        let in_each = self.files.div_ceil(self.directories);
        (0..self.files).map(|number| c(&format!("d{:05}/{prefix}{number:07}", number / in_each))).collect()
    }

    /// Bytes that do not compress; the same for all files, which is no matter to what does not look for doubles.
    fn content(length: usize) -> Vec<u8> {
        Random::new(1).bytes(length)
    }

    /// Times `call` for every path; it is told the path's index too.
    fn each(
        name: &'static str,
        paths: &[CString],
        mut call: impl FnMut(usize, &CString) -> Result<()>,
    ) -> Result<Row> {
        let start = now();
        for (index, path) in paths.iter().enumerate() {
            call(index, path)?;
        }
        Ok(Row { name, count: paths.len() as u64, nanoseconds: now() - start })
    }

    /// Everything that was changed is written back.
    fn settle(&self) -> Result<()> {
        match sys::fsync(&self.root) {
            // A file system that has no fsync of directories.
            Err(libc::EINVAL) => {}
            result => told("fsync of the directory", result)?,
        }
        told("syncfs", sys::sync_fs(&self.root))
    }

    fn create(&self) -> Result<Vec<Row>> {
        for name in self.directory_names() {
            told_of("mkdir", &name, sys::mkdir_at(&self.root, &name, 0o755))?;
        }
        let content = Bench::content(self.bytes);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let row = Bench::each("create", &self.paths('f'), |_, path| {
            let fd = told_of("create", path, sys::open_at(&self.root, path, flags, 0o644))?;
            told_of("write", path, write_all(&fd, &content))?;
            told_of("close", path, sys::close(fd))
        })?;
        self.settle()?;
        Ok(vec![row])
    }

    fn stat(&self) -> Result<Vec<Row>> {
        let paths = self.paths('f');
        let row = reading("stat", |first| {
            for path in &paths {
                let stat = told_of("stat", path, sys::stat_at(&self.root, path))?;
                if first && stat.size != self.bytes as u64 {
                    return Err(format!("{} has {} bytes", path.to_string_lossy(), stat.size));
                }
            }
            Ok(self.files)
        })?;
        Ok(vec![row])
    }

    fn open_and_read(&self) -> Result<Vec<Row>> {
        let paths = self.paths('f');
        let content = Bench::content(self.bytes);
        // One more than there is, so that it is seen where the file ends.
        let mut buffer = vec![0u8; self.bytes + 1];
        let row = reading("open+read", |first| {
            for path in &paths {
                let fd = told_of("open", path, sys::open_at(&self.root, path, libc::O_RDONLY, 0))?;
                let got = told_of("read", path, read_fully(&fd, &mut buffer))?;
                told_of("close", path, sys::close(fd))?;
                if got != self.bytes || (first && buffer[..got] != content) {
                    return Err(format!("{} does not read as it was written", path.to_string_lossy()));
                }
            }
            Ok(self.files)
        })?;
        Ok(vec![row])
    }

    fn readdir(&self) -> Result<Vec<Row>> {
        let names = self.directory_names();
        let mut buffer = vec![0u8; LISTING_BYTES];
        let mut pass = |stats: bool| -> Result<u64> {
            let mut entries = 0;
            for name in &names {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let dir = told_of("open", name, sys::open_at(&self.root, name, flags, 0))?;
                let all = sys::each_entry(&dir, &mut buffer, |entry, _, _| {
                    entries += 1;
                    if stats { sys::stat_at(&dir, entry).map(|_| ()) } else { Ok(()) }
                });
                told_of(if stats { "readdir and stat in" } else { "readdir" }, name, all)?;
            }
            if entries != self.files {
                return Err(format!("readdir: {entries} entries where there are {} files", self.files));
            }
            Ok(entries)
        };
        Ok(vec![reading("readdir", |_| pass(false))?, reading("readdir+stat", |_| pass(true))?])
    }

    fn rename(&self) -> Result<Vec<Row>> {
        let new = self.paths('r');
        let row = Bench::each("rename", &self.paths('f'), |index, old| {
            told_of("rename", old, sys::rename_at(&self.root, old, &self.root, &new[index], 0))
        })?;
        self.settle()?;
        Ok(vec![row])
    }

    fn unlink(&self) -> Result<Vec<Row>> {
        let row = Bench::each("unlink", &self.paths('r'), |_, path| {
            told_of("unlink", path, sys::unlink_at(&self.root, path))
        })?;
        for name in self.directory_names() {
            told_of("rmdir", &name, sys::rmdir_at(&self.root, &name))?;
        }
        self.settle()?;
        Ok(vec![row])
    }

    fn write(&self) -> Result<Vec<Row>> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let fd = told("create stream", sys::open_at(&self.root, STREAM, flags, 0o644))?;
        let mut content = Bench::content(self.block);
        let start = now();
        let mut offset = 0;
        while offset < self.size {
            let part = stamp(&mut content, offset, self.size);
            write_all(&fd, part)
                .map_err(|errno| format!("write at byte {offset} of stream: {}", errno_name(errno)))?;
            offset += part.len() as u64;
        }
        let written = now() - start;
        told("fsync stream", sys::fsync(&fd))?;
        let synced = now() - start;
        told("close stream", sys::close(fd))?;
        self.settle()?;
        Ok(vec![
            Row { name: "write", count: self.size, nanoseconds: written },
            Row { name: "write+fsync", count: self.size, nanoseconds: synced },
        ])
    }

    /// @param compare - whether the bytes are what `write` wrote.
    fn read_stream(&self, buffer: &mut [u8], compare: bool) -> Result<u64> {
        let fd = told("open stream", sys::open_at(&self.root, STREAM, libc::O_RDONLY, 0))?;
        let mut content = if compare { Bench::content(self.block) } else { Vec::new() };
        let mut offset = 0;
        loop {
            let got = read_fully(&fd, buffer)
                .map_err(|errno| format!("read at byte {offset} of stream: {}", errno_name(errno)))?;
            if got == 0 {
                break;
            }
            if compare && buffer[..got] != *stamp(&mut content, offset, self.size) {
                return Err(format!("stream does not read as it was written, at byte {offset}"));
            }
            offset += got as u64;
        }
        told("close stream", sys::close(fd))?;
        if offset == self.size {
            Ok(offset)
        } else {
            Err(format!("stream has {offset} of {} bytes", self.size))
        }
    }

    fn read(&self) -> Result<Vec<Row>> {
        let mut buffer = vec![0u8; self.block];
        let warm = reading("read", |first| self.read_stream(&mut buffer, first))?;
        let fd = told("open stream", sys::open_at(&self.root, STREAM, libc::O_RDONLY, 0))?;
        told("posix_fadvise stream", sys::drop_pages(&fd))?;
        told("close stream", sys::close(fd))?;
        if self.drop_caches {
            let path = c"/proc/sys/vm/drop_caches";
            let control = told("open drop_caches", sys::open_at(&Fd::CWD, path, libc::O_WRONLY, 0))?;
            told("write to drop_caches", sys::write(&control, b"3\n"))?;
        }
        let start = now();
        let count = self.read_stream(&mut buffer, false)?;
        let cold = Row { name: "read cold", count, nanoseconds: now() - start };
        told("unlink stream", sys::unlink_at(&self.root, STREAM))?;
        self.settle()?;
        Ok(vec![warm, cold])
    }
}

/// The block at `offset` of a stream that ends at `size`, told from all others by its offset.
fn stamp(content: &mut [u8], offset: u64, size: u64) -> &[u8] {
    let length = content.len().min((size - offset) as usize);
    for (byte, mark) in content.iter_mut().zip(offset.to_le_bytes()) {
        *byte = mark;
    }
    &content[..length]
}

fn write_all(fd: &Fd, mut bytes: &[u8]) -> Sys<()> {
    while !bytes.is_empty() {
        match sys::write(fd, bytes)? {
            // No file system may do so.
            0 => return Err(libc::EIO),
            done => bytes = &bytes[done..],
        }
    }
    Ok(())
}

/// Fills `buffer` unless the file ends before. @returns how many bytes.
fn read_fully(fd: &Fd, buffer: &mut [u8]) -> Sys<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match sys::read_into(fd, &mut buffer[filled..])? {
            0 => break,
            got => filled += got,
        }
    }
    Ok(filled)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("remove: {}", errno_name(error.raw_os_error().unwrap_or(0))))
        }
        _ => Ok(()),
    }
}

fn json(rows: &[Row]) -> String {
    let rows = rows.iter().map(|Row { name, count, nanoseconds }| {
        // No clock is so fine that something takes no time.
        format!("\"{name}\":{{\"count\":{count},\"nanoseconds\":{}}}", (*nanoseconds).max(1))
    });
    format!("{{{}}}", rows.collect::<Vec<_>>().join(","))
}

fn body(arguments: Arguments) -> Result<()> {
    let path = arguments.operand(0, "DIR")?;
    let phase = arguments.operand(1, "PHASE")?;
    let phase = phase.to_string_lossy();
    match &*phase {
        "make" => return told("mkdir", sys::mkdir_at(&Fd::CWD, &c_path(&path), 0o755)),
        "remove" => return remove(&path),
        _ => {}
    }
    let bench = Bench {
        root: told("open", sys::open_at(&Fd::CWD, &c_path(&path), libc::O_RDONLY | libc::O_DIRECTORY, 0))?,
        files: arguments.number("files", 1_000)?,
        directories: arguments.number("directories", 10)?.max(1),
        bytes: arguments.number("bytes", 4_096)? as usize,
        size: arguments.number("size", 64 << 20)?,
        block: arguments.number("block", 1 << 20)?.max(1) as usize,
        drop_caches: arguments.flag("drop-caches"),
    };
    let rows = match &*phase {
        "create" => bench.create(),
        "stat" => bench.stat(),
        "open+read" => bench.open_and_read(),
        "readdir" => bench.readdir(),
        "rename" => bench.rename(),
        "unlink" => bench.unlink(),
        "write" => bench.write(),
        "read" => bench.read(),
        _ => Err(format!("there is no phase {phase}")),
    }?;
    say(&json(&rows))
}

fn main() -> ExitCode {
    main_of(body)
}
