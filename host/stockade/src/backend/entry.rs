//! Batches in the driver: arguments, attempts, and outcomes of their tasks.
//!
//! ```text
//! submit ─► One: a task ─────────────────┐
//! submit_together ─► Several: a task each ├─claim, send─► worker ─emit, answer─► resolve ─► TaskCell
//! map ─► Map: items without handles ─────┘                                            └─► Inbox
//! ```
//!
//! All of it belongs to the driver, and so needs no lock; state for callers is in the cell, or in
//! the map's inbox.

mod map;
mod several;
mod task;

use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::descriptor::SendError;
use stockade_wire::{
    ChunkId, Codec, Finished, HostMessage, HostPort, Limits, Outcome, Placement, PlacementFile,
    Returned, Run, StatusPage, TaskId, TaskRange, WorkerId,
};

use crate::backend::payload_files::{Loan, PayloadFiles};
use crate::base::sync::Wakers;
use crate::call::payload::Payload;
use crate::outcome::answer::Answer;
use crate::outcome::error::{CancelReason, TaskError};
use crate::outcome::exit::WorkerExit;
use crate::outcome::output::Output;
use crate::state::spec::TaskSpec;
use stockade_dispatcher::{CancelReason as DispatchCancel, Moment, Resolution};

pub(crate) use map::{MapEntry, MapSubmission, Permits};
pub(crate) use several::Several;
pub(crate) use task::TaskEntry;

/// A batch from its submission to its last task's end. Dropped before that, it still ends its tasks.
#[derive(Debug)]
pub(crate) enum Entry {
    /// One task that has a handle.
    One(TaskEntry),
    /// Several that have handles.
    Several(Box<Several>),
    /// Items of a map.
    Map(Box<MapEntry>),
}

/// An entry where it is kept.
#[derive(Debug)]
pub(crate) enum EntryMut<'a> {
    One(&'a mut TaskEntry),
    Several(&'a mut Several),
    Map(&'a mut MapEntry),
}

/// Why tasks end, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    pub(crate) resolution: Resolution,
    /// How their worker ended, if it was lost.
    pub(crate) exit: Option<&'a WorkerExit>,
    /// In the pool's life.
    pub(crate) now: Moment,
}

impl Entry {
    /// How many tasks travel together at most where others that follow wait for the same turn.
    pub(crate) fn together_max(&self) -> u32 {
        match self {
            Self::One(one) => one.cell.spec.batch_max(),
            Self::Map(map) if map.may_grow() => map.spec().batch_max(),
            Self::Several(_) | Self::Map(_) => 1,
        }
    }

    pub(crate) fn as_mut(&mut self) -> EntryMut<'_> {
        match self {
            Self::One(one) => EntryMut::One(one),
            Self::Several(several) => EntryMut::Several(several),
            Self::Map(map) => EntryMut::Map(map),
        }
    }

    /// When it was submitted, in the pool's life.
    pub(crate) fn submitted(&self) -> Moment {
        match self {
            Self::One(one) => one.cell.submitted(),
            Self::Several(several) => several.submitted(),
            Self::Map(map) => Duration::from_nanos(map.submitted()),
        }
    }

    /// The first task of one that is not of a single task with a handle.
    pub(crate) fn first_of_range(&self) -> Option<TaskId> {
        match self {
            Self::One(_) => None,
            Self::Several(several) => Some(several.first),
            Self::Map(map) => Some(map.first()),
        }
    }

    /// Its tasks are refused: their callers get an error, and they never belonged to the pool.
    pub(crate) fn refuse(self) {
        match self {
            Self::One(one) => one.refuse(),
            Self::Several(several) => several.refuse(),
            Self::Map(map) => map.refuse(),
        }
    }
}

