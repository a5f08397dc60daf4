// SPDX-License-Identifier: GPL-2.0-or-later
//! Histories of calls that several programs made on one file system, and whether they are what one local file system
//! could have answered (linearizability).
//!
//! A record is one system call: what, with which arguments, its answer, when it began and ended by a clock that all
//! programs share. Everything in it is a number, so that a line of a history file is a word and numbers:
//!
//! - files, directories and symlinks by their *identity*, which is their group (st_gid), given at birth and never used
//!   twice; base directories, which stay, have the identities below `BASE_DIRECTORIES`;
//! - names by number; names of one *group* (`name / NAMES_PER_GROUP`) are renamed and linked only among themselves,
//!   and an identity tells its group, so groups are judged one by one;
//! - contents by words of 8 bytes, each of which identifies the write that it came from.
//!
//! `check` splits a history into objects (the names of a group, a word of a file, its size, an attribute, ...) and has
//! `search` look for an order of the calls on each that explains every answer.

pub mod check;
pub mod names;
pub mod registers;
pub mod search;

use std::fmt::Write as _;

pub const NAMES_PER_GROUP: i64 = 16;
/// Identities below this are directories that are there from the beginning and stay.
pub const BASE_DIRECTORIES: i64 = 16;
/// A name that is not there.
pub const ABSENT: i64 = -1;
/// A name that is there and is no directory.
pub const NO_DIRECTORY: i64 = -2;
/// Of a word: behind the end of the file.
pub const END: i64 = -1;

/// Identities: bit 30, then 6 bits of group, 6 of worker, 18 that count.
pub fn identity(group: i64, worker: i64, count: i64) -> i64 {
    1 << 30 | group << 24 | worker << 18 | count
}

pub fn group_of_identity(identity: i64) -> i64 {
    (identity >> 24) & 0x3f
}

/// The beginning of a word as a number, so that a record can hold it.
pub fn packed(word: &str) -> i64 {
    word.bytes().take(7).fold(0, |number, byte| number << 8 | i64::from(byte))
}

/// The word that `packed` made a number of.
pub fn unpacked(number: i64) -> String {
    number.to_be_bytes().iter().filter(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect()
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// What a call was; the arguments in the order in which they stand in a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            pub fn word(self) -> &'static str {
                match self { $(Kind::$kind => $word,)* }
            }

            fn of_word(word: &str) -> Option<Kind> {
                match word { $($word => Some(Kind::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    /// dir, name, identity or ABSENT or NO_DIRECTORY
    Look = "look",
    /// dir, name, own identity, O_EXCL, errno, identity of what was opened
    Create = "create",
    /// dir, name, own identity, errno
    Mkdir = "mkdir",
    /// dir, name, own identity, errno
    Symlink = "symlink",
    /// dir, name, errno
    Unlink = "unlink",
    /// dir, name, errno
    Rmdir = "rmdir",
    /// dir, name, dir, name, RENAME_NOREPLACE, errno
    Rename = "rename",
    /// identity, dir, name, errno
    Link = "link",
    /// identity, st_nlink
    Links = "links",
    /// dir, then name and inode number of each entry
    List = "list",
    /// identity, inode number
    Number = "number",
    /// identity, offset, length, value: words of value from offset
    Write = "write",
    /// identity, size
    Cut = "truncate",
    /// identity, then offset and value of each word that was looked at; END behind the end, 0 for zeros
    Read = "read",
    /// As Read, through a mapping
    MapRead = "map-read",
    /// identity, st_size
    Size = "size",
    /// identity, attribute, value
    Set = "set",
    /// identity, attribute, value: only where it was absent
    SetAbsent = "set-absent",
    /// identity, attribute, value: only where it was present
    SetPresent = "set-present",
    /// identity, attribute: only where it was present
    Remove = "remove",
    /// identity, attribute, value or ABSENT or PRESENT
    Get = "get",
    /// file, word, value
    Store = "store",
    /// file, word, value
    Load = "load",
    /// file, value
    Append = "append",
    /// file, then all values in it in order
    Appended = "appended",
    /// file, value: only its beginning was there, up to the end of a page
    Torn = "torn",
    /// identity
    Sync = "fsync",
    /// identity
    Close = "close",
    /// number of the action in the worker, errno or -1 for a wrong content, what it was (`packed`): what no call may
    /// answer
    Fault = "fault",
}

/// Attributes by number.
pub mod attribute {
    pub const MODE: i64 = 0;
    pub const UID: i64 = 1;
    /// The number that utimens planted, or `TOUCHED`.
    pub const MTIME: i64 = 2;
    /// And the next ones: extended attributes.
    pub const XATTR: i64 = 3;
    /// A time that no utimens set.
    pub const TOUCHED: i64 = -2;
    pub const PRESENT: i64 = -4;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub start: u64,
    pub end: u64,
    pub worker: u32,
    pub kind: Kind,
    pub args: Box<[i64]>,
}

impl Record {
    pub fn new(start: u64, end: u64, worker: u32, kind: Kind, args: &[i64]) -> Record {
        Record { start, end, worker, kind, args: args.into() }
    }

    /// One line, without its end.
    pub fn line(&self) -> String {
        let mut text = format!("{} {} {} {}", self.start, self.end, self.worker, self.kind.word());
        for arg in &self.args {
            let _ = write!(text, " {arg}");
        }
        text
    }

    pub fn parse(line: &str) -> Option<Record> {
        let mut words = line.split(' ');
        let start = words.next()?.parse().ok()?;
        let end = words.next()?.parse().ok()?;
        let worker = words.next()?.parse().ok()?;
        let kind = Kind::of_word(words.next()?)?;
        let args = words.map(|word| word.parse().ok()).collect::<Option<Box<[i64]>>>()?;
        Some(Record { start, end, worker, kind, args })
    }

    pub fn overlaps(&self, other: &Record) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}
