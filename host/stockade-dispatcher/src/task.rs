//! One unresolved task: where it is, and what may still become of it.
//!
//! Invariant: a task is in exactly one place, the queue or one worker's window, until it is resolved
//! and forgotten.
//!
//! Deliberately absent: the payload, and anything that outlives the task's resolution. A million of
//! these may wait, so they are kept small.

use core::time::Duration;

use stockade_wire::{ChunkId, ModuleId, TaskId, WorkerId};

use super::tasks::Key;
use super::{CancelReason, Resolution, Submission};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Waits for a worker, between these of its priority.
    Queued { previous: Option<Key>, next: Option<Key> },
    /// Sent to a worker whose answer is outstanding.
    Window(WorkerId),
}

/// What becomes of a task whose worker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Again,
    Ends(Resolution),
}

/// An unresolved task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) place: Place,
    chunk: u64,
    wall_time_nanos: u64,
    pub(super) module: ModuleId,
    pub(super) priority: i32,
    /// What it takes of a window.
    pub(super) inline_bytes: u32,
    retries_left: u32,
    requeues_left: u8,
    /// Its caller wants it ended because it has started.
    pub(super) is_stopped: bool,
}

/// In place of a chunk or a wall time: there is none.
const NONE: u64 = u64::MAX;

impl Task {
    /// A task that is about to be queued.
    pub(super) fn new(submission: &Submission, requeues_max: u32) -> Self {
        let &Submission { task, module, priority, chunk, inline_bytes, wall_time, retries } =
            submission;
        Self {
            id: task,
            place: Place::Queued { previous: None, next: None },
            chunk: chunk.map_or(NONE, |chunk| chunk.0),
            // Half a millennium is as good as for ever.
            wall_time_nanos: wall_time
                .map_or(NONE, |span| u64::try_from(span.as_nanos()).unwrap_or(NONE)),
            module,
            priority,
            inline_bytes: u32::try_from(inline_bytes).unwrap_or(u32::MAX),
            retries_left: retries,
            requeues_left: u8::try_from(requeues_max).unwrap_or(u8::MAX),
            is_stopped: false,
        }
    }

    /// How long it may run.
    pub(super) fn wall_time(&self) -> Option<Duration> {
        (self.wall_time_nanos != NONE).then(|| Duration::from_nanos(self.wall_time_nanos))
    }

    fn chunk(&self) -> Option<ChunkId> {
        (self.chunk != NONE).then_some(ChunkId(self.chunk))
    }

    /// Whether it may travel in the batch that ends with `previous`.
    pub(super) fn continues(&self, previous: Option<&Self>) -> bool {
        self.chunk().is_some() && previous.is_some_and(|previous| previous.chunk == self.chunk)
    }

    /// Its worker died after starting it; `refusal` is why it may not wait for another.
    pub(super) fn lost(&mut self, refusal: Option<CancelReason>) -> Fate {
        if self.is_stopped {
            return Fate::Ends(Resolution::CancelledRunning(CancelReason::Asked));
        }
        if refusal.is_some() || self.retries_left == 0 {
            return Fate::Ends(Resolution::WorkerLost);
        }
        self.retries_left -= 1;
        Fate::Again
    }

    /// It will not run where it was sent; `refusal` is why it may not wait for another worker.
    pub(super) fn returned(&self, refusal: Option<CancelReason>) -> Fate {
        let asked = self.is_stopped.then_some(CancelReason::Asked);
        match asked.or(refusal) {
            Some(reason) => Fate::Ends(Resolution::Cancelled(reason)),
            None => Fate::Again,
        }
    }

    /// As [`returned`](Self::returned), but it may have been what its worker died of.
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
