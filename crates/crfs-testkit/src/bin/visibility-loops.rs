// SPDX-License-Identifier: GPL-2.0-or-later
//! `visibility-loops A B --rounds N --seconds S [--warm-up N]`: the timed part of `crfs-bench visibility`, on any two directories that
//! are one. Prints one JSON object; times are microseconds.
//!
//! Visibility: A writes a file anew, in another size, and closes it; from the return of close on, B looks until what it sees is
//! right, in each way in turn. B's caches are warm with the old state. Where the file system is coherent the first
//! look is right; looks that were not are counted as stale.
//!
//! Hand-over: both sides write one file, or rename one name to and fro, as fast as they can. A hand-over is an operation of one
//! side that follows one of the other.
//!
//! `--warm-up N`: so many rounds before those that are timed. `--only LOOK` leaves out the other ways of looking, for profiles.

mod support;

use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::sys::{self, Fd, Mapping, Sys, c, errno_name, now};
use support::{Arguments, Random, Result, main_of, say};

/// A look that is not right after this time is given up on.
const LOOK_LIMIT_NANOSECONDS: u64 = 10_000_000_000;
const SIZES: &[usize] = &[1, 700, 3_000, 4_096, 5_000, 20_000];

fn told<T>(what: &str, result: Sys<T>) -> Result<T> {
    result.map_err(|errno| format!("{what}: {}", errno_name(errno)))
}

#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn json(&mut self) -> String {
        self.0.sort_unstable();
        let at = |part: f64| {
            let index = ((self.0.len() as f64 * part) as usize).min(self.0.len().saturating_sub(1));
            self.0.get(index).copied().unwrap_or(0) as f64 / 1_000.0
        };
        format!("\"p50\":{:.1},\"p99\":{:.1},\"max\":{:.1}", at(0.5), at(0.99), at(1.0))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Read,
    Stat,
    List,
    Map,
}

const LOOKS: &[(Look, &str)] =
    &[(Look::Read, "open+read"), (Look::Stat, "stat"), (Look::List, "readdir"), (Look::Map, "mmap")];

struct Sides {
    a: Fd,
    b: Fd,
}

fn content(round: u64, size: usize) -> Vec<u8> {
    (round + 1).to_le_bytes().iter().copied().cycle().take(size).collect()
}

impl Sides {
    /// Writes and closes on A. @returns how long close took.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<u64> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        let fd = told("open on A", sys::open_at(&self.a, &c(name), flags, 0o644))?;
        told("write on A", sys::pwrite(&fd, bytes, 0))?;
        let start = now();
        told("close on A", sys::close(fd))?;
        Ok(now() - start)
    }

    /// Whether B sees it.
    fn sees(&self, look: Look, name: &str, bytes: &[u8]) -> bool {
        match look {
            Look::Stat => sys::stat_at(&self.b, &c(name)).is_ok_and(|stat| stat.size == bytes.len() as u64),
            Look::Read => {
                let fd = sys::open_at(&self.b, &c(name), libc::O_RDONLY, 0);
                fd.and_then(|fd| sys::pread(&fd, bytes.len() + 1, 0)).is_ok_and(|found| found == bytes)
            }
            Look::List => {
                let fd = sys::open_at(&self.b, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0);
                fd.and_then(|fd| sys::list(&fd)).is_ok_and(|all| all.iter().any(|entry| entry.0 == name))
            }
            Look::Map => {
                let fd = sys::open_at(&self.b, &c(name), libc::O_RDONLY, 0);
                fd.and_then(|fd| Mapping::new(&fd, bytes.len(), false)?.load(0, bytes.len()))
                    .is_ok_and(|found| found == bytes)
            }
        }
    }

    fn visibility(&self, look: Look, warm_up: u64, rounds: u64, closes: &mut Times) -> Result<String> {
        let mut random = Random::new(1);
        let mut times = Times::default();
        let mut stale = 0u64;
        let mut size = 0;
        for round in 0..warm_up + rounds {
            while {
                let next = *random.pick(SIZES);
                let same = next == size;
                size = next;
                same
            } {}
            // Listings show new names: a few stay, so that the directory does not grow.
            let name = if look == Look::List { format!("new_{round}") } else { "visibility".to_owned() };
            if look == Look::List && round >= 10 {
                let old = c(&format!("new_{}", round - 10));
                told("unlink on A", sys::unlink_at(&self.a, &old))?;
                self.sees(Look::List, "", &[]);
            }
            let bytes = content(round, size);
            let close = self.write(&name, &bytes)?;
            let start = now();
            loop {
                let right = self.sees(look, &name, &bytes);
                let took = now() - start;
                if right {
                    if round >= warm_up {
                        closes.0.push(close);
                        times.0.push(took);
                    }
                    break;
                }
                stale += 1;
                if took > LOOK_LIMIT_NANOSECONDS {
                    return Err(format!("B does not see round {round} of {name}"));
                }
            }
        }
        Ok(format!("{{{},\"stale\":{stale}}}", times.json()))
    }

    /// Both sides at once for some seconds; `operation` is one side's step.
    fn hand_over(&self, seconds: u64, operation: impl Fn(&Fd, u64) -> Result<()> + Sync) -> Result<String> {
        let last = AtomicUsize::new(2);
        let handed = AtomicUsize::new(0);
        let barrier = Barrier::new(2);
        let side = |number: usize, dir: &Fd| -> Result<(u64, u64)> {
            barrier.wait();
            let end = now() + seconds * 1_000_000_000;
            let (mut count, mut longest) = (0, 0);
            loop {
                let start = now();
                if start >= end {
                    return Ok((count, longest));
                }
                operation(dir, count)?;
                longest = longest.max(now() - start);
                count += 1;
                if last.swap(number, Ordering::AcqRel) != number {
                    handed.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| side(0, &self.a));
            let b = side(1, &self.b);
            (a.join().unwrap_or_else(|_| Err("a side has panicked".to_owned())), b)
        });
        let ((a, a_longest), (b, b_longest)) = (a?, b?);
        let handed = handed.load(Ordering::Relaxed);
        Ok(format!(
            "{{\"seconds\":{seconds},\"handovers\":{handed},\"perSecond\":{:.1},\"operations\":[{a},{b}],\
             \"slowerShare\":{:.4},\"longest\":[{:.1},{:.1}]}}",
            handed as f64 / seconds.max(1) as f64,
            a.min(b) as f64 / (a + b).max(1) as f64,
            a_longest as f64 / 1_000.0,
            b_longest as f64 / 1_000.0,
        ))
    }
}

