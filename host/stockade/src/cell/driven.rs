//! What the driver does with a cell: sends its task, takes it back, hears of it.
//!
//! Invariant: all of it under the cell's lock, and in the hub's; so what a handle sees is true at some
//! moment, and nothing here waits for more than another's glance.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::descriptor::SendError;
use stockade_wire::{
    Codec, EMIT_OVERHEAD_BYTES, Finished, HostMessage, HostPort, Outcome, Run, SharedMemory,
    StatusPage, WorkerId,
};

use super::attended::{Attempt, Attended, Phase};
use super::{State, TaskCell};
use crate::coredump::Coredump;
use crate::hub::Wakers;
use crate::payload::Payload;
use crate::payload_files::{Loan, PayloadFiles};
use crate::report::{Status, Summary};
use crate::room::Place;
use crate::sync::MutexGuard;

/// Where a worker says whether it has started a task.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) page: Arc<StatusPage>,
    pub(crate) slot: u8,
}

/// What is known of a task as it ends.
#[derive(Debug)]
pub(crate) struct Last {
    /// How its result is written.
    pub(crate) codec: Codec,
    /// What its worker said of its end.
    pub(crate) finished: Option<Box<Finished>>,
    /// Where its result lies, if that is a file of its worker's.
    pub(crate) memory: Option<Arc<SharedMemory>>,
    dump: Option<Coredump>,
    attempt: Attempt,
}

/// A task that has a slot on its worker's page and is not sent yet.
pub(crate) struct Claim<'a> {
    cell: &'a TaskCell,
    state: MutexGuard<'a, State>,
    slot: u8,
    /// Where its input is, if that is a file of the worker's.
    loan: Option<Loan>,
}

impl Claim<'_> {
    /// Puts an input that is long into one of `files`, if there is one for it. Gives the file's memory,
    /// which is the task's until it is answered.
    pub(crate) fn place(&mut self, files: &mut PayloadFiles) -> Option<Arc<SharedMemory>> {
        self.loan = files.put(self.state.attend().payload.long_input()?);
        self.loan.as_ref().map(|loan| loan.memory.clone())
    }

    /// Sends the task. Its worker hears of it at the latest when the port is flushed.
    ///
    /// # Errors
    /// [`SendError`]; the worker is of no further use.
    pub(crate) fn send(mut self, port: &mut HostPort) -> Result<(), SendError> {
        let (id, terms, slot, loan) = (self.cell.id, &self.cell.terms, self.slot, self.loan);
        let kept = &mut self.state.attend().payload;
        let mut rest = loan.as_ref().map(|_| kept.without_input());
        let payload = rest.as_mut().unwrap_or(kept);
        let (invocation, descriptors) = payload.lend(terms.function);
        let placed = match &loan {
            Some(loan) => Some((loan.placement, loan.descriptor())),
            None => payload.placement().map(|(placement, file)| (placement, Some(file))),
        };
        let run = Run {
            task: id,
            module: terms.module,
            invocation,
            limits: terms.tells_limits.then(|| Box::new((*terms.limits).clone())),
            slot,
            share: terms.share,
            placement: placed.map(|(placement, _)| placement),
        };
        let message = HostMessage::Run(run);
        let mut borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        borrowed.extend(placed.and_then(|(_, file)| file));
        let sent = port.send(&message, &borrowed);
        drop(borrowed);
        if let HostMessage::Run(run) = message {
            payload.take_back(run.invocation, descriptors);
        }
        sent
    }
}

