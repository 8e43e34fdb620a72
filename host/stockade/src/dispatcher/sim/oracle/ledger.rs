//! What the oracle writes down about one task, one worker, one exit.

use std::collections::VecDeque;

use stockade_wire::TaskId;

use super::super::super::{CancelReason, Moment, Phase, RequestId, Resolution, Submission};

pub(super) struct Task {
    pub(super) submission: Submission,
    pub(super) resolution: Option<Resolution>,
    /// Its caller has taken it back, so that it must not start and nothing else become of it.
    pub(super) cancel_asked: bool,
    /// Since when its worker is to hand it back to its caller.
    pub(super) revoked_since: Option<Moment>,
    /// Its caller wants it ended though it runs.
    pub(super) stop_asked: bool,
    /// The pool wanted it back while it waited in a window: it may be handed back, and never runs
    /// again.
    pub(super) recalled: Option<CancelReason>,
    /// Ever said to run.
    pub(super) started: bool,
    /// Kept back by the driver, so that its worker never heard of it.
    pub(super) withheld: bool,
    /// Workers that died after starting it.
    pub(super) losses: u32,
    /// Workers that died of something with it at the front of their window, and unstarted.
    pub(super) returns: u32,
}

impl Task {
    pub(super) fn new(submission: &Submission) -> Self {
        Self {
            submission: submission.clone(),
            resolution: None,
            cancel_asked: false,
            revoked_since: None,
            stop_asked: false,
            recalled: None,
            started: false,
            withheld: false,
            losses: 0,
            returns: 0,
        }
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked_since.is_some()
    }

    /// Whether anybody wants it back.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.is_revoked() || self.stop_asked || self.recalled.is_some()
    }
}

pub(super) struct Worker {
    pub(super) spawned_at: Moment,
    pub(super) ready: bool,
    pub(super) window: VecDeque<TaskId>,
    pub(super) front_since: Moment,
    /// Whether it was said that the front runs.
    pub(super) announced: bool,
    pub(super) assigned: u64,
    pub(super) finished: u64,
    pub(super) idle_since: Moment,
    pub(super) close_at: Option<Moment>,
    pub(super) killed: bool,
    /// Broke the protocol.
    pub(super) distrusted: bool,
    /// Killed for no fault of its own.
    pub(super) excused: bool,
}

impl Worker {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            spawned_at: now,
            ready: false,
            window: VecDeque::new(),
            front_since: now,
            announced: false,
            assigned: 0,
            finished: 0,
            idle_since: now,
            close_at: None,
            killed: false,
            distrusted: false,
            excused: false,
        }
    }

    /// Its window has a new front, or none.
    pub(super) fn begin(&mut self, now: Moment) {
        self.front_since = now;
        self.idle_since = now;
        self.announced = false;
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self { killed: true, .. } => Phase::Dying,
            Self { close_at: Some(_), .. } => Phase::Closing,
            Self { ready: false, .. } => Phase::Starting,
            _ if self.window.is_empty() => Phase::Idle,
            _ => Phase::Busy,
        }
    }

    pub(super) fn is_starting(&self) -> bool {
        !self.ready && !self.killed
    }

    pub(super) fn is_serving(&self) -> bool {
        !self.killed && self.close_at.is_none()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ready && self.is_serving() && self.window.is_empty()
    }

    pub(super) fn is_active(&self, tasks_max: Option<u64>) -> bool {
        self.is_serving() && tasks_max.is_none_or(|max| self.assigned < max)
    }

    /// Whether its death is held against it, or against what it ran.
    pub(super) fn is_at_fault(&self) -> bool {
        !self.excused && self.close_at.is_none()
    }

    /// Whether its death makes the next worker wait.
    pub(super) fn failed(&self) -> bool {
        self.is_at_fault() && (!self.ready || self.finished == 0)
    }
}

/// Somebody who asked for workers.
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) granted: usize,
    /// How many of these have started; those of the first who ask start first.
    pub(super) started: usize,
}

/// A worker's end.
pub(super) struct Exit {
    pub(super) window: VecDeque<TaskId>,
    /// How many of the window's tasks are lost.
    pub(super) lost: usize,
}

impl Exit {
    pub(super) fn new(worker: &Worker, started: Option<TaskId>) -> Self {
        let window = worker.window.clone();
        let last = started.and_then(|started| window.iter().position(|task| *task == started));
        Self { window, lost: last.map_or(0, |last| last + 1) }
    }

    pub(super) fn lost_tasks(&self) -> Vec<TaskId> {
        self.window.iter().take(self.lost).copied().collect()
    }
}
