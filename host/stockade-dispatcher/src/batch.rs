//! One batch of unresolved tasks: which they are, where they are, and what may still become of them.
//!
//! A batch shrinks from its front as its tasks end, and is split where a part of it goes another way. All
//! tasks of one batch have everything in common, so a task that was lost, or is suspected, is a batch of
//! its own afterwards.
//!
//! Invariant: a batch is in exactly one place, the queue or one worker's window, until its last task is
//! resolved.
//!
//! Deliberately absent: payloads, and anything that outlives the tasks' resolution. A million of these may
//! wait, so they are kept small.

use core::time::Duration;

use stockade_wire::{ModuleId, TaskRange, WorkerId};

use super::batches::Key;
use super::{CancelReason, EntryKey, Resolution, Submission};

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Waits for a worker, between these of its priority.
    Queued { previous: Option<Key>, next: Option<Key> },
    /// Sent to a worker whose answer is outstanding.
    Window(WorkerId),
}

/// What becomes of tasks whose worker does not run them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Again,
    Ends(Resolution),
}

/// Unresolved tasks whose numbers follow each other.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Changed by [`Batches`](super::batches::Batches) alone, which finds a batch by them.
    pub(super) tasks: TaskRange,
    pub(super) place: Place,
    wall_time_nanos: u64,
    pub(super) entry: EntryKey,
    pub(super) module: ModuleId,
    pub(super) priority: i32,
    /// What each task takes of a window.
    pub(super) task_bytes: u32,
    /// Of each task.
    retries_left: u32,
    /// Of each task.
    requeues_left: u8,
}

/// Stands for a task without a wall time.
const NONE: u64 = u64::MAX;

impl Batch {
    /// A batch that is about to be queued.
    pub(super) fn new(submission: &Submission, requeues_max: u32) -> Self {
        let &Submission { tasks, entry, module, priority, task_bytes, wall_time, retries } =
            submission;
        Self {
            tasks,
            place: Place::Queued { previous: None, next: None },
            // Half a millennium is as good as no limit.
            wall_time_nanos: wall_time
                .map_or(NONE, |span| u64::try_from(span.as_nanos()).unwrap_or(NONE)),
            entry,
            module,
            priority,
            task_bytes: u32::try_from(task_bytes).unwrap_or(u32::MAX),
            retries_left: retries,
            requeues_left: u8::try_from(requeues_max).unwrap_or(u8::MAX),
        }
    }

    /// How many tasks it has.
    pub(super) fn count(&self) -> usize {
        self.tasks.count() as usize
    }

    /// How long each task may run.
    pub(super) fn wall_time(&self) -> Option<Duration> {
        (self.wall_time_nanos != NONE).then(|| Duration::from_nanos(self.wall_time_nanos))
    }

    /// The worker died after starting these tasks. `refusal` is why they may not wait for another.
    pub(super) fn lost(&mut self, refusal: Option<CancelReason>) -> Fate {
        if refusal.is_some() || self.retries_left == 0 {
            return Fate::Ends(Resolution::WorkerLost);
        }
        self.retries_left -= 1;
        Fate::Again
    }

    /// These tasks will not run where they were sent. `refusal` is why they may not wait for another
    /// worker.
    pub(super) fn returned(&self, refusal: Option<CancelReason>) -> Fate {
        match refusal {
            Some(reason) => Fate::Ends(Resolution::Cancelled(reason)),
            None => Fate::Again,
        }
    }

    /// As [`returned`](Self::returned), but one of these tasks may have killed its worker.
    pub(super) fn suspected(&mut self, refusal: Option<CancelReason>) -> Fate {
        let fate = self.returned(refusal);
        if fate == Fate::Again {
            match self.requeues_left.checked_sub(1) {
                Some(left) => self.requeues_left = left,
                None => return Fate::Ends(Resolution::WorkerLost),
            }
        }
        fate
    }
}
