// SPDX-License-Identifier: GPL-2.0-or-later
//! Records every write and flush, so that a test can build each image that a power cut could have left behind.
//!
//! The model: a flush makes everything before it durable. Of the writes after the last flush, any subset may have reached the
//! device, in any order. A FUA write is durable by itself once it has returned.

use crate::{BlockDevice, MemoryDevice};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One operation, in the order in which it was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedOp {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    /// A write that was durable when it returned.
    Fua {
        offset: u64,
        data: Vec<u8>,
    },
    Punch {
        offset: u64,
        len: u64,
    },
    Flush,
}

/// A memory device that keeps its history from the moment it was wrapped.
pub struct RecordingDevice {
    base: MemoryDevice,
    current: MemoryDevice,
    ops: Mutex<Vec<RecordedOp>>,
}

impl RecordingDevice {
    pub fn new(base: MemoryDevice) -> RecordingDevice {
        RecordingDevice { current: base.clone(), base, ops: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RecordedOp>> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations have been recorded. A test notes it when something was promised to be durable.
    pub fn position(&self) -> usize {
        self.lock().len()
    }

    /// The history so far.
    pub fn ops(&self) -> Vec<RecordedOp> {
        self.lock().clone()
    }

    /// Positions right before and right after each flush and FUA write, and the end: the cuts at which what is
    /// durable changes.
    pub fn boundaries(&self) -> Vec<usize> {
        let ops = self.lock();
        let mut cuts: Vec<usize> = ops
            .iter()
            .enumerate()
            .filter(|(_, op)| matches!(op, RecordedOp::Flush | RecordedOp::Fua { .. }))
            .flat_map(|(at, _)| [at, at + 1])
            .collect();
        cuts.push(ops.len());
        cuts.dedup();
        cuts
    }

    /// The image after the first `cut` operations, all of them applied.
    pub fn image_at(&self, cut: usize) -> MemoryDevice {
        self.crash_image(cut, |_| true)
    }

    /// An image that a power cut after `cut` operations could leave: everything up to the last flush, the FUA writes
    /// since, and of the other writes since those for whose position `reached` answers true.
    ///
    /// Applying them in recorded order loses no generality while concurrent writes do not overlap.
    pub fn crash_image(&self, cut: usize, mut reached: impl FnMut(usize) -> bool) -> MemoryDevice {
        let ops = self.lock();
        let ops = &ops[..cut.min(ops.len())];
        let durable = ops.iter().rposition(|op| *op == RecordedOp::Flush).unwrap_or(0);
        let image = self.base.clone();
        for (at, op) in ops.iter().enumerate() {
            let applied = match op {
                RecordedOp::Write { offset, data } if at < durable || reached(at) => {
                    image.write_at(*offset, data)
                }
                RecordedOp::Fua { offset, data } => image.write_at(*offset, data),
                RecordedOp::Punch { offset, len } if at < durable || reached(at) => {
                    image.punch(*offset, *len)
                }
                _ => Ok(()),
            };
            applied.expect("the same operation fitted the same device before");
        }
        image
    }
}

impl BlockDevice for RecordingDevice {
    fn size(&self) -> u64 {
        self.current.size()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.current.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut ops = self.lock();
        self.current.write_at(offset, data)?;
        ops.push(RecordedOp::Write { offset, data: data.to_vec() });
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.lock().push(RecordedOp::Flush);
        Ok(())
    }

    fn write_fua(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut ops = self.lock();
        self.current.write_at(offset, data)?;
        ops.push(RecordedOp::Fua { offset, data: data.to_vec() });
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut ops = self.lock();
        self.current.punch(offset, len)?;
        ops.push(RecordedOp::Punch { offset, len });
        Ok(())
    }
}
