//! A task that has a handle, as the driver holds it.
//!
//! ```text
//! submit ─► TaskEntry ─claim, send─► its worker ─emit, answer─► Attempt ─resolve─► TaskCell
//!               ▲──────── revoked, or lost and tried again ────────┘
//! ```
//!
//! What a task is called with waits in the cell for its first turn, so that an entry of a queued task is
//! two words.
//!
//! Invariant: an entry that is dropped ends its task, for any reason; so no handle waits for a lost
//! task.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::descriptor::SendError;
use stockade_wire::{Codec, EMIT_OVERHEAD_BYTES, HostPort, Returned, WorkerId};

use super::{Ending, Single, accepts, cancelled_by_pool, result_of, send_payload};
use crate::backend::payload_files::{Loan, PayloadFiles};
use crate::base::sync::{Wakers, wake};
use crate::call::cancelled::{CancelledTask, GivenArguments};
use crate::call::payload::Payload;
use crate::outcome::answer::Answer;
use crate::outcome::error::{CancelReason, TaskError};
use crate::outcome::output::Output;
use crate::outcome::report::{Status, Summary};
use crate::state::cell::{Completed, Sent, TaskCell, nanos};
use stockade_dispatcher::{Moment, Resolution};

/// A task from submission to its end. Dropped before its end, for any reason, it still ends its
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
    /// Who has it. None once it was revoked.
    worker: Option<WorkerId>,
    /// Attempts before it whose workers had started the task.
    losses: u32,
    /// Whether its worker was lost, and may have started it.
    is_lost: bool,
    /// In nanoseconds of the pool's life.
    started: Option<u64>,
    emitted_bytes: u64,
    answer: Option<AttemptAnswer>,
    /// What the task is called with, kept until its end in case it has to be sent again.
    payload: Payload,
}

/// What its worker said of an attempt's end.
#[derive(Debug)]
enum AttemptAnswer {
    /// It returned this, and that is all.
    Short(Returned, Vec<u8>),
    Other(Box<Answer>),
}

impl AttemptAnswer {
    fn wall_time(&self) -> Duration {
        match self {
            Self::Short(returned, _) => Duration::from_nanos(returned.wall_nanos),
            Self::Other(answer) => answer.finished.metrics.wall_time,
        }
    }
}

impl TaskEntry {
    pub(crate) fn new(cell: Arc<TaskCell>) -> Self {
        Self { cell, attempt: None }
    }

