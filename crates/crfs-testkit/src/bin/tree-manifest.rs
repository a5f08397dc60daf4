// SPDX-License-Identifier: GPL-2.0-or-later
//! `tree-manifest DIR`: prints one line for each entry of a tree, with everything that must survive a copy, in an
//! order that depends on the names only. Two trees are equal when their manifests are.
//!
//! A line: path, type, mode, owner, nlink, size, mtime, then, where they apply, device number, symlink target,
//! xattrs, SHA-256 of the content, and for hard links the first path of their group. Size and nlink of directories
//! differ between file systems and are left out unless asked for.
//!
//! Options: `--directories` (their size and nlink too), `--atime`, `--ctime`, `--blocks`, `--skip-root` (no line
//! for DIR itself), `--exclude NAME` (at the top, repeatable). Reading changes atimes; they are taken before.

mod support;

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Arguments, Result, at, escape, hex, main_of, xattrs};

/// Threads that read contents: reads of many small files are mostly waiting.
const READERS: usize = 4;

struct Entry {
    path: PathBuf,
    meta: Metadata,
}

fn walk(root: &Path, exclude: &[&std::ffi::OsStr]) -> Result<Vec<Entry>> {
    let mut entries =
        vec![Entry { path: PathBuf::new(), meta: at(root, "lstat", fs::symlink_metadata(root))? }];
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let full = root.join(&directory);
        let mut names = Vec::new();
        for entry in at(&full, "readdir", fs::read_dir(&full))? {
            names.push(at(&full, "readdir", entry)?.file_name());
        }
        for name in names {
            if directory.as_os_str().is_empty() && exclude.contains(&name.as_os_str()) {
                continue;
            }
            let path = directory.join(&name);
            let full = root.join(&path);
            let meta = at(&full, "lstat", fs::symlink_metadata(&full))?;
            if meta.is_dir() {
                pending.push(path.clone());
            }
            entries.push(Entry { path, meta });
        }
    }
    entries.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(entries)
}

/// For each (device, inode) with several names, the index of the first entry in path order.
fn link_groups(entries: &[Entry]) -> HashMap<(u64, u64), usize> {
    let mut groups = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if !entry.meta.is_dir() && entry.meta.nlink() > 1 {
            groups.entry((entry.meta.dev(), entry.meta.ino())).or_insert(index);
        }
    }
    groups
}

fn content_hash(path: &Path, buffer: &mut [u8]) -> Result<String> {
    let mut file = at(path, "open", File::open(path))?;
    let mut hash = Sha256::new();
    loop {
        match at(path, "read", file.read(buffer))? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

fn kind(meta: &Metadata) -> char {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => 'd',
        () if kind.is_file() => 'f',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_char_device() => 'c',
        () => 'b',
    }
}

struct Shown {
    directories: bool,
    atime: bool,
    ctime: bool,
    blocks: bool,
}

fn describe(root: &Path, entry: &Entry, shown: &Shown, buffer: &mut [u8]) -> Result<String> {
    let Entry { path, meta } = entry;
    let full = root.join(path);
    let name = if path.as_os_str().is_empty() { ".".to_owned() } else { escape(path.as_os_str().as_bytes()) };
    let mut line =
        format!("{name} {} {:04o} {}:{}", kind(meta), meta.mode() & 0o7777, meta.uid(), meta.gid());
    if shown.directories || !meta.is_dir() {
        line += &format!(" nlink={} size={}", meta.nlink(), meta.size());
    }
    line += &format!(" mtime={}.{:09}", meta.mtime(), meta.mtime_nsec());
    if shown.atime {
        line += &format!(" atime={}.{:09}", meta.atime(), meta.atime_nsec());
    }
    if shown.ctime {
        line += &format!(" ctime={}.{:09}", meta.ctime(), meta.ctime_nsec());
    }
    if shown.blocks && !meta.is_dir() {
        line += &format!(" blocks={}", meta.blocks());
    }
    if meta.file_type().is_char_device() || meta.file_type().is_block_device() {
        line += &format!(" rdev={}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev()));
    }
    if meta.file_type().is_symlink() {
        let target = at(&full, "readlink", fs::read_link(&full))?;
        line += &format!(" target={}", escape(target.as_os_str().as_bytes()));
    }
    for (name, value) in at(&full, "listxattr", xattrs(&full))? {
        line += &format!(" xattr:{}={}", escape(&name), hex(&value));
    }
    if meta.is_file() {
        line += &format!(" sha256={}", content_hash(&full, buffer)?);
    }
    Ok(line)
}

fn describe_all(root: &Path, entries: &[Entry], shown: &Shown) -> Result<Vec<String>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, String)>> {
        let mut buffer = vec![0u8; 1 << 20];
        let mut lines = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(index) else { return Ok(lines) };
            lines.push((index, describe(root, entry, shown, &mut buffer)?));
        }
    };
    let parts: Vec<Result<Vec<(usize, String)>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..READERS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader has no panics")).collect()
    });
    let mut lines = vec![String::new(); entries.len()];
    for part in parts {
        for (index, line) in part? {
            lines[index] = line;
        }
    }
    Ok(lines)
}

fn body(arguments: Arguments) -> Result<()> {
    let root = arguments.operand(0, "DIR")?;
    let exclude: Vec<_> = arguments.options("exclude").collect();
    let shown = Shown {
        directories: arguments.flag("directories"),
        atime: arguments.flag("atime"),
        ctime: arguments.flag("ctime"),
        blocks: arguments.flag("blocks"),
    };
    let entries = walk(&root, &exclude)?;
    let groups = link_groups(&entries);
    let lines = describe_all(&root, &entries, &shown)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let first = usize::from(arguments.flag("skip-root"));
    for (entry, line) in entries.iter().zip(&lines).skip(first) {
        let group = groups.get(&(entry.meta.dev(), entry.meta.ino())).filter(|_| !entry.meta.is_dir());
        let link = group.map_or(String::new(), |&first| {
            format!(" link={}", escape(entries[first].path.as_os_str().as_bytes()))
        });
        writeln!(out, "{line}{link}").map_err(|error| format!("stdout: {error}"))?;
    }
    out.flush().map_err(|error| format!("stdout: {error}"))
}

fn main() -> ExitCode {
    main_of(body)
}
