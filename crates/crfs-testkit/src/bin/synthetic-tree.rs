// SPDX-License-Identifier: GPL-2.0-or-later
//! `synthetic-tree DIR --seed N --entries N`: fills an empty directory with a tree that has every kind of entry which
//! a copy could get wrong; the same seed makes the same tree.
//!
//! In it: deep chains of directories, empty ones and one large one; files with sizes around the borders of inline
//! data, sector, data request and extent; sparse files; hard links across directories; symlinks of up to 4,095
//! bytes, dangling ones too; names of 255 bytes that are no UTF-8, with spaces, newlines, dashes and backslashes; xattrs
//! of several name spaces, empty and large; modes with set-id and sticky bits, or none; owners up to 2^32 - 2; times
//! with nanoseconds before 1970 and after 2106. With `--special` also fifos and device nodes (no sockets: tar leaves
//! them out).

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use support::{
    Arguments, Random, Result, at, main_of, make_node, name_of, say, set_mode, set_times, set_xattr,
};

/// One byte below, at and above each border.
const SIZES: &[u64] = &[
    0, 1, 100, 1_000, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 16_384, 65_535, 65_536,
    65_537, 131_071, 131_072, 131_073, 1_048_575, 1_048_576, 1_048_577,
];
const OWNERS: &[u32] = &[0, 0, 0, 1, 33, 1_000, 65_534, 65_535, 65_536, 2_147_483_648, 4_294_967_294];
const MODES: &[u32] =
    &[0o644, 0o644, 0o600, 0o755, 0o000, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o444, 0o111];
const DIRECTORY_MODES: &[u32] = &[0o755, 0o755, 0o700, 0o1777, 0o2775, 0o000, 0o555];
/// Seconds: 1902, just before and after 1970, 2001, 2038, after 2106, after 2262 (beyond 64-bit nanoseconds), 2440.
const TIMES: &[i64] = &[
    -2_140_000_000,
    -1,
    0,
    1,
    1_000_000_000,
    2_147_483_647,
    2_147_483_648,
    4_294_967_295,
    4_294_967_296,
    9_300_000_000,
    14_800_000_000,
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    File,
    Symlink,
    Other,
}

struct Builder {
    random: Random,
    /// Directories with their depth.
    directories: Vec<(PathBuf, usize)>,
    files: Vec<PathBuf>,
    serial: u64,
    special: bool,
}

impl Builder {
    fn name(&mut self) -> std::ffi::OsString {
        self.serial += 1;
        let tag = format!("{:x}", self.serial);
        let mut bytes: Vec<u8> = match self.random.below(12) {
            0 => {
                // 255 bytes, the most there are, of all values but NUL and slash.
                let mut bytes = self.random.bytes(255 - tag.len());
                for byte in &mut bytes {
                    if *byte == 0 || *byte == b'/' {
                        *byte = 0xff;
                    }
                }
                bytes
            }
            1 => b"with space and\nnewline ".to_vec(),
            2 => b"-dash--".to_vec(),
            3 => "\u{e4}\u{f6}\u{fc}\u{1f980}".as_bytes().to_vec(),
            4 => b"back\\slash*?[".to_vec(),
            5 => b"...".to_vec(),
            6 => vec![0xc3, 0x28, 0xfe, 0x80],
            _ => b"file_".to_vec(),
        };
        bytes.extend_from_slice(tag.as_bytes());
        name_of(bytes)
    }

    fn place(&mut self) -> (PathBuf, usize) {
        let all = self.directories.len() as u64;
        // Newer directories are chosen more often, so that some chains get deep.
        let index = if self.random.chance(50) {
            self.random.below(all)
        } else {
            all - 1 - self.random.below(all.min(5))
        };
        self.directories[index as usize].clone()
    }

    fn directory(&mut self) -> Result<PathBuf> {
        let (parent, depth) = self.place();
        // 12 levels of 255-byte names stay below PATH_MAX.
        let (parent, depth) = if depth >= 12 { self.directories[0].clone() } else { (parent, depth) };
        let path = parent.join(self.name());
        at(&path, "mkdir", fs::create_dir(&path))?;
        self.directories.push((path.clone(), depth + 1));
        Ok(path)
    }

