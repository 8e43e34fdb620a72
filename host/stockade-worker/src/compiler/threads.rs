//! The threads that code is compiled in, where there are several.
//!
//! ```text
//! Lock::enter ─► Threads::start: every one has begun ─► Lock::close ─► Threads::run: the engine's jobs
//!  users, privileges, Landlock:        they inherit          the filter: on every thread at once;
//!  the calling thread's                                      no more threads
//! ```
//!
//! Privileges of the calling thread are dropped before other threads start. A starting thread makes
//! system calls that the filter forbids, so all have started before the filter is on.
//!
//! Invariant: an engine asks for threads only inside of [`Threads::run`]. Elsewhere it would start
//! a thread pool of its own, for which the filter kills the process.
//!
//! Deliberately absent: how many there should be, which the host knows.

use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};
use stockade_wire::{COMPILE_STACK_BYTES, COMPILE_THREADS_MAX};

/// The main thread by itself, or as many threads as were asked for, with the main one waiting for them.
/// Dropping them ends and joins them.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<ThreadPool>,
    handles: Vec<JoinHandle<()>>,
    stack_bytes: u64,
}

impl Threads {
    /// The main thread by itself.
    pub(crate) const fn none() -> Self {
        Self { pool: None, handles: Vec::new(), stack_bytes: 0 }
    }

    /// Starts `count` threads and waits until each has begun. One, and none, is the main thread; so it is
    /// where the system refuses a thread: what comes of a module is the same, only later.
    pub(crate) fn start(count: u32) -> Self {
        let count = count.min(COMPILE_THREADS_MAX) as usize;
        if count < 2 {
            return Self::none();
        }
        let mut threads = Self::none();
        let spawn = |thread: rayon::ThreadBuilder| {
            let builder = std::thread::Builder::new().name("compile".into());
            let builder = builder.stack_size(COMPILE_STACK_BYTES as usize);
            threads.handles.push(builder.spawn(|| thread.run())?);
            threads.stack_bytes += COMPILE_STACK_BYTES;
            Ok(())
        };
        let built = ThreadPoolBuilder::new().num_threads(count).spawn_handler(spawn).build();
        match built {
            Ok(pool) => {
                // Each answers, so each has begun.
                pool.broadcast(|_| ());
                threads.pool = Some(pool);
            }
            // Those that had begun were told to end. Their stacks may be kept for others, though there will
            // be none, so they count all the same.
            Err(_) => threads.join(),
        }
        threads
    }

    /// Waits until all have ended.
    fn join(&mut self) {
        for handle in self.handles.drain(..) {
            // A job's panic went to its caller, and nothing else of a thread panics.
            let _ = handle.join();
        }
    }

    /// Whether there are several, so that an engine for them asks for threads.
    pub(crate) fn are_several(&self) -> bool {
        self.pool.is_some()
    }

    /// Bytes of the stacks of all that were started, which the kernel counts as private memory, unlike the
    /// main thread's.
    pub(crate) fn stack_bytes(&self) -> u64 {
        self.stack_bytes
    }

    /// Does `work`, in one of them if there are several; then what it asks for threads for is done in all.
    /// A panic in any of them is one here.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The result of `f` in each thread, for tests of their lockdown.
    #[cfg(test)]
    pub(crate) fn each<T: Send>(&self, ask: impl Fn() -> T + Sync) -> Vec<T> {
        match &self.pool {
            Some(pool) => pool.broadcast(|_| ask()),
            None => vec![ask()],
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Ends when they have nothing to do, and they have nothing: the caller has waited.
        drop(self.pool.take());
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn as_many_threads_begin_as_were_asked_for_and_one_is_the_callers_own() {
        let own = std::thread::current().id();
        for count in [0, 1] {
            let threads = Threads::start(count);
            assert!(!threads.are_several() && threads.stack_bytes() == 0);
            assert_eq!(threads.run(|| std::thread::current().id()), own);
        }
        for count in [2, 3, 64, 65] {
            let threads = Threads::start(count);
            let ids: HashSet<_> =
                threads.each(|| std::thread::current().id()).into_iter().collect();
            assert_eq!(ids.len(), count.min(64) as usize);
            assert!(!ids.contains(&own) && threads.are_several());
            assert_eq!(threads.stack_bytes(), count.min(64) as u64 * COMPILE_STACK_BYTES);
        }
    }

    #[test]
    fn they_work_at_the_same_time() {
        let threads = Threads::start(3);
        let all = Barrier::new(3);
        let led = threads.each(|| all.wait().is_leader());
        assert_eq!((led.len(), led.iter().filter(|led| **led).count()), (3, 1));
    }

    #[test]
    fn a_panic_in_one_is_the_callers_and_the_others_end() {
        let threads = Threads::start(2);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            threads.run(|| rayon::join(|| (), || panic!("as a test")));
        }));
        assert!(caught.is_err());
        assert_eq!(threads.run(|| 7), 7, "and they go on");
    }
}
