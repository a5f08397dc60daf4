// SPDX-License-Identifier: GPL-2.0-or-later
//! `next-call A B --rounds N`: A and B are two mounts of one file system. A change made through one is seen by the very
//! next call through the other.
//!
//! One thread makes every call, so that "next" is exact: there is nothing between a change and the look at it. A round is
//! one change of one kind. Before it the looking side looks in every way it knows (stat, open + read, mmap, listing,
//! getxattr, readlink, what it holds open), so that its kernel's caches are warm with the old state, absences included.
//! After it, it looks again in every way; each round begins with another one, which is then the very next call. The
//! expected answers come from a model in memory. Sides swap from round to round, so that each side makes N changes of each kind.
//!
//! Prints a line for each kind, with the longest change and the longest look, and the first failures; exit code 1 when
//! there are any. `--only KIND` may be repeated: the others are made, but not looked at. So may `--without KIND`, for a mount
//! that lacks this kind of change, or of look (stat, read, map, list, xattr, read-link, held-stat, held-read, held-map).

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Mutex;
use support::sys::{self, Fd, Mapping, Stat, Sys, c, errno_name, now};
use support::{Arguments, Random, Result, main_of, say};

/// Failures that are told in full, of each kind.
const FAILURES_SHOWN: usize = 5;
const CALL_LIMIT_SECONDS: u64 = 30;
const SIZES: &[usize] = &[1, 100, 1_000, 2_049, 4_095, 4_096, 4_097, 5_000, 9_000, 70_000];
const XATTR: &std::ffi::CStr = c"user.judge";

static DOING: Mutex<String> = Mutex::new(String::new());

fn doing() -> String {
    DOING.lock().map(|text| text.clone()).unwrap_or_default()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    File(Vec<u8>),
    Directory,
    Symlink(String),
}

/// What a name stands for, by the model.
#[derive(Debug)]
struct Node {
    body: Body,
    mode: u32,
    uid: u32,
    xattr: Option<Vec<u8>>,
    /// As utimens set it, until something else changes it.
    mtime: Option<i64>,
}

type Shared = Rc<RefCell<Node>>;

/// The changes, in the order of a cycle: each finds what those before it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Create,
    Grow,
    OverwriteShort,
    Rewrite,
    Append,
    TruncateDown,
    TruncateUp,
    Punch,
    Store,
    StoreHeld,
    Chmod,
    Chown,
    Utimens,
    XattrSet,
    XattrReplace,
    XattrRemove,
    Link,
    RenameNew,
    CreateSecond,
    RenameOver,
    Mkdir,
    RenameDirectory,
    Symlink,
    Exchange,
    UnlinkLinked,
    Unlink,
    UnlinkSymlink,
    Rmdir,
}

const CYCLE: &[Change] = &[
    Change::Create,
    Change::Grow,
    Change::OverwriteShort,
    Change::Rewrite,
    Change::Append,
    Change::TruncateDown,
    Change::TruncateUp,
    Change::Punch,
    Change::Store,
    Change::StoreHeld,
    Change::Chmod,
    Change::Chown,
    Change::Utimens,
    Change::XattrSet,
    Change::XattrReplace,
    Change::XattrRemove,
    Change::Link,
    Change::RenameNew,
    Change::CreateSecond,
    Change::RenameOver,
    Change::Mkdir,
    Change::RenameDirectory,
    Change::Symlink,
    Change::Exchange,
    Change::UnlinkLinked,
    Change::Unlink,
    Change::UnlinkSymlink,
    Change::Rmdir,
];

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Grow => "write-growing",
            Change::OverwriteShort => "write-within",
            Change::Rewrite => "rewrite",
            Change::Append => "append",
            Change::TruncateDown => "truncate-down",
            Change::TruncateUp => "truncate-up",
            Change::Punch => "punch",
            Change::Store => "mmap-store",
            Change::StoreHeld => "mmap-store-held",
            Change::Chmod => "chmod",
            Change::Chown => "chown",
            Change::Utimens => "utimens",
            Change::XattrSet => "xattr-set",
            Change::XattrReplace => "xattr-replace",
            Change::XattrRemove => "xattr-remove",
            Change::Link => "link",
            Change::RenameNew => "rename",
            Change::CreateSecond => "create-second",
            Change::RenameOver => "rename-over",
            Change::Mkdir => "mkdir",
            Change::RenameDirectory => "rename-directory",
            Change::Symlink => "symlink",
            Change::Exchange => "exchange",
            Change::UnlinkLinked => "unlink-linked",
            Change::Unlink => "unlink",
            Change::UnlinkSymlink => "unlink-symlink",
            Change::Rmdir => "rmdir",
        }
    }
}