fn write_file(dir: &Fd, count: u64) -> Result<()> {
    let fd = told("open", sys::open_at(dir, c"shared", libc::O_RDWR | libc::O_CREAT, 0o644))?;
    told("write", sys::pwrite(&fd, &content(count, 64), 0))?;
    told("close", sys::close(fd))
}

/// Whoever finds the name under either of its two names renames it to the other.
fn rename_name(dir: &Fd, _: u64) -> Result<()> {
    for _ in 0..1_000 {
        for (old, new) in [(c"to", c"fro"), (c"fro", c"to")] {
            match sys::rename_at(dir, old, dir, new, 0) {
                Ok(()) => return Ok(()),
                Err(libc::ENOENT) => {}
                Err(errno) => return Err(format!("rename: {}", errno_name(errno))),
            }
        }
    }
    Err("the name that is renamed to and fro is under neither name, 1,000 times in a row".to_owned())
}

fn body(arguments: Arguments) -> Result<()> {
    let rounds = arguments.number("rounds", 1_000)?;
    let warm_up = arguments.number("warm-up", 0)?;
    let seconds = arguments.number("seconds", 10)?;
    let open = |index: usize, what: &str| -> Result<String> {
        let path = arguments.operand(index, what)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let (a, b) = (open(0, "A")?, open(1, "B")?);
    let name = format!("crfs-bench-{}", std::process::id());
    let (path_a, path_b) = (c(&format!("{a}/{name}")), c(&format!("{b}/{name}")));
    told("mkdir on A", sys::mkdir_at(&Fd::CWD, &path_a, 0o755))?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let start = now();
    let fd_b = loop {
        match sys::open_at(&Fd::CWD, &path_b, flags, 0) {
            Ok(fd) => break fd,
            Err(errno) if now() - start > LOOK_LIMIT_NANOSECONDS => {
                return Err(format!("B does not see a directory made on A: {}", errno_name(errno)));
            }
            Err(_) => {}
        }
    };
    let sides = Sides { a: told("open A", sys::open_at(&Fd::CWD, &path_a, flags, 0))?, b: fd_b };
    let mut closes = Times::default();
    let mut looks = Vec::new();
    let only = arguments.option("only").map(ToOwned::to_owned);
    for (look, name) in LOOKS {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        looks.push(format!("\"{name}\":{}", sides.visibility(*look, warm_up, rounds, &mut closes)?));
    }
    sides.write("shared", &content(0, 64))?;
    sides.write("to", b"to")?;
    let file = sides.hand_over(seconds, write_file)?;
    let names = sides.hand_over(seconds, rename_name)?;
    say(&format!(
        "{{\"rounds\":{rounds},\"close\":{{{}}},\"looks\":{{{}}},\"handover\":{{\"file\":{file},\"names\":{names}}}}}",
        closes.json(),
        looks.join(",")
    ))?;
    // Everything below the directory is plain files.
    for (name, _, _) in told("list", sys::list(&told("open", sys::open_at(&sides.a, c".", flags, 0))?))? {
        told("unlink", sys::unlink_at(&sides.a, &c(&name)))?;
    }
    told("rmdir", sys::rmdir_at(&Fd::CWD, &path_a))
}

fn main() -> ExitCode {
    main_of(body)
}
