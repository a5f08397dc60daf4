// SPDX-License-Identifier: GPL-2.0-or-later
//! Threads that do the engine's work, and the way their results reach JavaScript.
//!
//! JavaScript hands in a job under a ticket that it chose; a thread runs it and leaves a `Completion` in a list. One
//! wake-up is sent when the list stops being empty, and JavaScript then takes the whole list: a busy volume costs one
//! crossing a burst, not one a job. Jobs of one queue run in the order they came; the queues are independent, so a
//! commit that writes holds up neither batches nor reads.

use napi::bindgen_prelude::{Buffer, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The outcome of one job. `errno` is 0 on success; the meaning of the other fields is the job's.
#[napi(object)]
pub struct Completion {
    pub ticket: u32,
    /// Linux errno, 0 for success.
    pub errno: i32,
    /// One line for the log when `errno` is not 0.
    pub text: Option<String>,
    pub number: Option<f64>,
    pub bytes: Option<Buffer>,
    pub more: Option<Buffer>,
}

/// What a job returns: everything of a completion but its ticket.
#[derive(Default)]
pub struct Outcome {
    pub errno: i32,
    pub text: Option<String>,
    pub number: Option<f64>,
    pub bytes: Option<Vec<u8>>,
    pub more: Option<Vec<u8>>,
}

impl Outcome {
    /// The completion of the job with this ticket.
    fn of(self, ticket: u32) -> Completion {
        Completion {
            ticket,
            errno: self.errno,
            text: self.text,
            number: self.number,
            bytes: self.bytes.map(Buffer::from),
            more: self.more.map(Buffer::from),
        }
    }
}

pub type Job = Box<dyn FnOnce() -> Outcome + Send>;
type Wake = ThreadsafeFunction<(), (), (), napi::Status, false, true>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A job that panicked has already been reported; the lists themselves are always whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finished jobs on their way to JavaScript.
pub struct Completions {
    finished: Mutex<Vec<(u32, Outcome)>>,
    wake: Wake,
}

impl Completions {
    /// `wake` is called on the JavaScript thread, without arguments, whenever there is something to take. It does not
    /// keep the process alive.
    pub fn new(wake: Function<'_, (), ()>) -> napi::Result<Arc<Completions>> {
        let wake = wake.build_threadsafe_function().weak::<true>().build()?;
        Ok(Arc::new(Completions { finished: Mutex::new(Vec::new()), wake }))
    }

    fn push(&self, ticket: u32, outcome: Outcome) {
        let mut finished = lock(&self.finished);
        finished.push((ticket, outcome));
        if finished.len() == 1 {
            // Fails only when the environment is being torn down, and then nobody waits any more.
            let _ = self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    pub fn take(&self) -> Vec<Completion> {
        let finished = std::mem::take(&mut *lock(&self.finished));
        finished.into_iter().map(|(ticket, outcome)| outcome.of(ticket)).collect()
    }
}

struct Shared {
    state: Mutex<(VecDeque<(u32, Job)>, bool)>,
    arrived: Condvar,
}

/// A queue of jobs with its threads. Dropping it, or `stop`, lets the threads finish what was queued.
pub struct Queue {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Queue {
    pub fn new(name: &str, threads: usize, completions: &Arc<Completions>) -> std::io::Result<Queue> {
        let shared =
            Arc::new(Shared { state: Mutex::new((VecDeque::new(), false)), arrived: Condvar::new() });
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let shared = Arc::clone(&shared);
            let completions = Arc::clone(completions);
            handles.push(
                std::thread::Builder::new()
                    .name(format!("crfs-{name}-{index}"))
                    .spawn(move || run(&shared, &completions))?,
            );
        }
        Ok(Queue { shared, threads: Mutex::new(handles) })
    }

    pub fn submit(&self, ticket: u32, job: Job) {
        lock(&self.shared.state).0.push_back((ticket, job));
        self.shared.arrived.notify_one();
    }

    /// Finishes what is queued and ends the threads.
    pub fn stop(&self) {
        lock(&self.shared.state).1 = true;
        self.shared.arrived.notify_all();
        for handle in lock(&self.threads).drain(..) {
            let _ = handle.join();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, completions: &Completions) {
    loop {
        let mut state = lock(&shared.state);
        let (ticket, job) = loop {
            if let Some(next) = state.0.pop_front() {
                break next;
            }
            if state.1 {
                return;
            }
            state = shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        completions.push(ticket, or_abort(job));
    }
}

/// Runs a job on the calling thread; `None` passes through. The ticket of its completion is 0.
pub fn at_once(job: impl FnOnce() -> Option<Outcome>) -> Option<Completion> {
    or_abort(job).map(|outcome| outcome.of(0))
}

fn or_abort<R>(job: impl FnOnce() -> R) -> R {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).unwrap_or_else(|_| {
        // A bug of ours, already printed by the panic hook. What the engine holds in memory can no longer be
        // trusted, and its last commit stands: end here, the supervisor restarts us.
        std::process::abort()
    })
}
