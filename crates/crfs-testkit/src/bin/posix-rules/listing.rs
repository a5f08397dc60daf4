// SPDX-License-Identifier: GPL-2.0-or-later
//! Listings: each name that stays is listed once while others come and go, and a large directory.

use crate::ground::{Ground, Said, holds, same};
use crate::support::Result;
use crate::support::sys::{c, each_entry, open_at, unlink_at};
use std::collections::HashMap;

pub fn changing_listing(ground: &Ground) -> Result<()> {
    const STAY: usize = 2_000;
    for number in 0..STAY {
        ground.file(&format!("stays-{number}"))?;
        ground.file(&format!("goes-{number}"))?;
    }
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut step = 0;
    each_entry(
        &open_at(&ground.at_b, c".", libc::O_DIRECTORY, 0).said("open")?,
        &mut [0u8; 4_096],
        |name, _, _| {
            *seen.entry(name.to_string_lossy().into_owned()).or_default() += 1;
            if step < STAY && seen.len().is_multiple_of(2) {
                unlink_at(&ground.at_a, &c(&format!("goes-{step}")))?;
                open_at(&ground.at_a, &c(&format!("comes-{step}")), libc::O_CREAT | libc::O_WRONLY, 0o644)?;
                step += 1;
            }
            Ok(())
        },
    )
    .said("list")?;
    let once = (0..STAY).filter(|number| seen.get(&format!("stays-{number}")) == Some(&1)).count();
    same("names that stay are listed once", once, STAY)?;
    holds("no name is listed twice", seen.values().all(|&times| times == 1))
}

pub fn large_directory(ground: &Ground) -> Result<()> {
    for number in 0..ground.large {
        ground.file(&format!("entry-{number}"))?;
    }
    let mut names: Vec<String> = ground.list_b()?.into_iter().map(|(name, ..)| name).collect();
    names.retain(|name| name.starts_with("entry-"));
    names.sort();
    names.dedup();
    same("names in B", names.len() as u64, ground.large)?;
    ground.stat_b(&format!("entry-{}", ground.large / 2)).map(|_| ())
}