    fn file(&mut self) -> Result<PathBuf> {
        let (parent, _) = self.place();
        let path = parent.join(self.name());
        let file =
            at(&path, "create", OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))?;
        let large = self.random.chance(3);
        let size = if large { *self.random.pick(SIZES) } else { *self.random.pick(&SIZES[..14]) };
        if self.random.chance(6) {
            at(&path, "write", self.sparse(&file))?;
        } else {
            let content = self.random.bytes(size as usize);
            at(&path, "write", file.write_all_at(&content, 0))?;
        }
        self.files.push(path.clone());
        Ok(path)
    }

    /// Up to four pieces of data at odd places of up to 2 MiB, sometimes 64, and a hole at the end half of the time.
    fn sparse(&mut self, file: &File) -> std::io::Result<()> {
        let most = if self.random.chance(5) { 64 << 20 } else { 2 << 20 };
        let size = 1 + self.random.below(most);
        for _ in 0..self.random.below(5) {
            let offset = self.random.below(size);
            let length = (1 + self.random.below(20_000)).min(size - offset);
            let content = self.random.bytes(length as usize);
            file.write_all_at(&content, offset)?;
        }
        if self.random.chance(50) { file.set_len(size) } else { Ok(()) }
    }

    fn symlink(&mut self) -> Result<PathBuf> {
        let (parent, _) = self.place();
        let path = parent.join(self.name());
        let target = match self.random.below(4) {
            0 => vec![b'x'; 4_095],
            1 => b"../nowhere \xff".to_vec(),
            2 => b".".to_vec(),
            _ => b"/usr/bin/env".to_vec(),
        };
        at(&path, "symlink", std::os::unix::fs::symlink(name_of(target), &path))?;
        Ok(path)
    }

    fn hard_link(&mut self) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let source = self.random.pick(&self.files).clone();
        let (parent, _) = self.place();
        let path = parent.join(self.name());
        at(&path, "link", fs::hard_link(&source, &path))
    }

    fn special(&mut self) -> Result<PathBuf> {
        let (parent, _) = self.place();
        let path = parent.join(self.name());
        let (kind, device) = match self.random.below(3) {
            0 => (libc::S_IFIFO, 0),
            1 => (libc::S_IFCHR, libc::makedev(1, 3)),
            _ => (libc::S_IFBLK, libc::makedev(4_095, 1_048_575)),
        };
        at(&path, "mknod", make_node(&path, kind | 0o640, device))?;
        Ok(path)
    }

    fn dress(&mut self, path: &Path, kind: Kind) -> Result<()> {
        if self.random.chance(30) {
            let (user, group) = (*self.random.pick(OWNERS), *self.random.pick(OWNERS));
            at(path, "chown", std::os::unix::fs::lchown(path, Some(user), Some(group)))?;
        }
        if self.random.chance(20) {
            for number in 0..1 + self.random.below(4) {
                // The kernel allows user xattrs on files and directories only.
                let space = if kind == Kind::Other || kind == Kind::Symlink || self.random.chance(20) {
                    "trusted"
                } else {
                    "user"
                };
                let length = *self.random.pick(&[0, 1, 16, 255, 1_000, 3_000]);
                let value = self.random.bytes(length);
                let name = format!("{space}.crfs.{number}");
                at(path, "setxattr", set_xattr(path, name.as_bytes(), &value))?;
            }
        }
        if kind != Kind::Symlink {
            let mode = *self.random.pick(if kind == Kind::Directory { DIRECTORY_MODES } else { MODES });
            at(path, "chmod", set_mode(path, mode))?;
        }
        Ok(())
    }

    fn time(&mut self) -> (i64, u32) {
        let nanoseconds = *self.random.pick(&[0, 1, 999_999_999, 123_456_789]);
        (*self.random.pick(TIMES) + self.random.below(2) as i64, nanoseconds)
    }
}

fn body(arguments: Arguments) -> Result<()> {
    let root = arguments.operand(0, "DIR")?;
    let entries = arguments.number("entries", 10_000)?;
    let mut builder = Builder {
        random: Random::new(arguments.number("seed", 1)?),
        directories: vec![(root.clone(), 0)],
        files: Vec::new(),
        serial: 0,
        special: arguments.flag("special"),
    };
    // Attributes come last: a directory's times change with every entry made in it, and a mode may shut it.
    let mut made: Vec<(PathBuf, Kind)> = Vec::new();
    let large = root.join("large");
    at(&large, "mkdir", fs::create_dir(&large))?;
    builder.directories.push((large.clone(), 100));
    made.push((large.clone(), Kind::Directory));
    for number in 0..entries / 10 {
        let path = large.join(format!("{number:06}"));
        at(&path, "write", fs::write(&path, number.to_string()))?;
        made.push((path, Kind::File));
    }
    for _ in 0..entries - entries / 10 {
        match builder.random.below(100) {
            0..=9 => made.push((builder.directory()?, Kind::Directory)),
            10..=16 => made.push((builder.symlink()?, Kind::Symlink)),
            17..=22 => builder.hard_link()?,
            23..=24 if builder.special => made.push((builder.special()?, Kind::Other)),
            _ => made.push((builder.file()?, Kind::File)),
        }
    }
    for (path, kind) in &made {
        builder.dress(path, *kind)?;
    }
    for (path, _) in made.iter().rev() {
        let (atime, mtime) = (builder.time(), builder.time());
        at(path, "utimensat", set_times(path, atime, mtime))?;
    }
    say(&format!("{} inodes", made.len()))
}

fn main() -> ExitCode {
    main_of(body)
}
