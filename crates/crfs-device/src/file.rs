// SPDX-License-Identifier: GPL-2.0-or-later
//! An image file or a block device, held exclusively while it is open for writing.
//!
//! A file is locked with flock, a block device is opened with O_EXCL, which the kernel refuses while it is mounted. Linux
//! does not lock the file behind a loop device, so those are looked through by hand. I/O is buffered.

use crate::at_once::{must_not_wait, would_wait};
use crate::{BlockDevice, check_range};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Shared with other readers.
    ReadOnly,
    ReadWrite,
}

/// Why an image could not be opened or made.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{} is in use by another process{by}", path.display())]
    Busy { path: PathBuf, by: String },
    #[error("{} is neither a regular file nor a block device", .0.display())]
    NotAnImage(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    pub fn errno(&self) -> i32 {
        match self {
            OpenError::Busy { .. } => libc::EBUSY,
            OpenError::NotAnImage(_) => libc::EINVAL,
            OpenError::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// An open image. Closing it gives the lock back.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    size: u64,
    read_only: bool,
    is_block_device: bool,
    /// Cleared when the kernel or file system turns out not to know RWF_DSYNC, or hole punching.
    has_dsync: AtomicBool,
    has_punch: AtomicBool,
}

impl FileDevice {
    /// Opens an existing image.
    pub fn open(path: &Path, access: Access) -> Result<FileDevice, OpenError> {
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        // Looked at before opening: O_EXCL means something else for files, and opening a pipe would block.
        let kind = std::fs::metadata(path).map_err(io)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::NotAnImage(path.to_path_buf()));
        }
        let write = access == Access::ReadWrite;
        let exclusive = if kind.is_block_device() && write { libc::O_EXCL } else { 0 };
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | exclusive)
            .open(path)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EBUSY) => OpenError::Busy { path: path.to_path_buf(), by: " or mounted".into() },
                _ => io(source),
            })?;
        FileDevice::adopt(file, path, access)
    }

    /// Makes an image file of `size` bytes, sparse, or sets the size of an existing one (which only ever grows: a
    /// shorter `size` is an error). Its content is kept, so that `mkfs` can judge it.
    pub fn create(path: &Path, size: u64) -> Result<FileDevice, OpenError> {
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(io)?;
        let mut device = FileDevice::adopt(file, path, Access::ReadWrite)?;
        if device.size > size {
            let text = format!("it has {} bytes already, more than the {size} asked for", device.size);
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        if device.size < size {
            if device.is_block_device {
                let text = format!("the device has only {} bytes of the {size} asked for", device.size);
                return Err(io(io::Error::new(io::ErrorKind::InvalidInput, text)));
            }
            device.file.set_len(size).map_err(io)?;
            device.size = size;
        }
        Ok(device)
    }

    fn adopt(file: File, path: &Path, access: Access) -> Result<FileDevice, OpenError> {
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        let metadata = file.metadata().map_err(io)?;
        let is_block_device = metadata.file_type().is_block_device();
        if !is_block_device && !metadata.is_file() {
            return Err(OpenError::NotAnImage(path.to_path_buf()));
        }
        lock(&file, access).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Busy { path: path.to_path_buf(), by: String::new() },
            _ => io(source),
        })?;
        if let Some(name) =
            loop_device_of(metadata.dev(), metadata.ino(), access).filter(|_| !is_block_device)
        {
            return Err(OpenError::Busy {
                path: path.to_path_buf(),
                by: format!(" (loop device /dev/{name})"),
            });
        }
        let size = if is_block_device { block_device_size(&file).map_err(io)? } else { metadata.len() };
        Ok(FileDevice {
            file,
            size,
            read_only: access == Access::ReadOnly,
            is_block_device,
            has_dsync: AtomicBool::new(true),
            has_punch: AtomicBool::new(true),
        })
    }

    /// Fills `buf` with what the kernel has in memory. Whatever else comes of it is for a read that may wait to find out.
    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        // SAFETY: `part` describes `buf`, which is ours alone and outlives the call.
        let done = unsafe {
            libc::preadv2(self.file.as_raw_fd(), &part, 1, offset as libc::off_t, libc::RWF_NOWAIT)
        };
        if usize::try_from(done) == Ok(buf.len()) { Ok(()) } else { Err(would_wait()) }
    }

    fn check_writable(&self, offset: u64, len: usize) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        check_range(self.size, offset, len)
    }

    /// One `pwritev2` of all of `data` with RWF_DSYNC; what is left of a short write goes on the same way.
    fn write_dsync(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
            // SAFETY: `part` describes `data`, which outlives the call, and pwritev2 only reads it.
            let done = unsafe {
                libc::pwritev2(self.file.as_raw_fd(), &part, 1, offset as libc::off_t, libc::RWF_DSYNC)
            };
            match usize::try_from(done) {
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(done) => {
                    offset += done as u64;
                    data = &data[done..];
                }
            }
        }
        Ok(())
    }
}

