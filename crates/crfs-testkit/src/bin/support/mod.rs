// SPDX-License-Identifier: GPL-2.0-or-later
//! What the test programs share: command lines, a seeded generator, system calls that std lacks.
//!
//! The programs make and judge trees of up to a million files, so they must be fast; they are development tools and
//! stop at the first error with one line.

#![allow(dead_code)] // Each program uses its part.

pub mod sys;

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub type Result<T> = std::result::Result<T, String>;

/// Runs `body` and turns its error into one line on stderr and exit code 1.
pub fn main_of(body: impl FnOnce(Arguments) -> Result<()>) -> ExitCode {
    match Arguments::parse(std::env::args_os().skip(1)).and_then(body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

/// `--name value` options, `--name` flags (the word before another option or at the end) and plain operands.
pub struct Arguments {
    options: Vec<(String, OsString)>,
    flags: Vec<String>,
    operands: Vec<OsString>,
}

/// Options that take no value.
const FLAGS: &[&str] = &[
    "atime",
    "ctime",
    "blocks",
    "directories",
    "skip-root",
    "special",
    "fsync",
    "read",
    "drop-caches",
    "prepare",
    "final",
    "without-maps",
];

impl Arguments {
    fn parse(words: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut words = words.peekable();
        let mut parsed = Arguments { options: Vec::new(), flags: Vec::new(), operands: Vec::new() };
        while let Some(word) = words.next() {
            let Some(name) = word.to_str().and_then(|text| text.strip_prefix("--")) else {
                parsed.operands.push(word);
                continue;
            };
            if FLAGS.contains(&name) {
                parsed.flags.push(name.to_owned());
            } else {
                let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
                parsed.options.push((name.to_owned(), value));
            }
        }
        Ok(parsed)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }

    pub fn option(&self, name: &str) -> Option<&OsStr> {
        self.options.iter().rev().find(|(option, _)| option == name).map(|(_, value)| value.as_os_str())
    }

    pub fn options<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsStr> {
        self.options.iter().filter(move |(option, _)| option == name).map(|(_, value)| value.as_os_str())
    }

    pub fn number(&self, name: &str, default: u64) -> Result<u64> {
        match self.option(name) {
            None => Ok(default),
            Some(text) => text
                .to_str()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| format!("--{name} needs a number, not {}", text.to_string_lossy())),
        }
    }

    pub fn operand(&self, index: usize, what: &str) -> Result<PathBuf> {
        self.operands.get(index).map(PathBuf::from).ok_or_else(|| format!("{what} is missing"))
    }
}

/// splitmix64: the same seed gives the same tree on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

pub fn at<T>(path: &Path, what: &str, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| format!("{what} {}: {error}", escape(path.as_os_str().as_bytes())))
}

/// Printable bytes as they are, all others, space and backslash as `\xNN`: one word on one line for any name.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'\\' {
            text.push(byte as char);
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path that came from the system has no NUL")
}

fn checked(result: i64) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// All extended attributes of a path itself (never of what a symlink points to), sorted by name.
pub fn xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let c = c_path(path);
    let mut list = vec![0u8; 65_536];
    // SAFETY: `list` is writable for its length and `c` is NUL-terminated.
    let length =
        checked(unsafe { libc::llistxattr(c.as_ptr(), list.as_mut_ptr().cast(), list.len()) } as i64)?;
    list.truncate(length);
    let mut found = Vec::new();
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let c_name = CString::new(name).expect("split at NUL");
        let mut value = vec![0u8; 65_536];
        // SAFETY: `value` is writable for its length; both strings are NUL-terminated.
        let got =
            unsafe { libc::lgetxattr(c.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(checked(got as i64)?);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

pub fn set_xattr(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    let c = c_path(path);
    let c_name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `value` is readable for its length; both strings are NUL-terminated.
    let result =
        unsafe { libc::lsetxattr(c.as_ptr(), c_name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    checked(i64::from(result)).map(|_| ())
}

/// Sets atime and mtime of the path itself.
pub fn set_times(path: &Path, atime: (i64, u32), mtime: (i64, u32)) -> io::Result<()> {
    let c = c_path(path);
    let times = [
        libc::timespec { tv_sec: atime.0, tv_nsec: i64::from(atime.1) },
        libc::timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) },
    ];
    // SAFETY: `times` holds the two values that the call reads; `c` is NUL-terminated.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, c.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    checked(i64::from(result)).map(|_| ())
}

pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let c = c_path(path);
    // SAFETY: `c` is NUL-terminated.
    checked(i64::from(unsafe { libc::chmod(c.as_ptr(), mode) })).map(|_| ())
}

pub fn make_node(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    let c = c_path(path);
    // SAFETY: `c` is NUL-terminated.
    checked(i64::from(unsafe { libc::mknod(c.as_ptr(), mode, device) })).map(|_| ())
}

/// fsync of a file or directory given by an open handle.
pub fn sync(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open while `file` lives.
    checked(i64::from(unsafe { libc::fsync(file.as_raw_fd()) })).map(|_| ())
}

pub fn name_of(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// One line on stdout, at once.
pub fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("stdout: {error}"))
}
