//! Callbacks: runs callers' callbacks of ended tasks, on threads of its own.
//!
//! ```text
//! task ends ──► run(job) ──► queue ──► threads, at most CALLBACK_THREADS_MAX, made when none is idle
//! ```
//!
//! So a callback that blocks delays neither the driver nor, until every thread is taken, another
//! task's callbacks; a panic affects only that callback.
//!
//! Invariant: every submitted job runs once, also after the pool's end.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, mem};

use crate::base::sync::thread::{self, JoinHandle, ThreadId};
use crate::base::sync::{Condvar, Mutex, lock, wait};

/// Threads that run callbacks at a time. So many may block before another waits. Few in models, so
/// that these come to the limit.
const CALLBACK_THREADS_MAX: usize = if cfg!(shuttle) { 2 } else { 32 };

/// How long a thread without a callback stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// One pool's threads for callbacks.
#[derive(Clone, Debug)]
pub(crate) struct Callbacks {
    shared: Arc<Threads>,
}

struct Threads {
    name: String,
    inner: Mutex<Inner>,
    /// A job came, a thread ended, or the pool did.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    idle: usize,
    running: HashMap<ThreadId, JoinHandle<()>>,
    /// Threads that have finished and are not joined.
    ended: Vec<JoinHandle<()>>,
    /// Those of the running that wait in `close`, called by their own jobs: they do not wait for each
    /// other.
    closers: Vec<ThreadId>,
    /// No thread stays without a job any more.
    closed: bool,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Threads named `name`, none of them running yet.
    pub(crate) fn new(name: String) -> Self {
        let (inner, changed) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Threads { name, inner, changed }) }
    }

    /// Has `job` run on one of the threads. Never blocks.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut inner = lock(&self.shared.inner);
        inner.jobs.push_back(Box::new(job));
        if inner.idle < inner.jobs.len() {
            self.grow(&mut inner);
        }
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// Waits until every callback so far has run, at most until `deadline`; from then on no thread
    /// stays when it has nothing to run. A callback that calls this does not wait for itself, nor for
    /// others that call it, nor for what only their threads are left to run.
    pub(crate) fn close(&self, deadline: Option<Instant>) {
        let this = thread::current().id();
        let mut inner = lock(&self.shared.inner);
        inner.closed = true;
        let by_callback = inner.running.contains_key(&this);
        if by_callback {
            inner.closers.push(this);
        }
        if !inner.jobs.is_empty() {
            // For a thread that could not be made before.
            self.grow(&mut inner);
        }
        self.shared.changed.notify_all();
        while inner.running.keys().any(|thread| !by_callback || !inner.closers.contains(thread)) {
            inner = match wait(&self.shared.changed, inner, deadline) {
                Some(changed) => changed,
                None => {
                    inner = lock(&self.shared.inner);
                    break;
                }
            };
        }
        inner.closers.retain(|closer| *closer != this);
        let ended = mem::take(&mut inner.ended);
        drop(inner);
        join(ended);
    }

    /// Starts another thread, if one may be. Where the system has none to give, those that there are
    /// will come to the job, or the next call tries again.
    fn grow(&self, inner: &mut Inner) {
        if inner.running.len() >= CALLBACK_THREADS_MAX {
            return;
        }
        let shared = self.shared.clone();
        let thread = thread::Builder::new()
            .name(format!("{}-callback", shared.name))
            .spawn(move || shared.work());
        if let Ok(thread) = thread {
            inner.running.insert(thread.thread().id(), thread);
        }
    }
}

impl Threads {
    /// A thread's life.
    fn work(&self) {
        // Here, because submitting a job must not block.
        let ended = mem::take(&mut lock(&self.inner).ended);
        join(ended);
        let mut inner = lock(&self.inner);
        let mut idle_until = None;
        loop {
            if let Some(job) = inner.jobs.pop_front() {
                drop(inner);
                // The panic itself was reported by the panic hook.
                let _ = catch_unwind(AssertUnwindSafe(job));
                inner = lock(&self.inner);
                idle_until = None;
                continue;
            }
            if inner.closed {
                break;
            }
            let until = *idle_until.get_or_insert_with(|| Instant::now() + IDLE_TIMEOUT);
            inner.idle += 1;
            let woken = wait(&self.changed, inner, Some(until));
            let timed_out = woken.is_none();
            inner = woken.unwrap_or_else(|| lock(&self.inner));
            inner.idle -= 1;
            if timed_out && inner.jobs.is_empty() {
                break;
            }
        }
        // The next thread, or `close`, joins this one.
        if let Some(this) = inner.running.remove(&thread::current().id()) {
            inner.ended.push(this);
        }
        drop(inner);
        self.changed.notify_all();
    }
}

/// Joins threads that have nothing left to do but end.
fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // It caught every panic.
        let _ = thread.join();
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn callbacks() -> Callbacks {
        Callbacks::new("test".into())
    }

    #[test]
    fn jobs_run_while_others_block() {
        let callbacks = callbacks();
        let (open, gate) = channel::<()>();
        let (said, heard) = channel();
        callbacks.run(move || gate.recv().unwrap_or_default());
        callbacks.run(move || said.send(1).unwrap());
        assert_eq!(heard.recv(), Ok(1));
        drop(open);
        callbacks.close(None);
    }

    #[test]
    fn a_panic_costs_its_own_job_only() {
        let callbacks = callbacks();
        let (said, heard) = channel();
        for number in 0..10 {
            let said = said.clone();
            callbacks.run(move || {
                assert!(number % 2 == 0, "on purpose");
                said.send(number).unwrap();
            });
        }
        drop(said);
        callbacks.close(None);
        let mut heard: Vec<_> = heard.iter().collect();
        heard.sort_unstable();
        assert_eq!(heard, [0, 2, 4, 6, 8]);
    }

    #[test]
    fn close_waits_for_jobs_and_leaves_no_thread() {
        let callbacks = callbacks();
        let (said, heard) = channel();
        for number in 0..100 {
            let said = said.clone();
            callbacks.run(move || said.send(number).unwrap());
        }
        callbacks.close(None);
        assert_eq!(heard.try_iter().count(), 100);
        let inner = lock(&callbacks.shared.inner);
        assert!(inner.running.is_empty() && inner.ended.is_empty());
    }

    #[test]
    fn close_gives_up_on_a_job_that_blocks() {
        let callbacks = callbacks();
        let (open, gate) = channel::<()>();
        callbacks.run(move || gate.recv().unwrap_or_default());
        callbacks.close(Some(Instant::now()));
        drop(open);
        callbacks.close(None);
    }

    #[test]
    fn a_job_may_close_its_own_threads() {
        let callbacks = callbacks();
        let (said, heard) = channel();
        let own = callbacks.clone();
        callbacks.run(move || {
            own.close(None);
            said.send(()).unwrap();
        });
        assert_eq!(heard.recv(), Ok(()));
        callbacks.close(None);
    }

    #[test]
    fn jobs_that_close_together_do_not_wait_for_each_other() {
        let callbacks = callbacks();
        let barrier = Arc::new(std::sync::Barrier::new(2));
        for _ in 0..2 {
            let (own, barrier) = (callbacks.clone(), barrier.clone());
            callbacks.run(move || {
                barrier.wait();
                own.close(None);
            });
        }
        callbacks.close(None);
    }

    #[test]
    fn a_job_after_the_end_runs_too() {
        let callbacks = callbacks();
        callbacks.close(None);
        let (said, heard) = channel();
        callbacks.run(move || said.send(1).unwrap());
        assert_eq!(heard.recv(), Ok(1));
        callbacks.close(None);
    }
}