fn lock(file: &File, access: Access) -> io::Result<()> {
    let how = if access == Access::ReadOnly { libc::LOCK_SH } else { libc::LOCK_EX };
    // SAFETY: flock takes no pointers; the descriptor is open.
    if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// The loop device (`loop3`) that has this file behind it. A reader does not mind one that is read-only itself.
fn loop_device_of(dev: u64, ino: u64, access: Access) -> Option<String> {
    let trimmed = |path: PathBuf| std::fs::read(path).ok().map(|bytes| bytes.trim_ascii().to_vec());
    for entry in std::fs::read_dir("/sys/block").ok()?.flatten() {
        let dir = entry.path();
        let Some(backing) = trimmed(dir.join("loop/backing_file")) else { continue };
        let Ok(metadata) = std::fs::metadata(Path::new(std::ffi::OsStr::from_bytes(&backing))) else {
            continue;
        };
        let same = metadata.dev() == dev && metadata.ino() == ino;
        let harmless = access == Access::ReadOnly && trimmed(dir.join("ro")).is_some_and(|ro| ro == b"1");
        if same && !harmless {
            return Some(entry.file_name().to_string_lossy().into_owned());
        }
    }
    None
}

fn block_device_size(file: &File) -> io::Result<u64> {
    /// `_IOR(0x12, 114, size_t)`: size in bytes.
    const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
    let mut size: u64 = 0;
    // SAFETY: the ioctl writes one u64 to the address, which points to one.
    if unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64 as _, &mut size as *mut u64) } == 0 {
        return Ok(size);
    }
    Err(io::Error::last_os_error())
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENOTTY))
}

impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, buf.len())?;
        if must_not_wait() {
            return self.read_cached(offset, buf);
        }
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_writable(offset, data.len())?;
        self.file.write_all_at(data, offset)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let total = parts.iter().map(|part| part.len()).sum();
        self.check_writable(offset, total)?;
        let mut at = offset;
        for group in parts.chunks(libc::UIO_MAXIOV as usize) {
            let len: usize = group.iter().map(|part| part.len()).sum();
            let done = write_group(&self.file, at, group)?;
            if done < len {
                finish_short_write(&self.file, at, group, done)?;
            }
            at += len as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn write_fua(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_writable(offset, data.len())?;
        if self.has_dsync.load(Ordering::Relaxed) {
            match self.write_dsync(offset, data) {
                Err(error) if is_unsupported(&error) => self.has_dsync.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        self.file.write_all_at(data, offset)?;
        self.file.sync_data()
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let in_range = usize::try_from(len).map_err(io::Error::other)?;
        self.check_writable(offset, in_range)?;
        if len == 0 || !self.has_punch.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: fallocate takes no pointers; the descriptor is open.
        let failed = unsafe {
            libc::fallocate(self.file.as_raw_fd(), mode, offset as libc::off_t, len as libc::off_t)
        } != 0;
        let error = io::Error::last_os_error();
        match failed {
            false => Ok(()),
            true if is_unsupported(&error) => {
                self.has_punch.store(false, Ordering::Relaxed);
                Ok(())
            }
            true => Err(error),
        }
    }
}

/// One `pwritev`; returns the bytes written.
fn write_group(file: &File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        // SAFETY: IoSlice has the layout of iovec, the slices outlive the call, and the count is at most UIO_MAXIOV.
        let done = unsafe {
            libc::pwritev(
                file.as_raw_fd(),
                parts.as_ptr().cast(),
                parts.len() as libc::c_int,
                offset as libc::off_t,
            )
        };
        match usize::try_from(done) {
            Ok(done) => return Ok(done),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn finish_short_write(file: &File, offset: u64, parts: &[IoSlice<'_>], done: usize) -> io::Result<()> {
    let mut start = 0;
    for part in parts {
        let end = start + part.len();
        if end > done {
            let skip = done.saturating_sub(start);
            file.write_all_at(&part[skip..], offset + (start + skip) as u64)?;
        }
        start = end;
    }
    Ok(())
}