/// Ways of looking. Those of `HELD` look through what was opened before the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Stat,
    Read,
    Map,
    List,
    Xattr,
    ReadLink,
    HeldStat,
    HeldRead,
    HeldMap,
}

impl Look {
    fn name(self) -> &'static str {
        match self {
            Look::Stat => "stat",
            Look::Read => "read",
            Look::Map => "map",
            Look::List => "list",
            Look::Xattr => "xattr",
            Look::ReadLink => "read-link",
            Look::HeldStat => "held-stat",
            Look::HeldRead => "held-read",
            Look::HeldMap => "held-map",
        }
    }
}

const LOOKS: &[Look] = &[
    Look::Stat,
    Look::Read,
    Look::Map,
    Look::List,
    Look::Xattr,
    Look::ReadLink,
    Look::HeldStat,
    Look::HeldRead,
    Look::HeldMap,
];

/// The names of a cycle: p is the file, q its second name, r what it is renamed to, d a directory, e its second name, s a symlink.
const NAMES: &[&str] = &["p", "q", "r", "d", "e", "s"];

struct Side {
    name: char,
    root: String,
    /// Opened before the change: the file, its node, and a mapping of what it was then.
    held: Option<(Fd, Shared, Option<Mapping>, usize)>,
    /// Kept over changes: a writable mapping of the file p, and its length.
    mapping: Option<(Mapping, usize)>,
}

#[derive(Default)]
struct Figures {
    rounds: [u64; 2],
    failures: u64,
    longest_change: u64,
    longest_look: u64,
    shown: Vec<String>,
}

struct Judge {
    sides: [Side; 2],
    directory: String,
    /// The model: what the names stand for now.
    names: BTreeMap<&'static str, Shared>,
    figures: BTreeMap<Change, Figures>,
    random: Random,
    watchdog: sys::Watchdog,
    content: u64,
    looks: usize,
    only: Vec<String>,
    without: Vec<String>,
}

fn pattern(id: u64, length: usize) -> Vec<u8> {
    let word = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).to_le_bytes();
    word.iter().copied().cycle().take(length).collect()
}

fn show(bytes: &[u8]) -> String {
    let head: Vec<String> = bytes.iter().take(9).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes {}", bytes.len(), head.join(""))
}

fn differ(found: &[u8], expected: &[u8]) -> String {
    let first = found.iter().zip(expected).position(|(one, other)| one != other);
    format!("{} instead of {}, first difference at {first:?}", show(found), show(expected))
}

fn check(condition: bool, what: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(what()) }
}

fn ok<T>(what: &str, result: Sys<T>) -> Result<T> {
    result.map_err(|errno| format!("{what}: {}", errno_name(errno)))
}

/// How an answer that should have been `expected` (an errno) reads.
fn refused<T>(what: &str, result: Sys<T>, expected: i32) -> Result<()> {
    match result {
        Err(errno) if errno == expected => Ok(()),
        Err(errno) => Err(format!("{what}: {} instead of {}", errno_name(errno), errno_name(expected))),
        Ok(_) => Err(format!("{what}: succeeds, expected {}", errno_name(expected))),
    }
}