impl EntryMut<'_> {
    /// The worker that has a task, or had it last.
    pub(crate) fn worker_of(&self, task: TaskId) -> Option<WorkerId> {
        match self {
            Self::One(one) => one.worker(),
            Self::Several(several) => several.get(task)?.worker(),
            Self::Map(map) => map.worker_of(task),
        }
    }

    /// Whether it can be the entry of a task; else the task's own has ended, and this has its key.
    pub(crate) fn is_of(&self, task: TaskId) -> bool {
        match self {
            Self::One(one) => one.cell.id == task,
            Self::Several(several) => several.is_of(task),
            Self::Map(map) => map.is_of(task),
        }
    }

    /// Whether `worker` has a task of this entry.
    pub(crate) fn has(&self, task: TaskId, worker: WorkerId) -> bool {
        self.is_of(task) && self.worker_of(task) == Some(worker)
    }

    /// Whether a task's caller has ended it, or it has ended otherwise.
    pub(crate) fn is_done(&self, task: TaskId) -> bool {
        match self {
            Self::One(one) => one.cell.is_done(),
            Self::Several(several) => several.get(task).is_none_or(|one| one.cell.is_done()),
            Self::Map(map) => map.is_cancelled(task),
        }
    }

    /// Whether every task of it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::One(one) => one.cell.is_done(),
            Self::Several(several) => several.has_ended(),
            Self::Map(map) => map.has_ended(),
        }
    }

    /// These tasks go to `worker` now, on whose page they stand offered in this slot. Returns how many
    /// of them, from the first on, before one that its caller has cancelled.
    pub(crate) fn claim(
        &mut self,
        tasks: TaskRange,
        worker: WorkerId,
        page: &Arc<StatusPage>,
        slot: u8,
    ) -> u32 {
        match self {
            Self::One(one) => {
                u32::from(one.claim(worker, several::sent(tasks, tasks.first(), page, slot)))
            }
            Self::Several(several) => several.claim(tasks, worker, page, slot),
            Self::Map(map) => map.claim(tasks, worker, page, slot),
        }
    }

    /// Puts the input of a single task that is long into one of `files`, if there is one for it: it is
    /// the task's until the task is answered.
    pub(crate) fn place(&self, tasks: TaskRange, files: &mut PayloadFiles) -> Option<Loan> {
        match self {
            Self::One(one) => one.place(files),
            Self::Several(several) if tasks.count() == 1 => {
                several.get(tasks.first())?.place(files)
            }
            Self::Several(_) => None,
            Self::Map(map) => map.place(files),
        }
    }

    /// Sends tasks, which were claimed, with an input as [`place`](Self::place) has put it. Their worker
    /// hears of them at the latest when the port is flushed.
    ///
    /// # Errors
    /// [`SendError`]; the worker is of no further use.
    pub(crate) fn send(
        &mut self,
        tasks: TaskRange,
        slot: u8,
        loan: Option<&Loan>,
        port: &mut HostPort,
    ) -> Result<(), SendError> {
        match self {
            Self::One(one) => one.send(slot, loan, port),
            Self::Several(several) => several.send(tasks, slot, loan, port),
            Self::Map(map) => map.send(tasks, slot, loan, port),
        }
    }

    /// The task is, from this moment of the pool's life on, the next that its worker starts. Leaves in
    /// `wakers` whom to wake for its permit.
    pub(crate) fn start(&mut self, task: TaskId, now: Moment, wakers: &mut Wakers) {
        match self {
            Self::One(one) => one.start(now, wakers),
            Self::Several(several) => {
                if let Some(one) = several.get_mut(task) {
                    one.start(now, wakers);
                }
            }
            Self::Map(map) => map.start(task, now, wakers),
        }
    }

    /// Tasks were sent to `worker` and will not start there: that was no attempt.
    pub(crate) fn returned(&mut self, tasks: TaskRange, worker: WorkerId) {
        match self {
            Self::One(one) => one.returned(worker),
            Self::Several(several) => several.returned(tasks, worker),
            Self::Map(map) => map.returned(tasks, worker),
        }
    }

    /// `worker` is gone with tasks that it may have started; they are not resolved yet.
    pub(crate) fn lost(&mut self, tasks: TaskRange, worker: WorkerId) {
        match self {
            Self::One(one) => one.lost(worker),
            Self::Several(several) => several.lost(tasks, worker),
            Self::Map(map) => map.lost(tasks, worker),
        }
    }

    /// As far as lost tasks have not ended and no other worker has them, they wait again.
    pub(crate) fn requeue(&mut self, tasks: TaskRange, worker: WorkerId) {
        match self {
            Self::One(one) if one.worker() == Some(worker) => one.cell.requeue(),
            Self::One(_) | Self::Map(_) => {}
            Self::Several(several) => several.requeue(tasks, worker),
        }
    }

    /// `worker` reports an emitted item. Returns false if it may not.
    pub(crate) fn emit(&mut self, task: TaskId, worker: WorkerId, item: Vec<u8>) -> bool {
        match self {
            Self::One(one) => one.cell.id == task && one.emit(worker, item),
            Self::Several(several) => {
                several.get_mut(task).is_some_and(|one| one.emit(worker, item))
            }
            Self::Map(map) => map.emit(task, worker, item),
        }
    }

    /// `worker` says how a task has ended, which is taken from `answer` and kept for its end. False where
    /// it may not say so.
    pub(crate) fn answer(&mut self, worker: WorkerId, answer: &mut Answer, now: Moment) -> bool {
        match self {
            Self::One(one) => one.answer(worker, answer),
            Self::Several(several) => {
                several.get_mut(answer.finished.task).is_some_and(|one| one.answer(worker, answer))
            }
            Self::Map(map) => map.answer(worker, answer, now),
        }
    }

    /// As [`answer`](Self::answer), for a task that returned `output` and of which nothing else is to be said.
    /// False where anything is; or where the worker may not say so.
    pub(crate) fn answer_shortly(
        &mut self,
        worker: WorkerId,
        returned: &Returned,
        output: &[u8],
        now: Moment,
    ) -> bool {
        let task = returned.task;
        match self {
            Self::One(one) => one.cell.id == task && one.answer_shortly(worker, returned, output),
            Self::Several(several) => several
                .get_mut(task)
                .is_some_and(|one| one.answer_shortly(worker, returned, output)),
            Self::Map(map) => map.answer_shortly(worker, returned, output, now),
        }
    }

    /// Ends tasks as `ending` says, and leaves in `wakers` whom to wake for that. False where one of them
    /// had ended before.
    pub(crate) fn resolve(
        &mut self,
        tasks: TaskRange,
        ending: Ending<'_>,
        wakers: &mut Wakers,
    ) -> bool {
        match self {
            Self::One(one) => one.resolve(ending, wakers),
            Self::Several(several) => several.resolve(tasks, ending, wakers),
            Self::Map(map) => map.resolve(tasks, ending, wakers),
        }
    }
}

