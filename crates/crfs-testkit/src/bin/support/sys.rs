// SPDX-License-Identifier: GPL-2.0-or-later
//! System calls as they are, each one call, with the errno as the error: what judges of coherency need, who must know
//! which call saw what and when.
//!
//! Names are relative to a directory's descriptor (`Fd::CWD` for paths).

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};

/// The errno of a failed call.
pub type Sys<T> = std::result::Result<T, i32>;

/// An open descriptor; closed when dropped.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    pub const CWD: Fd = Fd(libc::AT_FDCWD);

    /// The number behind it, for a call that is made by hand.
    pub fn raw(&self) -> i32 {
        self.0
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        if self.0 >= 0 {
            // SAFETY: the descriptor is ours and not used again.
            unsafe { libc::close(self.0) };
        }
    }
}

/// Closes with the answer of close(2).
pub fn close(fd: Fd) -> Sys<()> {
    let number = fd.0;
    std::mem::forget(fd);
    // SAFETY: the descriptor was ours and is not used again.
    done(i64::from(unsafe { libc::close(number) }))
}

pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn number(result: i64) -> Sys<usize> {
    if result < 0 { Err(errno()) } else { Ok(result as usize) }
}

fn done(result: i64) -> Sys<()> {
    number(result).map(|_| ())
}

/// A name for a system call; a NUL in it would be our own mistake.
pub fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// `ENOENT`, or the number of an errno without a name here.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EIO => "EIO",
        libc::EAGAIN => "EAGAIN",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENOSPC => "ENOSPC",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::ELOOP => "ELOOP",
        libc::ENODATA => "ENODATA",
        libc::ESTALE => "ESTALE",
        libc::ENOTCONN => "ENOTCONN",
        libc::EMLINK => "EMLINK",
        libc::EROFS => "EROFS",
        libc::EDQUOT => "EDQUOT",
        libc::EFBIG => "EFBIG",
        libc::EMFILE => "EMFILE",
        libc::ENOMEM => "ENOMEM",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENOSYS => "ENOSYS",
        libc::ETIMEDOUT => "ETIMEDOUT",
        _ => return format!("E{errno}"),
    };
    name.to_owned()
}

/// CLOCK_MONOTONIC in nanoseconds: the same clock in every process of a machine.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn open_at(dir: &Fd, name: &CStr, flags: i32, mode: u32) -> Sys<Fd> {
    // SAFETY: `name` is NUL-terminated.
    let result = unsafe { libc::openat(dir.0, name.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    number(i64::from(result)).map(|fd| Fd(fd as i32))
}

/// What a stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub ino: u64,
    pub mode: u32,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Nanoseconds.
    pub mtime: i64,
    pub ctime: i64,
}

impl Stat {
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
}

fn stat_of(call: impl FnOnce(*mut libc::stat) -> i32) -> Sys<Stat> {
    let mut buffer = std::mem::MaybeUninit::<libc::stat>::zeroed();
    done(i64::from(call(buffer.as_mut_ptr())))?;
    // SAFETY: zeroed is a valid stat, and the call has filled it.
    let stat = unsafe { buffer.assume_init() };
    Ok(Stat {
        ino: stat.st_ino,
        mode: stat.st_mode,
        nlink: stat.st_nlink,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        mtime: stat.st_mtime * 1_000_000_000 + stat.st_mtime_nsec,
        ctime: stat.st_ctime * 1_000_000_000 + stat.st_ctime_nsec,
    })
}

pub fn fstat(fd: &Fd) -> Sys<Stat> {
    // SAFETY: `buffer` is a writable stat.
    stat_of(|buffer| unsafe { libc::fstat(fd.0, buffer) })
}

/// Of the name itself, never of what a symlink points to.
pub fn stat_at(dir: &Fd, name: &CStr) -> Sys<Stat> {
    // SAFETY: `name` is NUL-terminated, `buffer` a writable stat.
    stat_of(|buffer| unsafe { libc::fstatat(dir.0, name.as_ptr(), buffer, libc::AT_SYMLINK_NOFOLLOW) })
}

pub fn pread(fd: &Fd, length: usize, offset: u64) -> Sys<Vec<u8>> {
    let mut buffer = vec![0u8; length];
    // SAFETY: `buffer` is writable for its length.
    let result =
        unsafe { libc::pread(fd.0, buffer.as_mut_ptr().cast(), buffer.len(), offset as libc::off_t) };
    buffer.truncate(number(result as i64)?);
    Ok(buffer)
}

/// read(2) into `buffer`. @returns how many bytes; 0 at the end of the file.
pub fn read_into(fd: &Fd, buffer: &mut [u8]) -> Sys<usize> {
    // SAFETY: `buffer` is writable for its length.
    number(unsafe { libc::read(fd.0, buffer.as_mut_ptr().cast(), buffer.len()) } as i64)
}

