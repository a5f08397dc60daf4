// SPDX-License-Identifier: GPL-2.0-or-later
//! `fsync-writer DIR`: creates file after file, writes, fsyncs, and only then prints `NAME SIZE`; ends quietly at the
//! first error (the server was killed). `fsync-writer DIR --verify LOG` reads such lines and fails if one of the files
//! is missing or differs: what was acknowledged as durable must be there.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use support::{Arguments, Random, Result, at, main_of, say, sync};

fn content(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let size = match number % 4 {
        0 => random.below(2_048),
        1 => random.below(4_097),
        2 => 4_096 * random.below(8),
        _ => random.below(300_000),
    };
    random.bytes(size as usize)
}

fn write_one(directory: &Path, number: u64) -> io::Result<usize> {
    let bytes = content(number);
    let file: File =
        OpenOptions::new().write(true).create_new(true).open(directory.join(format!("durable_{number}")))?;
    file.write_all_at(&bytes, 0)?;
    sync(&file)?;
    Ok(bytes.len())
}

fn verify(directory: &Path, log: &Path) -> Result<()> {
    let text = at(log, "read", fs::read_to_string(log))?;
    let mut count = 0u64;
    // A last line without its newline was cut by the kill and promises nothing.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let number: u64 = line
            .split(' ')
            .next()
            .and_then(|name| name.strip_prefix("durable_"))
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| format!("not a line of this program: {line}"))?;
        let path = directory.join(format!("durable_{number}"));
        let found = at(&path, "read", fs::read(&path))?;
        if found != content(number) {
            return Err(format!("{} differs from what was acknowledged", path.display()));
        }
        count += 1;
    }
    say(&format!("{count} files verified"))
}

fn body(arguments: Arguments) -> Result<()> {
    let directory = arguments.operand(0, "DIR")?;
    if let Some(log) = arguments.option("verify") {
        return verify(&directory, Path::new(log));
    }
    for number in 0..arguments.number("count", u64::MAX)? {
        let Ok(size) = write_one(&directory, number) else { return Ok(()) };
        say(&format!("durable_{number} {size}"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    main_of(body)
}