impl Judge {
    fn path(&self, side: usize, name: &str) -> CString {
        c(&format!("{}/{}/{name}", self.sides[side].root, self.directory))
    }

    fn open(&self, side: usize, name: &str, flags: i32) -> Sys<Fd> {
        sys::open_at(&Fd::CWD, &self.path(side, name), flags, 0o644)
    }

    fn fresh(&mut self, length: usize) -> Vec<u8> {
        self.content += 1;
        pattern(self.content, length)
    }

    fn other_size(&mut self, not: usize) -> usize {
        loop {
            let size = *self.random.pick(SIZES);
            if size != not {
                return size;
            }
        }
    }

    fn links(&self, node: &Shared) -> u64 {
        self.names.values().filter(|other| Rc::ptr_eq(other, node)).count() as u64
    }

    fn check_stat(&self, what: &str, stat: Stat, node: &Shared) -> Result<()> {
        let held = node.borrow();
        let (kind, size) = match &held.body {
            Body::File(content) => (libc::S_IFREG, Some(content.len())),
            Body::Directory => (libc::S_IFDIR, None),
            Body::Symlink(target) => (libc::S_IFLNK, Some(target.len())),
        };
        check(stat.kind() == kind, || format!("{what}: type {:o} instead of {kind:o}", stat.kind()))?;
        if let Some(size) = size {
            check(stat.size == size as u64, || format!("{what}: size {} instead of {size}", stat.size))?;
        }
        if kind != libc::S_IFLNK {
            let mode = stat.mode & 0o7777;
            check(mode == held.mode, || format!("{what}: mode {mode:o} instead of {:o}", held.mode))?;
        }
        check(stat.uid == held.uid, || format!("{what}: owner {} instead of {}", stat.uid, held.uid))?;
        if let Some(mtime) = held.mtime {
            check(stat.mtime == mtime, || format!("{what}: mtime {} instead of {mtime}", stat.mtime))?;
        }
        let links = self.links(node);
        if kind != libc::S_IFDIR {
            check(stat.nlink == links, || format!("{what}: {} links instead of {links}", stat.nlink))?;
        }
        Ok(())
    }

    fn look(&self, side: usize, look: Look, name: &'static str) -> Result<()> {
        let what = format!("{look:?} of {name}");
        if let Ok(mut text) = DOING.lock() {
            *text = format!("{what} on {}", self.sides[side].name);
        }
        let node = self.names.get(name);
        let body = node.map(|node| node.borrow().body.clone());
        match look {
            Look::Stat => {
                let found = sys::stat_at(&Fd::CWD, &self.path(side, name));
                match node {
                    None => refused(&what, found, libc::ENOENT),
                    Some(node) => self.check_stat(&what, ok(&what, found)?, node),
                }
            }
            Look::Read => {
                let opened = self.open(side, name, libc::O_RDONLY | libc::O_NOFOLLOW);
                match body {
                    None => refused(&what, opened, libc::ENOENT),
                    Some(Body::Symlink(_)) => refused(&what, opened, libc::ELOOP),
                    Some(Body::Directory) => ok(&what, opened).map(|_| ()),
                    Some(Body::File(content)) => {
                        let fd = ok(&what, opened)?;
                        let found = ok(&what, sys::pread(&fd, content.len() + 100, 0))?;
                        check(found == content, || format!("{what}: {}", differ(&found, &content)))
                    }
                }
            }
            Look::Map => {
                let Some(Body::File(content)) = body else { return Ok(()) };
                if content.is_empty() {
                    return Ok(());
                }
                let fd = ok(&what, self.open(side, name, libc::O_RDONLY))?;
                let mapping = ok(&what, Mapping::new(&fd, content.len(), false))?;
                let found = ok(&what, mapping.load(0, content.len()))?;
                check(found == content, || format!("{what}: {}", differ(&found, &content)))
            }
            Look::List => {
                let opened = self.open(side, "", libc::O_RDONLY | libc::O_DIRECTORY);
                let listed = ok(&what, sys::list(&ok(&what, opened)?))?;
                let mut found: Vec<&str> = listed.iter().map(|(name, _, _)| name.as_str()).collect();
                found.sort_unstable();
                let expected: Vec<&str> = self.names.keys().copied().collect();
                check(found == expected, || format!("{what}: lists {found:?} instead of {expected:?}"))
            }
            Look::Xattr => {
                let found = sys::get_xattr(&self.path(side, name), XATTR);
                let Some(node) = node else { return refused(&what, found, libc::ENOENT) };
                match node.borrow().xattr.as_ref() {
                    None => refused(&what, found, libc::ENODATA),
                    Some(value) => {
                        let found = ok(&what, found)?;
                        check(&found == value, || format!("{what}: {}", differ(&found, value)))
                    }
                }
            }
            Look::ReadLink => {
                let found = sys::read_link_at(&Fd::CWD, &self.path(side, name));
                match body {
                    None => refused(&what, found, libc::ENOENT),
                    Some(Body::Symlink(target)) => {
                        let found = ok(&what, found)?;
                        check(found == target.as_bytes(), || format!("{what}: {}", show(&found)))
                    }
                    Some(_) => refused(&what, found, libc::EINVAL),
                }
            }
            Look::HeldStat | Look::HeldRead | Look::HeldMap => self.look_held(side, look),
        }
    }

