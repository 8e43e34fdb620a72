//! State that the pool's callers and its driver share: counters, workers, the semaphore, failures,
//! the end.
//!
//! The driver writes, callers read. Only waiting for the end, or for a permit, blocks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use stockade_wire::{ModuleId, TaskId, WorkerId};

use crate::base::sync::{Condvar, Mutex, Wakers, lock, wait, wake};
use crate::call::cancelled::CancelledTask;
use crate::outcome::error::{BrokenError, Quarantine};
use crate::state::semaphore::Semaphore;
use stockade_dispatcher::{Counts, Phase};

/// A live worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its number in the pool, from 1.
    pub id: WorkerId,
    /// Its name in process lists.
    pub name: String,
    /// Its process number.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// Tasks it has finished.
    pub tasks_done: u64,
    /// Its private memory, in bytes, which its end would free. `None` if it is gone or the system
    /// does not tell.
    pub memory_bytes: Option<u64>,
    /// When it was started.
    pub since: Instant,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It sets itself up and loads the pool's modules.
    Starting,
    /// It waits for a task.
    Idle,
    /// It has tasks.
    Busy,
    /// It runs finalizers and exits.
    Closing,
    /// It was killed, and is not gone yet.
    Dying,
}

impl From<Phase> for WorkerState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Idle => Self::Idle,
            Phase::Busy => Self::Busy,
            Phase::Closing => Self::Closing,
            Phase::Dying => Self::Dying,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    closed: AtomicBool,
    broken: OnceLock<Arc<BrokenError>>,
    quarantined: Mutex<BTreeMap<ModuleId, Arc<Quarantine>>>,
    /// Whether any is, so that who submits needs no lock as long as none is.
    any_quarantined: AtomicBool,
    counts: Mutex<Counts>,
    /// Where the number of pending tasks is limited.
    room: Option<Arc<Semaphore>>,
    cancelled: Mutex<Vec<CancelledTask>>,
    idle_timeout: Mutex<Option<Duration>>,
    terminated: Mutex<bool>,
    ended: Condvar,
}

impl Shared {
    pub(crate) fn new(room: Option<Arc<Semaphore>>, idle_timeout: Option<Duration>) -> Self {
        Self {
            closed: AtomicBool::new(false),
            broken: OnceLock::new(),
            quarantined: Mutex::default(),
            any_quarantined: AtomicBool::new(false),
            counts: Mutex::default(),
            room,
            cancelled: Mutex::default(),
            idle_timeout: Mutex::new(idle_timeout),
            terminated: Mutex::new(false),
            ended: Condvar::new(),
        }
    }

    /// Marks the beginning of the shutdown. Returns whether this call was the first.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.let_everybody_in().into_iter().for_each(wake);
        first
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Driver: the pool is broken. Only the first cause stays. Gives whom to wake for that, once no
    /// lock is held.
    #[must_use]
    pub(crate) fn break_with(&self, cause: BrokenError) -> Wakers {
        let _ = self.broken.set(Arc::new(cause));
        self.let_everybody_in()
    }

    pub(crate) fn broken(&self) -> Option<Arc<BrokenError>> {
        self.broken.get().cloned()
    }

    /// Waiters for a permit find the pool closed or broken instead.
    fn let_everybody_in(&self) -> Wakers {
        self.room.as_ref().map(|room| room.close()).unwrap_or_default()
    }

    pub(crate) fn room(&self) -> Option<&Arc<Semaphore>> {
        self.room.as_ref()
    }

    /// Driver: tasks of this module are refused from now on.
    pub(crate) fn quarantine(&self, module: ModuleId, quarantine: Quarantine) {
        lock(&self.quarantined).insert(module, Arc::new(quarantine));
        self.any_quarantined.store(true, Ordering::Release);
    }

    pub(crate) fn quarantined(&self, module: ModuleId) -> Option<Arc<Quarantine>> {
        if !self.any_quarantined.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.quarantined).get(&module).cloned()
    }

    /// Driver: the pool cancelled this task.
    pub(crate) fn cancelled(&self, task: CancelledTask) {
        lock(&self.cancelled).push(task);
    }

    /// Driver: it did not, as its caller has cancelled it at the same time.
    pub(crate) fn not_cancelled(&self, task: TaskId) {
        let mut tasks = lock(&self.cancelled);
        if let Some(index) = tasks.iter().rposition(|cancelled| cancelled.id == task) {
            tasks.remove(index);
        }
    }

    /// Tasks that the pool cancelled, in the order of their submission.
    pub(crate) fn cancelled_tasks(&self) -> Vec<CancelledTask> {
        let mut tasks = lock(&self.cancelled).clone();
        tasks.sort_by_key(|task| task.id);
        tasks
    }

    pub(crate) fn set_idle_timeout(&self, timeout: Option<Duration>) {
        *lock(&self.idle_timeout) = timeout;
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        *lock(&self.idle_timeout)
    }

    /// Driver: how much there is of everything.
    pub(crate) fn show_counts(&self, counts: Counts) {
        *lock(&self.counts) = counts;
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.counts)
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

    /// Blocks until the pool has ended or `deadline` has come; returns whether it has ended.
    pub(crate) fn wait_terminated(&self, deadline: Option<Instant>) -> bool {
        let mut terminated = lock(&self.terminated);
        while !*terminated {
            match wait(&self.ended, terminated, deadline) {
                Some(changed) => terminated = changed,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
#[cfg(shuttle)]
mod models;
