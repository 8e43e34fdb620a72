//! Tasks as the driver holds them, and what their ends become.
//!
//! Invariant: an entry that is dropped ends its task, whatever the reason; so no handle waits for a
//! task that nobody knows.

use std::sync::Arc;
use std::time::Duration;

use stockade_wire::{Codec, Limits, Outcome, SharedMemory};

use crate::cancelled::{CancelledTask, GivenArguments};
use crate::cell::{Completed, TaskCell};
use crate::hub::Wakers;
use crate::report::Status;
use crate::sync::wake;
use crate::task::Output;
use crate::{CancelReason, TaskError, WorkerExit};
use stockade_dispatcher::{CancelReason as DispatchCancel, Moment, Resolution};

/// A task from submission to its end. Dropped before its end, whatever the reason, it still ends its
/// task.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) cell: Arc<TaskCell>,
}

impl TaskEntry {
    pub(crate) fn new(cell: Arc<TaskCell>) -> Self {
        Self { cell }
    }

    /// Ends the task at this moment as `resolution` says, and leaves in `wakers` whom to wake for that.
    pub(crate) fn resolve(
        &mut self,
        resolution: Resolution,
        exit: Option<&WorkerExit>,
        now: Moment,
        wakers: &mut Wakers,
    ) {
        let wall_time = self.cell.terms.limits.wall_time;
        let mut last = self.cell.take_last();
        let result = match (resolution, last.finished.as_mut()) {
            (Resolution::Finished, Some(finished)) => {
                match std::mem::replace(&mut finished.outcome, Outcome::Recalled) {
                    Outcome::Returned(bytes) => Ok(Output::Encoded { codec: last.codec, bytes }),
                    Outcome::InFile(bytes) => {
                        Ok(self.output_in_file(last.codec, bytes, last.memory.take()))
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
                Err(TaskError::WorkerLost(exit.cloned().unwrap_or_else(WorkerExit::unknown)))
            }
            (Resolution::Cancelled(why), _) => Err(self.cancelled(why, CancelReason::Asked)),
            (Resolution::CancelledRunning(why), _) => {
                Err(self.cancelled(why, CancelReason::WhileRunning))
            }
        };
        let status = match &result {
            Ok(_) => Status::Completed,
            Err(TaskError::Cancelled(_) | TaskError::Broken(_) | TaskError::Quarantined(_)) => {
                Status::Cancelled
            }
            Err(_) => Status::Failed,
        };
        let report = self.cell.summary(status, last, now);
        self.finish(Completed::new(result, report), wakers);
    }

    /// The task is refused, as its caller is told: it was never the pool's, and so is not among those
    /// that the pool has cancelled.
    pub(crate) fn refuse(self) {
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let completed = Completed::new(result, self.cell.blank_report(Status::Cancelled));
        let mut wakers = Wakers::new();
        self.cell.finish(completed, &mut wakers);
        wakers.into_iter().for_each(wake);
    }

    /// The result that lies where the input did: in `memory`, or else in what the task was lent.
    /// Copied without the cell's lock.
    fn output_in_file(
        &self,
        codec: Codec,
        bytes: u64,
        memory: Option<Arc<SharedMemory>>,
    ) -> Output {
        let Some(memory) = memory else { return Output::InPlace };
        // Compared with the memory when it was accepted.
        let bytes = bytes as usize;
        let mut result = self.cell.room_for_result(bytes);
        memory.read_into(bytes, &mut result);
        Output::Encoded { codec, bytes: result }
    }

    /// The error of a task that was cancelled, if by its caller then `asked`.
    fn cancelled(&self, why: DispatchCancel, asked: CancelReason) -> TaskError {
        let shared = &self.cell.terms.link.shared;
        let shutdown = TaskError::Cancelled(CancelReason::Shutdown);
        match why {
            DispatchCancel::Asked => TaskError::Cancelled(asked),
            DispatchCancel::Shutdown => shutdown,
            DispatchCancel::Broken => shared.broken().map_or(shutdown, TaskError::Broken),
            DispatchCancel::Quarantined => {
                let quarantine = shared.quarantined(self.cell.terms.module);
                quarantine.map_or(shutdown, TaskError::Quarantined)
            }
        }
    }

    /// Ends the task, and notes it where it was the pool that cancelled it: before its handles hear
    /// of it, so that who waits for them finds it in the list.
    fn finish(&mut self, completed: Completed, wakers: &mut Wakers) {
        use CancelReason::Shutdown;
        let by_pool = matches!(
            completed.result,
            Err(TaskError::Cancelled(Shutdown) | TaskError::Broken(_) | TaskError::Quarantined(_))
        );
        if !by_pool || self.cell.is_done() {
            self.cell.finish(completed, wakers);
            return;
        }
        let terms = &self.cell.terms;
        let shared = &terms.link.shared;
        shared.cancelled(CancelledTask {
            id: self.cell.id,
            target: terms.target.clone(),
            label: terms.label.clone(),
            arguments: self.cell.with_payload(GivenArguments::of),
        });
        if !self.cell.finish(completed, wakers) {
            // Its caller was faster.
            shared.not_cancelled(self.cell.id);
        }
    }
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        // The task has ended, except in a pool that is going down.
        if self.cell.is_done() {
            return;
        }
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let (last, now) = (self.cell.take_last(), self.cell.terms.link.made().elapsed());
        let report = self.cell.summary(Status::Cancelled, last, now);
        let mut wakers = Wakers::new();
        self.finish(Completed::new(result, report), &mut wakers);
        wakers.into_iter().for_each(wake);
    }
}

/// When the host ends a task whose guest does not. An interruptible guest ends itself at its
/// deadline, and with a backtrace; the host's own deadline is for one that is stuck in a host call.
pub(crate) fn deadline_for_host(limits: &Limits) -> Option<Duration> {
    const GRACE_PERIOD: Duration = Duration::from_secs(2);
    let grace = if limits.interruptible { GRACE_PERIOD } else { Duration::ZERO };
    limits.wall_time.map(|wall_time| wall_time.saturating_add(grace))
}