    fn look_held(&self, side: usize, look: Look) -> Result<()> {
        let what = format!("{look:?}");
        let Some((fd, node, mapping, mapped)) = &self.sides[side].held else { return Ok(()) };
        let Body::File(content) = node.borrow().body.clone() else { return Ok(()) };
        match look {
            Look::HeldStat => self.check_stat(&what, ok(&what, sys::fstat(fd))?, node),
            Look::HeldRead => {
                let found = ok(&what, sys::pread(fd, content.len() + 100, 0))?;
                check(found == content, || format!("{what}: {}", differ(&found, &content)))
            }
            _ => {
                let length = content.len().min(*mapped);
                let Some(mapping) = mapping.as_ref().filter(|_| length > 0) else { return Ok(()) };
                let found = ok(&what, mapping.load(0, length))?;
                check(found == content[..length], || {
                    format!("{what}: {}", differ(&found, &content[..length]))
                })
            }
        }
    }

    /// All ways on all names; `first` says which way comes first.
    fn look_all(&self, side: usize, first: usize, names: &[&'static str]) -> (Vec<String>, u64) {
        let mut failures = Vec::new();
        let mut longest = 0;
        for index in 0..LOOKS.len() {
            let look = LOOKS[(first + index) % LOOKS.len()];
            if self.lacks(look.name()) {
                continue;
            }
            let one = look == Look::List || matches!(look, Look::HeldStat | Look::HeldRead | Look::HeldMap);
            for name in names.iter().take(if one { 1 } else { names.len() }) {
                self.watchdog.begin();
                let start = now();
                let result = self.look(side, look, name);
                longest = longest.max(now() - start);
                self.watchdog.end();
                if let Err(fault) = result {
                    failures.push(format!("{}{fault}", if index == 0 { "very next: " } else { "" }));
                }
            }
        }
        (failures, longest)
    }

    /// Opens and maps the file before the change, so that it is looked at through what was held too.
    fn hold(&mut self, side: usize, write: bool) {
        self.sides[side].held = None;
        let found = self.names.iter().find(|(_, node)| matches!(node.borrow().body, Body::File(_)));
        let Some((name, node)) = found.map(|(name, node)| (*name, Rc::clone(node))) else { return };
        let flags = if write { libc::O_RDWR } else { libc::O_RDONLY };
        let Ok(fd) = self.open(side, name, flags) else { return };
        let length = match &node.borrow().body {
            Body::File(content) => content.len(),
            _ => 0,
        };
        let mapping = if length > 0 { Mapping::new(&fd, length, false).ok() } else { None };
        self.sides[side].held = Some((fd, node, mapping, length));
    }

    fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        if let Some(node) = self.names.get(name) {
            let mut node = node.borrow_mut();
            node.mtime = None;
            if let Body::File(content) = &mut node.body {
                edit(content);
            }
        }
    }

