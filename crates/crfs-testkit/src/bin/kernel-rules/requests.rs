// SPDX-License-Identifier: GPL-2.0-or-later
//! Scenarios about calls that wait, and about the end of a session.

use crate::ground::{Ground, right};
use crate::support::{Result, at, say};
use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

extern "C" fn nothing(_: i32) {}

/// A program on A whose calls wait for B gets signals that it handles.
pub fn signals(ground: &Ground) -> Result<()> {
    let handler: extern "C" fn(i32) = nothing;
    let often = libc::timeval { tv_sec: 0, tv_usec: 10_000 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: the handler does nothing (signal(2) of glibc restarts calls), and `timer` lives.
    unsafe {
        libc::signal(libc::SIGALRM, handler as libc::sighandler_t);
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    for round in 0..ground.rounds {
        let name = format!("f{round}");
        ground.step("create on B, stat on A", || {
            at(&ground.b, "create", File::create(ground.b.join(&name)))?;
            let stat = fs::symlink_metadata(ground.a.join(&name));
            right(stat.is_ok(), || format!("round {round}: {:?}", stat.err()))
        })?;
    }
    Ok(())
}

/// Says "ready", upon which the caller ends the server; then nothing of what A's kernel knows may be answered any more.
pub fn session_ends(ground: &Ground) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(6);
    let path = ground.a.join("f");
    at(&path, "write", fs::write(&path, b"text"))?;
    at(&path, "stat", fs::symlink_metadata(&path))?;
    say("ready")?;
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if ground.step("stat", || at(&path, "stat", fs::symlink_metadata(&path))).is_err() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    right(false, || "A still answers when the session is over".into())
}
