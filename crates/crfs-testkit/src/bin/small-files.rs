// SPDX-License-Identifier: GPL-2.0-or-later
//! `small-files DIR --count N`: creates, writes and closes N files of `--size` bytes (1,024) directly in DIR, or in
//! directories of `--per-directory` files each, then with `--fsync` fsyncs DIR. Prints seconds and files a second.
//!
//! The name of a file is its number, its content is the number in decimal, repeated: a reader can check each.

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Instant;
use support::{Arguments, Result, at, main_of, say, sync};

fn content(number: u64, size: usize) -> Vec<u8> {
    let word = format!("{number}\n");
    word.as_bytes().iter().copied().cycle().take(size).collect()
}

fn body(arguments: Arguments) -> Result<()> {
    let root = arguments.operand(0, "DIR")?;
    let count = arguments.number("count", 10_000)?;
    let size = arguments.number("size", 1_024)? as usize;
    let per_directory = arguments.number("per-directory", u64::MAX)?;
    let start = Instant::now();
    let mut directory = root.clone();
    for number in 0..count {
        if per_directory != u64::MAX && number % per_directory == 0 {
            directory = root.join(format!("{:06}", number / per_directory));
            at(&directory, "mkdir", fs::create_dir(&directory))?;
        }
        let path = directory.join(format!("{number:07}"));
        let file = at(&path, "create", OpenOptions::new().write(true).create_new(true).open(&path))?;
        if size > 0 {
            at(&path, "write", file.write_all_at(&content(number, size), 0))?;
        }
    }
    if arguments.flag("fsync") {
        let handle = at(&root, "open", File::open(&root))?;
        at(&root, "fsync", sync(&handle))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    say(&format!("{seconds:.3} s, {:.0} files/s", count as f64 / seconds))
}

fn main() -> ExitCode {
    main_of(body)
}