    fn length_of(&self, name: &str) -> usize {
        match self.names.get(name).map(|node| node.borrow().body.clone()) {
            Some(Body::File(content)) => content.len(),
            _ => 0,
        }
    }

    fn add(&mut self, name: &'static str, body: Body, mode: u32) {
        let node = Node { body, mode, uid: 0, xattr: None, mtime: None };
        self.names.insert(name, Rc::new(RefCell::new(node)));
    }

    fn create(&mut self, side: usize, name: &'static str) -> Sys<()> {
        let size = self.other_size(0);
        let content = self.fresh(size);
        let fd = self.open(side, name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL)?;
        sys::pwrite(&fd, &content, 0)?;
        sys::close(fd)?;
        self.add(name, Body::File(content), 0o644);
        Ok(())
    }

    /// Makes one change through one side, and in the model.
    fn change(&mut self, side: usize, change: Change) -> Sys<()> {
        match change {
            Change::Create => self.create(side, "p"),
            Change::CreateSecond => self.create(side, "p"),
            Change::Grow => {
                let old = self.length_of("p");
                let more = self.random.below(5_000) as usize + 1;
                let at = old.saturating_sub(self.random.below(100) as usize);
                let bytes = self.fresh(old - at + more);
                let fd = self.open(side, "p", libc::O_WRONLY)?;
                sys::pwrite(&fd, &bytes, at as u64)?;
                sys::close(fd)?;
                self.edit("p", |content| {
                    content.truncate(at);
                    content.extend_from_slice(&bytes);
                });
                Ok(())
            }
            Change::OverwriteShort => {
                let old = self.length_of("p");
                let at = self.random.below(old as u64) as usize;
                let length = (self.random.below(3_000) as usize + 1).min(old - at);
                let bytes = self.fresh(length);
                let fd = self.open(side, "p", libc::O_RDWR)?;
                sys::pwrite(&fd, &bytes, at as u64)?;
                sys::close(fd)?;
                self.edit("p", |content| content[at..at + length].copy_from_slice(&bytes));
                Ok(())
            }
            Change::Rewrite => {
                let size = self.other_size(self.length_of("p"));
                let bytes = self.fresh(size);
                let fd = self.open(side, "p", libc::O_WRONLY | libc::O_TRUNC)?;
                sys::pwrite(&fd, &bytes, 0)?;
                sys::close(fd)?;
                self.edit("p", |content| *content = bytes);
                Ok(())
            }
            Change::Append => {
                let length = self.random.below(3_000) as usize + 1;
                let bytes = self.fresh(length);
                let fd = self.open(side, "p", libc::O_WRONLY | libc::O_APPEND)?;
                sys::write(&fd, &bytes)?;
                sys::close(fd)?;
                self.edit("p", |content| content.extend_from_slice(&bytes));
                Ok(())
            }
            Change::TruncateDown | Change::TruncateUp => {
                let old = self.length_of("p") as u64;
                let size = if change == Change::TruncateDown {
                    self.random.below(old)
                } else {
                    old + 1 + self.random.below(6_000)
                };
                let fd = self.open(side, "p", libc::O_WRONLY)?;
                sys::truncate(&fd, size)?;
                sys::close(fd)?;
                self.edit("p", |content| content.resize(size as usize, 0));
                Ok(())
            }
            Change::Punch => {
                let old = self.length_of("p");
                let at = self.random.below(old as u64) as usize;
                let length = self.random.below(9_000) as usize + 1;
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let fd = self.open(side, "p", libc::O_WRONLY)?;
                sys::fallocate(&fd, mode, at as u64, length as u64)?;
                sys::close(fd)?;
                self.edit("p", |content| content[at..old.min(at + length)].fill(0));
                Ok(())
            }
            Change::Store | Change::StoreHeld => self.store(side, change == Change::StoreHeld),
            Change::Chmod => {
                let mode = (self.random.next() as u32 & 0o777) | 0o400;
                sys::chmod_at(&Fd::CWD, &self.path(side, "p"), mode)?;
                self.set("p", |node| node.mode = mode);
                Ok(())
            }
            Change::Chown => {
                let uid = self.random.below(60_000) as u32 + 1;
                sys::chown_at(&Fd::CWD, &self.path(side, "p"), uid)?;
                self.set("p", |node| node.uid = uid);
                Ok(())
            }
            Change::Utimens => {
                let mtime = 1_000_000_000_000_000_000 + self.random.below(1 << 50) as i64;
                sys::utimens_at(&Fd::CWD, &self.path(side, "p"), mtime)?;
                self.set("p", |node| node.mtime = Some(mtime));
                Ok(())
            }
            Change::XattrSet | Change::XattrReplace => {
                let length = self.random.below(200) as usize + 1;
                let value = self.fresh(length);
                sys::set_xattr(&self.path(side, "p"), XATTR, &value)?;
                self.set("p", |node| node.xattr = Some(value));
                Ok(())
            }
            Change::XattrRemove => {
                sys::remove_xattr(&self.path(side, "p"), XATTR)?;
                self.set("p", |node| node.xattr = None);
                Ok(())
            }
            Change::Link => {
                sys::link_at(&Fd::CWD, &self.path(side, "p"), &Fd::CWD, &self.path(side, "q"))?;
                if let Some(node) = self.names.get("p") {
                    let node = Rc::clone(node);
                    self.names.insert("q", node);
                }
                Ok(())
            }
            Change::RenameNew => self.rename(side, "p", "r", 0),
            Change::RenameOver => self.rename(side, "p", "r", 0),
            Change::RenameDirectory => self.rename(side, "d", "e", 0),
            Change::Exchange => self.rename(side, "r", "s", libc::RENAME_EXCHANGE),
            Change::Mkdir => {
                sys::mkdir_at(&Fd::CWD, &self.path(side, "d"), 0o755)?;
                self.add("d", Body::Directory, 0o755);
                Ok(())
            }
            Change::Symlink => {
                let length = self.random.below(300) as usize + 1;
                let target = format!("{:0width$}", self.random.next(), width = length);
                sys::symlink_at(&c(&target), &Fd::CWD, &self.path(side, "s"))?;
                self.add("s", Body::Symlink(target), 0o777);
                Ok(())
            }
            Change::UnlinkLinked => self.remove(side, "q"),
            Change::Unlink => self.remove(side, if self.is_file("s") { "s" } else { "r" }),
            Change::UnlinkSymlink => self.remove(side, if self.names.contains_key("s") { "s" } else { "r" }),
            Change::Rmdir => {
                sys::rmdir_at(&Fd::CWD, &self.path(side, "e"))?;
                self.names.remove("e");
                Ok(())
            }
        }
    }

