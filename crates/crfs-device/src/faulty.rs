// SPDX-License-Identifier: GPL-2.0-or-later
//! Fails chosen operations of another device with EIO, or makes them slow, to test what the engine does then.

use crate::BlockDevice;
use crate::at_once::{must_not_wait, would_wait};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts down to one failing operation of each kind. After that one the device works again, as a device does whose cable was
/// touched: whoever saw the failure must not go on as if nothing had happened.
pub struct FaultyDevice<D> {
    inner: D,
    reads_left: AtomicU64,
    writes_left: AtomicU64,
    flushes_left: AtomicU64,
    is_slow: AtomicBool,
}

/// Never: no counter reaches it.
const NEVER: u64 = u64::MAX;

impl<D: BlockDevice> FaultyDevice<D> {
    pub fn new(inner: D) -> FaultyDevice<D> {
        let never = || AtomicU64::new(NEVER);
        FaultyDevice {
            inner,
            reads_left: never(),
            writes_left: never(),
            flushes_left: never(),
            is_slow: AtomicBool::new(false),
        }
    }

    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// From now on every read takes time, or does no longer.
    pub fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::SeqCst);
    }

    /// The read after `count` more reads fails.
    pub fn fail_read_after(&self, count: u64) {
        self.reads_left.store(count, Ordering::SeqCst);
    }

    /// The write (FUA or not) after `count` more writes fails, with nothing written.
    pub fn fail_write_after(&self, count: u64) {
        self.writes_left.store(count, Ordering::SeqCst);
    }

    /// The flush after `count` more flushes fails. A FUA write counts as a write only.
    pub fn fail_flush_after(&self, count: u64) {
        self.flushes_left.store(count, Ordering::SeqCst);
    }

    fn pass(counter: &AtomicU64) -> io::Result<()> {
        let before = counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            NEVER => None,
            0 => Some(NEVER),
            left => Some(left - 1),
        });
        if before == Ok(0) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl<D: BlockDevice> BlockDevice for FaultyDevice<D> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.is_slow.load(Ordering::SeqCst) && must_not_wait() {
            return Err(would_wait());
        }
        Self::pass(&self.reads_left)?;
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Self::pass(&self.writes_left)?;
        self.inner.write_at(offset, data)
    }

    fn flush(&self) -> io::Result<()> {
        Self::pass(&self.flushes_left)?;
        self.inner.flush()
    }

    fn write_fua(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Self::pass(&self.writes_left)?;
        self.inner.write_fua(offset, data)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.punch(offset, len)
    }
}
