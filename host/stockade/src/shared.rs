//! What the pool's callers and its driver both see: counters, the break, the end.
//!
//! The driver writes, callers read; nothing here waits for a running task but the wait for the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use stockade_wire::WorkerId;

use crate::BrokenError;
use crate::dispatcher::Counts;

/// A worker that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its number in the pool, from 1.
    pub id: WorkerId,
    /// Its name in process lists.
    pub name: String,
    /// Its process number.
    pub pid: u32,
    /// Tasks it has finished.
    pub tasks_done: u64,
    /// When it was started.
    pub since: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    closed: AtomicBool,
    broken: OnceLock<Arc<BrokenError>>,
    counts: Mutex<Counts>,
    workers: Mutex<BTreeMap<WorkerId, WorkerInfo>>,
    terminated: Mutex<bool>,
    ended: Condvar,
}

/// No code under these locks can panic half-way, so a poisoned one still holds a sound value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Marks the beginning of the shutdown. Says whether this call was the first.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Driver: the pool is broken. Only the first cause stays.
    pub(crate) fn break_with(&self, cause: BrokenError) {
        let _ = self.broken.set(Arc::new(cause));
    }

    pub(crate) fn broken(&self) -> Option<Arc<BrokenError>> {
        self.broken.get().cloned()
    }

    pub(crate) fn publish(&self, counts: Counts) {
        *lock(&self.counts) = counts;
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    pub(crate) fn workers(&self) -> Vec<WorkerInfo> {
        lock(&self.workers).values().cloned().collect()
    }

    pub(crate) fn worker_started(&self, info: WorkerInfo) {
        lock(&self.workers).insert(info.id, info);
    }

    pub(crate) fn worker_finished_task(&self, worker: WorkerId) {
        if let Some(info) = lock(&self.workers).get_mut(&worker) {
            info.tasks_done += 1;
        }
    }

    pub(crate) fn worker_gone(&self, worker: WorkerId) {
        lock(&self.workers).remove(&worker);
    }

    /// Driver: no task and no worker is left, and none will come.
    pub(crate) fn terminate(&self) {
        self.close();
        *lock(&self.terminated) = true;
        self.ended.notify_all();
    }

    pub(crate) fn is_terminated(&self) -> bool {
        *lock(&self.terminated)
    }

    /// Blocks until the pool has ended or `deadline` has come; says whether it has ended.
    pub(crate) fn wait_terminated(&self, deadline: Option<Instant>) -> bool {
        let mut terminated = lock(&self.terminated);
        while !*terminated {
            let Some(deadline) = deadline else {
                terminated = self.ended.wait(terminated).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            terminated =
                self.ended.wait_timeout(terminated, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
