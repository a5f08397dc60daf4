// SPDX-License-Identifier: GPL-2.0-or-later
//! What every check stands on: a directory of its own seen through A and through B, comparisons that say what was
//! expected and what came, and steps of an ordinary user.

use crate::support::sys::{Fd, Stat, Sys, c, errno_name, list, open_at, stat_at};
use crate::support::{Random, Result};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// The user and group of unprivileged steps.
pub const NOBODY: u32 = 65_534;

/// One check's directory, twice.
pub struct Ground {
    pub a: PathBuf,
    pub b: PathBuf,
    /// Entries of the large directory.
    pub large: u64,
    /// Whether the file system is CRFS (else a local one, whose limits are its own).
    pub is_crfs: bool,
    /// `a` and `b`, open.
    pub at_a: Fd,
    pub at_b: Fd,
}

impl Ground {
    /// Makes `name` in A, open to every user.
    pub fn new(a: &Path, b: &Path, name: &str, large: u64) -> Result<Ground> {
        let (a, b) = (a.join(name), b.join(name));
        std::fs::create_dir(&a).said(name)?;
        crate::support::set_mode(&a, 0o777).said(name)?;
        let open = |path: &Path| open_at(&Fd::CWD, &crate::support::c_path(path), libc::O_DIRECTORY, 0);
        let (at_a, at_b) = (open(&a).said("open A")?, open(&b).said("open B")?);
        let mut told = std::mem::MaybeUninit::<libc::statfs>::zeroed();
        // SAFETY: a live buffer of the type that the call fills.
        let result = unsafe { libc::fstatfs(at_a.raw(), told.as_mut_ptr()) };
        same("statfs", result, 0)?;
        // SAFETY: zeroed is a valid statfs, and the call has filled it.
        let is_crfs = unsafe { told.assume_init() }.f_type == libc::FUSE_SUPER_MAGIC;
        Ok(Ground { a, b, large, is_crfs, at_a, at_b })
    }

    pub fn stat_a(&self, name: &str) -> Result<Stat> {
        stat_at(&self.at_a, &c(name)).said(&format!("stat {name} in A"))
    }

    pub fn stat_b(&self, name: &str) -> Result<Stat> {
        stat_at(&self.at_b, &c(name)).said(&format!("stat {name} in B"))
    }

    /// Everything in B by a descriptor of its own: one that stands at its end would tell nothing, and BTRFS does not
    /// list through an old one what came later.
    pub fn list_b(&self) -> Result<Vec<(String, u64, u8)>> {
        list(&open_at(&self.at_b, c".", libc::O_DIRECTORY, 0).said("open B")?).said("list B")
    }

    /// A new file, open for reading and writing.
    pub fn file(&self, name: &str) -> Result<Fd> {
        open_at(&self.at_a, &c(name), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o644).said(name)
    }

    /// The mode bits of a name must be the same on both sides.
    pub fn mode_is(&self, what: &str, name: &str, want: u32) -> Result<()> {
        let show = |mode: u32| format!("{:o}", mode & 0o7777);
        same(&format!("{what}: mode in A"), show(self.stat_a(name)?.mode), show(want))?;
        same(&format!("{what}: mode in B"), show(self.stat_b(name)?.mode), show(want))
    }
}

/// A failed call becomes a text that says which.
pub trait Said<T> {
    fn said(self, what: &str) -> Result<T>;
}

impl<T> Said<T> for Sys<T> {
    fn said(self, what: &str) -> Result<T> {
        self.map_err(|errno| format!("{what}: {}", errno_name(errno)))
    }
}

impl<T> Said<T> for io::Result<T> {
    fn said(self, what: &str) -> Result<T> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

pub fn same<T: PartialEq + Debug>(what: &str, came: T, want: T) -> Result<()> {
    if came == want { Ok(()) } else { Err(format!("{what}: expected {want:?}, came {came:?}")) }
}

pub fn holds(what: &str, is_so: bool) -> Result<()> {
    if is_so { Ok(()) } else { Err(format!("not so: {what}")) }
}

/// The call must fail with this errno.
pub fn fails<T>(what: &str, came: Sys<T>, want: i32) -> Result<()> {
    match came {
        Err(errno) if errno == want => Ok(()),
        Err(errno) => Err(format!("{what}: expected {}, came {}", errno_name(want), errno_name(errno))),
        Ok(_) => Err(format!("{what}: expected {}, came success", errno_name(want))),
    }
}

/// The result of a call made by hand.
pub fn sys(result: i64) -> Sys<u64> {
    if result < 0 { Err(crate::support::sys::errno()) } else { Ok(result as u64) }
}

pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    Random::new(seed).bytes(length)
}

/// Runs `body` in a child as `NOBODY` with no further groups. Names are relative to `dir`, which the child has open:
/// what lies above may be closed to it.
pub fn as_nobody(dir: &Fd, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut ends = [0i32; 2];
    // SAFETY: `ends` holds two descriptors.
    sys(i64::from(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })).said("pipe")?;
    // SAFETY: the program has one thread.
    let child = unsafe { libc::fork() };
    sys(i64::from(child)).said("fork")?;
    if child == 0 {
        let outcome = drop_rights(dir).and_then(|()| body());
        if let Err(message) = &outcome {
            // SAFETY: `message` is readable for its length.
            unsafe { libc::write(ends[1], message.as_ptr().cast(), message.len()) };
        }
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    // SAFETY: our own descriptor.
    unsafe { libc::close(ends[1]) };
    let mut message = vec![0u8; 4_096];
    // SAFETY: `message` is writable for its length; then our own descriptor and child.
    let got = unsafe { libc::read(ends[0], message.as_mut_ptr().cast(), message.len()) };
    let mut status = 0;
    // SAFETY: our own descriptor and child.
    unsafe {
        libc::close(ends[0]);
        libc::waitpid(child, &mut status, 0);
    }
    if status == 0 {
        return Ok(());
    }
    message.truncate(got.max(0) as usize);
    Err(format!("as an ordinary user: {}", String::from_utf8_lossy(&message)))
}

fn drop_rights(dir: &Fd) -> Result<()> {
    // SAFETY: calls with numbers and an empty list.
    let results = unsafe {
        [
            libc::fchdir(dir.raw()),
            libc::setgroups(0, std::ptr::null()),
            libc::setresgid(NOBODY, NOBODY, NOBODY),
            libc::setresuid(NOBODY, NOBODY, NOBODY),
        ]
    };
    same("dropping rights", results, [0; 4])
}