/// A task's outcome for its caller. `answer` is what its worker said of it, and `payload` has its arguments.
fn result_of(
    spec: &TaskSpec,
    ending: Ending<'_>,
    answer: Option<&mut Answer>,
    payload: Option<&mut Payload>,
) -> Result<Output, TaskError> {
    let wall_time = spec.limits.wall_time;
    match (ending.resolution, answer) {
        (Resolution::Finished, Some(Answer { finished, memory, .. })) => {
            let codec = payload.as_ref().map_or(Codec::Raw, |payload| payload.codec());
            match mem::replace(&mut finished.outcome, Outcome::Recalled) {
                Outcome::Returned(bytes) => Ok(Output::Encoded { codec, bytes }),
                Outcome::InFile(bytes) => Ok(match memory.take() {
                    None => Output::InPlace,
                    // Compared with the memory when it was accepted.
                    Some(memory) => {
                        let bytes = bytes as usize;
                        let room = payload.map(|payload| payload.room_for_result(bytes));
                        let mut result = room.unwrap_or_default();
                        memory.read_into(bytes, &mut result);
                        Output::Encoded { codec, bytes: result }
                    }
                }),
                Outcome::Scalars(scalars) => Ok(Output::Scalars(scalars)),
                Outcome::Exited(code) => Ok(Output::Exited(code)),
                Outcome::Failed(failure) | Outcome::ItemFailed { failure, .. } => {
                    Err(TaskError::from_failure(failure, wall_time))
                }
                Outcome::Recalled => Err(TaskError::Cancelled(CancelReason::Asked)),
            }
        }
        (Resolution::DeadlinePassed, _) => {
            Err(TaskError::Deadline { limit: wall_time.unwrap_or_default(), backtrace: Vec::new() })
        }
        (Resolution::WorkerLost | Resolution::Finished, _) => {
            Err(TaskError::WorkerLost(ending.exit.cloned().unwrap_or_else(WorkerExit::unknown)))
        }
        (Resolution::Cancelled(why), _) => Err(cancelled(spec, why, CancelReason::Asked)),
        (Resolution::CancelledRunning(why), _) => {
            Err(cancelled(spec, why, CancelReason::WhileRunning))
        }
    }
}

/// The error of a task that was cancelled, if by its caller then `asked`.
fn cancelled(spec: &TaskSpec, why: DispatchCancel, asked: CancelReason) -> TaskError {
    let shared = &spec.link.shared;
    let shutdown = TaskError::Cancelled(CancelReason::Shutdown);
    match why {
        DispatchCancel::Asked => TaskError::Cancelled(asked),
        DispatchCancel::Shutdown => shutdown,
        DispatchCancel::Broken => shared.broken().map_or(shutdown, TaskError::Broken),
        DispatchCancel::Quarantined => {
            shared.quarantined(spec.module).map_or(shutdown, TaskError::Quarantined)
        }
    }
}

/// Whether it was the pool that cancelled a task.
fn cancelled_by_pool<T>(result: &Result<T, TaskError>) -> bool {
    matches!(
        result,
        Err(TaskError::Cancelled(CancelReason::Shutdown)
            | TaskError::Broken(_)
            | TaskError::Quarantined(_))
    )
}

