// SPDX-License-Identifier: GPL-2.0-or-later
//! mount(2), umount2(2) and the places in /sys that belong to one FUSE connection.
//!
//! Root mounts here; for anybody else fusermount3 does (`fusermount.rs`), and unmounts what it has mounted.
//!
//! Nothing here looks at the mounted directory itself: that would be a request to ourselves. The device number comes
//! from /proc/self/mountinfo. `unmount` may wait for requests that we must answer (dirty mmap pages), so it is never
//! called by the answering thread; `Notifier::unmount` runs it on a thread of its own.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::abi::MAX_WRITE_BYTES;
use crate::error::{FuseError, Result};
use crate::fusermount;
use crate::init::MAX_READAHEAD_BYTES;

/// What to mount, where and how.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// First column of the mount table, for people; the kernel gives it no meaning.
    pub source: String,
    pub target: PathBuf,
    /// Generic flags as mount(8) writes them: ro, nosuid, nodev, noexec, noatime and so on.
    pub flags: Vec<String>,
    /// Whether users other than the mounting one may enter.
    pub allow_other: bool,
}

/// One mounted connection, by the names that the kernel has for it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub target: PathBuf,
    major: u32,
    minor: u32,
    /// Mounted by fusermount3, which alone can unmount it.
    is_user_mount: bool,
}

