//! Spans and events of `tracing`.
//!
//! | target | span or event | level | fields |
//! |---|---|---|---|
//! | `stockade::task` | span `task`, from its submission to its end, within that of its caller | debug | `pool`, `task`, `function`, `label`; at its end `status`, `worker`, `attempt`, `queue_wait_us`, `wall_time_us`, `cpu_time_us` |
//! | `stockade::worker` | event, a worker was started or has ended | debug | `pool`, `worker`, `pid`; `exit` |
//! | `stockade::worker` | event, a worker was lost | info | the same |
//! | `stockade::worker` | event, a worker cannot start for a reason outside of the pool | warn | `pool`, `error` |
//! | `stockade::compile` | span `compile`, one step of one module | debug | `module`, `step` |
//! | `stockade::pool` | events, a pool began, ended | debug | `pool`, `workers_max`, `mode` |
//! | `stockade::pool` | events, a pool broke, a module is under quarantine | info | `pool`, `cause` |
//! | `stockade::turn` | event, a turn of a pool's driver, in the thread whose turn it was | trace | `messages`: how many of workers it heard |
//!
//! Without a subscriber a task costs one load of a static.
//!
//! Invariant: a subscriber's code never runs under a lock of the pool, as no caller's code does. So
//! events under a lock are emitted later, by a waker, and a subscriber's panic ends there.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use stockade_wire::TaskId;
use tracing::field::Empty;
use tracing::{Level, Span};

use crate::outcome::exit::WorkerExit;
use crate::outcome::machine::MachineError;
use crate::outcome::report::Summary;
use crate::state::cell::TaskCell;
#[cfg(feature = "metrics")]
use crate::state::meters;
use crate::state::spec::TaskSpec;

/// Has the task of `cell`, which was just made, watched from here to its end, if anybody watches or the
/// pool is `metered`.
pub(crate) fn begin(cell: &Arc<TaskCell>, pool: &str, metered: bool) {
    if is_watched(metered) {
        let watched = Watched::begin(cell.id, &cell.spec, pool, metered);
        let waker = Waker::from(Arc::new(WatchedCell { cell: cell.clone(), watched }));
        // Nobody has it yet who could end it, so it is woken once, at its end.
        let _ = cell.poll(&Context::from_waker(&waker));
    }
}

/// Whether anybody watches the tasks of a pool that is `metered` or not.
pub(crate) fn is_watched(metered: bool) -> bool {
    metered || tracing::enabled!(target: "stockade::task", Level::DEBUG)
}

/// A task that is watched, from its submission to its end.
pub(crate) struct Watched {
    /// Closed when this is dropped.
    span: Span,
    /// The pool's name, where its tasks are counted, and what is called.
    #[cfg(feature = "metrics")]
    counted: Option<(String, Arc<TaskSpec>)>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.span.fmt(f)
    }
}

impl Watched {
    /// A task was submitted.
    #[cold]
    pub(crate) fn begin(task: TaskId, spec: &Arc<TaskSpec>, pool: &str, metered: bool) -> Self {
        let span = tracing::debug_span!(
            target: "stockade::task",
            "task",
            pool,
            task = task.0,
            function = %spec.target,
            label = spec.label.as_deref(),
            status = Empty,
            worker = Empty,
            attempt = Empty,
            queue_wait_us = Empty,
            wall_time_us = Empty,
            cpu_time_us = Empty,
        );
        #[cfg(feature = "metrics")]
        if metered {
            meters::submitted(spec, pool);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = metered;
        Self {
            span,
            #[cfg(feature = "metrics")]
            counted: metered.then(|| (pool.to_owned(), spec.clone())),
        }
    }

    /// The task has ended.
    fn ended(&self, report: &Summary) {
        let Summary { status, worker, attempt, queue_wait, wall_time, cpu_time, .. } = report;
        #[cfg(feature = "metrics")]
        if let Some((pool, spec)) = &self.counted {
            meters::ended(spec, pool, report);
        }
        let span = &self.span;
        span.record("status", status.name());
        if let Some(worker) = worker {
            span.record("worker", worker.0);
        }
        span.record("attempt", attempt);
        span.record("queue_wait_us", micros(*queue_wait));
        span.record("wall_time_us", micros(*wall_time));
        span.record("cpu_time_us", micros(*cpu_time));
    }

    /// As [`ended`](Self::ended), by a waker, as this is said under a lock.
    pub(crate) fn ended_later(self, report: Summary) -> Waker {
        later(move || self.ended(&report))
    }
}

/// The task holds this until its end, and this the task.
struct WatchedCell {
    cell: Arc<TaskCell>,
    watched: Watched,
}

impl Wake for WatchedCell {
    fn wake(self: Arc<Self>) {
        if let Some(done) = self.cell.done() {
            self.watched.ended(&done.report);
        }
    }
}

/// Tells of a pool's workers.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) pool: String,
    pub(crate) metered: bool,
}

impl Tally {
    pub(crate) fn worker_started(&self, worker: &str, pid: u32) {
        let Self { pool, metered } = self;
        tracing::debug!(target: "stockade::worker", pool, worker, pid, "a worker was started");
        if *metered {
            #[cfg(feature = "metrics")]
            meters::worker_started(pool);
        }
    }

    /// A worker could not be started, or was ended from outside before it was ready.
    pub(crate) fn start_failed(&self, error: &MachineError) {
        let Self { pool, .. } = self;
        tracing::warn!(target: "stockade::worker", pool, %error, "a worker cannot start: it is tried again");
    }

    /// A worker's end, which the pool brought about where it `is_meant`.
    pub(crate) fn worker_ended(&self, exit: &WorkerExit, is_meant: bool) {
        let Self { pool, metered } = self;
        let WorkerExit { worker, pid, .. } = exit;
        if is_meant || exit.code == Some(0) {
            tracing::debug!(target: "stockade::worker", pool, %worker, pid, %exit, "a worker has ended");
            return;
        }
        tracing::info!(target: "stockade::worker", pool, %worker, pid, %exit, "a worker was lost");
        if *metered {
            #[cfg(feature = "metrics")]
            meters::worker_lost(pool);
        }
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A waker that tells something, once, when it is woken: for what happens under a lock.
pub(crate) fn later(tell: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(Later(Mutex::new(Some(Box::new(tell))))))
}

struct Later(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        let tell = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = tell {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_is_told_later_is_told_once() {
        let told = Arc::new(AtomicUsize::new(0));
        let counted = told.clone();
        let waker = later(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        waker.wake_by_ref();
        waker.wake();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
