//! One worker's state.
//!
//! ```text
//!           Ready          Run                    Close              Exited
//! Starting ──────► Idle ◄───────► Busy ── ─► Idle ──────► Closing ──────────► (forgotten)
//!    │              │               │                        │                    ▲
//!    └──────────────┴───── Kill ────┴────────────────────────┴──► Dying ── Exited ┘
//! ```
//!
//! Invariant: a `Busy` worker's window is never empty. A `Dying` one keeps what is not yet resolved:
//! until the worker is gone, nobody can say which of its tasks it had started.
//!
//! Deliberately absent: what anything here means for the pool.

use stockade_wire::TaskId;

use super::pace::Pace;
use super::queue::Room;
use super::window::{First, Window};
use super::{Config, Moment, Phase, Resolution};

/// What the dispatcher knows of a worker that is not gone.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) state: Lifecycle,
    pub(super) window: Window,
    pub(super) pace: Pace,
    /// Tasks it was ever given and that were not taken back.
    pub(super) assigned: u64,
    /// Tasks it says that it ran to their end.
    pub(super) finished: u64,
    /// Whether it gets no more tasks, having been given as many as one worker gets.
    pub(super) is_retired: bool,
    /// Whether nothing more goes behind the present first task: that takes long, or there is no room.
    pub(super) is_full: bool,
    /// Whether something outside of the pool ended it, before it was ready.
    pub(super) ended_from_outside: bool,
}

/// The phase of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lifecycle {
    /// Not yet ready.
    Starting { deadline: Moment },
    /// Ready, and its window is empty.
    Idle { since: Moment },
    /// With tasks, or with batches that are to be handed back.
    Busy(Front),
    /// Runs its finalizers.
    Closing { deadline: Moment },
    /// Killed, and not yet gone.
    Dying { verdict: Verdict },
}

/// What stands first in a window.
#[derive(Clone, Copy, Debug)]
pub(super) enum Front {
    /// Became so during the events that are being handled; nobody has said so.
    New,
    /// When it became so, and until when it may be.
    Known { since: Moment, deadline: Option<Moment> },
    /// It is to end like this, once it is known that its worker's end costs no other task, and by
    /// the deadline in any case.
    Stopping { resolution: Resolution, deadline: Moment },
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
    pub(super) fn new(deadline: Moment, config: &Config) -> Self {
        Self {
            state: Lifecycle::Starting { deadline },
            window: Window::default(),
            pace: Pace::new(config.window_time, config.window_tasks_max),
            assigned: 0,
            finished: 0,
            is_retired: false,
            is_full: false,
            ended_from_outside: false,
        }
    }

    /// What stood first in its window has left it: the next one does, or it is free. Returns
    /// whether it has completed all of its tasks instead.
    pub(super) fn advance(&mut self, now: Moment) -> bool {
        let is_done = self.window.is_empty() && self.is_retired;
        if matches!(self.state, Lifecycle::Busy(_)) {
            match self.window.is_empty() {
                false => self.state = Lifecycle::Busy(Front::New),
                true if !is_done => self.state = Lifecycle::Idle { since: now },
                true => return true,
            }
        }
        false
    }

    /// When something has to be done about it if nothing happens before. Of those that are idle, the
    /// roster knows.
    pub(super) fn deadline(&self, config: &Config) -> Option<Moment> {
        match self.state {
            Lifecycle::Starting { deadline }
            | Lifecycle::Closing { deadline }
            | Lifecycle::Busy(Front::Stopping { deadline, .. }) => Some(deadline),
            Lifecycle::Busy(Front::Known { since, deadline }) => {
                let patience = since.saturating_add(config.patience);
                let waits = config.workers_max > 1 && self.window.waiting() > 0;
                deadline.into_iter().chain(waits.then_some(patience)).min()
            }
            Lifecycle::Busy(Front::New) | Lifecycle::Idle { .. } | Lifecycle::Dying { .. } => None,
        }
    }

    /// How many tasks it is to get beyond those it has, if its window is below its low watermark: at most
    /// half full, so that refills are large.
    pub(super) fn refill(&self, config: &Config) -> Option<usize> {
        let depth = self.pace.depth()?;
        let live = self.window.live();
        let may_get = matches!(self.state, Lifecycle::Busy(_)) && !self.is_retired && !self.is_full;
        let room = self.room(config);
        let is_low = live.saturating_mul(2) <= depth && room.batches > 0;
        (may_get && is_low).then(|| (depth - live).min(room.tasks)).filter(|tasks| *tasks > 0)
    }

    /// How much may be sent to it.
    pub(super) fn room(&self, config: &Config) -> Room {
        let left = config.tasks_per_worker_max.map_or(u64::MAX, |max| max - self.assigned);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Room {
            tasks: config.window_tasks_max.saturating_sub(self.window.held()).min(left),
            batches: config.window_batches_max.saturating_sub(self.window.batches()),
            bytes: config.window_bytes_max.saturating_sub(self.window.bytes()),
        }
    }

    /// Where it is in its life, for those who need to know no more.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            Lifecycle::Starting { .. } => Phase::Starting,
            Lifecycle::Idle { .. } => Phase::Idle,
            Lifecycle::Busy(_) => Phase::Busy,
            Lifecycle::Closing { .. } => Phase::Closing,
            Lifecycle::Dying { .. } => Phase::Dying,
        }
    }

    /// The task that it is at work on, or as good as that.
    pub(super) fn running(&self) -> Option<TaskId> {
        match self.window.first() {
            Some(First::Live(_, task)) if matches!(self.state, Lifecycle::Busy(_)) => Some(task),
            _ => None,
        }
    }

    /// Whether it has a task or will get one: what counts against the pool's maximum.
    pub(super) fn is_active(&self) -> bool {
        match self.state {
            Lifecycle::Starting { .. } | Lifecycle::Idle { .. } => true,
            Lifecycle::Busy(_) => !self.is_retired,
            Lifecycle::Closing { .. } | Lifecycle::Dying { .. } => false,
        }
    }

    /// Whether it takes, or will take, part in the pool's work.
    pub(super) fn is_serving(&self) -> bool {
        !matches!(self.state, Lifecycle::Closing { .. } | Lifecycle::Dying { .. })
    }

    /// What a death in this state says of the worker.
    pub(super) fn verdict(&self) -> Verdict {
        match self.state {
            Lifecycle::Starting { .. } => Verdict::NeverReady,
            Lifecycle::Idle { .. } | Lifecycle::Busy(_) => Verdict::AtFault,
            Lifecycle::Closing { .. } => Verdict::Excused,
            Lifecycle::Dying { verdict } => verdict,
        }
    }
}
