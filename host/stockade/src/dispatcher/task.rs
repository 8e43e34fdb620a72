//! One unresolved task: where it is, and what may still become of it.
//!
//! Invariant: a task is in exactly one place, the queue or one worker's window, until it is resolved
//! and forgotten.
//!
//! Deliberately absent: the payload, and anything that outlives the task's resolution.

use std::time::Duration;

use stockade_wire::{ModuleId, WorkerId};

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

/// Somebody wants back a task that was already sent. A later one replaces an earlier one that is
/// less than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawal {
    /// By the pool, if that comes in time: it may have started.
    Recalled(CancelReason),
    /// By its caller, who wants it ended because it has started.
    Stopped,
    /// By its caller, and in time: it never starts.
    Revoked,
}

impl Withdrawal {
    /// Why a task ends that is handed back, or never came to its turn.
    pub(super) fn reason(self) -> CancelReason {
        match self {
            Self::Recalled(reason) => reason,
            Self::Stopped | Self::Revoked => CancelReason::Asked,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Recalled(_) => 1,
            Self::Stopped => 2,
            Self::Revoked => 3,
        }
    }
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
    pub(super) module: ModuleId,
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
            module: submission.module,
            withdrawal: None,
            entry: Self::entry_of(submission),
            wall_time: submission.wall_time,
            retries_left: submission.retries,
            requeues_left: requeues_max,
        }
    }

    /// What the queue keeps of a submission.
    pub(super) fn entry_of(submission: &Submission) -> Entry {
        let &Submission { task, priority, chunk, inline_bytes, .. } = submission;
        Entry { task, priority, chunk, inline_bytes }
    }

    /// What the queue keeps of it.
    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    /// Until when it may stand first in a window, from `now` on. One that never starts only has to be
    /// handed back.
    pub(super) fn deadline(&self, now: Moment, recall_timeout: Duration) -> Option<Moment> {
        let hand_back = self.is_revoked().then_some(recall_timeout);
        self.wall_time.into_iter().chain(hand_back).min().map(|span| now.saturating_add(span))
    }

    /// Whether its caller took it back before it started.
    pub(super) fn is_revoked(&self) -> bool {
        self.withdrawal == Some(Withdrawal::Revoked)
    }

    /// Notes that it is wanted back. Returns whether nobody wanted it before.
    pub(super) fn withdraw(&mut self, withdrawal: Withdrawal) -> bool {
        let before = self.withdrawal.map_or(0, Withdrawal::rank);
        if withdrawal.rank() > before {
            self.withdrawal = Some(withdrawal);
        }
        before == 0
    }

    /// Its worker died after starting it; `refusal` is why it may not wait for another.
    pub(super) fn lost(&mut self, refusal: Option<CancelReason>) -> Fate {
        match self.withdrawal {
            Some(Withdrawal::Stopped) => {
                Fate::Ends(Resolution::CancelledRunning(CancelReason::Asked))
            }
            // Only a page that lies can say that it started.
            Some(Withdrawal::Revoked) => Fate::Ends(Resolution::Cancelled(CancelReason::Asked)),
            None if refusal.is_none() && self.retries_left > 0 => {
                self.retries_left -= 1;
                Fate::Again
            }
            Some(Withdrawal::Recalled(_)) | None => Fate::Ends(Resolution::WorkerLost),
        }
    }

    /// Its worker died before starting it, for all that is known; `suspect` if it may have been what
    /// the worker died of.
    pub(super) fn returned(&mut self, suspect: bool, refusal: Option<CancelReason>) -> Fate {
        if let Some(reason) = self.withdrawal.map(Withdrawal::reason).or(refusal) {
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