/// Whether a worker's answer to a call with `payload`, whose task has emitted so many bytes, is of the
/// kind that it can have, and within its limits.
fn accepts(spec: &TaskSpec, payload: &Payload, emitted_bytes: u64, answer: &Answer) -> bool {
    let limits = &spec.limits;
    let finished = &answer.finished;
    let is_within_limit = |bytes: u64| bytes.saturating_add(emitted_bytes) <= limits.output_bytes;
    let output_fits = match (&finished.outcome, payload.buffer(), &answer.memory) {
        (Outcome::Returned(bytes), ..) => is_within_limit(bytes.len() as u64),
        (Outcome::InFile(bytes), Some(buffer), _) => *bytes == buffer.bytes() as u64,
        (Outcome::InFile(bytes), None, Some(memory)) => {
            *bytes <= memory.bytes() as u64 && is_within_limit(*bytes)
        }
        (Outcome::InFile(_), None, None) => false,
        _ => true,
    };
    accepts_written(limits, finished) && output_fits && payload.can_end_as(&finished.outcome)
}

/// Whether what a task has written and logged, as its worker says, is within its limits.
fn accepts_written(limits: &Limits, finished: &Finished) -> bool {
    finished.written.as_ref().is_none_or(|written| {
        [&written.stdout, &written.stderr]
            .iter()
            .all(|stream| stream.bytes.len() as u64 <= limits.stdio_bytes)
            && written.log.bytes() <= limits.stdio_bytes
    })
}

/// Where a single task is sent.
#[derive(Clone, Copy, Debug)]
struct Single {
    task: TaskId,
    slot: u8,
    /// The chunk whose tasks share an instance.
    share: Option<ChunkId>,
}

/// Sends a single task with `payload`, whose input lies in `loan` if there is one.
fn send_payload(
    spec: &TaskSpec,
    single: Single,
    payload: &mut Payload,
    loan: Option<&Loan>,
    port: &mut HostPort,
) -> Result<(), SendError> {
    if let Some(loan) = loan {
        let placed = Some((loan.placement, loan.descriptor()));
        return send_placed(spec, single, &mut payload.without_input(), placed, port);
    }
    match payload.buffer().cloned() {
        None => send_placed(spec, single, payload, None, port),
        // Where it is gone its caller has it: the task is cancelled, and its page says so.
        Some(buffer) => buffer.with(|shared| {
            let place = Placement { bytes: buffer.bytes() as u64, place: PlacementFile::Lent };
            let placed = shared.map(|shared| (place, Some(shared.descriptor())));
            send_placed(spec, single, payload, placed, port)
        }),
    }
}

/// Sends a single task as a call with `payload`, which is lent for that.
fn send_placed(
    spec: &TaskSpec,
    Single { task, slot, share }: Single,
    payload: &mut Payload,
    placed: Option<(Placement, Option<BorrowedFd<'_>>)>,
    port: &mut HostPort,
) -> Result<(), SendError> {
    let (invocation, descriptors) = payload.lend(spec.function);
    let placement = placed.map(|(placement, _)| placement);
    let run = spec.run(task.into(), invocation, Vec::new(), slot);
    let run = Run { placement, share, ..run };
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

/// When the host ends a task whose guest does not. An interruptible guest ends itself at its
/// deadline, and with a backtrace; the host's own deadline is for one that is stuck in a host call.
pub(crate) fn deadline_for_host(limits: &Limits) -> Option<Duration> {
    const GRACE_PERIOD: Duration = Duration::from_secs(2);
    let grace = if limits.interruptible { GRACE_PERIOD } else { Duration::ZERO };
    limits.wall_time.map(|wall_time| wall_time.saturating_add(grace))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_queued_task_is_two_words() {
        // What a slab keeps it in: the entry, or the next free slot.
        assert_eq!(size_of::<Result<TaskEntry, usize>>(), 2 * size_of::<usize>());
    }
}

/// A function of a pool that has no workers.
#[cfg(all(test, not(shuttle)))]
pub(crate) fn spec_of_a_test() -> TaskSpec {
    use crate::backend::event_loop::EventLoop;
    use crate::state::callbacks::Callbacks;
    use crate::state::link::Link;
    use crate::state::shared::Shared;

    let shared = Arc::new(Shared::new(None, None));
    let event_loop = Arc::new(EventLoop::new(None, shared.clone()));
    let link = Link::new(event_loop, Callbacks::new("test".into()), shared);
    TaskSpec::of_a_test(Arc::new(link))
}
