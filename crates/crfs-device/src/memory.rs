// SPDX-License-Identifier: GPL-2.0-or-later
//! An image in memory, sparse, whose copies share what neither has changed: crash tests take thousands of them.

use crate::{BlockDevice, check_range};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

const PAGE: usize = 16 << 10;

type Pages = BTreeMap<u64, Arc<[u8; PAGE]>>;

/// A device in memory. Bytes never written are zero.
pub struct MemoryDevice {
    size: u64,
    pages: RwLock<Pages>,
}

impl MemoryDevice {
    pub fn new(size: u64) -> MemoryDevice {
        MemoryDevice { size, pages: RwLock::new(BTreeMap::new()) }
    }

    /// The content of an image file.
    pub fn from_file(path: &Path) -> io::Result<MemoryDevice> {
        let file = File::open(path)?;
        let device = MemoryDevice::new(file.metadata()?.len());
        let mut buf = vec![0; PAGE];
        let mut at = 0;
        while at < device.size {
            let len = PAGE.min((device.size - at) as usize);
            file.read_exact_at(&mut buf[..len], at)?;
            if buf[..len].iter().any(|byte| *byte != 0) {
                device.write_at(at, &buf[..len])?;
            }
            at += len as u64;
        }
        Ok(device)
    }

    /// Writes the content into a new sparse file.
    pub fn to_file(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.size)?;
        for (page, bytes) in self.read_pages().iter() {
            let at = page * PAGE as u64;
            let len = PAGE.min((self.size - at) as usize);
            file.write_all_at(&bytes[..len], at)?;
        }
        Ok(())
    }

    // A panic of another thread leaves the map sound: every step on it is a whole page.
    fn read_pages(&self) -> std::sync::RwLockReadGuard<'_, Pages> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for MemoryDevice {
    fn clone(&self) -> MemoryDevice {
        MemoryDevice { size: self.size, pages: RwLock::new(self.read_pages().clone()) }
    }
}

/// Cuts a byte range at page borders: (page, offset in page, range of the buffer).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let inside = (at % PAGE as u64) as usize;
        let count = (PAGE - inside).min(len - done);
        done += count;
        Some((at / PAGE as u64, inside, done - count..done))
    })
}

impl BlockDevice for MemoryDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, buf.len())?;
        let pages = self.read_pages();
        for (page, inside, range) in pieces(offset, buf.len()) {
            let len = range.len();
            match pages.get(&page) {
                Some(bytes) => buf[range].copy_from_slice(&bytes[inside..inside + len]),
                None => buf[range].fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(self.size, offset, data.len())?;
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        for (page, inside, range) in pieces(offset, data.len()) {
            let bytes = Arc::make_mut(pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            bytes[inside..inside + range.len()].copy_from_slice(&data[range]);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let len_usize = usize::try_from(len).map_err(io::Error::other)?;
        check_range(self.size, offset, len_usize)?;
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        for (page, inside, range) in pieces(offset, len_usize) {
            if range.len() == PAGE {
                pages.remove(&page);
            } else if let Some(bytes) = pages.get_mut(&page) {
                Arc::make_mut(bytes)[inside..inside + range.len()].fill(0);
            }
        }
        Ok(())
    }
}
