//! What the oracle writes down about one task, one worker, one exit.

use std::collections::VecDeque;
use std::time::Duration;

use stockade_wire::TaskId;

use super::super::super::{Moment, Phase, RequestId, Resolution, Submission};

pub(super) struct Task {
    pub(super) submission: Submission,
    pub(super) resolution: Option<Resolution>,
    /// Its caller has taken it back, so that it must not start and nothing else become of it.
    pub(super) cancel_asked: bool,
    /// Its caller wants it ended though it runs.
    pub(super) stop_asked: bool,
    /// Ever said to run.
    pub(super) started: bool,
    /// Its page has ever said that it never starts there, for the pool.
    pub(super) was_taken_back: bool,
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
            was_taken_back: false,
            withheld: false,
            losses: 0,
            returns: 0,
        }
    }
}

/// What a worker was sent and has not answered.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) task: TaskId,
    /// Since when it is only to be handed back.
    pub(super) ghost_since: Option<Moment>,
    /// Whether the pool wanted it back, or knows that it has started.
    pub(super) is_recalled: bool,
    pub(super) bytes: usize,
}

impl Sent {
    pub(super) fn is_ghost(&self) -> bool {
        self.ghost_since.is_some()
    }
}

pub(super) struct Worker {
    pub(super) spawned_at: Moment,
    pub(super) ready: bool,
    pub(super) window: VecDeque<Sent>,
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
    /// Nanoseconds, by its own word.
    pub(super) average: Option<u64>,
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
    pub(super) fn new(now: Moment) -> Self {
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
            average: None,
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
        self.window.iter().filter(|sent| !sent.is_ghost()).map(|sent| sent.task)
    }

    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.tasks().any(|task| task == id)
    }

    /// What stands first, unless that is a ghost.
    pub(super) fn front(&self) -> Option<TaskId> {
        self.window.front().filter(|sent| !sent.is_ghost()).map(|sent| sent.task)
    }

    /// Whether it runs something, or as good as that.
    pub(super) fn is_running(&self) -> bool {
        !self.killed && self.front().is_some()
    }

    /// Those behind the first that nobody has wanted back.
    pub(super) fn waiting(&self) -> usize {
        let behind = self.window.iter().skip(1);
        let wanted = |sent: &&Sent| !sent.is_ghost() && !sent.is_recalled;
        if self.killed { 0 } else { behind.filter(wanted).count() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.window.iter().map(|sent| sent.bytes).sum()
    }

    /// Takes note of how long a task took.
    pub(super) fn took(&mut self, wall_time: Duration, window_time: Duration) {
        let nanos = wall_time.min(window_time * 2).max(Duration::from_nanos(1)).as_nanos() as u64;
        self.average = Some(self.average.map_or(nanos, |average| (average * 7 + nanos) / 8));
    }

    /// How many tasks it may have at a time, if that is known.
    pub(super) fn depth(&self, window_time: Duration) -> Option<usize> {
        let window = window_time.as_nanos() as u64;
        self.average.map(|average| window.div_ceil(average.max(1)).max(1) as usize)
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
    /// How many of the window's tasks are lost.
    pub(super) lost: usize,
}

impl Exit {
    pub(super) fn new(worker: &Worker, started: Option<TaskId>) -> Self {
        let window: VecDeque<_> = worker.tasks().collect();
        let last = started.and_then(|started| window.iter().position(|task| *task == started));
        let was_alone = worker.was_alone;
        Self { was_alone, window, lost: last.map_or(0, |last| last + 1) }
    }

    pub(super) fn lost_tasks(&self) -> Vec<TaskId> {
        self.window.iter().take(self.lost).copied().collect()
    }
}
