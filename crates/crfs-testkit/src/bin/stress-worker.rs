// SPDX-License-Identifier: GPL-2.0-or-later
//! `stress-worker DIR --worker K --seconds S --seed N --history FILE`: one of several programs that do every operation
//! at random on the same few names below DIR, each through a mount of its own, and write down every call.
//!
//! `stress-worker DIR --prepare` makes what all share, once, before. `stress-worker DIR --final --history FILE` reads
//! everything once at the end. `check-history` then judges all histories together (crfs_testkit::history says what a
//! record is). `--groups N` (4) sets of names; `--rest-us N` (1,000): mean rest between actions;
//! `--without-maps` leaves out the stores through shared mappings.
//!
//! What is made carries its identity as its group, which the thread takes on before it makes it.

mod support;

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use crfs_testkit::history::{
    ABSENT, END, Kind, NAMES_PER_GROUP, NO_DIRECTORY, Record, attribute, identity, packed,
};
use support::sys::{self, Fd, Mapping, Stat, Sys, c, now};
use support::{Arguments, Random, Result, at, main_of, say};

const BASES: i64 = 2;
/// Names of a group that are used, in each directory.
const NAMES: u64 = 4;
/// A file is this many slots of this many bytes, so that slots share pages and some lie in two.
const SLOTS: i64 = 4;
const SLOT_BYTES: i64 = 3_000;
const PAGE: i64 = 4_096;
const HELD_MAX: usize = 6;
/// Files that all append to: a new one so often, of so many in turn.
const APPEND_NANOSECONDS: u64 = 4_000_000_000;
const APPEND_FILES: i64 = 2_000;
/// Words of the file that all have mapped, on two pages.
const MAPPED_WORDS: i64 = 8;
const MAPPED_BYTES: usize = 8_192;
const CALL_LIMIT_SECONDS: u64 = 20;

static DOING: Mutex<String> = Mutex::new(String::new());

fn doing() -> String {
    DOING.lock().map(|text| text.clone()).unwrap_or_default()
}

fn file_name(name: i64) -> CString {
    c(&format!("g{}_{}", name / NAMES_PER_GROUP, name % NAMES_PER_GROUP))
}

fn number_of(name: &str) -> Option<i64> {
    let (group, number) = name.strip_prefix('g')?.split_once('_')?;
    Some(group.parse::<i64>().ok()? * NAMES_PER_GROUP + number.parse::<i64>().ok()?)
}

/// A directory that is open, and its identity.
struct Dir {
    fd: Fd,
    id: i64,
}

struct Held {
    fd: Fd,
    id: i64,
}

struct Worker {
    number: i64,
    bases: Vec<Dir>,
    held: Vec<Held>,
    mapped: Mapping,
    history: File,
    /// Lines of this action.
    lines: String,
    random: Random,
    watchdog: sys::Watchdog,
    groups: u64,
    maps: bool,
    /// Files made, values written: never used twice.
    made: i64,
    values: i64,
    actions: u64,
    faults: u64,
}

