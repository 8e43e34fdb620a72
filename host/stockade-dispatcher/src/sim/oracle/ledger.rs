//! What the oracle writes down about one task, one worker, one exit.

use std::collections::VecDeque;

use stockade_wire::TaskId;

use super::super::super::pace::Pace;
use super::super::super::{Config, Moment, Phase, RequestId, Resolution, Submission};

pub(super) struct Task {
    pub(super) submission: Submission,
    pub(super) resolution: Option<Resolution>,
    /// Its caller has taken it back, so that it must not start and nothing else become of it.
    pub(super) cancel_asked: bool,
    /// Its caller wants it ended though it runs.
    pub(super) stop_asked: bool,
    /// Ever said to run.
    pub(super) started: bool,
    /// Revoked by the driver as it was sent, though it may have been said already that it starts.
    pub(super) sent_revoked: bool,
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
            stop_asked: false,
            started: false,
            sent_revoked: false,
            withheld: false,
            losses: 0,
            returns: 0,
        }
    }
}

/// A task that a worker was sent and has not answered.
#[derive(Clone, Copy)]
pub(super) struct SentTask {
    pub(super) task: TaskId,
    /// The same for the tasks of one batch that was sent, and for no others.
    pub(super) sending: u64,
    /// Since when it is only to be handed back.
    pub(super) revoked_since: Option<Moment>,
    /// Whether it was recalled, or is known to have started because a recall came too late.
    pub(super) is_recalled: bool,
    pub(super) bytes: usize,
}

impl SentTask {
    pub(super) fn is_revoked(&self) -> bool {
        self.revoked_since.is_some()
    }
}

pub(super) struct Worker {
    pub(super) spawned_at: Moment,
    pub(super) ready: bool,
    pub(super) window: VecDeque<SentTask>,
    pub(super) front_since: Moment,
    /// Whether it was said that the front runs.
    pub(super) announced: bool,
    /// Tasks it was given and that were not taken back.
    pub(super) assigned: u64,
    /// Was given as many as one worker is.
    pub(super) retired: bool,
    /// Was so at any time.
    pub(super) was_retired: bool,
    pub(super) finished: u64,
    /// By its own word. Not followed by other means: what it makes of numbers has tests of its own.
    pub(super) pace: Pace,
    /// Batches that it has more because parts were withheld, as the dispatcher has just been told.
    pub(super) split: usize,
    /// Whether what waited first did not fit into its window, since that has had its present front.
    pub(super) was_full: bool,
    pub(super) idle_since: Moment,
    pub(super) close_at: Option<Moment>,
    pub(super) killed: bool,
    /// Broke the protocol.
    pub(super) distrusted: bool,
    /// Killed for no fault of its own.
    pub(super) excused: bool,
    /// Ended by something outside of the pool, before it was ready.
    pub(super) ended_from_outside: bool,
    /// Since when what is first is to be stopped, and something behind it is said to have started.
    pub(super) stopping_since: Option<Moment>,
    /// Killed for the sake of what was first, when nothing behind that had started.
    pub(super) was_alone: bool,
}

impl Worker {
    pub(super) fn new(now: Moment, config: &Config) -> Self {
        Self {
            spawned_at: now,
            ready: false,
            window: VecDeque::new(),
            front_since: now,
            announced: false,
            assigned: 0,
            retired: false,
            was_retired: false,
            finished: 0,
            pace: Pace::new(config.window_time, config.window_tasks_max),
            split: 0,
            was_full: false,
            idle_since: now,
            close_at: None,
            killed: false,
            distrusted: false,
            excused: false,
            ended_from_outside: false,
            stopping_since: None,
            was_alone: false,
        }
    }

    /// Its window has a new front, or none.
    pub(super) fn begin(&mut self, now: Moment) {
        self.front_since = now;
        self.idle_since = now;
        self.announced = false;
        self.stopping_since = None;
        self.was_full = false;
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

    pub(super) fn is_active(&self) -> bool {
        self.is_serving() && !self.retired
    }

    /// The tasks it really has.
    pub(super) fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.window.iter().filter(|sent| !sent.is_revoked()).map(|sent| sent.task)
    }

    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.tasks().any(|task| task == id)
    }

    /// What stands first, unless that is to be handed back.
    pub(super) fn front(&self) -> Option<TaskId> {
        self.window.front().filter(|sent| !sent.is_revoked()).map(|sent| sent.task)
    }

    /// Whether it runs something, or as good as that.
    pub(super) fn is_running(&self) -> bool {
        !self.killed && self.front().is_some()
    }

    /// Those behind the first that were not recalled.
    pub(super) fn waiting(&self) -> usize {
        let behind = self.window.iter().skip(1);
        let wanted = |sent: &&SentTask| !sent.is_revoked() && !sent.is_recalled;
        if self.killed { 0 } else { behind.filter(wanted).count() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.window.iter().map(|sent| sent.bytes).sum()
    }

    /// Batches that it has not answered whole.
    pub(super) fn batches(&self) -> usize {
        let pairs = self.window.iter().zip(self.window.iter().skip(1));
        let borders = pairs.filter(|(first, second)| first.sending != second.sending).count();
        borders + usize::from(!self.window.is_empty())
    }

    /// Forgets the batch that stands first, if it is only to be handed back.
    pub(super) fn pop_revoked(&mut self) {
        let Some(first) = self.window.front().filter(|sent| sent.is_revoked()).copied() else {
            return;
        };
        self.window.retain(|sent| sent.sending != first.sending);
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
    /// Whether its worker was killed when nothing behind what was first had started.
    pub(super) was_alone: bool,
    pub(super) window: VecDeque<TaskId>,
    /// The batches that these were sent in.
    pub(super) sendings: Vec<u64>,
    /// How many of the window's tasks are lost.
    pub(super) lost: usize,
}

impl Exit {
    pub(super) fn new(worker: &Worker, started: Option<TaskId>) -> Self {
        let window: VecDeque<_> = worker.tasks().collect();
        let last = started.and_then(|started| window.iter().position(|task| *task == started));
        let was_alone = worker.was_alone;
        let live = worker.window.iter().filter(|sent| !sent.is_revoked());
        let sendings = live.map(|sent| sent.sending).collect();
        Self { was_alone, window, sendings, lost: last.map_or(0, |last| last + 1) }
    }

    pub(super) fn lost_tasks(&self) -> Vec<TaskId> {
        self.window.iter().take(self.lost).copied().collect()
    }
}