    fn is_file(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|node| matches!(node.borrow().body, Body::File(_)))
    }

    fn set(&mut self, name: &str, set: impl FnOnce(&mut Node)) {
        if let Some(node) = self.names.get(name) {
            set(&mut node.borrow_mut());
        }
    }

    fn remove(&mut self, side: usize, name: &'static str) -> Sys<()> {
        sys::unlink_at(&Fd::CWD, &self.path(side, name))?;
        self.names.remove(name);
        Ok(())
    }

    fn rename(&mut self, side: usize, old: &'static str, new: &'static str, flags: u32) -> Sys<()> {
        sys::rename_at(&Fd::CWD, &self.path(side, old), &Fd::CWD, &self.path(side, new), flags)?;
        let moved = self.names.remove(old);
        let replaced = moved.and_then(|node| self.names.insert(new, node));
        if let Some(node) = replaced.filter(|_| flags == libc::RENAME_EXCHANGE) {
            self.names.insert(old, node);
        }
        Ok(())
    }

    /// Through a fresh mapping, or through one that this side keeps (and had before the other side's last changes).
    fn store(&mut self, side: usize, held: bool) -> Sys<()> {
        let size = self.length_of("p");
        let at = self.random.below(size as u64) as usize;
        let length = (self.random.below(6_000) as usize + 1).min(size - at);
        let bytes = self.fresh(length);
        let kept = self.sides[side].mapping.take().filter(|(_, mapped)| held && *mapped == size);
        let mapping = match kept {
            Some((mapping, _)) => mapping,
            None => {
                let fd = self.open(side, "p", libc::O_RDWR)?;
                Mapping::new(&fd, size, true)?
            }
        };
        mapping.store(at, &bytes);
        mapping.sync()?;
        if held {
            self.sides[side].mapping = Some((mapping, size));
        }
        self.edit("p", |content| content[at..at + length].copy_from_slice(&bytes));
        Ok(())
    }

    /// Drops every mapping and descriptor, and begins anew in an empty directory.
    fn restart(&mut self, number: u64) -> Result<()> {
        for side in &mut self.sides {
            side.held = None;
            side.mapping = None;
        }
        self.names.clear();
        self.directory = format!("next_call_{number}");
        ok("mkdir", sys::mkdir_at(&Fd::CWD, &self.path(0, ""), 0o755))
    }

    fn lacks(&self, kind: &str) -> bool {
        self.without.iter().any(|name| name == kind)
    }

    fn wanted(&self, change: Change) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == change.name())
    }

    fn fail(&mut self, change: Change, side: usize, cycle: u64, faults: Vec<String>) {
        let (maker, looker) = (self.sides[side].name, self.sides[1 - side].name);
        let figures = self.figures.entry(change).or_default();
        figures.failures += u64::from(!faults.is_empty());
        for fault in faults {
            if figures.shown.len() < FAILURES_SHOWN {
                figures.shown.push(format!("round {cycle}, {maker} changes, {looker} looks: {fault}"));
            }
        }
    }

    /// @returns whether the cycle can go on.
    fn round(&mut self, change: Change, side: usize, cycle: u64) -> bool {
        let looker = 1 - side;
        let wanted = self.wanted(change);
        if wanted {
            self.hold(looker, cycle % 4 == 3);
            let (faults, _) = self.look_all(looker, 0, NAMES);
            let warm = faults.into_iter().map(|fault| format!("before the change: {fault}")).collect();
            self.fail(change, side, cycle, warm);
        }
        if let Ok(mut text) = DOING.lock() {
            *text = format!("{} on {}", change.name(), self.sides[side].name);
        }
        self.watchdog.begin();
        let start = now();
        let changed = self.change(side, change);
        let took = now() - start;
        self.watchdog.end();
        if let Err(errno) = changed {
            self.fail(change, side, cycle, vec![format!("the change itself: {}", errno_name(errno))]);
            return false;
        }
        if !wanted {
            return true;
        }
        self.looks += 1;
        let (faults, look) = self.look_all(looker, self.looks % LOOKS.len(), &order_for(change));
        self.fail(change, side, cycle, faults);
        let figures = self.figures.entry(change).or_default();
        figures.rounds[side] += 1;
        figures.longest_change = figures.longest_change.max(took);
        figures.longest_look = figures.longest_look.max(look);
        true
    }
}