/// Offsets of the words of a file that are looked at: the first and the last of each part of a slot that lies in one page.
fn looked_at() -> Vec<i64> {
    let mut offsets = Vec::new();
    for slot in 0..SLOTS {
        let (mut from, end) = (slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
        while from < end {
            let to = end.min((from / PAGE + 1) * PAGE);
            offsets.extend([from, to - 8]);
            from = to;
        }
    }
    offsets
}

fn word_at(bytes: &[u8], offset: usize) -> i64 {
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    i64::from_le_bytes(word)
}

fn repeated(value: i64, length: usize) -> Vec<u8> {
    value.to_le_bytes().iter().copied().cycle().take(length).collect()
}

impl Worker {
    fn record(&mut self, times: (u64, u64), kind: Kind, args: &[i64]) -> Result<()> {
        let record = Record::new(times.0, times.1, self.number as u32, kind, args);
        self.lines.push_str(&record.line());
        self.lines.push('\n');
        Ok(())
    }

    /// After each action, so that a history holds everything when its worker is ended.
    fn flush(&mut self) -> Result<()> {
        let result = self.history.write_all(self.lines.as_bytes());
        self.lines.clear();
        result.map_err(|error| format!("history: {error}"))
    }

    /// Makes one call and returns its answer with its times.
    fn call<T>(&mut self, what: &str, call: impl FnOnce(&mut Worker) -> Sys<T>) -> (Sys<T>, (u64, u64)) {
        if let Ok(mut text) = DOING.lock() {
            what.clone_into(&mut text);
        }
        self.watchdog.begin();
        let start = now();
        let answer = call(self);
        let end = now();
        self.watchdog.end();
        (answer, (start, end))
    }

    /// An answer that no call may give.
    fn fault(&mut self, times: (u64, u64), what: &str, errno: i32) -> Result<()> {
        self.faults += 1;
        if self.faults <= 20 {
            let name = if errno < 0 { "wrong content".to_owned() } else { sys::errno_name(errno) };
            say(&format!("worker {}: {what}: {name} at {}", self.number, times.0))?;
        }
        self.record(times, Kind::Fault, &[self.actions as i64, i64::from(errno), packed(what)])
    }

    fn next_identity(&mut self, name: i64) -> i64 {
        self.made += 1;
        identity(name / NAMES_PER_GROUP, self.number, self.made)
    }

    fn next_value(&mut self, slot: i64) -> i64 {
        self.values += 1;
        (self.number + 1) << 40 | self.values << 8 | slot
    }

    fn saw(&mut self, times: (u64, u64), stat: Stat) -> Result<()> {
        let id = i64::from(stat.gid);
        self.record(times, Kind::Number, &[id, stat.ino as i64])?;
        match stat.kind() {
            libc::S_IFREG => {
                self.record(times, Kind::Links, &[id, stat.nlink as i64])?;
                self.record(times, Kind::Size, &[id, stat.size as i64])?;
                self.record(times, Kind::Get, &[id, attribute::MODE, i64::from(stat.mode & 0o7777)])?;
                self.record(times, Kind::Get, &[id, attribute::UID, i64::from(stat.uid)])?;
                let planted = 1_000_000_000_000_000_000;
                let time = if stat.mtime < 2 * planted - planted / 2 {
                    stat.mtime - planted
                } else {
                    attribute::TOUCHED
                };
                self.record(times, Kind::Get, &[id, attribute::MTIME, time])
            }
            libc::S_IFLNK => self.record(times, Kind::Links, &[id, stat.nlink as i64]),
            _ => Ok(()),
        }
    }

    /// A group, one more often than the others.
    fn pick_group(&mut self) -> i64 {
        if self.random.chance(30) { 0 } else { self.random.below(self.groups) as i64 }
    }

    /// A directory of the group to work in: a base, or one that is found by walking into what is there.
    fn pick_dir(&mut self, group: i64) -> Result<Dir> {
        let base = self.random.below(BASES as u64) as usize;
        let mut at = self.reopen(base)?;
        // Mostly near the top, now and then far down, or what was moved there would stay for ever.
        let deeper = if self.random.chance(10) { 90 } else { 25 };
        while self.random.chance(deeper) {
            let name = self.pick_name(group);
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let (opened, times) =
                self.call("open directory", |_| sys::open_at(&at.fd, &file_name(name), flags, 0));
            match opened {
                Ok(fd) => {
                    let stat = self.identify(&fd)?;
                    self.record(times, Kind::Look, &[at.id, name, i64::from(stat.gid)])?;
                    at = Dir { fd, id: i64::from(stat.gid) };
                }
                Err(libc::ENOENT) => {
                    self.record(times, Kind::Look, &[at.id, name, ABSENT])?;
                    break;
                }
                Err(libc::ENOTDIR | libc::ELOOP) => {
                    self.record(times, Kind::Look, &[at.id, name, NO_DIRECTORY])?;
                    break;
                }
                Err(errno) => {
                    self.fault(times, "open directory", errno)?;
                    break;
                }
            }
        }
        Ok(at)
    }

    fn reopen(&mut self, base: usize) -> Result<Dir> {
        // A descriptor of its own, so that walking needs no case for bases.
        let fd = sys::open_at(&self.bases[base].fd, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0);
        let fd = fd.map_err(|errno| format!("open base: {}", sys::errno_name(errno)))?;
        Ok(Dir { fd, id: base as i64 })
    }

    fn pick_name(&mut self, group: i64) -> i64 {
        group * NAMES_PER_GROUP + self.random.below(NAMES) as i64
    }

    /// The identity of what is open; it never fails for what is open.
    fn identify(&mut self, fd: &Fd) -> Result<Stat> {
        let (stat, times) = self.call("fstat", |_| sys::fstat(fd));
        match stat {
            Ok(stat) => {
                self.saw(times, stat)?;
                Ok(stat)
            }
            Err(errno) => {
                self.fault(times, "fstat of an open file", errno)?;
                Ok(Stat { ino: 0, mode: 0, nlink: 0, uid: 0, gid: 0, size: 0, mtime: 0, ctime: 0 })
            }
        }
    }

    fn look(&mut self, dir: &Dir, name: i64) -> Result<()> {
        let (found, times) = self.call("stat", |_| sys::stat_at(&dir.fd, &file_name(name)));
        match found {
            Ok(stat) => {
                self.record(times, Kind::Look, &[dir.id, name, i64::from(stat.gid)])?;
                self.saw(times, stat)?;
                if stat.kind() == libc::S_IFLNK { self.read_link(dir, name) } else { Ok(()) }
            }
            Err(libc::ENOENT) => self.record(times, Kind::Look, &[dir.id, name, ABSENT]),
            Err(errno) => self.fault(times, "stat", errno),
        }
    }

    fn read_link(&mut self, dir: &Dir, name: i64) -> Result<()> {
        let (target, times) = self.call("readlink", |_| sys::read_link_at(&dir.fd, &file_name(name)));
        match target {
            Ok(target) => {
                let id = String::from_utf8_lossy(&target).trim_end_matches('/').parse();
                match id {
                    Ok(id) => self.record(times, Kind::Look, &[dir.id, name, id]),
                    Err(_) => self.fault(times, "readlink", -1),
                }
            }
            Err(libc::ENOENT) => self.record(times, Kind::Look, &[dir.id, name, ABSENT]),
            Err(libc::EINVAL) => Ok(()),
            Err(errno) => self.fault(times, "readlink", errno),
        }
    }

    /// Creates exclusively or not, truncating or not, writes something and keeps the file open for a while or not.
    fn create(&mut self, dir: &Dir, name: i64) -> Result<()> {
        let id = self.next_identity(name);
        let exclusive = self.random.chance(60);
        let truncate = !exclusive && self.random.chance(50);
        let mut flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW;
        flags |= if exclusive { libc::O_EXCL } else { 0 };
        flags |= if truncate { libc::O_TRUNC } else { 0 };
        sys::set_fs_gid(id as u32);
        let (opened, times) = self.call("create", |_| sys::open_at(&dir.fd, &file_name(name), flags, 0o644));
        sys::set_fs_gid(0);
        let excl = i64::from(exclusive);
        let fd = match opened {
            Ok(fd) => fd,
            Err(errno @ (libc::EEXIST | libc::ENOENT | libc::EISDIR | libc::ELOOP)) => {
                return self.record(times, Kind::Create, &[dir.id, name, id, excl, i64::from(errno), ABSENT]);
            }
            Err(errno) => return self.fault(times, "create", errno),
        };
        // Only the call itself counts for the name; who it is cannot change any more.
        let stat = self.identify(&fd)?;
        let found = i64::from(stat.gid);
        self.record(times, Kind::Create, &[dir.id, name, id, excl, 0, found])?;
        if found != id && truncate {
            self.record(times, Kind::Cut, &[found, 0])?;
        }
        self.work_on(fd, found)
    }

    /// Opens what is there and works on it.
    fn open(&mut self, dir: &Dir, name: i64) -> Result<()> {
        let flags = libc::O_RDWR | libc::O_NOFOLLOW;
        let (opened, times) = self.call("open", |_| sys::open_at(&dir.fd, &file_name(name), flags, 0));
        match opened {
            Ok(fd) => {
                let stat = self.identify(&fd)?;
                let id = i64::from(stat.gid);
                self.record(times, Kind::Look, &[dir.id, name, id])?;
                self.work_on(fd, id)
            }
            Err(libc::ENOENT) => self.record(times, Kind::Look, &[dir.id, name, ABSENT]),
            Err(libc::EISDIR | libc::ELOOP) => Ok(()),
            Err(errno) => self.fault(times, "open", errno),
        }
    }

    fn work_on(&mut self, fd: Fd, id: i64) -> Result<()> {
        for _ in 0..1 + self.random.below(4) {
            self.file_operation(&fd, id)?;
        }
        if self.random.chance(30) {
            if self.held.len() == HELD_MAX {
                let place = self.random.below(HELD_MAX as u64) as usize;
                let old = std::mem::replace(&mut self.held[place], Held { fd, id });
                return self.close(old.fd, old.id);
            }
            self.held.push(Held { fd, id });
            return Ok(());
        }
        self.close(fd, id)
    }

    fn close(&mut self, fd: Fd, id: i64) -> Result<()> {
        let (closed, times) = self.call("close", |_| sys::close(fd));
        match closed {
            Ok(()) => self.record(times, Kind::Close, &[id]),
            Err(errno) => self.fault(times, "close", errno),
        }
    }

    /// On a file that was opened some time ago and whose names may be gone.
    fn work_on_held(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let place = self.random.below(self.held.len() as u64) as usize;
        let held = self.held.swap_remove(place);
        for _ in 0..1 + self.random.below(3) {
            self.file_operation(&held.fd, held.id)?;
        }
        if self.random.chance(20) {
            return self.close(held.fd, held.id);
        }
        self.held.push(held);
        Ok(())
    }

    fn file_operation(&mut self, fd: &Fd, id: i64) -> Result<()> {
        match self.random.below(100) {
            0..=19 => {
                let slot = self.random.below(SLOTS as u64) as i64;
                let value = self.next_value(slot);
                let bytes = repeated(value, SLOT_BYTES as usize);
                let offset = slot * SLOT_BYTES;
                let (written, times) = self.call("write", |_| sys::pwrite(fd, &bytes, offset as u64));
                match written {
                    Ok(length) if length == bytes.len() => {
                        self.record(times, Kind::Write, &[id, offset, SLOT_BYTES, value])
                    }
                    Ok(_) => self.fault(times, "short write", -1),
                    Err(errno) => self.fault(times, "write", errno),
                }
            }
            20..=44 => self.read(fd, id),
            45..=51 => {
                let size = self.random.below((SLOTS * SLOT_BYTES / 8) as u64) as i64 * 8;
                let size = if self.random.chance(30) { 0 } else { size };
                let (cut, times) = self.call("truncate", |_| sys::truncate(fd, size as u64));
                match cut {
                    Ok(()) => self.record(times, Kind::Cut, &[id, size]),
                    Err(errno) => self.fault(times, "truncate", errno),
                }
            }
            52..=61 => self.identify(fd).map(|_| ()),
            62..=66 => {
                let mode = self.random.below(0o1000) as u32;
                let (done, times) = self.call("chmod", |_| sys::fchmod(fd, mode));
                self.set(times, id, attribute::MODE, i64::from(mode), done)
            }
            67..=70 => {
                self.values += 1;
                let uid = (self.number * 10_000_000 + self.values) as u32;
                let (done, times) = self.call("chown", |_| sys::fchown(fd, uid));
                self.set(times, id, attribute::UID, i64::from(uid), done)
            }
            71..=74 => {
                self.values += 1;
                let time = self.number * 1_000_000_000_000 + self.values;
                let planted = 1_000_000_000_000_000_000 + time;
                let (done, times) = self.call("utimens", |_| sys::futimens(fd, planted));
                self.set(times, id, attribute::MTIME, time, done)
            }
            75..=90 => self.xattr(fd, id),
            91..=95 => self.read_mapped(fd, id),
            96 => {
                let (told, times) = self.call("statfs", |_| sys::statfs(fd));
                match told {
                    Ok((all, free)) if all > 0 && free <= all => Ok(()),
                    Ok(_) => self.fault(times, "statfs", -1),
                    Err(errno) => self.fault(times, "statfs", errno),
                }
            }
            _ => {
                let (synced, times) = self.call("fsync", |_| sys::fsync(fd));
                match synced {
                    Ok(()) => self.record(times, Kind::Sync, &[id]),
                    Err(errno) => self.fault(times, "fsync", errno),
                }
            }
        }
    }

    fn set(&mut self, times: (u64, u64), id: i64, attribute: i64, value: i64, done: Sys<()>) -> Result<()> {
        match done {
            Ok(()) => self.record(times, Kind::Set, &[id, attribute, value]),
            Err(errno) => self.fault(times, "set attribute", errno),
        }
    }

    /// Notes the words that are looked at; the others must come from the same slot.
    fn saw_bytes(&mut self, times: (u64, u64), kind: Kind, id: i64, bytes: &[u8]) -> Result<()> {
        if !bytes.len().is_multiple_of(8) {
            return self.fault(times, "size that nobody set", -1);
        }
        let mut args = vec![id];
        for offset in looked_at() {
            let there = offset as usize + 8 <= bytes.len();
            if there {
                args.extend([offset, word_at(bytes, offset as usize)]);
            } else if kind == Kind::Read {
                args.extend([offset, END]);
            }
        }
        for offset in (0..bytes.len()).step_by(8) {
            let word = word_at(bytes, offset);
            if word != 0 && word & 0xff != offset as i64 / SLOT_BYTES {
                return self.fault(times, "bytes of elsewhere", -1);
            }
        }
        self.record(times, kind, &args)
    }

    fn read(&mut self, fd: &Fd, id: i64) -> Result<()> {
        let length = (SLOTS * SLOT_BYTES) as usize + 8;
        let (bytes, times) = self.call("read", |_| sys::pread(fd, length, 0));
        match bytes {
            Ok(bytes) => self.saw_bytes(times, Kind::Read, id, &bytes),
            Err(errno) => self.fault(times, "read", errno),
        }
    }

    fn read_mapped(&mut self, fd: &Fd, id: i64) -> Result<()> {
        let length = (SLOTS * SLOT_BYTES) as usize;
        let Ok(mapping) = Mapping::new(fd, length, false) else { return Ok(()) };
        // What of the first page there is; EFAULT behind the end of the file.
        let part = *self.random.pick(&[PAGE as usize, length]);
        let (bytes, times) = self.call("read through a mapping", |_| mapping.load(0, part));
        match bytes {
            Ok(bytes) => self.saw_bytes(times, Kind::MapRead, id, &bytes),
            Err(libc::EFAULT) => Ok(()),
            Err(errno) => self.fault(times, "read through a mapping", errno),
        }
    }

    fn xattr(&mut self, fd: &Fd, id: i64) -> Result<()> {
        let number = self.random.below(2) as i64;
        let attribute = attribute::XATTR + number;
        let name = c(&format!("user.x{number}"));
        let choice = self.random.below(10);
        if choice < 5 {
            let (value, times) = self.call("getxattr", |_| sys::fget_xattr(fd, &name));
            return match value {
                Ok(bytes) if bytes.len() >= 8 && bytes == repeated(word_at(&bytes, 0), bytes.len()) => {
                    self.record(times, Kind::Get, &[id, attribute, word_at(&bytes, 0)])
                }
                Ok(_) => self.fault(times, "getxattr", -1),
                Err(libc::ENODATA) => self.record(times, Kind::Get, &[id, attribute, ABSENT]),
                Err(errno) => self.fault(times, "getxattr", errno),
            };
        }
        if choice < 7 {
            let (removed, times) = self.call("removexattr", |_| sys::fremove_xattr(fd, &name));
            return match removed {
                Ok(()) => self.record(times, Kind::Remove, &[id, attribute]),
                Err(libc::ENODATA) => self.record(times, Kind::Get, &[id, attribute, ABSENT]),
                Err(errno) => self.fault(times, "removexattr", errno),
            };
        }
        let value = self.next_value(0);
        let bytes = repeated(value, 8 * (1 + self.random.below(30) as usize));
        let (flags, kind) = *self.random.pick(&[
            (0, Kind::Set),
            (libc::XATTR_CREATE, Kind::SetAbsent),
            (libc::XATTR_REPLACE, Kind::SetPresent),
        ]);
        let (done, times) = self.call("setxattr", |_| sys::fset_xattr(fd, &name, &bytes, flags));
        match done {
            Ok(()) => self.record(times, kind, &[id, attribute, value]),
            Err(libc::EEXIST) => self.record(times, Kind::Get, &[id, attribute, attribute::PRESENT]),
            Err(libc::ENODATA) => self.record(times, Kind::Get, &[id, attribute, ABSENT]),
            Err(errno) => self.fault(times, "setxattr", errno),
        }
    }

    fn make(&mut self, dir: &Dir, name: i64, kind: Kind) -> Result<()> {
        let id = self.next_identity(name);
        sys::set_fs_gid(id as u32);
        let (made, times) = self.call(kind.word(), |_| match kind {
            Kind::Mkdir => sys::mkdir_at(&dir.fd, &file_name(name), 0o755),
            _ => sys::symlink_at(
                &c(&format!("{id}{:/<1$}", "", (id % 40) as usize)),
                &dir.fd,
                &file_name(name),
            ),
        });
        sys::set_fs_gid(0);
        match made {
            Ok(()) => self.record(times, kind, &[dir.id, name, id, 0]),
            Err(errno @ (libc::EEXIST | libc::ENOENT)) => {
                self.record(times, kind, &[dir.id, name, id, i64::from(errno)])
            }
            Err(errno) => self.fault(times, kind.word(), errno),
        }
    }

    fn remove(&mut self, dir: &Dir, name: i64, kind: Kind) -> Result<()> {
        let (removed, times) = self.call(kind.word(), |_| match kind {
            Kind::Rmdir => sys::rmdir_at(&dir.fd, &file_name(name)),
            _ => sys::unlink_at(&dir.fd, &file_name(name)),
        });
        match removed {
            Ok(()) => self.record(times, kind, &[dir.id, name, 0]),
            Err(errno @ (libc::ENOENT | libc::EISDIR | libc::ENOTDIR | libc::ENOTEMPTY)) => {
                self.record(times, kind, &[dir.id, name, i64::from(errno)])
            }
            Err(errno) => self.fault(times, kind.word(), errno),
        }
    }

    fn rename(&mut self, dir: &Dir, name: i64, to: &Dir, to_name: i64) -> Result<()> {
        let no_replace = self.random.chance(20);
        let flags = if no_replace { libc::RENAME_NOREPLACE } else { 0 };
        let (renamed, times) = self.call("rename", |_| {
            sys::rename_at(&dir.fd, &file_name(name), &to.fd, &file_name(to_name), flags)
        });
        let errno = match renamed {
            Ok(()) => 0,
            Err(
                errno @ (libc::ENOENT
                | libc::EEXIST
                | libc::EISDIR
                | libc::ENOTDIR
                | libc::ENOTEMPTY
                | libc::EINVAL),
            ) => errno,
            Err(errno) => return self.fault(times, "rename", errno),
        };
        let args = [dir.id, name, to.id, to_name, i64::from(no_replace), i64::from(errno)];
        self.record(times, Kind::Rename, &args)
    }

    /// A further name for what a name stands for, or for something held open.
    fn link(&mut self, dir: &Dir, name: i64, to: &Dir, to_name: i64) -> Result<()> {
        let held = self.held.iter().position(|held| held.id >> 24 & 0x3f == name / NAMES_PER_GROUP);
        if let Some(place) = held.filter(|_| self.random.chance(30)) {
            let held = self.held.swap_remove(place);
            let result = self.link_fd(&held.fd, held.id, to, to_name);
            self.held.push(held);
            return result;
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let (opened, times) = self.call("open path", |_| sys::open_at(&dir.fd, &file_name(name), flags, 0));
        match opened {
            Ok(fd) => {
                let stat = self.identify(&fd)?;
                let id = i64::from(stat.gid);
                self.record(times, Kind::Look, &[dir.id, name, id])?;
                if stat.kind() == libc::S_IFDIR { Ok(()) } else { self.link_fd(&fd, id, to, to_name) }
            }
            Err(libc::ENOENT) => self.record(times, Kind::Look, &[dir.id, name, ABSENT]),
            Err(errno) => self.fault(times, "open path", errno),
        }
    }

    fn link_fd(&mut self, fd: &Fd, id: i64, to: &Dir, to_name: i64) -> Result<()> {
        let (linked, times) = self.call("link", |_| sys::link_fd(fd, &to.fd, &file_name(to_name)));
        match linked {
            Ok(()) => self.record(times, Kind::Link, &[id, to.id, to_name, 0]),
            Err(errno @ (libc::EEXIST | libc::ENOENT)) => {
                self.record(times, Kind::Link, &[id, to.id, to_name, i64::from(errno)])
            }
            Err(errno) => self.fault(times, "link", errno),
        }
    }

    fn list(&mut self, dir: &Dir) -> Result<()> {
        let (listed, times) = self.call("list", |_| {
            let fd = sys::open_at(&dir.fd, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            sys::list(&fd)
        });
        match listed {
            Ok(entries) => {
                let mut args = vec![dir.id];
                for (name, ino, _) in entries {
                    if let Some(number) = number_of(&name) {
                        args.extend([number, ino as i64]);
                    }
                }
                self.record(times, Kind::List, &args)
            }
            // A directory that is gone.
            Err(libc::ENOENT) => Ok(()),
            Err(errno) => self.fault(times, "list", errno),
        }
    }

    fn append_file() -> i64 {
        (now() / APPEND_NANOSECONDS) as i64 % APPEND_FILES
    }

    fn append(&mut self) -> Result<()> {
        let file = Worker::append_file();
        let name = c(&format!("append_{file}"));
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
        let (opened, times) =
            self.call("open for append", |worker| sys::open_at(&worker.bases[0].fd, &name, flags, 0o644));
        let fd = match opened {
            Ok(fd) => fd,
            Err(errno) => return self.fault(times, "open for append", errno),
        };
        for _ in 0..1 + self.random.below(3) {
            let value = self.next_value(0);
            // The value says how many words the record has, so that a reader finds the next one.
            let words = 1 + (value >> 8) % 40;
            let bytes = repeated(value, words as usize * 8);
            let (written, times) = self.call("append", |_| sys::write(&fd, &bytes));
            match written {
                Ok(length) if length == bytes.len() => self.record(times, Kind::Append, &[file, value])?,
                Ok(_) => self.fault(times, "short append", -1)?,
                Err(errno) => self.fault(times, "append", errno)?,
            }
        }
        self.close(fd, file)
    }

    fn read_appended(&mut self, file: i64) -> Result<()> {
        let name = c(&format!("append_{file}"));
        let (opened, times) =
            self.call("open appended", |worker| sys::open_at(&worker.bases[0].fd, &name, libc::O_RDONLY, 0));
        let fd = match opened {
            Ok(fd) => fd,
            Err(libc::ENOENT) => return Ok(()),
            Err(errno) => return self.fault(times, "open appended", errno),
        };
        let (bytes, times) = self.call("read appended", |_| sys::pread(&fd, 16 << 20, 0));
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(errno) => return self.fault(times, "read appended", errno),
        };
        let mut args = vec![file];
        let mut at = 0;
        while at < bytes.len() {
            let value = if bytes.len() - at >= 8 { word_at(&bytes, at) } else { 0 };
            let end = at + (1 + (value >> 8) % 40) as usize * 8;
            let is_page_by_page = end > bytes.len() && bytes.len().is_multiple_of(PAGE as usize);
            if value != 0 && is_page_by_page && bytes[at..] == repeated(value, bytes.len() - at) {
                self.record(times, Kind::Torn, &[file, value])?;
                break;
            }
            if value == 0 || end > bytes.len() || bytes[at..end] != repeated(value, end - at) {
                return self.fault(times, "a torn append", -1);
            }
            args.push(value);
            at = end;
        }
        self.record(times, Kind::Appended, &args)?;
        self.close(fd, file)
    }

    /// A word of the file that every worker has mapped all the time.
    fn mapped_word(&mut self) -> Result<()> {
        let word = self.random.below(MAPPED_WORDS as u64) as i64;
        let offset = word as usize * (MAPPED_BYTES / MAPPED_WORDS as usize);
        if self.random.chance(50) {
            let value = self.next_value(0);
            let sync = self.random.chance(70);
            let (stored, times) = self.call("store", |worker| {
                worker.mapped.store_word(offset, value as u64);
                if sync { worker.mapped.sync() } else { Ok(()) }
            });
            return match stored {
                Ok(()) => self.record(times, Kind::Store, &[0, word, value]),
                Err(errno) => self.fault(times, "msync", errno),
            };
        }
        let (loaded, times) = self.call("load", |worker| worker.mapped.load(offset, 8));
        match loaded {
            Ok(bytes) => self.record(times, Kind::Load, &[0, word, word_at(&bytes, 0)]),
            Err(errno) => self.fault(times, "load", errno),
        }
    }

    fn action(&mut self) -> Result<()> {
        self.actions += 1;
        let group = self.pick_group();
        let name = self.pick_name(group);
        match self.random.below(100) {
            0..=6 => return self.work_on_held(),
            7..=10 => return self.append(),
            11..=12 => return self.read_appended(Worker::append_file()),
            13..=18 if self.maps => return self.mapped_word(),
            _ => {}
        }
        let dir = self.pick_dir(group)?;
        match self.random.below(100) {
            0..=13 => self.look(&dir, name),
            14..=25 => self.create(&dir, name),
            26..=44 => self.open(&dir, name),
            45..=48 => self.make(&dir, name, Kind::Mkdir),
            49..=51 => self.make(&dir, name, Kind::Symlink),
            52..=66 => self.remove(&dir, name, Kind::Unlink),
            67..=75 => self.remove(&dir, name, Kind::Rmdir),
            76..=87 => {
                let to = self.pick_dir(group)?;
                let to_name = self.pick_name(group);
                self.rename(&dir, name, &to, to_name)
            }
            88..=93 => {
                let to = self.pick_dir(group)?;
                let to_name = self.pick_name(group);
                self.link(&dir, name, &to, to_name)
            }
            _ => self.list(&dir),
        }
    }

    /// Looks at everything once more, when all others have ended.
    fn look_at_the_end(&mut self) -> Result<()> {
        for file in 0..APPEND_FILES {
            self.read_appended(file)?;
        }
        for base in 0..BASES as usize {
            self.walk(base, 0)?;
        }
        Ok(())
    }

    fn walk(&mut self, base: usize, depth: u32) -> Result<()> {
        let dir = self.reopen(base)?;
        self.walk_dir(&dir, depth)
    }

    fn walk_dir(&mut self, dir: &Dir, depth: u32) -> Result<()> {
        self.list(dir)?;
        for group in 0..self.groups as i64 {
            for index in 0..NAMES as i64 {
                let name = group * NAMES_PER_GROUP + index;
                self.look(dir, name)?;
                let flags = libc::O_RDONLY | libc::O_NOFOLLOW;
                let (opened, times) =
                    self.call("open", |_| sys::open_at(&dir.fd, &file_name(name), flags, 0));
                match opened {
                    Ok(fd) => {
                        let stat = self.identify(&fd)?;
                        if stat.kind() == libc::S_IFDIR {
                            if depth > 100 {
                                continue;
                            }
                            self.walk_dir(&Dir { fd, id: i64::from(stat.gid) }, depth + 1)?;
                        } else {
                            self.read(&fd, i64::from(stat.gid))?;
                        }
                    }
                    Err(libc::ENOENT | libc::ELOOP) => {}
                    Err(errno) => self.fault(times, "open", errno)?,
                }
            }
        }
        Ok(())
    }
}

fn prepare(root: &str) -> Result<()> {
    let told = |what: &str, errno: i32| format!("{what}: {}", sys::errno_name(errno));
    for base in 0..BASES {
        let made = sys::mkdir_at(&Fd::CWD, &c(&format!("{root}/base{base}")), 0o755);
        made.map_err(|errno| told("mkdir", errno))?;
    }
    let path = c(&format!("{root}/mapped"));
    let fd = sys::open_at(&Fd::CWD, &path, libc::O_RDWR | libc::O_CREAT, 0o644);
    let fd = fd.map_err(|errno| told("create mapped", errno))?;
    sys::pwrite(&fd, &vec![0u8; MAPPED_BYTES], 0).map_err(|errno| told("write mapped", errno))?;
    Ok(())
}

fn body(arguments: Arguments) -> Result<()> {
    let root = arguments.operand(0, "DIR")?.to_string_lossy().into_owned();
    // SAFETY: a call with a number.
    unsafe { libc::umask(0) };
    if arguments.flag("prepare") {
        return prepare(&root);
    }
    sys::say_sigbus();
    let open = |path: String, flags: i32| {
        sys::open_at(&Fd::CWD, &c(&path), flags, 0)
            .map_err(|errno| format!("open {path}: {}", sys::errno_name(errno)))
    };
    let mut bases = Vec::new();
    for base in 0..BASES {
        bases.push(Dir {
            fd: open(format!("{root}/base{base}"), libc::O_RDONLY | libc::O_DIRECTORY)?,
            id: base,
        });
    }
    let file = open(format!("{root}/mapped"), libc::O_RDWR)?;
    let mapped = Mapping::new(&file, MAPPED_BYTES, true)
        .map_err(|errno| format!("mmap: {}", sys::errno_name(errno)))?;
    let history = arguments.option("history").ok_or("--history FILE is missing")?;
    let number = arguments.number("worker", 0)? as i64;
    let mut worker = Worker {
        number,
        bases,
        held: Vec::new(),
        mapped,
        history: at(Path::new(history), "create", File::create(history))?,
        lines: String::new(),
        random: Random::new(arguments.number("seed", 1)?.wrapping_mul(1_000).wrapping_add(number as u64)),
        watchdog: sys::Watchdog::start(CALL_LIMIT_SECONDS, &doing),
        groups: arguments.number("groups", 4)?,
        maps: !arguments.flag("without-maps"),
        made: 0,
        values: 0,
        actions: 0,
        faults: 0,
    };
    if arguments.flag("final") {
        worker.look_at_the_end()?;
    } else {
        let rest = arguments.number("rest-us", 1_000)?;
        let end = now() + arguments.number("seconds", 10)? * 1_000_000_000;
        while now() < end {
            worker.action()?;
            worker.flush()?;
            // Now and then a pause, so that others find the mount idle too; mostly no rest at all.
            if rest > 0 && worker.random.chance(25) {
                std::thread::sleep(std::time::Duration::from_micros(worker.random.below(8 * rest)));
            }
        }
        while let Some(held) = worker.held.pop() {
            worker.read(&held.fd, held.id)?;
            worker.close(held.fd, held.id)?;
        }
    }
    worker.flush()?;
    say(&format!("worker {number}: {} actions, {} faults", worker.actions, worker.faults))
}

fn main() -> ExitCode {
    main_of(body)
}