    /// Who has the task, or had it last.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        self.attempt.as_ref()?.worker
    }

    /// The task goes to `worker` now, where it was offered. False where it is cancelled already.
    pub(super) fn claim(&mut self, worker: WorkerId, sent: Sent) -> bool {
        let Some(payload) = self.cell.claim(sent) else { return false };
        let worker = Some(worker);
        self.attempt = Some(match self.attempt.take() {
            None => Box::new(Attempt { worker, payload, ..Attempt::default() }),
            Some(mut last) => {
                let losses = last.losses + u32::from(last.is_lost);
                let payload = mem::take(&mut last.payload);
                *last = Attempt { worker, losses, payload, ..Attempt::default() };
                last
            }
        });
        true
    }

    /// What the task, which was claimed, is called with.
    pub(super) fn payload(&self) -> Option<&Payload> {
        self.attempt.as_ref().map(|attempt| &attempt.payload)
    }

    /// Puts an input that is long into one of `files`, if there is one for it: it is the task's until
    /// the task is answered.
    pub(super) fn place(&self, files: &mut PayloadFiles) -> Option<Loan> {
        files.put(self.payload()?.long_input()?)
    }

    /// Sends the task, which was claimed, with its input as [`place`](Self::place) has put it. Its worker
    /// hears of it at the latest when the port is flushed.
    ///
    /// # Errors
    /// [`SendError`]; the worker is of no further use.
    pub(super) fn send(
        &mut self,
        slot: u8,
        loan: Option<&Loan>,
        port: &mut HostPort,
    ) -> Result<(), SendError> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        let single = Single { task: self.cell.id, slot, share: None };
        send_payload(&self.cell.spec, single, &mut attempt.payload, loan, port)
    }

    /// The task is, from this moment of the pool's life on, the next that its worker starts. Leaves in
    /// `wakers` whom to wake for its place.
    pub(crate) fn start(&mut self, now: Moment, wakers: &mut Wakers) {
        if let Some(attempt) = &mut self.attempt {
            attempt.started.get_or_insert(nanos(now));
        }
        self.cell.start(now, wakers);
    }

    /// The task was sent to `worker` and will not start there: that was no attempt.
    pub(super) fn returned(&mut self, worker: WorkerId) {
        if let Some(attempt) = &mut self.attempt
            && attempt.worker == Some(worker)
        {
            attempt.worker = None;
            attempt.started = None;
            self.cell.requeue();
        }
    }

    /// `worker` is gone, and may have started the task.
    pub(super) fn lost(&mut self, worker: WorkerId) {
        if let Some(attempt) = &mut self.attempt
            && attempt.worker == Some(worker)
        {
            attempt.is_lost = true;
        }
    }

    /// `worker` says that the task has emitted an item. False where it may not say so.
    pub(super) fn emit(&mut self, worker: WorkerId, item: Vec<u8>) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        attempt.emitted_bytes += item.len() as u64 + EMIT_OVERHEAD_BYTES;
        let may = attempt.worker == Some(worker)
            && attempt.started.is_some()
            && attempt.emitted_bytes <= self.cell.spec.limits.output_bytes;
        // Where the task has ended its caller has cancelled it, and its page says so.
        may && self.cell.emit(attempt.payload.codec(), item)
    }

    /// `worker` says how the task has ended, which is kept for its end. False where it may not say so.
    pub(super) fn answer(&mut self, worker: WorkerId, answer: &mut Answer) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let Attempt { payload, emitted_bytes, .. } = &**attempt;
        if attempt.worker != Some(worker)
            || !accepts(&self.cell.spec, payload, *emitted_bytes, answer)
        {
            return false;
        }
        attempt.answer = Some(AttemptAnswer::Other(Box::new(answer.take())));
        true
    }

    /// As [`answer`](Self::answer), for a task that returned `output` and of which nothing else is to be said.
    /// False where anything is; or where `worker` may not say so.
    pub(super) fn answer_shortly(
        &mut self,
        worker: WorkerId,
        returned: &Returned,
        output: &[u8],
    ) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let may = attempt.worker == Some(worker)
            && attempt.emitted_bytes == 0
            && matches!(attempt.payload, Payload::Task { .. })
            && output.len() as u64 <= self.cell.spec.limits.output_bytes;
        if may {
            attempt.answer = Some(AttemptAnswer::Short(returned.clone(), output.to_vec()));
        }
        may
    }

    /// Ends the task as `ending` says, and leaves in `wakers` whom to wake for that. False where it had
    /// ended before.
    pub(crate) fn resolve(&mut self, ending: Ending<'_>, wakers: &mut Wakers) -> bool {
        let mut answer = self.attempt.as_mut().and_then(|attempt| attempt.answer.take());
        let payload = self.attempt.as_mut().map(|attempt| &mut attempt.payload);
        let spec = &self.cell.spec;
        if let Some(answer) = &answer {
            spec.note_pace(answer.wall_time());
        }
        let result = match (ending.resolution, &mut answer) {
            (Resolution::Finished, Some(AttemptAnswer::Short(_, output))) => {
                let codec = payload.map_or(Codec::Raw, |payload| payload.codec());
                Ok(Output::Encoded { codec, bytes: mem::take(output) })
            }
            (_, Some(AttemptAnswer::Other(answer))) => {
                result_of(spec, ending, Some(answer), payload)
            }
            _ => result_of(spec, ending, None, payload),
        };
        let report = self.summary(Status::of(&result), answer, ending.now);
        self.finish(Completed::new(result, report), wakers)
    }

    /// The task is refused, as its caller is told: it was never the pool's, and so is not among those
    /// that the pool has cancelled.
    pub(super) fn refuse(self) {
        let cell = &self.cell;
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let completed = Completed::new(result, cell.blank_report(Status::Cancelled));
        let mut wakers = Wakers::new();
        cell.finish(completed, &mut wakers);
        wakers.into_iter().for_each(wake);
    }

    /// Ends the task, and notes it where it was the pool that cancelled it: before its handles hear
    /// of it, so that who waits for them finds it in the list. False where it had ended before.
    fn finish(&mut self, completed: Completed, wakers: &mut Wakers) -> bool {
        let cell = &self.cell;
        if !cancelled_by_pool(&completed.result) || cell.is_done() {
            return cell.finish(completed, wakers);
        }
        let shared = &cell.spec.link.shared;
        let arguments = match &self.attempt {
            Some(attempt) => GivenArguments::of(&attempt.payload),
            None => cell.with_payload(GivenArguments::of),
        };
        shared.cancelled(CancelledTask {
            id: cell.id,
            target: cell.spec.target.clone(),
            label: cell.spec.label.clone(),
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
    fn summary(&self, status: Status, answer: Option<AttemptAnswer>, now: Moment) -> Summary {
        let cell = &self.cell;
        let mut report = Summary::blank(status, cell.until(nanos(now)));
        let Some(attempt) = &self.attempt else { return report };
        report.worker = attempt.worker;
        report.attempt = attempt.losses + u32::from(attempt.worker.is_some());
        let started = attempt.started.map(|started| cell.until(started));
        match answer {
            Some(AttemptAnswer::Short(returned, _)) => report.run(started, &returned.metrics()),
            Some(AttemptAnswer::Other(mut answer)) => report.answered(started, &mut answer),
            None => report.started(started),
        }
        report
    }
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        // The task has ended, except in a pool that is going down.
        if self.cell.is_done() {
            return;
        }
        let now = self.cell.spec.link.made().elapsed();
        let result = Err(TaskError::Cancelled(CancelReason::Shutdown));
        let answer = self.attempt.as_mut().and_then(|attempt| attempt.answer.take());
        let report = self.summary(Status::Cancelled, answer, now);
        let mut wakers = Wakers::new();
        self.finish(Completed::new(result, report), &mut wakers);
        wakers.into_iter().for_each(wake);
    }
}
