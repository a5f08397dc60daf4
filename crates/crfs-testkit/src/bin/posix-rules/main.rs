// SPDX-License-Identifier: GPL-2.0-or-later
//! `posix-rules A B [--only NAME]... [--skip NAME]... [--large N]`: A and B are two directories that are one, two mounts or
//! the same local directory twice. Each check works through A and looks through B at a rule of POSIX or of Linux.
//!
//! One line a check: `NAME: right`, or `NAME: WRONG: what was expected and what came`. Exit code 1 when any is wrong.
//! Needs root: some steps are an ordinary user's, others need devices and handles.

mod ground;
mod io;
mod listing;
mod names;
mod orphans;
mod rights;
mod space;
#[path = "../support/mod.rs"]
mod support;
mod times;

use ground::Ground;
use std::process::ExitCode;
use support::{Arguments, Result, main_of, say};

type Check = fn(&Ground) -> Result<()>;

/// Every check, by name.
const CHECKS: &[(&str, Check)] = &[
    ("special-files", names::special_files),
    ("rename-noreplace", names::rename_noreplace),
    ("rename-exchange", names::rename_exchange),
    ("tmpfile", names::tmpfile),
    ("link-limit", names::link_limit),
    ("hash-collisions", names::hash_collisions),
    ("directory-links", names::directory_links),
    ("preallocation", space::preallocation),
    ("punch-and-zero", space::punch_and_zero),
    ("collapse-and-insert", space::collapse_and_insert),
    ("holes", space::holes),
    ("copy-range", space::copy_range),
    ("file-size-limit", space::file_size_limit),
    ("setgid-directories", rights::setgid_directories),
    ("suid-clearing", rights::suid_clearing),
    ("sgid-without-x", rights::sgid_without_x),
    ("sticky-directories", rights::sticky_directories),
    ("acl-access", rights::acl_access),
    ("acl-default", rights::acl_default),
    ("xattrs", rights::xattrs),
    ("birth-time", times::birth_time),
    ("set-times", times::set_times_by_hand),
    ("change-times", times::change_times),
    ("relatime", times::relatime),
    ("no-access-time", times::no_access_time),
    ("changing-listing", listing::changing_listing),
    ("large-directory", listing::large_directory),
    ("mappings", io::mappings),
    ("append", io::append),
    ("unlinked-open", orphans::unlinked_open),
];

fn known(name: &str) -> bool {
    CHECKS.iter().any(|(known, _)| *known == name)
}

fn body(arguments: Arguments) -> Result<()> {
    let (a, b) = (arguments.operand(0, "A")?, arguments.operand(1, "B")?);
    let large = arguments.number("large", 100_000)?;
    let names = |option: &str| -> Result<Vec<String>> {
        let names: Vec<String> =
            arguments.options(option).map(|name| name.to_string_lossy().into_owned()).collect();
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("no such check: {name}")),
            None => Ok(names),
        }
    };
    let (only, skip) = (names("only")?, names("skip")?);
    // SAFETY: a call with a number.
    unsafe { libc::umask(0o022) };
    let mut wrong = 0;
    for (name, check) in CHECKS {
        let is_chosen = only.is_empty() || only.iter().any(|chosen| chosen == name);
        if !is_chosen || skip.iter().any(|skipped| skipped == name) {
            continue;
        }
        match Ground::new(&a, &b, name, large).and_then(|ground| check(&ground)) {
            Ok(()) => say(&format!("{name}: right"))?,
            Err(message) => {
                wrong += 1;
                say(&format!("{name}: WRONG: {message}"))?;
            }
        }
    }
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} wrong")) }
}

fn main() -> ExitCode {
    main_of(body)
}
