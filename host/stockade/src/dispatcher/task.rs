//! One unresolved task: where it is, and what may still become of it.
//!
//! Invariant: a task is in exactly one place, the queue or one worker's window, until it is resolved
//! and forgotten.
//!
//! Deliberately absent: the payload, and anything that outlives the task's resolution.

use std::time::Duration;

use stockade_wire::WorkerId;

use super::queue::{Entry, Position};
use super::{CancelReason, Moment, Resolution, Submission};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Waits for a worker.
    Queued(Position),
    /// Sent to a worker whose answer is outstanding.
    Window(WorkerId),
}

/// Somebody wants back a task that was already sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Withdrawal {
    pub(super) reason: CancelReason,
    /// Whether it shall end even if it has started.
    pub(super) even_running: bool,
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
    pub(super) place: Place,
    pub(super) withdrawal: Option<Withdrawal>,
    entry: Entry,
    wall_time: Option<Duration>,
    retries_left: u32,
    requeues_left: u32,
}

impl Task {
    /// A task that was just queued.
    pub(super) fn new(submission: &Submission, position: Position, requeues_max: u32) -> Self {
        Self {
            place: Place::Queued(position),
            withdrawal: None,
            entry: Self::entry_of(submission),
            wall_time: submission.wall_time,
            retries_left: submission.retries,
            requeues_left: requeues_max,
        }
    }

    /// What the queue keeps of a submission.
    pub(super) fn entry_of(submission: &Submission) -> Entry {
        let &Submission { task, chunk, inline_bytes, .. } = submission;
        Entry { task, chunk, inline_bytes }
    }

    /// What the queue keeps of it.
    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    /// Until when it may stand first in a window, from `now` on.
    pub(super) fn deadline(&self, now: Moment, recall_timeout: Duration) -> Option<Moment> {
        let stop = self.withdrawal.is_some_and(|withdrawal| withdrawal.even_running);
        let grace = stop.then_some(recall_timeout);
        self.wall_time.into_iter().chain(grace).min().map(|span| now.saturating_add(span))
    }

    /// How it ends when that moment passes. A recalled task is only waited for as long as a recall
    /// takes, so its wall time is not what ended it.
    pub(super) fn overdue(&self) -> Resolution {
        match self.withdrawal {
            Some(Withdrawal { reason, even_running: true }) => Resolution::CancelledRunning(reason),
            _ => Resolution::DeadlinePassed,
        }
    }

    /// Notes that it is wanted back. The first reason counts, unless a later one wants more. Returns
    /// whether nobody wanted it before.
    pub(super) fn withdraw(&mut self, withdrawal: Withdrawal) -> bool {
        let news = self.withdrawal.is_none();
        if news || withdrawal.even_running {
            self.withdrawal = Some(withdrawal);
        }
        news
    }

    /// Its worker died after starting it; `refusal` is why it may not wait for another.
    pub(super) fn lost(&mut self, refusal: Option<CancelReason>) -> Fate {
        match self.withdrawal {
            Some(Withdrawal { reason, even_running: true }) => {
                Fate::Ends(Resolution::CancelledRunning(reason))
            }
            None if refusal.is_none() && self.retries_left > 0 => {
                self.retries_left -= 1;
                Fate::Again
            }
            _ => Fate::Ends(Resolution::WorkerLost),
        }
    }

    /// Its worker died before starting it, for all that is known; `suspect` if it may have been what
    /// the worker died of.
    pub(super) fn returned(&mut self, suspect: bool, refusal: Option<CancelReason>) -> Fate {
        if let Some(reason) = self.withdrawal.map(|withdrawal| withdrawal.reason).or(refusal) {
            return Fate::Ends(Resolution::Cancelled(reason));
        }
        if suspect {
            match self.requeues_left.checked_sub(1) {
                Some(left) => self.requeues_left = left,
                None => return Fate::Ends(Resolution::WorkerLost),
            }
        }
        Fate::Again
    }
}
