// SPDX-License-Identifier: GPL-2.0-or-later
//! Scenarios about names and attributes: what the kernel of A keeps of them must go when B changes them, and neither may
//! wait for the other for ever.

use crate::ground::{CALM, Ground, OLD, race, right, slowly};
use crate::pages::read_at;
use crate::support::{Result, at, c_path, set_mode, set_times};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn mode_of(path: &Path) -> Result<u32> {
    Ok(at(path, "stat", fs::symlink_metadata(path))?.mode() & 0o7777)
}

/// A's kernel is warm with names, attributes and pages; B changes them; A looks again.
pub fn changes_seen(ground: &Ground) -> Result<()> {
    ground.warm_directories()?;
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(format!("{round}/f")), ground.b.join(format!("{round}/f")));
        ground.step("change and look", || match round % 3 {
            0 => {
                at(&b, "chmod", set_mode(&b, 0o640))?;
                right(mode_of(&a)? == 0o640, || "the old mode of a file on A".into())
            }
            1 => {
                let file = at(&a, "open", File::open(&a))?;
                at(&a, "read", read_at(&file, 0, 4))?;
                at(&b, "write", fs::write(&b, b"TEXT"))?;
                let seen = at(&a, "read", read_at(&file, 0, 4))?;
                right(seen == b"TEXT", || "old bytes of a file on A".into())
            }
            _ => {
                at(&b, "unlink", fs::remove_file(&b))?;
                right(!exists(&a), || "an unlinked file is still there on A".into())
            }
        })?;
    }
    Ok(())
}

/// A's kernel knows that a name is absent; B makes it.
pub fn absent_names(ground: &Ground) -> Result<()> {
    ground.warm_directories()?;
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(format!("{round}/new")), ground.b.join(format!("{round}/new")));
        ground.step("create and look", || {
            right(!exists(&a), || "a name that nobody made".into())?;
            at(&b, "create", File::create(&b))?;
            right(exists(&a), || format!("{round}/new is not there on A"))
        })?;
    }
    Ok(())
}

/// A has listed an empty directory; B makes a name in it and sets its time back, as programs do that copy trees.
pub fn listings(ground: &Ground) -> Result<()> {
    ground.make_directories(&ground.a)?;
    ground.look_at(&ground.b, "")?;
    thread::sleep(CALM);
    let count = |dir: &Path| at(dir, "list", fs::read_dir(dir)).map(Iterator::count);
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(round.to_string()), ground.b.join(round.to_string()));
        ground.step("list, create, list", || {
            for _ in 0..2 {
                right(count(&a)? == 0, || "a name that nobody made".into())?;
            }
            let stat = at(&b, "stat", fs::symlink_metadata(&b))?;
            at(&b, "create", File::create(b.join("new")))?;
            let before = (stat.mtime(), stat.mtime_nsec() as u32);
            at(&b, "utimens", set_times(&b, before, before))?;
            let seen = count(&a)?;
            right(seen == 1, || format!("{seen} names in a directory of 1 on A"))
        })?;
    }
    Ok(())
}

/// A's kernel is given more absent names than are remembered; B makes the first of them.
pub fn evicted_names(ground: &Ground) -> Result<()> {
    /// More bytes of names than the table keeps, 6 MiB.
    const NAMES: u64 = 27_000;
    const LENGTH: usize = 250;
    const FIRST: u64 = 20;
    ground.warm_directories()?;
    let [first, rest] = [0, 1].map(|number| ground.a.join(format!("{number}")));
    let name = |number: u64| format!("{number:0LENGTH$}");
    for start in (0..NAMES).step_by(1_000) {
        ground.step("look for absent names", || {
            (start..start + 1_000).try_for_each(|number| {
                // The others are elsewhere: so many names of one directory would make all names go.
                let dir = if number < FIRST { &first } else { &rest };
                right(!exists(&dir.join(name(number))), || "a name that nobody made".into())
            })
        })?;
    }
    ground.step("create and look", || {
        (0..FIRST).try_for_each(|number| {
            let path = ground.b.join(format!("0/{}", name(number)));
            at(&ground.b, "create", File::create(&path))?;
            right(exists(&first.join(name(number))), || format!("name {number} is not there on A"))
        })
    })
}

