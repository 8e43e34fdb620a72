//! Tasks as the driver holds them: the payload, the latest attempt, and what its end becomes.
//!
//! Invariant: an entry that is dropped ends its task, whatever the reason; so no handle waits for a
//! task that nobody knows.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_wire::{Finished, HostMessage, Invocation, Limits, Outcome, WorkerId};

use crate::dispatcher::{CancelReason as DispatchCancel, ChunkId, Resolution};
use crate::report::{Status, TaskReport};
use crate::shared::Shared;
use crate::task::{Completed, Output, TaskCell};
use crate::{CancelReason, TaskError, WorkerExit};

/// A task with its payload, from submission to its end. Dropped before its end, whatever the
/// reason, it still ends its task.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) cell: Arc<TaskCell>,
    /// A [`HostMessage::Run`], kept until the end in case the task has to be sent again.
    pub(crate) message: HostMessage,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) chunk: Option<ChunkId>,
    pub(crate) inline_bytes: usize,
    pub(crate) run: RunState,
}

/// What the driver knows of a task's latest attempt.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    pub(crate) worker: Option<WorkerId>,
    pub(crate) attempt: u32,
    pub(crate) started: Option<Instant>,
    pub(crate) emitted_bytes: u64,
    pub(crate) finished: Option<Box<Finished>>,
}

impl TaskEntry {
    pub(crate) fn new(
        cell: Arc<TaskCell>,
        message: HostMessage,
        descriptors: Vec<OwnedFd>,
        chunk: Option<ChunkId>,
    ) -> Self {
        let inline_bytes = inline_bytes(&message);
        Self { cell, message, descriptors, chunk, inline_bytes, run: RunState::default() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        match &self.message {
            HostMessage::Run(run) => &run.limits,
            _ => unreachable!("an entry holds a Run"),
        }
    }

    /// Whether a worker's outcome is of the kind that this call can have, and within its limits.
    pub(crate) fn accepts(&self, finished: &Finished) -> bool {
        let HostMessage::Run(run) = &self.message else { return false };
        let stdio_fits = [&finished.stdout, &finished.stderr]
            .iter()
            .all(|stream| stream.bytes.len() as u64 <= run.limits.stdio_bytes);
        let kind_fits = match (&finished.outcome, &run.invocation) {
            (Outcome::Returned(bytes), Invocation::Task(_)) => {
                bytes.len() as u64 + self.run.emitted_bytes <= run.limits.output_bytes
            }
            (Outcome::Scalars(_), Invocation::Scalar { .. }) => true,
            (Outcome::Exited(_), Invocation::Command(_)) => true,
            (Outcome::Failed(_) | Outcome::Recalled, _) => true,
            _ => false,
        };
        stdio_fits && kind_fits
    }

    /// Ends the task as `resolution` says.
    pub(crate) fn resolve(
        &mut self,
        resolution: Resolution,
        exit: Option<WorkerExit>,
        shared: &Shared,
    ) {
        let wall_time = self.limits().wall_time;
        let mut finished = self.run.finished.take();
        let result = match (resolution, finished.as_mut()) {
            (Resolution::Finished, Some(finished)) => {
                match std::mem::replace(&mut finished.outcome, Outcome::Recalled) {
                    Outcome::Returned(bytes) => {
                        Ok(Output::Encoded { codec: self.cell.codec, bytes })
                    }
                    Outcome::Scalars(scalars) => Ok(Output::Scalars(scalars)),
                    Outcome::Exited(code) => Ok(Output::Exited(code)),
                    Outcome::Failed(failure) => Err(TaskError::from_failure(failure, wall_time)),
                    Outcome::Recalled => Err(TaskError::Cancelled(CancelReason::Asked)),
                }
            }
            (Resolution::DeadlinePassed, _) => Err(TaskError::Deadline {
                limit: wall_time.unwrap_or_default(),
                backtrace: Vec::new(),
            }),
            (Resolution::WorkerLost | Resolution::Finished, _) => {
                let gone = WorkerExit { worker: "worker".into(), pid: 0, signal: None, code: None };
                Err(TaskError::WorkerLost(exit.unwrap_or(gone)))
            }
            (Resolution::Cancelled(why) | Resolution::CancelledRunning(why), _) => {
                let running = matches!(resolution, Resolution::CancelledRunning(_));
                Err(match (why, shared.broken()) {
                    (DispatchCancel::Broken, Some(cause)) => TaskError::Broken(cause),
                    (DispatchCancel::Asked, _) if running => {
                        TaskError::Cancelled(CancelReason::WhileRunning)
                    }
                    (DispatchCancel::Asked, _) => TaskError::Cancelled(CancelReason::Asked),
                    _ => TaskError::Cancelled(CancelReason::Shutdown),
                })
            }
        };
        let status = match &result {
            Ok(_) => Status::Completed,
            Err(TaskError::Cancelled(_) | TaskError::Broken(_)) => Status::Cancelled,
            Err(_) => Status::Failed,
        };
        let report = self.report(status, finished);
        self.cell.finish(Completed { result, report });
    }

    fn report(&self, status: Status, finished: Option<Box<Finished>>) -> TaskReport {
        let mut report = self.cell.blank_report(status);
        report.worker = self.run.worker;
        report.attempt = self.run.attempt;
        if let Some(started) = self.run.started {
            report.queue_wait = started.saturating_duration_since(self.cell.submitted);
            report.wall_time = started.elapsed();
        }
        if let Some(finished) = finished {
            report.wall_time = finished.metrics.wall_time;
            report.cpu_time = finished.metrics.cpu_time;
            report.fuel = finished.metrics.fuel;
            report.memory_peak_bytes = finished.metrics.memory_peak_bytes;
            report.stdout = finished.stdout;
            report.stderr = finished.stderr;
            report.log = finished.log;
            report.log_dropped = finished.log_dropped;
        }
        report
    }
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        // Does nothing where the task has ended, which is always but in a pool that is going down.
        self.cell.finish(Completed {
            result: Err(TaskError::Cancelled(CancelReason::Shutdown)),
            report: self.report(Status::Cancelled, None),
        });
    }
}

/// What a task takes of its worker's socket: its variable parts, and room for the rest. A body above
/// the in-line limit travels outside.
fn inline_bytes(message: &HostMessage) -> usize {
    const FIXED_BYTES: usize = 256;
    let HostMessage::Run(run) = message else { return FIXED_BYTES };
    let variable = match &run.invocation {
        Invocation::Task(call) => call.input.len() + call.export.len(),
        Invocation::Scalar { export, args } => export.len() + args.len() * 11,
        Invocation::Command(_) => 0,
    };
    if variable > stockade_wire::frame::INLINE_BYTES_MAX {
        FIXED_BYTES
    } else {
        variable + FIXED_BYTES
    }
}

/// When the host ends a task whose guest does not. An interruptible guest ends itself at its
/// deadline, and with a backtrace; the host's own deadline is for one that is stuck in a host call.
pub(crate) fn deadline_for_host(limits: &Limits) -> Option<Duration> {
    const GRACE_PERIOD: Duration = Duration::from_secs(2);
    let grace = if limits.interruptible { GRACE_PERIOD } else { Duration::ZERO };
    limits.wall_time.map(|wall_time| wall_time.saturating_add(grace))
}