/// All names, those first that the change is about.
fn order_for(change: Change) -> Vec<&'static str> {
    let first: &[&str] = match change {
        Change::Link => &["q", "p"],
        Change::RenameNew | Change::RenameOver => &["r", "p"],
        Change::Mkdir => &["d"],
        Change::RenameDirectory => &["e", "d"],
        Change::Symlink | Change::Exchange | Change::Unlink => &["s", "r"],
        Change::UnlinkLinked => &["q", "r"],
        Change::UnlinkSymlink => &["r"],
        Change::Rmdir => &["e"],
        _ => &["p"],
    };
    let mut order: Vec<&'static str> =
        first.iter().filter_map(|name| NAMES.iter().find(|other| *other == name)).copied().collect();
    order.extend(NAMES.iter().filter(|name| !first.contains(name)));
    order
}

/// Whether there is RENAME_EXCHANGE at all, which BTRFS has and a file system need not have.
fn exchanges(judge: &Judge) -> Result<bool> {
    for name in ["p", "q"] {
        ok("create", judge.open(0, name, libc::O_CREAT | libc::O_WRONLY))?;
    }
    let (p, q) = (judge.path(0, "p"), judge.path(0, "q"));
    let result = sys::rename_at(&Fd::CWD, &p, &Fd::CWD, &q, libc::RENAME_EXCHANGE);
    ok("unlink", sys::unlink_at(&Fd::CWD, &p))?;
    ok("unlink", sys::unlink_at(&Fd::CWD, &q))?;
    Ok(result != Err(libc::EINVAL))
}

