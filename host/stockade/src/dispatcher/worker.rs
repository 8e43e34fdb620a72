//! One worker's state.
//!
//! ```text
//!           Ready          Run                    Close              Exited
//! Starting ──────► Idle ◄───────► Busy ── ─► Idle ──────► Closing ──────────► (forgotten)
//!    │              │               │                        │                    ▲
//!    └──────────────┴───── Kill ────┴────────────────────────┴──► Dying ── Exited ┘
//! ```
//!
//! Invariant: a `Busy` window is never empty. A `Dying` one keeps what is not yet resolved: until
//! the worker is gone, nobody can say which of its tasks it had started.
//!
//! Deliberately absent: what anything here means for the pool.

use std::collections::VecDeque;
use std::time::Duration;

use stockade_wire::TaskId;

use super::{Moment, Phase};

/// What the dispatcher knows of a worker that is not gone.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) state: State,
    /// Tasks it was ever given.
    pub(super) assigned: u64,
    /// Tasks it says that it ran to their end.
    pub(super) finished: u64,
}

/// Where a worker is in its life.
#[derive(Debug)]
pub(super) enum State {
    /// Not yet ready.
    Starting { deadline: Moment },
    /// Ready, without a task.
    Idle { since: Moment },
    /// With tasks; the deadline is the first one's.
    Busy { window: VecDeque<TaskId>, deadline: Option<Moment> },
    /// Runs its finalizers.
    Closing { deadline: Moment },
    /// Killed, and not yet gone.
    Dying { window: VecDeque<TaskId>, verdict: Verdict },
}

/// Whose fault a worker's death is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its own, before it was of any use.
    NeverReady,
    /// Its own, or that of the task it ran.
    AtFault,
    /// Ours: it was asked to go, or killed for the sake of one task that is already resolved.
    Excused,
}

impl Worker {
    /// A worker that was just spawned.
    pub(super) fn new(deadline: Moment) -> Self {
        Self { state: State::Starting { deadline }, assigned: 0, finished: 0 }
    }

    /// When something has to be done about it if nothing happens before.
    pub(super) fn deadline(&self, idle_timeout: Option<Duration>) -> Option<Moment> {
        match &self.state {
            State::Starting { deadline } | State::Closing { deadline } => Some(*deadline),
            State::Idle { since } => idle_timeout.map(|timeout| since.saturating_add(timeout)),
            State::Busy { deadline, .. } => *deadline,
            State::Dying { .. } => None,
        }
    }

    /// Brings the deadline of its first task forward.
    pub(super) fn hurry(&mut self, latest: Moment) {
        if let State::Busy { deadline, .. } = &mut self.state {
            *deadline = Some(deadline.map_or(latest, |deadline| deadline.min(latest)));
        }
    }

    /// Where it is in its life, for those who need to know no more.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Starting { .. } => Phase::Starting,
            State::Idle { .. } => Phase::Idle,
            State::Busy { .. } => Phase::Busy,
            State::Closing { .. } => Phase::Closing,
            State::Dying { .. } => Phase::Dying,
        }
    }

    /// The tasks it was sent and has not answered.
    pub(super) fn window(&self) -> impl Iterator<Item = TaskId> {
        match &self.state {
            State::Busy { window, .. } | State::Dying { window, .. } => Some(window),
            _ => None,
        }
        .into_iter()
        .flatten()
        .copied()
    }

    /// Whether it is at work on this task, or as good as that.
    pub(super) fn runs(&self, task: TaskId) -> bool {
        matches!(self.state, State::Busy { .. }) && self.front() == Some(task)
    }

    /// The task it has to answer next.
    pub(super) fn front(&self) -> Option<TaskId> {
        self.window().next()
    }

    /// Takes a task out of its window, at once if it is the front.
    pub(super) fn forget(&mut self, task: TaskId) {
        if let State::Busy { window, .. } | State::Dying { window, .. } = &mut self.state
            && let Some(index) = window.iter().position(|sent| *sent == task)
        {
            window.remove(index);
        }
    }

    /// How many more tasks it may be given.
    pub(super) fn tasks_left(&self, tasks_max: Option<u64>) -> usize {
        let left = tasks_max.map_or(u64::MAX, |max| max.saturating_sub(self.assigned));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Whether it has a task or will get one: what counts against the pool's maximum.
    pub(super) fn is_active(&self, tasks_max: Option<u64>) -> bool {
        match self.state {
            State::Starting { .. } | State::Idle { .. } => true,
            State::Busy { .. } => self.tasks_left(tasks_max) > 0,
            State::Closing { .. } | State::Dying { .. } => false,
        }
    }

    /// Whether it takes, or will take, part in the pool's work.
    pub(super) fn is_serving(&self) -> bool {
        !matches!(self.state, State::Closing { .. } | State::Dying { .. })
    }

    /// What a death in this state says of the worker.
    pub(super) fn verdict(&self) -> Verdict {
        match self.state {
            State::Starting { .. } => Verdict::NeverReady,
            State::Idle { .. } | State::Busy { .. } => Verdict::AtFault,
            State::Closing { .. } => Verdict::Excused,
            State::Dying { verdict, .. } => verdict,
        }
    }

    /// Marks it as killed; its window waits for its end.
    pub(super) fn die(&mut self, verdict: Verdict) {
        self.state = State::Dying { window: self.window().collect(), verdict };
    }
}
