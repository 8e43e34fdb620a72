//! What watchers of the program are told: spans and events of `tracing`.
//!
//! | target | span or event | level | fields |
//! |---|---|---|---|
//! | `stockade::task` | span `task`, from its submission to its end, within that of its caller | debug | `pool`, `task`, `function`, `label`; at its end `status`, `worker`, `attempt`, `queue_wait_us`, `wall_time_us`, `cpu_time_us` |
//! | `stockade::worker` | event, a worker was started or has ended | debug | `worker`, `pid`; `exit` |
//! | `stockade::worker` | event, a worker was lost | info | the same |
//! | `stockade::compile` | span `compile`, one step of one module | debug | `module`, `step` |
//! | `stockade::pool` | events, a pool began, ended | debug | `pool`, `workers_max`, `mode` |
//! | `stockade::pool` | events, a pool broke, a module is under quarantine | info | `pool`, `cause` |
//!
//! Nobody listens unless the program says so; a task then costs one look at a static.
//!
//! Invariant: a watcher's code runs under no lock of the pool's, as no code of a caller's does. So what
//! happens under one is told by a waker, which is called later, and a watcher's panic ends there.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use tracing::field::Empty;
use tracing::{Level, Span};

use crate::cell::TaskCell;
use crate::report::{Status, Summary};

/// Has the task of `cell`, which was just made, watched from here to its end, if anybody watches.
pub(crate) fn begin(cell: &Arc<TaskCell>, pool: &str) {
    if tracing::enabled!(target: "stockade::task", Level::DEBUG) {
        watch(cell, pool);
    }
}

/// A task that is watched. The task holds this until its end, and this the task.
struct Watched {
    cell: Arc<TaskCell>,
    /// Closed when this is dropped.
    span: Span,
}

#[cold]
fn watch(cell: &Arc<TaskCell>, pool: &str) {
    let terms = &cell.terms;
    let span = tracing::debug_span!(
        target: "stockade::task",
        "task",
        pool,
        task = cell.id.0,
        function = %terms.target,
        label = terms.label.as_deref(),
        status = Empty,
        worker = Empty,
        attempt = Empty,
        queue_wait_us = Empty,
        wall_time_us = Empty,
        cpu_time_us = Empty,
    );
    let waker = Waker::from(Arc::new(Watched { cell: cell.clone(), span }));
    // Nobody has it yet who could end it, so it is woken once, at its end.
    let _ = cell.poll(&Context::from_waker(&waker));
}

impl Wake for Watched {
    fn wake(self: Arc<Self>) {
        let Some(done) = self.cell.done() else { return };
        let Summary { status, worker, attempt, queue_wait, wall_time, cpu_time, .. } = &done.report;
        let span = &self.span;
        span.record("status", name_of(*status));
        if let Some(worker) = worker {
            span.record("worker", worker.0);
        }
        span.record("attempt", attempt);
        span.record("queue_wait_us", micros(*queue_wait));
        span.record("wall_time_us", micros(*wall_time));
        span.record("cpu_time_us", micros(*cpu_time));
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A status as a field of a span and a label of a metric.
pub(crate) fn name_of(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Running => "running",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
    }
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
