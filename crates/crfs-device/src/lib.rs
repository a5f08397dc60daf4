// SPDX-License-Identifier: GPL-2.0-or-later
//! What an image lives on: a file or block device in earnest; memory, a recorder and a fault injector in tests.
//!
//! Devices are dumb: bytes at offsets, and an order that `flush` enforces. Who may write where is the engine's business.

mod at_once;
mod faulty;
mod file;
mod memory;
mod recording;

pub use at_once::at_once;
pub use faulty::FaultyDevice;
pub use file::{Access, FileDevice, OpenError};
pub use memory::MemoryDevice;
pub use recording::{RecordedOp, RecordingDevice};

use std::io::{self, IoSlice};

/// Random access to an image. All methods take `&self` and may be called from several threads at once; overlapping
/// writes in flight at the same time are the caller's mistake.
pub trait BlockDevice: Send + Sync {
    /// Bytes; fixed while the device is open.
    fn size(&self) -> u64;

    /// Whether every write fails with EROFS.
    fn is_read_only(&self) -> bool;

    /// Fills `buf`. A range that ends past the end of the device is an error (`UnexpectedEof`), and so is a read that
    /// would have to wait inside `at_once` (`WouldBlock`).
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data`. Durable only after the next `flush`, and in no order before it. A range that ends past
    /// the end of the device is an error.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Writes the parts one behind the other, in as few system calls as possible.
    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut at = offset;
        for part in parts {
            self.write_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Returns when everything written before is durable.
    fn flush(&self) -> io::Result<()>;

    /// Writes `data` and returns when it is durable. Says nothing about other writes that no `flush` covered.
    fn write_fua(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset, data)?;
        self.flush()
    }

    /// Gives the bytes of a range back to whatever holds the image; they read as zeros or as before. Nothing happens where
    /// that is not supported.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
}

impl<D: BlockDevice + ?Sized> BlockDevice for std::sync::Arc<D> {
    fn size(&self) -> u64 {
        (**self).size()
    }
    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, data)
    }
    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (**self).write_vectored_at(offset, parts)
    }
    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }
    fn write_fua(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        (**self).write_fua(offset, data)
    }
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        (**self).punch(offset, len)
    }
}

/// The error of a range that does not lie in the device.
fn check_range(size: u64, offset: u64, len: usize) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("range of {len} bytes at {offset} is outside the device of {size} bytes"),
        )),
    }
}
