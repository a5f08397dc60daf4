// SPDX-License-Identifier: GPL-2.0-or-later
//! What the kernel has cached of a mounted file system, asked in a way that sends no request to whoever serves it: so a server
//! may ask about its own mount, even while the kernel waits for its answer.

use std::ffi::CString;

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// The inode number of a directory, if the whole way to it is cached; else `None`.
///
/// `start` is a link of /proc to a directory of some process (`/proc/ID/cwd`, `/proc/ID/fd/N`, `/proc/ID/root`), which is followed
/// without a walk; `below` is the path from there, empty for `start` itself.
pub fn cached_inode(start: &Path, below: &[u8]) -> Option<u64> {
    let start = CString::new(start.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: a NUL-terminated path that outlives the call.
    let from = descriptor(unsafe { libc::open(start.as_ptr(), DIRECTORY) }.into())?;
    if below.is_empty() {
        return inode(&from);
    }
    let below = CString::new(below).ok()?;
    // SAFETY: all zero is a valid open_how.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = DIRECTORY as u64;
    how.resolve = libc::RESOLVE_CACHED;
    // SAFETY: the descriptor is open, the path NUL-terminated, and `how` of the size that is given.
    let found = unsafe {
        libc::syscall(libc::SYS_openat2, from.as_raw_fd(), below.as_ptr(), &how, mem::size_of_val(&how))
    };
    inode(&descriptor(found)?)
}

/// Opens nothing at the file system: the descriptor only stands for the place.
const DIRECTORY: libc::c_int = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;

fn descriptor(number: i64) -> Option<OwnedFd> {
    let number = i32::try_from(number).ok().filter(|number| *number >= 0)?;
    // SAFETY: an open call returned it to us alone.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn inode(directory: &OwnedFd) -> Option<u64> {
    // SAFETY: all zero is a valid statx.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the descriptor is open, the path an empty string, and `found` is ours.
    let failed =
        unsafe { libc::statx(directory.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_INO, &mut found) };
    (failed == 0 && found.stx_mask & libc::STATX_INO != 0).then_some(found.stx_ino)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_cached_is_told_by_any_start() -> io::Result<()> {
        let here = std::env::current_dir()?;
        let of = |path: &Path| std::fs::metadata(path).map(|found| found.ino());
        assert_eq!(cached_inode(Path::new("/proc/self/cwd"), b""), Some(of(&here)?));
        assert_eq!(cached_inode(Path::new("/proc/self/cwd"), b"src"), Some(of(&here.join("src"))?));
        assert_eq!(cached_inode(Path::new("/proc/self/root"), b"proc"), Some(of(Path::new("/proc"))?));
        Ok(())
    }

    #[test]
    fn what_is_no_directory_or_not_there_is_not_told() {
        assert_eq!(cached_inode(Path::new("/proc/self/cwd"), b"Cargo.toml"), None);
        assert_eq!(cached_inode(Path::new("/proc/self/cwd"), b"nothing of this name"), None);
        assert_eq!(cached_inode(Path::new("/proc/self/fd/100000"), b""), None);
        assert_eq!(cached_inode(Path::new("/proc/self/cwd"), b"a\0b"), None);
    }
}
