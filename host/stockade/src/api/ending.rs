//! Endings: ends a pool, in any thread.
//!
//! ```text
//! begin: the pool takes no more tasks, its driver is told ─► finish: waits, kills what is late, joins
//! ```
//!
//! Callers' code also runs on pools' own threads: wakers, and subscribers of `tracing`. Such a
//! thread cannot wait for a pool's end, which may wait for the thread. So a shutdown that begins
//! there is completed by a thread of its own.
//!
//! Invariant: a pool ends, wherever its end begins and wherever the last `Pool` is dropped.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::backend::event_loop::EventLoop;
use crate::backend::own_thread::is_own_thread;
use crate::backend::request::Request;
use crate::base::deadline;
use crate::state::link::Link;
use stockade_dispatcher::ShutdownMode;

/// How to end a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// In order; tasks and workers that take too long are killed.
    Shutdown,
    /// The same, but tasks and workers that have not ended after this time are killed.
    Within(Duration),
    /// After everything that was submitted has finished.
    Drain,
    /// Now.
    Kill,
}

/// One pool's end.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) event_loop: Arc<EventLoop>,
    pub(crate) link: Arc<Link>,
    pub(crate) pool: String,
    /// What a task may take.
    pub(crate) wall_time: Option<Duration>,
    pub(crate) grace_period: Duration,
    /// The thread that serves the poller, and the supervisor's.
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Ending {
    /// Ends the pool, and waits for that, except on one of its own threads. Returns whether it was this
    /// that began the end.
    pub(crate) fn end(self: &Arc<Self>, how: How) -> bool {
        let deadline = self.deadline(how);
        let first = self.begin(how);
        if !is_own_thread() {
            self.finish(how, deadline, first);
            return first;
        }
        let this = self.clone();
        let thread = std::thread::Builder::new().name(format!("{}-end", self.pool));
        // Not joined, since joining it could wait for this thread; it ends with the pool.
        if thread.spawn(move || this.finish(how, deadline, first)).is_err() {
            // The driver has ended, and cannot enforce the deadline.
            let _ = self.event_loop.tell(Request::Shutdown(ShutdownMode::Kill));
        }
        first
    }

    /// When to kill what has not ended.
    fn deadline(&self, how: How) -> Option<Instant> {
        let time = match how {
            // The maximum time of an orderly shutdown.
            How::Shutdown => {
                let running = self.wall_time.unwrap_or(self.grace_period);
                running.saturating_add(self.grace_period)
            }
            How::Within(time) => time,
            How::Drain | How::Kill => return None,
        };
        deadline::after(time)
    }

    fn begin(&self, how: How) -> bool {
        let mode = match how {
            How::Shutdown | How::Within(_) => ShutdownMode::Cancel,
            How::Drain => ShutdownMode::Drain,
            How::Kill => ShutdownMode::Kill,
        };
        let first = self.link.shared.close();
        if first {
            tracing::debug!(target: "stockade::pool", pool = self.pool, ?mode, "a pool ends");
        }
        // Fails where the driver has ended, and then there is nothing to end.
        let _ = self.event_loop.tell(Request::Shutdown(mode));
        first
    }

    fn finish(&self, how: How, deadline: Option<Instant>, first: bool) {
        let shared = &self.link.shared;
        if !shared.wait_terminated(deadline) {
            let _ = self.event_loop.tell(Request::Shutdown(ShutdownMode::Kill));
            shared.wait_terminated(None);
        }
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It has nothing left to do; a panic in it has been reported on stderr.
            let _ = thread.join();
        }
        if first {
            tracing::debug!(target: "stockade::pool", pool = self.pool, "a pool has ended");
        }
        let callbacks = match how {
            How::Shutdown | How::Drain => deadline::after(self.grace_period),
            How::Within(_) => deadline,
            How::Kill => Some(Instant::now()),
        };
        self.link.callbacks.close(callbacks);
    }
}
