// SPDX-License-Identifier: GPL-2.0-or-later
//! What every scenario stands on: a directory of its own on both mounts, steps that are watched, calls at a chosen
//! distance from one another, and threads that are slow to take an answer.

use crate::support::sys::Watchdog;
use crate::support::{Arguments, Random, Result, at};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Longer than a client calls an inode contended, after which it is granted and kept widely again.
pub const CALM: Duration = Duration::from_millis(1_300);
/// Longer than a name counts as given just now.
pub const OLD: Duration = Duration::from_millis(4_300);

static DOING: Mutex<String> = Mutex::new(String::new());

pub struct Ground {
    /// The scenario's directory through either mount.
    pub a: PathBuf,
    pub b: PathBuf,
    /// How long a message takes between A and the server, one way.
    pub delay: Duration,
    pub rounds: u64,
    /// Process of a third mount that can be stopped, and its directory.
    pub third: Option<(i32, PathBuf)>,
    random: RefCell<Random>,
    watchdog: Watchdog,
}

impl Ground {
    pub fn new(name: &str, arguments: &Arguments) -> Result<Self> {
        let a = arguments.operand(1, "A")?.join(name);
        let b = arguments.operand(2, "B")?.join(name);
        let third = match (arguments.number("third-pid", 0)? as i32, arguments.option("third")) {
            (pid, Some(path)) if pid > 0 => Some((pid, PathBuf::from(path).join(name))),
            _ => None,
        };
        let limit = arguments.number("limit-seconds", 8)?;
        let watchdog = Watchdog::start(limit, &|| DOING.lock().map(|text| text.clone()).unwrap_or_default());
        let ground = Ground {
            a,
            b,
            delay: Duration::from_millis(arguments.number("delay-ms", 0)?),
            rounds: arguments.number("rounds", 5)?,
            third,
            random: RefCell::new(Random::new(arguments.number("seed", 1)?)),
            watchdog,
        };
        ground.step("mkdir", || at(&ground.a, "mkdir", fs::create_dir(&ground.a)))?;
        Ok(ground)
    }

    /// A part of the scenario that must be over within the limit.
    pub fn step<T>(&self, what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Ok(mut doing) = DOING.lock() {
            what.clone_into(&mut doing);
        }
        self.watchdog.begin();
        let result = body();
        self.watchdog.end();
        result
    }

    /// A part of the delay's length, for instance 1/2 of it.
    pub fn part(&self, numerator: u32, denominator: u32) -> Duration {
        self.delay * numerator / denominator
    }

    /// A time below `bound`.
    pub fn some(&self, bound: Duration) -> Duration {
        Duration::from_micros(self.random.borrow_mut().below(bound.as_micros() as u64))
    }

    /// Makes the directories `0`, `1`, ... with a file `f` in each, which both sides have looked at, and which nobody has
    /// changed for so long that the kernels may keep them.
    pub fn warm_directories(&self) -> Result<()> {
        self.make_directories(&self.a)?;
        self.for_each(|round| {
            let file = self.a.join(format!("{round}/f"));
            at(&file, "write", fs::write(&file, b"text"))
        })?;
        self.look_at(&self.b, "f")?;
        thread::sleep(CALM);
        self.look_at(&self.b, "f").and_then(|()| self.look_at(&self.a, "f"))
    }

    /// Stats the file of this name in each directory.
    pub fn look_at(&self, side: &Path, name: &str) -> Result<()> {
        self.for_each(|round| {
            let file = side.join(round.to_string()).join(name);
            at(&file, "stat", fs::symlink_metadata(&file)).map(drop)
        })
    }

    /// The directories `0`, `1`, ..., one for each round.
    pub fn make_directories(&self, side: &Path) -> Result<()> {
        self.for_each(|round| {
            let dir = side.join(round.to_string());
            at(&dir, "mkdir", fs::create_dir(&dir))
        })
    }

    /// Something simple for each round, before the rounds begin.
    pub fn for_each(&self, mut body: impl FnMut(u64) -> Result<()>) -> Result<()> {
        (0..self.rounds).try_for_each(|round| self.step("prepare", || body(round)))
    }
}

/// Runs `first`, and `second` so much later, each in a new thread; returns when both are over.
pub fn race<X: Send, Y: Send>(
    later: Duration,
    first: impl FnOnce() -> X + Send,
    second: impl FnOnce() -> Y + Send,
) -> (X, Y) {
    thread::scope(|scope| {
        let one = scope.spawn(first);
        thread::sleep(later);
        let two = scope.spawn(second);
        (joined(one.join()), joined(two.join()))
    })
}

fn joined<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `body`, one call. From when it waits for its answer, this thread gets a processor only when nobody else wants it,
/// and somebody always does: it is milliseconds late to take the answer.
pub fn slowly<T>(body: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    let processor = last_processor();
    // SAFETY: a call without arguments.
    let slowed = unsafe { libc::gettid() };
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            stay_on(processor);
            thread::park();
            let parameters = libc::sched_param { sched_priority: 0 };
            // SAFETY: `parameters` lives; the thread is ours and waits for us.
            unsafe { libc::sched_setscheduler(slowed, libc::SCHED_IDLE, &parameters) };
            while !ended.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        stay_on(processor);
        busy.thread().unpark();
        let result = body();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

fn last_processor() -> usize {
    // SAFETY: zeroed is an empty set, which the call fills.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    // SAFETY: every number asked for is one of the set's.
    (0..libc::CPU_SETSIZE as usize).rev().find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).unwrap_or(0)
}

fn stay_on(processor: usize) {
    // SAFETY: zeroed is an empty set, the number came from such a set, and the call reads it.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// An error with what was seen, when it is not right.
pub fn right(is_right: bool, what: impl FnOnce() -> String) -> Result<()> {
    if is_right { Ok(()) } else { Err(format!("WRONG: {}", what())) }
}
