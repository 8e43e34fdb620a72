//! Reports: facts about ended tasks.

use std::time::Duration;

use stockade_wire::{Captured, LogLine, Metrics, TaskId, WorkerId, Written};

use crate::outcome::answer::Answer;
use crate::outcome::coredump::Coredump;
use crate::outcome::error::TaskError;

/// The report of an ended task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// The target, as the caller named it.
    pub target: String,
    /// Its label.
    pub label: Option<String>,
    /// How it ended.
    pub status: Status,
    /// The worker that ran it last; `None` if it never ran.
    pub worker: Option<WorkerId>,
    /// The number of starts; 0 if it never started.
    pub attempt: u32,
    /// When it was submitted, counted from the pool's start.
    pub submitted: Duration,
    /// From submission to its end, as the host saw it: `queue_wait`, `wall_time`, and the time in
    /// transit to its worker and back.
    pub lifetime: Duration,
    /// From submission until it was started, or until its end if it never was.
    pub queue_wait: Duration,
    /// From its start to its end, as the worker reported it, else as the host saw it.
    pub wall_time: Duration,
    /// Processor time of its worker for it, accurate to 0.1 ms and never more than `wall_time`;
    /// zero if the worker did not report it.
    pub cpu_time: Duration,
    /// Fuel used, if it is counted.
    pub fuel: Option<u64>,
    /// Its largest linear memory, in bytes; zero if the worker did not report it.
    pub memory_peak_bytes: u64,
    /// Its captured stdout.
    pub stdout: Captured,
    /// Its captured stderr.
    pub stderr: Captured,
    /// Its log.
    pub log: Vec<LogLine>,
    /// The number of log lines that were dropped because of the limit.
    pub log_dropped: u64,
    /// The core dump of its trap, if the pool keeps these: see
    /// [`PoolBuilder::coredumps`](crate::PoolBuilder::coredumps).
    pub coredump: Option<Coredump>,
}

/// The part of a report that is known only at the task's end; the rest is its `TaskSpec`. Every
/// ended task with a handle has one, so rare parts are boxed separately.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) status: Status,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) attempt: u32,
    pub(crate) lifetime: Duration,
    pub(crate) queue_wait: Duration,
    pub(crate) wall_time: Duration,
    pub(crate) cpu_time: Duration,
    pub(crate) fuel: Option<u64>,
    pub(crate) memory_peak_bytes: u64,
    written: Option<Box<Written>>,
    coredump: Option<Box<Coredump>>,
}

impl Summary {
    /// The summary of a task that never ran, as far as the host knows, and ended at this age.
    pub(crate) fn blank(status: Status, age: Duration) -> Self {
        Self {
            status,
            worker: None,
            attempt: 0,
            lifetime: age,
            queue_wait: age,
            wall_time: Duration::ZERO,
            cpu_time: Duration::ZERO,
            fuel: None,
            memory_peak_bytes: 0,
            written: None,
            coredump: None,
        }
    }

    /// Takes over what is known of the run that ended the task: when it was started, at this age.
    pub(crate) fn started(&mut self, started: Option<Duration>) {
        if let Some(started) = started {
            self.queue_wait = started;
            self.wall_time = self.lifetime.saturating_sub(started);
        }
    }

    /// As [`started`](Self::started), with what its worker says that it used.
    pub(crate) fn run(&mut self, started: Option<Duration>, metrics: &Metrics) {
        // Else it was answered before it was known to be next.
        let wait = self.queue_wait.saturating_sub(metrics.wall_time);
        self.queue_wait = started.unwrap_or(wait);
        self.wall_time = metrics.wall_time;
        self.cpu_time = metrics.cpu_time;
        self.fuel = metrics.fuel;
        self.memory_peak_bytes = metrics.memory_peak_bytes;
    }

    /// As [`run`](Self::run), with all that its worker answered.
    pub(crate) fn answered(&mut self, started: Option<Duration>, answer: &mut Answer) {
        self.run(started, &answer.finished.metrics);
        self.written = answer.finished.written.take();
        self.coredump = answer.dump.take().map(Box::new);
    }

    /// What it wrote.
    pub(crate) fn written(&self) -> Written {
        self.written.as_deref().cloned().unwrap_or_default()
    }

    /// Its core dump, if one was kept.
    pub(crate) fn coredump(&self) -> Option<Coredump> {
        self.coredump.as_deref().cloned()
    }
}

/// The status of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Submitted, not started.
    Pending,
    /// Started.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Cancelled, by a handle or by the pool.
    Cancelled,
}

impl Status {
    /// The status of this outcome.
    pub(crate) fn of<T>(result: &Result<T, TaskError>) -> Self {
        match result {
            Ok(_) => Self::Completed,
            Err(TaskError::Cancelled(_) | TaskError::Broken(_) | TaskError::Quarantined(_)) => {
                Self::Cancelled
            }
            Err(_) => Self::Failed,
        }
    }

    /// As a field of a span and a label of a metric.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the task has ended.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}
