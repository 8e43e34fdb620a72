//! Tasks as the driver holds them: what they are called with, their latest attempt, and what their
//! ends become.
//!
//! ```text
//! submit ─► TaskEntry ─claim, send─► its worker ─emit, answer─► Attempt ─resolve─► TaskCell
//!               ▲──────── taken back, or lost and tried again ─────┘
//! ```
//!
//! All of it belongs to the driver, and so needs no lock; what callers need to know is in the cell. What
//! a task is called with waits there for its first turn, so that an entry of a queued task is two words.
//!
//! Invariant: an entry that is dropped ends its task, whatever the reason; so no handle waits for a
//! task that nobody knows.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::descriptor::SendError;
use stockade_wire::{
    Codec, EMIT_OVERHEAD_BYTES, Finished, HostMessage, HostPort, Limits, Outcome, Placement,
    PlacementFile, Run, SharedMemory, WorkerId,
};

use crate::cancelled::{CancelledTask, GivenArguments};
use crate::cell::{Completed, Sent, TaskCell, nanos};
use crate::coredump::Coredump;
use crate::hub::Wakers;
use crate::payload::Payload;
use crate::payload_files::{Loan, PayloadFiles};
use crate::report::{Status, Summary};
use crate::sync::wake;
use crate::task::Output;
use crate::{CancelReason, TaskError, WorkerExit};
use stockade_dispatcher::{CancelReason as DispatchCancel, Moment, Resolution};

/// A task from submission to its end. Dropped before its end, whatever the reason, it still ends its
/// task.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) cell: Arc<TaskCell>,
    /// The latest, from the first on.
    attempt: Option<Box<Attempt>>,
}

/// One attempt at a task.
#[derive(Debug, Default)]
struct Attempt {
    /// Who has it. None once it was taken back.
    worker: Option<WorkerId>,
    /// From 1; attempts whose worker did not come to the task are not counted.
    number: u32,
    /// In nanoseconds of the pool's life.
    started: Option<u64>,
    emitted_bytes: u64,
    answer: Option<Answer>,
    /// What the task is called with, kept until its end in case it has to be sent again.
    payload: Payload,
}

/// What a worker says of a task's end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) finished: Box<Finished>,
    /// Where the input lies, and perhaps the result, if that is a file of the worker's.
    pub(crate) memory: Option<Arc<SharedMemory>>,
    /// What its guest was at.
    pub(crate) dump: Option<Coredump>,
}

impl TaskEntry {
    pub(crate) fn new(cell: Arc<TaskCell>) -> Self {
        Self { cell, attempt: None }
    }