/// Both create in one directory at once. A's CREATE waits behind B's and keeps the directory locked in A's kernel, where
/// names must go before B can have it. It gives the lock up, so that nothing more than those names has to go: what is
/// mounted on a directory elsewhere stays.
pub fn create_waits(ground: &Ground) -> Result<()> {
    own_mounts()?;
    ground.warm_directories()?;
    let mut lost = 0;
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(round.to_string()), ground.b.join(round.to_string()));
        let elsewhere = ground.a.join(format!("keep/{round}"));
        at(&elsewhere, "mkdir", fs::create_dir_all(&elsewhere))?;
        mount_on(&elsewhere)?;
        ground.step("create on both sides", || {
            let made = race(
                ground.part(1, 2),
                || File::create(b.join("b")).map(drop),
                || File::create(a.join("a")).map(drop),
            );
            at(&b, "create", made.0)?;
            at(&a, "create", made.1)?;
            right(exists(&a.join("b")) && exists(&b.join("a")), || "a file is missing".into())?;
            let device = |path: &Path| at(path, "stat", fs::symlink_metadata(path)).map(|stat| stat.dev());
            lost += u64::from(device(&elsewhere)? == device(&a)?);
            Ok(())
        })?;
    }
    // A machine that is busy may keep a lock for longer than an invalidation waits: then all names go.
    let rounds = ground.rounds;
    right(lost * 4 < rounds, || format!("{lost} of {rounds} mounts elsewhere on A are gone"))
}

/// From here on what this process mounts is its own, and goes with it.
fn own_mounts() -> Result<()> {
    let root = c"/".as_ptr();
    let nothing = std::ptr::null();
    // SAFETY: the strings are NUL-terminated; a change of propagation reads no more than the target.
    let result = unsafe {
        match libc::unshare(libc::CLONE_NEWNS) {
            0 => libc::mount(nothing, root, nothing, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()),
            failed => failed,
        }
    };
    if result == 0 {
        Ok(())
    } else {
        Err(format!("mounts of one's own: {}", std::io::Error::last_os_error()))
    }
}

fn mount_on(directory: &Path) -> Result<()> {
    let (kind, target) = (c"tmpfs".as_ptr(), c_path(directory));
    // SAFETY: the strings are NUL-terminated.
    let result = unsafe { libc::mount(kind, target.as_ptr(), kind, 0, std::ptr::null()) };
    let result = if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    at(directory, "mount", result)
}

/// A's chmod of a directory waits behind B's create in it. The kernel holds the directory's lock for it and would not try a
/// chmod again: all names go instead of those of the directory.
pub fn chmod_waits(ground: &Ground) -> Result<()> {
    ground.warm_directories()?;
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(round.to_string()), ground.b.join(round.to_string()));
        ground.step("create on B, chmod on A", || {
            let made =
                race(ground.part(1, 2), || File::create(b.join("b")).map(drop), || set_mode(&a, 0o700));
            at(&b, "create", made.0)?;
            at(&a, "chmod", made.1)?;
            right(exists(&a.join("b")), || "b is not there on A".into())?;
            right(mode_of(&b)? == 0o700, || "the old mode of the directory on B".into())
        })?;
    }
    Ok(())
}

/// A looks up a file that its kernel does not know; while the answer is being stored B changes the file's mode.
pub fn fresh_inodes(ground: &Ground) -> Result<()> {
    ground.make_directories(&ground.b)?;
    ground.for_each(|round| {
        at(&ground.b, "create", File::create(ground.b.join(format!("{round}/f")))).map(drop)
    })?;
    ground.for_each(|round| {
        right(!exists(&ground.a.join(format!("{round}/absent"))), || "a name that nobody made".into())
    })?;
    thread::sleep(CALM);
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(format!("{round}/f")), ground.b.join(format!("{round}/f")));
        // A's question is at the server after one delay, and its answer on the way.
        let later = ground.delay + ground.some(Duration::from_millis(4));
        ground.step("look up on A, chmod on B", || {
            let looked = race(later, || slowly(|| mode_of(&a).map(drop)), || set_mode(&b, 0o600));
            looked.0?;
            at(&b, "chmod", looked.1)?;
            let mode = mode_of(&a)?;
            right(mode == 0o600, || format!("round {round}: mode {mode:o} on A after the chmod on B"))
        })?;
    }
    Ok(())
}

/// A asks again for a name whose time is over; while the answer is being stored B puts another file in its place.
pub fn fresh_names(ground: &Ground) -> Result<()> {
    ground.warm_directories()?;
    ground.for_each(|round| {
        let dir = ground.b.join(round.to_string());
        at(&dir, "link", fs::hard_link(dir.join("f"), dir.join("g")))
    })?;
    thread::sleep(CALM);
    ground.look_at(&ground.a, "f")?;
    thread::sleep(OLD);
    // A's names are old now: what goes is expired, and stays in its kernel to be asked for again.
    ground.for_each(|round| {
        let path = ground.b.join(format!("{round}/next"));
        at(&path, "create", File::create(&path)).map(drop)
    })?;
    thread::sleep(CALM);
    // A has the items at hand, and its kernel has no name of the file that it need not ask for.
    ground.look_at(&ground.a, "g")?;
    for round in 0..ground.rounds {
        let (a, b) = (ground.a.join(round.to_string()), ground.b.join(round.to_string()));
        // B's question is at A when A's answer has just been given.
        let later =
            ground.delay.saturating_sub(Duration::from_millis(4)) + ground.some(Duration::from_millis(6));
        ground.step("rename on B, look on A", || {
            let looked = race(
                later,
                || fs::rename(b.join("next"), b.join("f")),
                || slowly(|| fs::symlink_metadata(a.join("f")).map(drop)),
            );
            at(&b, "rename", looked.0)?;
            at(&a, "stat", looked.1)?;
            let of = |path: &Path| at(path, "stat", fs::symlink_metadata(path)).map(|stat| stat.ino());
            let (seen, now) = (of(&a.join("f"))?, of(&b.join("f"))?);
            right(seen == now, || format!("round {round}: A sees the old file behind a name"))
        })?;
    }
    Ok(())
}

