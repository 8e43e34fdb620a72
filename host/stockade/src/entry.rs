//! Tasks as the driver holds them: the payload, the latest attempt, and what its end becomes.
//!
//! Invariant: an entry that is dropped ends its task, whatever the reason; so no handle waits for a
//! task that nobody knows.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_wire::{
    ChunkId, Finished, HostMessage, Invocation, Limits, Outcome, PAYLOAD_BYTES_MIN, Payload,
    PayloadPlace, Run, SharedMemory, WorkerId,
};

use crate::cancelled::{CancelledTask, GivenArguments};
use crate::cell::{Completed, TaskCell};
use crate::dispatcher::{CancelReason as DispatchCancel, Resolution, Submission};
use crate::hub::Wakers;
use crate::payloads::{Loan, Payloads};
use crate::report::{Status, TaskReport};
use crate::room::Place;
use crate::sync::wake;
use crate::task::Output;
use crate::{CancelReason, TaskError, WorkerExit};

/// A task with its payload, from submission to its end. Dropped before its end, whatever the
/// reason, it still ends its task.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) cell: Arc<TaskCell>,
    /// A [`HostMessage::Run`], kept until the end in case the task has to be sent again.
    pub(crate) message: HostMessage,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) schedule: Schedule,
    /// Its place among the pending, given up when it first starts. A task that is tried again takes
    /// none, so it never waits for room.
    pub(crate) place: Option<Place>,
    pub(crate) run: RunState,
}

/// What the dispatcher is told of a task beyond what its message says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) chunk: Option<ChunkId>,
    pub(crate) priority: i32,
    pub(crate) retries: u32,
}

/// What the driver knows of a task's latest attempt.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    pub(crate) worker: Option<WorkerId>,
    pub(crate) attempt: u32,
    pub(crate) started: Option<Instant>,
    pub(crate) emitted_bytes: u64,
    pub(crate) finished: Option<Box<Finished>>,
    /// Where its result lies, if that is a file of the worker's.
    pub(crate) payload: Option<Arc<SharedMemory>>,
}

/// An input that lies in a file of a worker's while its task is sent there, and is kept beside.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) memory: Arc<SharedMemory>,
    input: Vec<u8>,
    is_new: bool,
}

impl Packed {
    /// The file's descriptor, if the worker does not have it.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.is_new.then(|| self.memory.descriptor())
    }
}

impl TaskEntry {
    pub(crate) fn new(
        cell: Arc<TaskCell>,
        message: HostMessage,
        descriptors: Vec<OwnedFd>,
        schedule: Schedule,
        place: Option<Place>,
    ) -> Self {
        Self { cell, message, descriptors, schedule, place, run: RunState::default() }
    }

    /// What the dispatcher is told.
    pub(crate) fn submission(&self) -> Submission {
        let Schedule { chunk, priority, retries } = self.schedule;
        Submission {
            task: self.cell.info.id,
            module: self.order().module,
            chunk,
            priority,
            inline_bytes: inline_bytes(&self.order().invocation),
            wall_time: deadline_for_host(self.limits()),
            retries,
        }
    }