    /// Who has the task, or had it last.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        self.attempt.as_ref()?.worker
    }

    /// The task goes to `worker` now. False where it is cancelled already.
    pub(crate) fn claim(&mut self, worker: WorkerId, sent: Sent) -> bool {
        let Some(payload) = self.cell.claim(sent) else { return false };
        let worker = Some(worker);
        self.attempt = Some(match self.attempt.take() {
            None => Box::new(Attempt { worker, number: 1, payload, ..Attempt::default() }),
            Some(mut last) => {
                let number = last.number + 1;
                let payload = mem::take(&mut last.payload);
                *last = Attempt { worker, number, payload, ..Attempt::default() };
                last
            }
        });
        true
    }

    /// Puts an input that is long into one of `files`, if there is one for it: it is the task's until
    /// the task is answered.
    pub(crate) fn place(&self, files: &mut PayloadFiles) -> Option<Loan> {
        files.put(self.attempt.as_ref()?.payload.long_input()?)
    }

    /// Sends the task, which was claimed, with its input as [`place`](Self::place) has put it. Its worker
    /// hears of it at the latest when the port is flushed.
    ///
    /// # Errors
    /// [`SendError`]; the worker is of no further use.
    pub(crate) fn send(
        &mut self,
        slot: u8,
        loan: Option<&Loan>,
        port: &mut HostPort,
    ) -> Result<(), SendError> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        let (cell, payload) = (&self.cell, &mut attempt.payload);
        if let Some(loan) = loan {
            let placed = Some((loan.placement, loan.descriptor()));
            return send(cell, &mut payload.without_input(), slot, placed, port);
        }
        match payload.buffer().cloned() {
            None => send(cell, payload, slot, None, port),
            // Where it is gone its caller has it: the task is cancelled, and its page says so.
            Some(buffer) => buffer.with(|shared| {
                let place = Placement { bytes: buffer.bytes() as u64, place: PlacementFile::Lent };
                let placed = shared.map(|shared| (place, Some(shared.descriptor())));
                send(cell, payload, slot, placed, port)
            }),
        }
    }

    /// The task is, from this moment of the pool's life on, the next that its worker starts. Leaves in
    /// `wakers` whom to wake for its place.
    pub(crate) fn start(&mut self, now: Moment, wakers: &mut Wakers) {
        if let Some(attempt) = &mut self.attempt {
            attempt.started.get_or_insert(nanos(now));
        }
        self.cell.start(now, wakers);
    }

    /// A task that was sent shall not start, and is back in the queue or has ended. False where it has
    /// started.
    pub(crate) fn recall(&mut self) -> bool {
        let recalled = self.cell.recall();
        if recalled && let Some(attempt) = &mut self.attempt {
            // What it did not come to was no attempt.
            let number = attempt.number.saturating_sub(1);
            let payload = mem::take(&mut attempt.payload);
            **attempt = Attempt { number, payload, ..Attempt::default() };
        }
        recalled
    }

    /// `worker` died before it came to it, which was no attempt.
    pub(crate) fn forget_attempt(&mut self, worker: WorkerId) {
        if let Some(attempt) = &mut self.attempt
            && attempt.worker == Some(worker)
        {
            attempt.number = attempt.number.saturating_sub(1);
        }
    }

    /// `worker` says that the task has emitted an item. False where it may not say so.
    pub(crate) fn emit(&mut self, worker: WorkerId, item: Vec<u8>) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        attempt.emitted_bytes += item.len() as u64 + EMIT_OVERHEAD_BYTES;
        let may = attempt.worker == Some(worker)
            && attempt.started.is_some()
            && attempt.emitted_bytes <= self.cell.terms.limits.output_bytes;
        // Where the task has ended its caller has cancelled it, and its page says so.
        may && self.cell.emit(attempt.payload.codec(), item)
    }

    /// `worker` says how the task has ended, which is kept for its end. False where it may not say so.
    pub(crate) fn answer(&mut self, worker: WorkerId, answer: Answer) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        if attempt.worker != Some(worker) || !accepts(&self.cell, attempt, &answer) {
            return false;
        }
        attempt.answer = Some(answer);
        true
    }

    /// Ends the task at this moment as `resolution` says, and leaves in `wakers` whom to wake for that.
    /// False where it had ended before.
    pub(crate) fn resolve(
        mut self,
        resolution: Resolution,
        exit: Option<&WorkerExit>,
        now: Moment,
        wakers: &mut Wakers,
    ) -> bool {
        let wall_time = self.cell.terms.limits.wall_time;
        let mut answer = self.take_answer();
        let result = match (resolution, answer.as_mut()) {
            (Resolution::Finished, Some(answer)) => {
                match mem::replace(&mut answer.finished.outcome, Outcome::Recalled) {
                    Outcome::Returned(bytes) => Ok(Output::Encoded { codec: self.codec(), bytes }),
                    Outcome::InFile(bytes) => Ok(self.output_in_file(bytes, answer.memory.take())),
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
        let report = self.summary(status, answer, now);
        self.finish(Completed::new(result, report), wakers)
    }

    /// The task is refused, as its caller is told: it was never the pool's, and so is not among those
    /// that the pool has cancelled.
    pub(crate) fn refuse(self) {
        let cell = &self.cell;
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let completed = Completed::new(result, cell.blank_report(Status::Cancelled));
        let mut wakers = Wakers::new();
        cell.finish(completed, &mut wakers);
        wakers.into_iter().for_each(wake);
    }

    /// The result that lies where the input did: in `memory`, or else in what the task was lent.
    fn output_in_file(&mut self, bytes: u64, memory: Option<Arc<SharedMemory>>) -> Output {
        let Some(memory) = memory else { return Output::InPlace };
        // Compared with the memory when it was accepted.
        let bytes = bytes as usize;
        let payload = self.attempt.as_mut().map(|attempt| &mut attempt.payload);
        let mut result = payload.map_or_else(Vec::new, |payload| payload.room_for_result(bytes));
        memory.read_into(bytes, &mut result);
        Output::Encoded { codec: self.codec(), bytes: result }
    }

    /// How its result is written, where it can have one.
    fn codec(&self) -> Codec {
        self.attempt.as_ref().map_or(Codec::Raw, |attempt| attempt.payload.codec())
    }

    fn take_answer(&mut self) -> Option<Answer> {
        self.attempt.as_mut()?.answer.take()
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
    /// of it, so that who waits for them finds it in the list. False where it had ended before.
    fn finish(&mut self, completed: Completed, wakers: &mut Wakers) -> bool {
        use CancelReason::Shutdown;
        let cell = &self.cell;
        let by_pool = matches!(
            completed.result,
            Err(TaskError::Cancelled(Shutdown) | TaskError::Broken(_) | TaskError::Quarantined(_))
        );
        if !by_pool || cell.is_done() {
            return cell.finish(completed, wakers);
        }
        let shared = &cell.terms.link.shared;
        let arguments = match &self.attempt {
            Some(attempt) => GivenArguments::of(&attempt.payload),
            None => cell.with_payload(GivenArguments::of),
        };
        shared.cancelled(CancelledTask {
            id: cell.id,
            target: cell.terms.target.clone(),
            label: cell.terms.label.clone(),
            arguments,
        });
        let is_first = cell.finish(completed, wakers);
        if !is_first {
            // Its caller was faster.
            shared.not_cancelled(cell.id);
        }
        is_first
    }

    /// The report of the task, which ends as `status` at this moment of the pool's life.
    fn summary(&self, status: Status, answer: Option<Answer>, now: Moment) -> Summary {
        let cell = &self.cell;
        let mut report = Summary::blank(status, cell.until(nanos(now)));
        let Some(attempt) = &self.attempt else { return report };
        report.worker = attempt.worker;
        report.attempt = attempt.number;
        if let Some(started) = attempt.started {
            let age = report.queue_wait;
            report.queue_wait = cell.until(started);
            report.wall_time = age.saturating_sub(report.queue_wait);
        }
        if let Some(Answer { finished, dump, .. }) = answer {
            if attempt.started.is_none() {
                // It was answered before it was known to be next.
                report.queue_wait = report.queue_wait.saturating_sub(finished.metrics.wall_time);
            }
            report.hear(*finished, dump);
        }
        report
    }
}

/// Sends the task of `cell` as a call with `payload`, which is lent for that.
fn send(
    cell: &TaskCell,
    payload: &mut Payload,
    slot: u8,
    placed: Option<(Placement, Option<BorrowedFd<'_>>)>,
    port: &mut HostPort,
) -> Result<(), SendError> {
    let terms = &cell.terms;
    let (invocation, descriptors) = payload.lend(terms.function);
    let message = HostMessage::Run(Run {
        task: cell.id,
        module: terms.module,
        invocation,
        limits: terms.tells_limits.then(|| Box::new((*terms.limits).clone())),
        slot,
        share: terms.share,
        placement: placed.map(|(placement, _)| placement),
    });
    let mut borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    borrowed.extend(placed.and_then(|(_, file)| file));
    let sent = port.send(&message, &borrowed);
    drop(borrowed);
    if let HostMessage::Run(run) = message {
        payload.take_back(run.invocation, descriptors);
    }
    sent
}

/// Whether a worker's answer is of the kind that this call can have, and within its limits.
fn accepts(cell: &TaskCell, attempt: &Attempt, answer: &Answer) -> bool {
    let (limits, payload) = (&cell.terms.limits, &attempt.payload);
    let finished = &answer.finished;
    let stdio_fits = [&finished.stdout, &finished.stderr]
        .iter()
        .all(|stream| stream.bytes.len() as u64 <= limits.stdio_bytes)
        && finished.log.bytes() <= limits.stdio_bytes;
    let is_within_limit =
        |bytes: u64| bytes.saturating_add(attempt.emitted_bytes) <= limits.output_bytes;
    let output_fits = match (&finished.outcome, payload.buffer(), &answer.memory) {
        (Outcome::Returned(bytes), ..) => is_within_limit(bytes.len() as u64),
        (Outcome::InFile(bytes), Some(buffer), _) => *bytes == buffer.bytes() as u64,
        (Outcome::InFile(bytes), None, Some(memory)) => {
            *bytes <= memory.bytes() as u64 && is_within_limit(*bytes)
        }
        (Outcome::InFile(_), None, None) => false,
        _ => true,
    };
    stdio_fits && output_fits && payload.can_end_as(&finished.outcome)
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        // The task has ended, except in a pool that is going down.
        if self.cell.is_done() {
            return;
        }
        let now = self.cell.terms.link.made().elapsed();
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let answer = self.take_answer();
        let report = self.summary(Status::Cancelled, answer, now);
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