fn body(arguments: Arguments) -> Result<()> {
    let side = |index: usize, name: char| -> Result<Side> {
        let root = arguments.operand(index, "A or B")?.to_string_lossy().into_owned();
        Ok(Side { name, root, held: None, mapping: None })
    };
    let rounds = arguments.number("rounds", 1_000)?;
    sys::say_sigbus();
    let mut judge = Judge {
        sides: [side(0, 'A')?, side(1, 'B')?],
        directory: String::new(),
        names: BTreeMap::new(),
        figures: BTreeMap::new(),
        random: Random::new(arguments.number("seed", 1)?),
        watchdog: sys::Watchdog::start(CALL_LIMIT_SECONDS, &doing),
        content: 0,
        looks: 0,
        only: arguments.options("only").map(|name| name.to_string_lossy().into_owned()).collect(),
        without: arguments.options("without").map(|name| name.to_string_lossy().into_owned()).collect(),
    };
    let mut directories = 0;
    judge.restart(directories)?;
    let exchanges = exchanges(&judge)?;
    if !exchanges {
        say("exchange: this file system has no RENAME_EXCHANGE; left out")?;
    }
    for cycle in 0..rounds * 2 {
        for (index, &change) in CYCLE.iter().enumerate() {
            if change == Change::Exchange && !exchanges || judge.lacks(change.name()) {
                continue;
            }
            // Neighbours in a cycle are mostly made by different sides, and each kind by both in turn.
            let side = ((cycle + index as u64 + cycle / 2 * (index as u64 / 3)) % 2) as usize;
            if !judge.round(change, side, cycle) {
                directories += 1;
                judge.restart(directories)?;
                break;
            }
        }
    }
    report(&judge)
}

fn report(judge: &Judge) -> Result<()> {
    let mut failures = 0;
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    for (change, figures) in &judge.figures {
        failures += figures.failures;
        say(&format!(
            "{:18} {:5} by A, {:5} by B, {} failures; longest change {:.2} ms, longest look {:.2} ms",
            change.name(),
            figures.rounds[0],
            figures.rounds[1],
            figures.failures,
            ms(figures.longest_change),
            ms(figures.longest_look),
        ))?;
        for line in &figures.shown {
            say(&format!("    {}: {line}", change.name()))?;
        }
    }
    if failures == 0 { Ok(()) } else { Err(format!("{failures} rounds failed")) }
}

fn main() -> ExitCode {
    main_of(body)
}
