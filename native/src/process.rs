// SPDX-License-Identifier: GPL-2.0-or-later
//! What Node cannot do with its own process, or see of others.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use napi::bindgen_prelude::Uint8Array;
use napi::{Error, Result};
use napi_derive::napi;

/// Replaces this process by `program` with `arguments`: the same number, environment, directory, and standard input and
/// output. Returns only with an error.
#[napi]
pub fn replace_process(program: String, arguments: Vec<String>) -> Result<()> {
    // Node marks every descriptor that it finds at its start to be closed at exec.
    for descriptor in 0..=2 {
        // SAFETY: setting the flags of a descriptor touches no memory; one that is not open is an error that says nothing.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
    }
    let error = Command::new(&program).args(arguments).exec();
    Err(Error::from_reason(format!("{program}: {error}")))
}

/// The inode number of a directory as far as the kernel has it cached, without a request to whoever serves it; see
/// `crfs_fuse::cached_inode`.
#[napi]
pub fn cached_inode(start: String, below: Uint8Array) -> Option<f64> {
    crfs_fuse::cached_inode(Path::new(&start), &below).map(|inode| inode as f64)
}