/// B moves a directory away and back again and puts an empty one in its place meanwhile, which A removes or replaces. A's
/// kernel may have looked when the other one was there, and takes that for removed.
pub fn removed_other(ground: &Ground) -> Result<()> {
    const TRIES: u64 = 12;
    ground.warm_directories()?;
    for round in 0..ground.rounds {
        let [a, b] = [&ground.a, &ground.b].map(|side| side.join(round.to_string()));
        let kept = b.join("kept");
        at(&kept, "mkdir", fs::create_dir(&kept))?;
        at(&kept, "create", File::create(kept.join("inside")))?;
        // While it is open A's kernel keeps the directory in which it found it, whatever becomes of its name.
        let inside = at(&a, "open", File::open(a.join("kept/inside")))?;
        let waits: Vec<_> = (0..TRIES).map(|_| ground.some(ground.delay * 4)).collect();
        let moved = || {
            waits.iter().try_for_each(|wait| {
                fs::rename(&kept, b.join("away"))?;
                // A may have put its own there.
                let _ = fs::create_dir(&kept);
                thread::sleep(*wait);
                fs::rename(b.join("away"), &kept)?;
                thread::sleep(*wait);
                Ok::<(), std::io::Error>(())
            })
        };
        let removed = || {
            for number in 0..TRIES * 2 {
                // One that holds something cannot be removed.
                let own = a.join("own");
                let _ = match number % 2 {
                    0 => fs::remove_dir(a.join("kept")),
                    _ => fs::create_dir(&own).and_then(|()| fs::rename(&own, a.join("kept"))),
                };
                let _ = fs::remove_dir(&own);
            }
        };
        ground.step("move on B, remove on A", || {
            let (moved, ()) = race(Duration::ZERO, moved, removed);
            at(&kept, "rename", moved)?;
            right(exists(&a.join("kept/inside")), || {
                format!("round {round}: a file of a directory that is there is not on A")
            })
        })?;
        drop(inside);
    }
    Ok(())
}

/// Both sides rename one file to and fro between two names. Where it moves between A's two lookups, A's kernel would take
/// its two names for links of one file, and do nothing, with success.
pub fn torn_renames(ground: &Ground) -> Result<()> {
    const TRIES: u32 = 60;
    ground.warm_directories()?;
    for round in 0..ground.rounds {
        let [a, b] = [&ground.a, &ground.b].map(|side| side.join(round.to_string()));
        // By turns with two names in one directory, and with one name in two.
        let (first, second) = if round % 2 == 0 { ("f", "g") } else { ("x/f", "y/f") };
        let [there, back] = [(first, second), (second, first)];
        if round % 2 == 1 {
            for dir in ["x", "y"] {
                at(&a.join(dir), "mkdir", fs::create_dir(a.join(dir)))?;
            }
            at(&a, "rename", fs::rename(a.join("f"), a.join(first)))?;
        }
        let moves = |side: &Path, (from, to): (&str, &str)| {
            let mut done = 0i64;
            for _ in 0..TRIES {
                done += i64::from(fs::rename(side.join(from), side.join(to)).is_ok());
            }
            done
        };
        ground.step("rename on both sides", || {
            // Where somebody looks at the new name too, A's kernel has it already, and asks for it once more.
            let is_over = AtomicBool::new(false);
            let looks = || {
                while !is_over.load(Ordering::Relaxed) {
                    exists(&a.join(second));
                }
            };
            let moves_a = || {
                let done = moves(&a, there);
                is_over.store(true, Ordering::Relaxed);
                done
            };
            let ((on_a, ()), (on_b, returned)) = race(
                Duration::ZERO,
                || race(Duration::ZERO, moves_a, looks),
                || race(Duration::ZERO, || moves(&b, there), || moves(&b, back)),
            );
            let left = on_a + on_b - returned;
            let expected = i64::from(exists(&b.join(second)));
            right(left == expected, || {
                format!(
                    "round {round}: {on_a} and {on_b} renames there, {returned} back, and {expected} there"
                )
            })
        })?;
    }
    Ok(())
}
