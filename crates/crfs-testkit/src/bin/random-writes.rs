// SPDX-License-Identifier: GPL-2.0-or-later
//! `random-writes FILE --seed N --operations N`: writes, appends, truncates, preallocates, punches, maps, reopens and
//! syncs one file at random, next to a copy in memory, and compares the whole file now and then. The final content
//! goes to `--reference FILE`, so that the file can be compared again elsewhere and later.
//!
//! `--drop-caches` lets some comparisons read what the kernel does not hold (needs root).

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use support::{Arguments, Random, Result, at, main_of, say, sync};

/// Offsets stay below this; appends may pass it.
const OFFSET_MAX: u64 = 300_000;
const COMPARE_EVERY: u64 = 10;

struct Subject {
    path: PathBuf,
    file: File,
    model: Vec<u8>,
    /// What was done, for the report of a difference.
    log: Vec<String>,
}

impl Subject {
    fn open(path: &Path, create: bool) -> Result<File> {
        let opened = OpenOptions::new().read(true).write(true).create(create).truncate(create).open(path);
        at(path, "open", opened)
    }

    fn resize(&mut self, size: u64) -> Result<()> {
        at(&self.path, "truncate", self.file.set_len(size))?;
        self.model.resize(size as usize, 0);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        at(&self.path, "write", self.file.write_all_at(bytes, offset))?;
        let end = offset as usize + bytes.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file = at(&self.path, "open", OpenOptions::new().append(true).open(&self.path))?;
        at(&self.path, "append", file.write_all(bytes))?;
        self.model.extend_from_slice(bytes);
        Ok(())
    }

    fn fallocate(&mut self, mode: i32, offset: u64, length: u64) -> Result<()> {
        // SAFETY: the descriptor is open, the other arguments are numbers.
        let result = unsafe {
            libc::fallocate(self.file.as_raw_fd(), mode, offset as libc::off_t, length as libc::off_t)
        };
        let done = if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        at(&self.path, "fallocate", done)?;
        let end = (offset + length) as usize;
        if mode & libc::FALLOC_FL_PUNCH_HOLE != 0 {
            let end = end.min(self.model.len());
            if (offset as usize) < end {
                self.model[offset as usize..end].fill(0);
            }
        } else if mode & libc::FALLOC_FL_KEEP_SIZE == 0 && self.model.len() < end {
            self.model.resize(end, 0);
        }
        Ok(())
    }

    fn store_mapped(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        let length = self.model.len();
        // SAFETY: a fresh shared mapping of an open file over its whole length, which nobody changes meanwhile; it is
        // written within its bounds, synced and unmapped before it goes out of scope.
        let result = unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.file.as_raw_fd(),
                0,
            );
            if address == libc::MAP_FAILED {
                -1
            } else {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), address.cast::<u8>().add(offset), bytes.len());
                let synced = libc::msync(address, length, libc::MS_SYNC);
                libc::munmap(address, length);
                synced
            }
        };
        let done = if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        at(&self.path, "mmap", done)?;
        self.model[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn compare(&self) -> Result<()> {
        let found = at(&self.path, "read", fs::read(&self.path))?;
        if found == self.model {
            return Ok(());
        }
        let first = found.iter().zip(&self.model).position(|(one, other)| one != other);
        let last: Vec<&str> = self.log.iter().rev().take(20).map(String::as_str).collect();
        Err(format!(
            "{} differs: {} bytes instead of {}, first difference at {first:?}; the last operations, newest first: {}",
            self.path.display(),
            found.len(),
            self.model.len(),
            last.join(", ")
        ))
    }

    fn step(&mut self, random: &mut Random) -> Result<()> {
        let offset = random.below(OFFSET_MAX);
        let reach = *random.pick(&[10, 5_000, 70_000]);
        let length = 1 + random.below(reach);
        let kind = random.below(14);
        self.log.push(format!("{kind} {offset}+{length} of {}", self.model.len()));
        match kind {
            0..=3 => self.write(offset, &random.bytes(length as usize)),
            4 => self.append(&random.bytes(length as usize / 10 + 1)),
            5 => self.resize(offset),
            6 => self.resize(offset % 3_000),
            7 => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                self.fallocate(mode, offset, length)
            }
            8 => self.fallocate(*random.pick(&[0, libc::FALLOC_FL_KEEP_SIZE]), offset, length),
            9 | 10 if self.model.len() > 1 => {
                let start = random.below(self.model.len() as u64) as usize;
                let length = (length as usize).min(self.model.len() - start);
                self.store_mapped(start, &random.bytes(length))
            }
            11 => {
                self.file = Subject::open(&self.path, false)?;
                Ok(())
            }
            12 => at(&self.path, "fsync", sync(&self.file)),
            _ => self.compare(),
        }
    }
}

fn body(arguments: Arguments) -> Result<()> {
    let path = arguments.operand(0, "FILE")?;
    let mut random = Random::new(arguments.number("seed", 1)?);
    let mut subject = Subject { file: Subject::open(&path, true)?, path, model: Vec::new(), log: Vec::new() };
    for number in 0..arguments.number("operations", 500)? {
        subject.step(&mut random)?;
        if number % COMPARE_EVERY == 0 {
            if arguments.flag("drop-caches") && random.chance(20) {
                let switch = Path::new("/proc/sys/vm/drop_caches");
                at(switch, "write", fs::write(switch, "1"))?;
            }
            subject.compare()?;
        }
    }
    at(&subject.path, "fsync", sync(&subject.file))?;
    subject.compare()?;
    if let Some(reference) = arguments.option("reference") {
        at(Path::new(reference), "write", fs::write(reference, &subject.model))?;
    }
    say(&format!("{} bytes compared", subject.model.len()))
}

fn main() -> ExitCode {
    main_of(body)
}
