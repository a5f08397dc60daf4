// SPDX-License-Identifier: GPL-2.0-or-later
//! `kernel-rules SCENARIO A B`: A and B are two mounts of one file system. Each scenario brings about one of the races or
//! deadlocks that a rule about the kernel's caches is there for (docs/architecture.md), and then looks at the result.
//!
//! The link of A is `--delay-ms` long each way: what one side does while a message is under way is a race that comes
//! out the same way every time. Exit code 0 when every look was right, 1 with a line that says what was wrong, 3 with a
//! line HANGS when a call did not come back.

mod ground;
mod mapped;
mod names;
mod pages;
mod requests;
#[path = "../support/mod.rs"]
mod support;

use ground::Ground;
use std::process::ExitCode;
use support::{Arguments, Result, main_of};

type Scenario = fn(&Ground) -> Result<()>;

/// Every scenario, by name.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("changes-seen", names::changes_seen),
    ("absent-names", names::absent_names),
    ("listings", names::listings),
    ("evicted-names", names::evicted_names),
    ("create-waits", names::create_waits),
    ("chmod-waits", names::chmod_waits),
    ("fresh-inodes", names::fresh_inodes),
    ("fresh-names", names::fresh_names),
    ("removed-other", names::removed_other),
    ("torn-renames", names::torn_renames),
    ("handed-over", pages::handed_over),
    ("other-pages", pages::other_pages),
    ("read-waits", pages::read_waits),
    ("write-waits", pages::write_waits),
    ("direct-read-waits", pages::direct_read_waits),
    ("late-pages", pages::late_pages),
    ("late-attributes", pages::late_attributes),
    ("leaving-read", pages::leaving_read),
    ("stores-seen", mapped::stores_seen),
    ("stores-after-stat", mapped::stores_after_stat),
    ("full-background", mapped::full_background),
    ("signals", requests::signals),
    ("session-ends", requests::session_ends),
];

fn body(arguments: Arguments) -> Result<()> {
    let name = arguments.operand(0, "SCENARIO")?;
    let known = SCENARIOS.iter().find(|(known, _)| name.as_os_str() == *known);
    let (name, scenario) = known.ok_or("no such scenario")?;
    scenario(&Ground::new(name, &arguments)?)
}

fn main() -> ExitCode {
    main_of(body)
}
