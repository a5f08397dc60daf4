// SPDX-License-Identifier: GPL-2.0-or-later
//! `fill DIR`: writes files of `--size` bytes (65,536) until a call answers ENOSPC, and prints how many were accepted
//! whole and which call failed; any other error is a failure. `fill DIR --verify N` checks the first N files, byte by
//! byte. Each write is one system call, and close is checked too: an error that comes later than the call is a fault.

mod support;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use support::{Arguments, Random, Result, at, main_of, say};

/// `Err` holds the call that failed.
fn write_one(path: &Path, bytes: &[u8]) -> std::result::Result<(), (&'static str, io::Error)> {
    let file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| ("create", error))?;
    let mut offset = 0;
    while offset < bytes.len() {
        offset += file.write_at(&bytes[offset..], offset as u64).map_err(|error| ("write", error))?;
    }
    // SAFETY: into_raw_fd gives the descriptor away, so it is closed once, here.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    if closed == 0 { Ok(()) } else { Err(("close", io::Error::last_os_error())) }
}

fn verify(directory: &Path, count: u64, size: usize) -> Result<()> {
    for number in 0..count {
        let path = directory.join(format!("fill_{number}"));
        let found = at(&path, "read", fs::read(&path))?;
        if found != Random::new(number).bytes(size) {
            return Err(format!("{} differs from what was accepted", path.display()));
        }
    }
    say(&format!("{count} files verified"))
}

fn body(arguments: Arguments) -> Result<()> {
    let directory = arguments.operand(0, "DIR")?;
    let size = arguments.number("size", 65_536)? as usize;
    if arguments.option("verify").is_some() {
        return verify(&directory, arguments.number("verify", 0)?, size);
    }
    for number in 0..u64::MAX {
        let path = directory.join(format!("fill_{number}"));
        let Err((call, error)) = write_one(&path, &Random::new(number).bytes(size)) else { continue };
        if error.raw_os_error() != Some(libc::ENOSPC) || call == "close" {
            return Err(format!("{call} {}: {error}, expected ENOSPC from the call itself", path.display()));
        }
        return say(&format!("{number} files accepted, then {call} said ENOSPC"));
    }
    Ok(())
}

fn main() -> ExitCode {
    main_of(body)
}