pub fn pwrite(fd: &Fd, bytes: &[u8], offset: u64) -> Sys<usize> {
    // SAFETY: `bytes` is readable for its length.
    let result = unsafe { libc::pwrite(fd.0, bytes.as_ptr().cast(), bytes.len(), offset as libc::off_t) };
    number(result as i64)
}

/// write(2): at the descriptor's own position, or at the end with O_APPEND.
pub fn write(fd: &Fd, bytes: &[u8]) -> Sys<usize> {
    // SAFETY: `bytes` is readable for its length.
    number(unsafe { libc::write(fd.0, bytes.as_ptr().cast(), bytes.len()) } as i64)
}

pub fn truncate(fd: &Fd, size: u64) -> Sys<()> {
    // SAFETY: a call with numbers.
    done(i64::from(unsafe { libc::ftruncate(fd.0, size as libc::off_t) }))
}

pub fn fsync(fd: &Fd) -> Sys<()> {
    // SAFETY: a call with a number.
    done(i64::from(unsafe { libc::fsync(fd.0) }))
}

/// Everything of the file system that `fd` lies in.
pub fn sync_fs(fd: &Fd) -> Sys<()> {
    // SAFETY: a call with a number.
    done(i64::from(unsafe { libc::syncfs(fd.0) }))
}

/// The kernel may forget the file's clean pages.
pub fn drop_pages(fd: &Fd) -> Sys<()> {
    // SAFETY: a call with numbers. It returns the errno itself.
    match unsafe { libc::posix_fadvise(fd.0, 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        errno => Err(errno),
    }
}

/// Blocks of the file system: all, and free ones.
pub fn statfs(fd: &Fd) -> Sys<(u64, u64)> {
    let mut told = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a live buffer of the type that the call fills.
    done(i64::from(unsafe { libc::fstatfs(fd.0, told.as_mut_ptr()) }))?;
    // SAFETY: plain numbers, zeroed and filled.
    let told = unsafe { told.assume_init() };
    Ok((told.f_blocks, told.f_bfree))
}

pub fn fallocate(fd: &Fd, mode: i32, offset: u64, length: u64) -> Sys<()> {
    // SAFETY: a call with numbers.
    done(i64::from(unsafe { libc::fallocate(fd.0, mode, offset as libc::off_t, length as libc::off_t) }))
}

pub fn fchmod(fd: &Fd, mode: u32) -> Sys<()> {
    // SAFETY: a call with numbers.
    done(i64::from(unsafe { libc::fchmod(fd.0, mode) }))
}

pub fn chmod_at(dir: &Fd, name: &CStr, mode: u32) -> Sys<()> {
    // SAFETY: `name` is NUL-terminated.
    done(i64::from(unsafe { libc::fchmodat(dir.0, name.as_ptr(), mode, 0) }))
}

/// Changes the owner and leaves the group.
pub fn fchown(fd: &Fd, uid: u32) -> Sys<()> {
    // SAFETY: a call with numbers; the group of all ones means "as it is".
    done(i64::from(unsafe { libc::fchown(fd.0, uid, u32::MAX) }))
}

pub fn chown_at(dir: &Fd, name: &CStr, uid: u32) -> Sys<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: `name` is NUL-terminated; the group of all ones means "as it is".
    done(i64::from(unsafe { libc::fchownat(dir.0, name.as_ptr(), uid, u32::MAX, flags) }))
}

fn times(mtime: i64) -> [libc::timespec; 2] {
    [
        libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        libc::timespec { tv_sec: mtime.div_euclid(1_000_000_000), tv_nsec: mtime.rem_euclid(1_000_000_000) },
    ]
}

/// Sets mtime, in nanoseconds.
pub fn futimens(fd: &Fd, mtime: i64) -> Sys<()> {
    let times = times(mtime);
    // SAFETY: `times` holds the two values that the call reads.
    done(i64::from(unsafe { libc::futimens(fd.0, times.as_ptr()) }))
}