    fn order(&self) -> &Run {
        match &self.message {
            HostMessage::Run(run) => run,
            _ => unreachable!("an entry holds a Run"),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.order().limits
    }

    /// The task is the next that its worker starts.
    pub(crate) fn start(&mut self) {
        self.run.started.get_or_insert_with(Instant::now);
        self.cell.start();
        self.place = None;
    }

    /// Says which slot of its worker's status page the task has from now on.
    pub(crate) fn set_slot(&mut self, slot: u8) {
        if let HostMessage::Run(run) = &mut self.message {
            run.slot = slot;
        }
    }

    /// Puts an input that is long into one of `payloads`, if there is one for it. The message is as
    /// it is to be sent then, and the next thing is to [`unpack`](Self::unpack) it again.
    pub(crate) fn pack(&mut self, payloads: &mut Payloads) -> Option<Packed> {
        let HostMessage::Run(run) = &mut self.message else { return None };
        let Invocation::Task(call) = &mut run.invocation else { return None };
        if call.input.len() < PAYLOAD_BYTES_MIN {
            return None;
        }
        let Loan { payload, memory } = payloads.put(&call.input)?;
        run.payload = Some(payload);
        let is_new = payload.brings_descriptor();
        Some(Packed { memory, input: std::mem::take(&mut call.input), is_new })
    }

    /// Puts the input back, in case the task has to be sent again.
    pub(crate) fn unpack(&mut self, packed: Packed) {
        if let HostMessage::Run(run) = &mut self.message
            && let Invocation::Task(call) = &mut run.invocation
        {
            run.payload = None;
            call.input = packed.input;
        }
    }

    /// Memory for a result of `bytes` bytes: the input's, which is not needed any more and which the
    /// system need not clear, unless that is far too much.
    fn room_for_result(&mut self, bytes: usize) -> Vec<u8> {
        match &mut self.message {
            HostMessage::Run(Run { invocation: Invocation::Task(call), .. })
                if call.input.capacity() / 2 <= bytes =>
            {
                std::mem::take(&mut call.input)
            }
            _ => Vec::new(),
        }
    }

    /// Whether a worker's outcome is of the kind that this call can have, and within its limits.
    /// `memory` is where its input lies, if that is a file of the worker's.
    pub(crate) fn accepts(&self, finished: &Finished, memory: Option<&SharedMemory>) -> bool {
        let run = self.order();
        let stdio_fits = [&finished.stdout, &finished.stderr]
            .iter()
            .all(|stream| stream.bytes.len() as u64 <= run.limits.stdio_bytes);
        let kind_fits = match (&finished.outcome, &run.invocation) {
            (Outcome::Returned(bytes), Invocation::Task(_)) => {
                bytes.len() as u64 + self.run.emitted_bytes <= run.limits.output_bytes
            }
            (Outcome::InPayload(bytes), Invocation::Task(_)) => match (run.payload, memory) {
                (Some(Payload { bytes: lent, place: PayloadPlace::Lent }), _) => *bytes == lent,
                (_, Some(memory)) => {
                    *bytes <= memory.bytes() as u64
                        && bytes.saturating_add(self.run.emitted_bytes) <= run.limits.output_bytes
                }
                (_, None) => false,
            },
            (Outcome::Scalars(_), Invocation::Scalar { .. }) => true,
            (Outcome::Exited(_), Invocation::Command(_)) => true,
            (Outcome::Failed(_) | Outcome::Recalled, _) => true,
            _ => false,
        };
        stdio_fits && kind_fits
    }

    /// Ends the task as `resolution` says, and leaves in `wakers` whom to wake for that.
    pub(crate) fn resolve(
        &mut self,
        resolution: Resolution,
        exit: Option<WorkerExit>,
        wakers: &mut Wakers,
    ) {
        let wall_time = self.limits().wall_time;
        let mut finished = self.run.finished.take();
        let result = match (resolution, finished.as_mut()) {
            (Resolution::Finished, Some(finished)) => {
                match std::mem::replace(&mut finished.outcome, Outcome::Recalled) {
                    Outcome::Returned(bytes) => {
                        Ok(Output::Encoded { codec: self.cell.info.codec, bytes })
                    }
                    Outcome::InPayload(bytes) => Ok(self.output_in_payload(bytes)),
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
                Err(TaskError::WorkerLost(exit.unwrap_or_else(WorkerExit::unknown)))
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
        let report = self.report(status, finished);
        self.finish(Completed { result, report }, wakers);
    }

    /// The result that lies where the input did.
    fn output_in_payload(&mut self, bytes: u64) -> Output {
        let Some(memory) = self.run.payload.take() else { return Output::InPlace };
        // Compared with the memory when it was accepted.
        let bytes = bytes as usize;
        let mut result = self.room_for_result(bytes);
        memory.read_into(bytes, &mut result);
        Output::Encoded { codec: self.cell.info.codec, bytes: result }
    }

    /// The error of a task that was cancelled, if by its caller then `asked`.
    fn cancelled(&self, why: DispatchCancel, asked: CancelReason) -> TaskError {
        let shared = &self.cell.link.shared;
        let shutdown = TaskError::Cancelled(CancelReason::Shutdown);
        match why {
            DispatchCancel::Asked => TaskError::Cancelled(asked),
            DispatchCancel::Shutdown => shutdown,
            DispatchCancel::Broken => shared.broken().map_or(shutdown, TaskError::Broken),
            DispatchCancel::Quarantined => {
                let quarantine = shared.quarantined(self.order().module);
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
        if !by_pool || self.cell.done().is_some() {
            self.cell.finish(completed, wakers);
            return;
        }
        let shared = &self.cell.link.shared;
        shared.cancelled(CancelledTask {
            id: self.cell.info.id,
            target: self.cell.info.target.clone(),
            label: self.cell.info.label.clone(),
            arguments: GivenArguments::of(self.order()),
        });
        if !self.cell.finish(completed, wakers) {
            // Its caller was faster.
            shared.not_cancelled(self.cell.info.id);
        }
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
            if self.run.started.is_none() {
                // It was answered before it was known to be next.
                report.queue_wait = report.queue_wait.saturating_sub(finished.metrics.wall_time);
            }
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
        // The task has ended, except in a pool that is going down.
        if self.cell.done().is_some() {
            return;
        }
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let report = self.report(Status::Cancelled, None);
        let mut wakers = Wakers::new();
        self.finish(Completed { result, report }, &mut wakers);
        wakers.into_iter().for_each(wake);
    }
}

/// What a task takes of its worker's socket: its variable parts, and room for the rest. A body above
/// the in-line limit travels outside.
fn inline_bytes(invocation: &Invocation) -> usize {
    const FIXED_BYTES: usize = 256;
    let variable = match invocation {
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
