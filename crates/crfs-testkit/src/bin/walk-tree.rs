// SPDX-License-Identifier: GPL-2.0-or-later
//! `walk-tree DIR`: lists every directory and lstats every entry, as `ls -lR` does, without the cost of `ls`; with
//! `--read` it reads every file too. Prints entries, bytes and seconds.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::process::ExitCode;
use std::time::Instant;
use support::{Arguments, Result, at, main_of, say};

fn body(arguments: Arguments) -> Result<()> {
    let root = arguments.operand(0, "DIR")?;
    let read = arguments.flag("read");
    let start = Instant::now();
    let (mut entries, mut bytes) = (0u64, 0u64);
    let mut buffer = vec![0u8; 1 << 20];
    let mut pending = vec![root];
    while let Some(directory) = pending.pop() {
        for entry in at(&directory, "readdir", fs::read_dir(&directory))? {
            let path = at(&directory, "readdir", entry)?.path();
            let meta = at(&path, "lstat", fs::symlink_metadata(&path))?;
            entries += 1;
            if meta.is_dir() {
                pending.push(path);
            } else if read && meta.is_file() {
                let mut file = at(&path, "open", File::open(&path))?;
                loop {
                    match at(&path, "read", file.read(&mut buffer))? {
                        0 => break,
                        length => bytes += length as u64,
                    }
                }
            }
        }
    }
    say(&format!("{entries} entries, {bytes} bytes, {:.3} s", start.elapsed().as_secs_f64()))
}

fn main() -> ExitCode {
    main_of(body)
}