impl TaskCell {
    /// The task goes to `worker` now. `None` where it is cancelled already.
    pub(crate) fn claim(&self, worker: WorkerId, sent: Sent) -> Option<Claim<'_>> {
        let mut state = self.lock();
        if state.done().is_some() {
            return None;
        }
        // Before the task is sent, so that the worker finds its slot filled.
        sent.page.offer(sent.slot, self.id);
        let slot = sent.slot;
        let attended = state.attend();
        let number = attended.attempt.number + 1;
        attended.attempt = Attempt { worker: Some(worker), number, ..Attempt::default() };
        (attended.finished, attended.memory, attended.dump) = (None, None, None);
        attended.phase = Phase::Claimed(sent);
        // Of an attempt that was lost.
        attended.emitted.clear();
        Some(Claim { cell: self, state, slot, loan: None })
    }

    /// The task is, from this moment of the pool's life on, the next that its worker starts, or was
    /// taken back. Leaves in `wakers` whom to wake for its place.
    pub(crate) fn start(&self, now: Duration, wakers: &mut Wakers) {
        let mut state = self.lock();
        let State::Attended(attended) = &mut *state else { return };
        attended.attempt.started.get_or_insert(nanos(now));
        if let Phase::Claimed(sent) = &attended.phase {
            attended.phase = Phase::Running(sent.clone());
        }
        let place = attended.place.take();
        // Its room has a lock of its own.
        drop(state);
        wakers.extend(place.into_iter().flat_map(Place::give_up));
    }

    /// A task that was sent shall not start. False where it has; else its worker says in its turn that
    /// it did not, and it is back in the queue or has ended.
    pub(crate) fn recall(&self) -> bool {
        let mut state = self.lock();
        let State::Attended(attended) = &mut *state else { return true };
        if let Some(sent) = attended.sent()
            && !sent.page.revoke(sent.slot, self.id)
        {
            return false;
        }
        if !matches!(attended.phase, Phase::Done(_)) {
            attended.phase = Phase::TakenBack;
        }
        true
    }

    /// A task that was taken back is in the queue again; what it did not come to was no attempt.
    pub(crate) fn requeue_unstarted(&self) {
        let mut state = self.lock();
        if let State::Attended(attended) = &mut *state {
            let number = attended.attempt.number.saturating_sub(1);
            attended.attempt = Attempt { number, ..Attempt::default() };
        }
        requeue(&mut state);
    }

    /// The task is back in the queue.
    pub(crate) fn requeue(&self) {
        requeue(&mut self.lock());
    }

    /// Its worker died before it came to it, which was no attempt.
    pub(crate) fn forget_attempt(&self, worker: WorkerId) {
        if let State::Attended(attended) = &mut *self.lock()
            && attended.attempt.worker == Some(worker)
        {
            attended.attempt.number = attended.attempt.number.saturating_sub(1);
        }
    }

    /// The worker of its latest attempt.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        match &*self.lock() {
            State::Attended(attended) => attended.attempt.worker,
            State::Queued(_) => None,
            State::Done(completed) => completed.report.worker,
        }
    }

    /// `worker` says that the task has emitted an item. False where it may not say so.
    pub(crate) fn emit(&self, worker: WorkerId, item: Vec<u8>) -> bool {
        let mut state = self.lock();
        let State::Attended(attended) = &mut *state else { return false };
        let attempt = &mut attended.attempt;
        attempt.emitted_bytes += item.len() as u64 + EMIT_OVERHEAD_BYTES;
        let may = attempt.worker == Some(worker)
            && attempt.started.is_some()
            && attempt.emitted_bytes <= self.terms.limits.output_bytes
            // Else its caller has cancelled it, and its page says so.
            && !matches!(attended.phase, Phase::Done(_));
        if may {
            attended.emitted.push_back(item);
            attended.notify();
            drop(state);
            self.terms.link.hub.done(self.awaited());
        }
        may
    }

    /// `worker` says how the task has ended, which is kept for its end. `memory` is where the input
    /// lies, if that is a file of the worker's. False where it may not say so.
    pub(crate) fn hear(
        &self,
        worker: WorkerId,
        finished: Box<Finished>,
        memory: Option<Arc<SharedMemory>>,
    ) -> bool {
        let mut state = self.lock();
        let State::Attended(attended) = &mut *state else { return false };
        let is_taken_back = matches!(attended.phase, Phase::Done(_));
        if is_taken_back
            || attended.attempt.worker != Some(worker)
            || !self.accepts(attended, &finished, memory.as_deref())
        {
            return false;
        }
        attended.memory = memory.filter(|_| matches!(finished.outcome, Outcome::InFile(_)));
        attended.finished = Some(finished);
        true
    }

    /// Keeps what the guest was at for the end that was heard of.
    pub(crate) fn keep_dump(&self, dump: Coredump) {
        if let State::Attended(attended) = &mut *self.lock() {
            attended.dump = Some(dump);
        }
    }

    /// Whether a worker's outcome is of the kind that this call can have, and within its limits.
    fn accepts(
        &self,
        attended: &Attended,
        finished: &Finished,
        memory: Option<&SharedMemory>,
    ) -> bool {
        let limits = &self.terms.limits;
        let stdio_fits = [&finished.stdout, &finished.stderr]
            .iter()
            .all(|stream| stream.bytes.len() as u64 <= limits.stdio_bytes)
            && finished.log.bytes() <= limits.stdio_bytes;
        let is_within_limit = |bytes: u64| {
            bytes.saturating_add(attended.attempt.emitted_bytes) <= limits.output_bytes
        };
        let output_fits = match (&finished.outcome, attended.payload.buffer(), memory) {
            (Outcome::Returned(bytes), ..) => is_within_limit(bytes.len() as u64),
            (Outcome::InFile(bytes), Some(buffer), _) => *bytes == buffer.len() as u64,
            (Outcome::InFile(bytes), None, Some(memory)) => {
                *bytes <= memory.bytes() as u64 && is_within_limit(*bytes)
            }
            (Outcome::InFile(_), None, None) => false,
            _ => true,
        };
        stdio_fits && output_fits && attended.payload.can_end_as(&finished.outcome)
    }

    /// What is known of the task as it ends.
    pub(crate) fn take_last(&self) -> Last {
        match &mut *self.lock() {
            State::Attended(attended) => Last {
                codec: attended.codec,
                finished: attended.finished.take(),
                memory: attended.memory.take(),
                dump: attended.dump.take(),
                attempt: attended.attempt,
            },
            // Of one that never ran there is no result to be read.
            State::Queued(_) | State::Done(_) => Last {
                codec: Codec::Raw,
                finished: None,
                memory: None,
                dump: None,
                attempt: Attempt::default(),
            },
        }
    }

    /// Memory for the result of `bytes` bytes of a task that ends: that of its input, if it will do.
    pub(crate) fn room_for_result(&self, bytes: usize) -> Vec<u8> {
        match &mut *self.lock() {
            State::Attended(attended) => attended.payload.room_for_result(bytes),
            State::Queued(_) | State::Done(_) => Vec::new(),
        }
    }

    /// The report of the task, which ends as `status` at this moment of the pool's life.
    pub(crate) fn summary(&self, status: Status, last: Last, now: Duration) -> Summary {
        let mut report = Summary::blank(status, self.until(nanos(now)));
        let Last { finished, dump, attempt, .. } = last;
        report.worker = attempt.worker;
        report.attempt = attempt.number;
        if let Some(started) = attempt.started {
            let age = report.queue_wait;
            report.queue_wait = self.until(started);
            report.wall_time = age.saturating_sub(report.queue_wait);
        }
        if let Some(finished) = finished {
            if attempt.started.is_none() {
                // It was answered before it was known to be next.
                report.queue_wait = report.queue_wait.saturating_sub(finished.metrics.wall_time);
            }
            report.hear(*finished, dump);
        }
        report
    }

    /// Looks at what it is called with; at nothing once it has ended.
    pub(crate) fn with_payload<T>(&self, look: impl FnOnce(&Payload) -> T) -> T {
        match &*self.lock() {
            State::Queued(payload) => look(payload),
            State::Attended(attended) => look(&attended.payload),
            State::Done(_) => look(&Payload::default()),
        }
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

fn requeue(state: &mut State) {
    if let State::Attended(attended) = state
        && !matches!(attended.phase, Phase::Done(_))
    {
        attended.phase = Phase::Pending;
        attended.emitted.clear();
    }
}
