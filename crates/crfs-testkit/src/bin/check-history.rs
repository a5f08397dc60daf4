// SPDX-License-Identifier: GPL-2.0-or-later
//! `check-history FILE...`: reads the histories of the workers of one stress (stress-worker) and says whether one file
//! system could have answered so. Prints figures of each kind of call, then each violation with the calls around it.
//!
//! `--longest-ms N` (5,000): a call that took longer is a violation. Exit code 1 with violations, 2 with objects that
//! could not be judged.

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use crfs_testkit::history::{Record, check::check};
use support::{Arguments, Result, at, main_of, say};

const VIOLATIONS_SHOWN: usize = 10;

fn read(path: &Path, records: &mut Vec<Record>) -> Result<()> {
    for line in BufReader::new(at(path, "open", File::open(path))?).lines() {
        let line = at(path, "read", line)?;
        let record = Record::parse(&line).ok_or_else(|| format!("{}: no record: {line}", path.display()))?;
        records.push(record);
    }
    Ok(())
}

fn body(arguments: Arguments) -> Result<()> {
    let limit = arguments.number("longest-ms", 5_000)? * 1_000_000;
    let mut records = Vec::new();
    let mut index = 0;
    while let Ok(path) = arguments.operand(index, "FILE") {
        read(&path, &mut records)?;
        index += 1;
    }
    let mut report = check(&records);
    let mut longest = 0;
    for (kind, figures) in &report.kinds {
        longest = longest.max(figures.longest);
        say(&format!(
            "{:12} {:8} calls, {:7} refused, longest {:9.3} ms",
            kind.word(),
            figures.calls,
            figures.refused,
            figures.longest as f64 / 1e6
        ))?;
    }
    for record in records.iter().filter(|record| record.end - record.start > limit).take(20) {
        let took = (record.end - record.start) / 1_000_000;
        report.violations.push(format!("a call took {took} ms: {}", record.line()));
    }
    say(&format!(
        "{} records, {} objects, longest call {:.3} ms: {} violations, {} undecided",
        records.len(),
        report.objects,
        longest as f64 / 1e6,
        report.violations.len(),
        report.undecided.len()
    ))?;
    for text in report.violations.iter().take(VIOLATIONS_SHOWN) {
        say(&format!("VIOLATION {text}"))?;
    }
    for text in report.undecided.iter().take(VIOLATIONS_SHOWN) {
        say(&format!("UNDECIDED {text}"))?;
    }
    if !report.violations.is_empty() {
        return Err(format!("{} violations", report.violations.len()));
    }
    if !report.undecided.is_empty() {
        say("not everything could be judged")?;
        std::process::exit(2);
    }
    Ok(())
}

fn main() -> ExitCode {
    main_of(body)
}
