// SPDX-License-Identifier: GPL-2.0-or-later
//! Scenarios about shared mappings on A: the kernel dirties their pages without asking, and must be able to write them
//! back whatever else waits.

use crate::ground::{CALM, Ground, right};
use crate::pages::{advise_random, open_to_read, open_to_write, read_at};
use crate::support::sys::{self, Fd, Mapping, c, errno_name};
use crate::support::{Result, at};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

const PAGE: usize = 4_096;
/// More than a contended file that is handed over whole.
const LENGTH: usize = 64 * PAGE;

fn said(errno: i32) -> String {
    format!("a mapping: {}", errno_name(errno))
}

fn map(path: &Path, length: usize) -> Result<Mapping> {
    let path = c(&String::from_utf8_lossy(path.as_os_str().as_bytes()));
    let file = sys::open_at(&Fd::CWD, &path, libc::O_RDWR, 0).map_err(said)?;
    Mapping::new(&file, length, true).map_err(said)
}

/// A has a page in its mapping that B has read too; what A stores then, B reads next.
pub fn stores_seen(ground: &Ground) -> Result<()> {
    let path = ground.a.join("f");
    at(&path, "write", fs::write(&path, vec![0; LENGTH]))?;
    let mapping = map(&path, LENGTH)?;
    let b = open_to_read(&ground.b.join("f"))?;
    for round in 0..ground.rounds {
        ground.step("store on A, read on B", || {
            mapping.load(0, 8).map_err(said)?;
            at(&path, "read", read_at(&b, 0, 8))?;
            mapping.load(0, 8).map_err(said)?;
            mapping.store_word(0, round + 1);
            let seen = at(&path, "read", read_at(&b, 0, 8))?;
            right(seen == (round + 1).to_le_bytes(), || format!("round {round}: B does not see A's store"))
        })?;
    }
    Ok(())
}

/// B asks for the attributes of a file that A has mapped and stored to, and for nothing else. What A stores then, its
/// kernel must be able to write back when B reads it.
pub fn stores_after_stat(ground: &Ground) -> Result<()> {
    for round in 0..ground.rounds {
        let path = ground.a.join(format!("f{round}"));
        at(&path, "write", fs::write(&path, vec![0; LENGTH]))?;
        at(&path, "stat", fs::symlink_metadata(ground.b.join(format!("f{round}"))))?;
        thread::sleep(CALM);
        let b = open_to_read(&ground.b.join(format!("f{round}")))?;
        let mapping = map(&path, LENGTH)?;
        ground.step("store, stat, store, read", || {
            mapping.store_word(0, 1);
            at(&path, "read", read_at(&b, 0, 8))?;
            mapping.store_word(0, 2);
            // From here on both take single keys of the file.
            at(&path, "stat", b.metadata())?;
            mapping.store_word(0, 3);
            let seen = at(&path, "read", read_at(&b, 0, 8))?;
            right(seen == 3_u64.to_le_bytes(), || format!("round {round}: B does not see A's store"))
        })?;
    }
    Ok(())
}

/// Many READs on A wait for a third client, which stands still; B reads another file, of which A has a dirty page.
pub fn full_background(ground: &Ground) -> Result<()> {
    const READERS: u64 = 32;
    const APART: u64 = 2 << 20;
    let (pid, third) = ground.third.clone().ok_or("--third and --third-pid are missing")?;
    let (waited, dirtied) = (ground.a.join("waited"), ground.a.join("dirtied"));
    let made = at(&waited, "create", File::create(&waited))?;
    at(&waited, "truncate", made.set_len(READERS * APART))?;
    at(&dirtied, "write", fs::write(&dirtied, vec![0; LENGTH]))?;
    drop(made);
    let b = open_to_read(&ground.b.join("dirtied"))?;
    let holder = open_to_write(&third.join("waited"))?;
    thread::sleep(CALM);
    let readers = (0..READERS).map(|_| open_to_read(&waited)).collect::<Result<Vec<_>>>()?;
    let mapping = map(&dirtied, LENGTH)?;
    ground.step("write on the third", || {
        mapping.store_word(0, 6);
        at(&third, "write", holder.write_all_at(b"x", 0))
    })?;
    let stopped = Stopped::new(pid);
    thread::scope(|scope| {
        for (number, reader) in (0..).zip(&readers) {
            // Each READ is one of those that the kernel bounds; with what was read ahead some would not be.
            advise_random(reader);
            scope.spawn(move || read_at(reader, number * APART, PAGE as u64));
        }
        thread::sleep(Duration::from_millis(300));
        // Not before: the kernel may begin to write back at once.
        mapping.store_word(0, 7);
        let seen = ground.step("read on B", || at(&dirtied, "read", read_at(&b, 0, 8)));
        drop(stopped);
        right(seen? == 7_u64.to_le_bytes(), || "B does not see A's store".into())
    })
}

/// A process that stands still until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn new(pid: i32) -> Self {
        // SAFETY: a call with numbers; the caller was told that this process may be stopped.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: a call with numbers.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}
