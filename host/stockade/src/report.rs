//! What is known of a task after its end, however it ended.

use std::time::Duration;

use stockade_wire::{Captured, LogLine, TaskId, WorkerId};

/// What is known of one finished task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// What was called, as the caller named it.
    pub target: String,
    /// What the caller called it.
    pub label: Option<String>,
    /// How it ended.
    pub status: Status,
    /// The worker that ran it last; `None` where it never ran.
    pub worker: Option<WorkerId>,
    /// How often it was handed to a worker and started, from 1; 0 where it never was.
    pub attempt: u32,
    /// From submission until it was started, or until its end where it never was.
    pub queue_wait: Duration,
    /// From its start to its end: in the worker where the worker reported it, else as the host saw.
    pub wall_time: Duration,
    /// Processor time its worker spent on it, right to 0.1 ms and never more than `wall_time`; zero
    /// where the worker could not report.
    pub cpu_time: Duration,
    /// Fuel used, where it is counted.
    pub fuel: Option<u64>,
    /// The largest linear memory it had, in bytes; zero where the worker could not report.
    pub memory_peak_bytes: u64,
    /// What it wrote to stdout, where captured.
    pub stdout: Captured,
    /// What it wrote to stderr, where captured.
    pub stderr: Captured,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// Log lines beyond the limit, dropped.
    pub log_dropped: u64,
}

/// Where a task stands.
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
    /// Cancelled, whoever asked.
    Cancelled,
}

impl Status {
    /// Whether the task has ended.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}