pub fn utimens_at(dir: &Fd, name: &CStr, mtime: i64) -> Sys<()> {
    let times = times(mtime);
    // SAFETY: `name` is NUL-terminated, `times` holds the two values that the call reads.
    let result = unsafe { libc::utimensat(dir.0, name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    done(i64::from(result))
}

pub fn set_xattr(path: &CStr, name: &CStr, value: &[u8]) -> Sys<()> {
    // SAFETY: the strings are NUL-terminated, `value` is readable for its length.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    done(i64::from(result))
}

pub fn remove_xattr(path: &CStr, name: &CStr) -> Sys<()> {
    // SAFETY: the strings are NUL-terminated.
    done(i64::from(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }))
}

pub fn get_xattr(path: &CStr, name: &CStr) -> Sys<Vec<u8>> {
    let mut value = vec![0u8; 4_096];
    // SAFETY: the strings are NUL-terminated, `value` is writable for its length.
    let result =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(number(result as i64)?);
    Ok(value)
}

pub fn fset_xattr(fd: &Fd, name: &CStr, value: &[u8], flags: i32) -> Sys<()> {
    // SAFETY: the name is NUL-terminated, `value` is readable for its length.
    let result = unsafe { libc::fsetxattr(fd.0, name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    done(i64::from(result))
}

pub fn fremove_xattr(fd: &Fd, name: &CStr) -> Sys<()> {
    // SAFETY: the name is NUL-terminated.
    done(i64::from(unsafe { libc::fremovexattr(fd.0, name.as_ptr()) }))
}

pub fn fget_xattr(fd: &Fd, name: &CStr) -> Sys<Vec<u8>> {
    let mut value = vec![0u8; 4_096];
    // SAFETY: the name is NUL-terminated, `value` is writable for its length.
    let result = unsafe { libc::fgetxattr(fd.0, name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(number(result as i64)?);
    Ok(value)
}

pub fn unlink_at(dir: &Fd, name: &CStr) -> Sys<()> {
    // SAFETY: `name` is NUL-terminated.
    done(i64::from(unsafe { libc::unlinkat(dir.0, name.as_ptr(), 0) }))
}

pub fn rmdir_at(dir: &Fd, name: &CStr) -> Sys<()> {
    // SAFETY: `name` is NUL-terminated.
    done(i64::from(unsafe { libc::unlinkat(dir.0, name.as_ptr(), libc::AT_REMOVEDIR) }))
}

pub fn mkdir_at(dir: &Fd, name: &CStr, mode: u32) -> Sys<()> {
    // SAFETY: `name` is NUL-terminated.
    done(i64::from(unsafe { libc::mkdirat(dir.0, name.as_ptr(), mode) }))
}

pub fn symlink_at(target: &CStr, dir: &Fd, name: &CStr) -> Sys<()> {
    // SAFETY: the strings are NUL-terminated.
    done(i64::from(unsafe { libc::symlinkat(target.as_ptr(), dir.0, name.as_ptr()) }))
}

/// With an empty name: of the symlink that `dir` itself is.
pub fn read_link_at(dir: &Fd, name: &CStr) -> Sys<Vec<u8>> {
    let mut target = vec![0u8; 4_096];
    // SAFETY: `name` is NUL-terminated, `target` is writable for its length.
    let result = unsafe { libc::readlinkat(dir.0, name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    target.truncate(number(result as i64)?);
    Ok(target)
}

pub fn link_at(from: &Fd, old: &CStr, to: &Fd, new: &CStr) -> Sys<()> {
    // SAFETY: the strings are NUL-terminated.
    done(i64::from(unsafe { libc::linkat(from.0, old.as_ptr(), to.0, new.as_ptr(), 0) }))
}

/// A further name for what `file` is.
pub fn link_fd(file: &Fd, to: &Fd, new: &CStr) -> Sys<()> {
    // SAFETY: the strings are NUL-terminated.
    let result = unsafe { libc::linkat(file.0, c"".as_ptr(), to.0, new.as_ptr(), libc::AT_EMPTY_PATH) };
    done(i64::from(result))
}

pub fn rename_at(from: &Fd, old: &CStr, to: &Fd, new: &CStr, flags: u32) -> Sys<()> {
    // SAFETY: the strings are NUL-terminated.
    let result =
        unsafe { libc::syscall(libc::SYS_renameat2, from.0, old.as_ptr(), to.0, new.as_ptr(), flags) };
    done(result)
}

/// The group that files made from now on by this thread belong to.
pub fn set_fs_gid(gid: u32) {
    // SAFETY: a call with a number, for this thread alone.
    unsafe { libc::setfsgid(gid) };
}

/// Calls `entry` with the name, inode number and type (`DT_*`) of everything that a directory lists from its position on;
/// `buffer` is what getdents64(2) fills. The first error ends it.
pub fn each_entry(dir: &Fd, buffer: &mut [u8], mut entry: impl FnMut(&CStr, u64, u8) -> Sys<()>) -> Sys<()> {
    loop {
        // SAFETY: `buffer` is writable for its length.
        let result = unsafe { libc::syscall(libc::SYS_getdents64, dir.0, buffer.as_mut_ptr(), buffer.len()) };
        let end = number(result)?;
        if end == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at < end {
            // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
            let mut ino = [0u8; 8];
            ino.copy_from_slice(&buffer[at..at + 8]);
            let length = usize::from(u16::from_le_bytes([buffer[at + 16], buffer[at + 17]]));
            let kind = buffer[at + 18];
            let name = CStr::from_bytes_until_nul(&buffer[at + 19..at + length]).map_err(|_| libc::EIO)?;
            if name != c"." && name != c".." {
                entry(name, u64::from_le_bytes(ino), kind)?;
            }
            at += length;
        }
    }
}

/// What a directory lists: name, inode number, type (`DT_*`).
pub fn list(dir: &Fd) -> Sys<Vec<(String, u64, u8)>> {
    let mut found = Vec::new();
    each_entry(dir, &mut vec![0u8; 32_768], |name, ino, kind| {
        found.push((name.to_string_lossy().into_owned(), ino, kind));
        Ok(())
    })?;
    Ok(found)
}

/// A shared mapping of a file, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    address: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes from the beginning, to read, and to write too if `write`.
    pub fn new(fd: &Fd, length: usize, write: bool) -> Sys<Mapping> {
        let protection = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a fresh mapping at an address that the kernel chooses.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.0, 0) };
        if address == libc::MAP_FAILED { Err(errno()) } else { Ok(Mapping { address, length }) }
    }

    /// Bytes from `offset`, through the mapping: EFAULT where a plain load would end the process (behind the end of
    /// the file, or an error of the file system).
    pub fn load(&self, offset: usize, length: usize) -> Sys<Vec<u8>> {
        let mut bytes = vec![0u8; length];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: self.at(offset, length), iov_len: length };
        // SAFETY: both vectors lie in this process, in memory that lives; the call checks every address itself.
        let result = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        match number(result as i64)? {
            got if got == length => Ok(bytes),
            _ => Err(libc::EFAULT),
        }
    }

    /// Stores bytes, byte by byte. Behind the end of the file that raises SIGBUS, which `say_sigbus` makes a message.
    pub fn store(&self, offset: usize, bytes: &[u8]) {
        let target = self.at(offset, bytes.len()).cast::<u8>();
        for (index, &byte) in bytes.iter().enumerate() {
            // SAFETY: within the mapping, which is writable and lives.
            unsafe { target.wrapping_add(index).write_volatile(byte) };
        }
    }

    /// Stores one word at once; `offset` is a multiple of 8.
    pub fn store_word(&self, offset: usize, word: u64) {
        assert!(offset.is_multiple_of(8), "an aligned word");
        // SAFETY: aligned and within the mapping, which is writable and lives.
        unsafe { self.at(offset, 8).cast::<u64>().write_volatile(word.to_le()) };
    }

    /// msync(MS_SYNC) of everything.
    pub fn sync(&self) -> Sys<()> {
        // SAFETY: exactly this mapping.
        done(i64::from(unsafe { libc::msync(self.address, self.length, libc::MS_SYNC) }))
    }

    fn at(&self, offset: usize, length: usize) -> *mut libc::c_void {
        assert!(offset + length <= self.length, "within the mapping");
        self.address.cast::<u8>().wrapping_add(offset).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly this mapping, which nobody uses any more.
        unsafe { libc::munmap(self.address, self.length) };
    }
}

/// Ends the process when one call takes longer than its time: a program that hangs in a mount says so and goes.
#[derive(Debug)]
pub struct Watchdog;

static CALL_STARTED: AtomicU64 = AtomicU64::new(0);

impl Watchdog {
    /// @param what - told when it fires; exit code 3.
    pub fn start(limit_seconds: u64, what: &'static (dyn Fn() -> String + Sync)) -> Watchdog {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(std::time::Duration::from_millis(200));
                let started = CALL_STARTED.load(Ordering::Relaxed);
                if started != 0 && now().saturating_sub(started) > limit_seconds * 1_000_000_000 {
                    let _ = super::say(&format!("HANGS for {limit_seconds} s: {}", what()));
                    std::process::exit(3);
                }
            }
        });
        Watchdog
    }

    /// A call begins.
    pub fn begin(&self) {
        CALL_STARTED.store(now(), Ordering::Relaxed);
    }

    pub fn end(&self) {
        CALL_STARTED.store(0, Ordering::Relaxed);
    }
}

extern "C" fn sigbus(_: i32) {
    let text = b"SIGBUS: a page of a mapping could not be had\n";
    // SAFETY: write and _exit may be called in a signal handler, and `text` is readable for its length.
    unsafe {
        libc::write(1, text.as_ptr().cast(), text.len());
        libc::_exit(4);
    }
}

/// A store to a page that cannot be had ends the process with a line and exit code 4.
pub fn say_sigbus() {
    let handler: extern "C" fn(i32) = sigbus;
    // SAFETY: the handler only calls what a handler may.
    unsafe { libc::signal(libc::SIGBUS, handler as libc::sighandler_t) };
}