/// Opens /dev/fuse and mounts it. The kernel's INIT request waits in the returned descriptor.
pub fn mount(options: &MountOptions) -> Result<(OwnedFd, Connection)> {
    let at = options.target.display().to_string();
    let point = |cause| FuseError::MountPoint { target: at.clone(), cause };
    let target = fs::canonicalize(&options.target).map_err(point)?;
    if !fs::metadata(&target).map_err(point)?.is_dir() {
        return Err(point(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    let flags = mount_flags(&options.flags)?;
    // SAFETY: always succeeds.
    let is_user_mount = unsafe { libc::geteuid() } != 0;
    let data = mount_data(options.allow_other);
    let device = if is_user_mount {
        fusermount::mount(&options.source, &target, &options.flags, &data)?
    } else {
        mount_as_root(&options.source, &target, flags, &data)?
    };
    match find_device(&target) {
        Ok((major, minor)) => Ok((device, Connection { target, major, minor, is_user_mount })),
        Err(error) => {
            // Nobody answers yet: only a lazy unmount is sure to return.
            let _ = Connection { target, major: 0, minor: 0, is_user_mount }.unmount(libc::MNT_DETACH);
            Err(error)
        }
    }
}

fn mount_as_root(source: &str, target: &Path, flags: libc::c_ulong, data: &str) -> Result<OwnedFd> {
    let device = open_device()?;
    let source = CString::new(source).map_err(|_| FuseError::Nul)?;
    let point = CString::new(target.as_os_str().as_bytes()).map_err(|_| FuseError::Nul)?;
    let all = format!("fd={},rootmode=40000,user_id=0,group_id=0,{data}", device.as_raw_fd());
    let all = CString::new(all).map_err(|_| FuseError::Nul)?;
    // SAFETY: all four pointers are NUL-terminated strings that outlive the call.
    let failed = unsafe {
        libc::mount(source.as_ptr(), point.as_ptr(), c"fuse.crfs".as_ptr(), flags, all.as_ptr().cast())
    };
    if failed != 0 {
        let cause = io::Error::last_os_error();
        return Err(FuseError::Mount { target: target.display().to_string(), cause });
    }
    Ok(device)
}

fn open_device() -> Result<OwnedFd> {
    // SAFETY: a constant NUL-terminated path.
    let fd = unsafe { libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(FuseError::OpenDevice(io::Error::last_os_error()));
    }
    // SAFETY: open returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the mount on `target` other generic flags, all of them: one that is not named is cleared. Waits until what was
/// written through mmap has been taken. EBUSY: to be read-only while files are open for writing.
pub fn remount(target: &Path, flags: &[String]) -> Result<()> {
    let flags = mount_flags(flags)? | libc::MS_REMOUNT;
    let name = CString::new(target.as_os_str().as_bytes()).map_err(|_| FuseError::Nul)?;
    let none = std::ptr::null();
    // SAFETY: a NUL-terminated path that outlives the call; the kernel ignores what is null in a remount.
    if unsafe { libc::mount(none, name.as_ptr(), none, flags, none.cast()) } != 0 {
        let cause = io::Error::last_os_error();
        return Err(FuseError::Mount { target: target.display().to_string(), cause });
    }
    Ok(())
}

/// The options that the fuse file system itself reads. `default_permissions` always: the kernel checks modes and
/// owners also for names it has cached, and we need not see the caller's groups.
fn mount_data(allow_other: bool) -> String {
    let others = if allow_other { ",allow_other" } else { "" };
    format!("max_read={MAX_WRITE_BYTES},default_permissions{others}")
}

/// Translates the names that mount(8) uses. The names of the defaults clear what an earlier name set.
fn mount_flags(names: &[String]) -> Result<libc::c_ulong> {
    let mut flags = 0;
    for name in names {
        let (set, clear) = match name.as_str() {
            "ro" => (libc::MS_RDONLY, 0),
            "rw" => (0, libc::MS_RDONLY),
            "nosuid" => (libc::MS_NOSUID, 0),
            "suid" => (0, libc::MS_NOSUID),
            "nodev" => (libc::MS_NODEV, 0),
            "dev" => (0, libc::MS_NODEV),
            "noexec" => (libc::MS_NOEXEC, 0),
            "exec" => (0, libc::MS_NOEXEC),
            "noatime" => (libc::MS_NOATIME, 0),
            "atime" => (0, libc::MS_NOATIME),
            "nodiratime" => (libc::MS_NODIRATIME, 0),
            "diratime" => (0, libc::MS_NODIRATIME),
            "relatime" => (libc::MS_RELATIME, libc::MS_STRICTATIME),
            "strictatime" => (libc::MS_STRICTATIME, libc::MS_RELATIME),
            "sync" => (libc::MS_SYNCHRONOUS, 0),
            "async" => (0, libc::MS_SYNCHRONOUS),
            "dirsync" => (libc::MS_DIRSYNC, 0),
            _ => return Err(FuseError::UnknownFlag(name.clone())),
        };
        flags = (flags & !clear) | set;
    }
    Ok(flags)
}

/// Returns the device number of what is mounted on `target`, its last mount if there are several.
fn find_device(target: &Path) -> Result<(u32, u32)> {
    let table = fs::read("/proc/self/mountinfo")
        .map_err(|cause| FuseError::Io { what: "read /proc/self/mountinfo", cause })?;
    let missing = || FuseError::MountPoint {
        target: target.display().to_string(),
        cause: io::Error::new(io::ErrorKind::NotFound, "not in /proc/self/mountinfo after mounting"),
    };
    device_in(&table, target).ok_or_else(missing)
}

/// Searches the text of a mountinfo file: fields are `id parent major:minor root target ...`.
fn device_in(table: &[u8], target: &Path) -> Option<(u32, u32)> {
    let mut found = None;
    for line in table.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        let (Some(device), Some(_), Some(point)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if unescape(point) != target.as_os_str().as_bytes() {
            continue;
        }
        let text = std::str::from_utf8(device).ok()?;
        let (major, minor) = text.split_once(':')?;
        found = Some((major.parse().ok()?, minor.parse().ok()?));
    }
    found
}

/// Undoes the octal escapes (`\040`) of the mount tables.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|d| first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        match digits {
            Some(digits) => {
                let code = digits.iter().fold(0u32, |sum, c| sum * 8 + u32::from(c - b'0'));
                plain.push(code as u8);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

impl Connection {
    /// One that is not there, for tests.
    #[cfg(test)]
    pub fn of_root(target: &str) -> Self {
        Self { target: target.into(), major: 0, minor: 0, is_user_mount: false }
    }

    /// umount2(2) with `flags` (MNT_DETACH, MNT_FORCE or 0). May wait for requests to be answered.
    pub fn unmount(&self, flags: libc::c_int) -> io::Result<()> {
        if self.is_user_mount {
            if flags & libc::MNT_FORCE != 0 {
                // What MNT_FORCE does before it unmounts. Where /sys has no place for it the connection goes on until
                // its descriptor is closed.
                let _ = self.abort();
            }
            return fusermount::unmount(&self.target, flags & libc::MNT_DETACH != 0);
        }
        let name = CString::new(self.target.as_os_str().as_bytes())?;
        // SAFETY: a NUL-terminated path that outlives the call.
        let failed = unsafe { libc::umount2(name.as_ptr(), flags | libc::UMOUNT_NOFOLLOW) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Raises the device's read-ahead to what the handshake allows: the kernel's default of 128 KiB would cut every
    /// sequential read into eighths. Fails where /sys is read-only; reads are then only smaller.
    pub fn raise_readahead(&self) -> io::Result<()> {
        let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", self.major, self.minor);
        fs::write(path, (MAX_READAHEAD_BYTES / 1024).to_string())
    }

    /// Ends the connection from the kernel's side: every request fails, waiting callers return. Never waits.
    /// Fails where the fusectl file system is not mounted; `unmount` with MNT_FORCE is then the way.
    pub fn abort(&self) -> io::Result<()> {
        let number = (self.major << 20) | self.minor;
        let path = format!("/sys/fs/fuse/connections/{number}/abort");
        fs::OpenOptions::new().write(true).open(path)?.write_all(b"1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_add_up_and_defaults_clear() {
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let flags = mount_flags(&names(&["ro", "nosuid", "noexec", "rw"])).unwrap();
        assert_eq!(flags, libc::MS_NOSUID | libc::MS_NOEXEC);
        assert!(
            matches!(mount_flags(&names(&["bogus"])), Err(FuseError::UnknownFlag(name)) if name == "bogus")
        );
    }

    #[test]
    fn finds_the_last_mount_on_an_escaped_path() {
        let table = b"20 1 0:19 / /proc rw - proc proc rw\n\
            30 1 0:41 / /mnt/a\\040b rw - fuse.crfs x rw\n\
            31 1 0:42 / /mnt/a\\040b rw - fuse.crfs x rw\n\
            short line\n";
        assert_eq!(device_in(table, Path::new("/mnt/a b")), Some((0, 42)));
        assert_eq!(device_in(table, Path::new("/mnt")), None);
    }

    #[test]
    fn unescapes_only_whole_escapes() {
        assert_eq!(unescape(b"a\\134b\\04"), b"a\\b\\04");
    }

    #[test]
    fn refuses_a_target_that_is_no_directory() {
        let missing = MountOptions { target: "/nonexistent/crfs".into(), ..MountOptions::default() };
        assert!(matches!(mount(&missing), Err(FuseError::MountPoint { .. })));
        let file = MountOptions { target: "/proc/self/status".into(), ..MountOptions::default() };
        assert_eq!(mount(&file).map(|_| ()).map_err(|error| error.errno()), Err(libc::ENOTDIR));
    }
}
