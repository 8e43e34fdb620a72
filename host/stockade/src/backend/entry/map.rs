//! A batch of a map's items, as the driver holds it: one buffer, one entry, and no handle.
//!
//! ```text
//! MapEntry ─claim─► Part: tasks of one worker ─answer─► ended ─resolve─► Inbox
//!     ▲─────────────── returned, lost ──┘
//! ```
//!
//! Invariant: a task is in at most one part; an entry that is dropped ends its tasks.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::descriptor::SendError;
use stockade_wire::{
    ChunkId, Codec, EMIT_OVERHEAD_BYTES, HostMessage, HostPort, Outcome, PageSlot, Returned, Run,
    StatusPage, TaskId, TaskRange, WorkerId,
};

use super::{Ending, Single, accepts, cancelled_by_pool, result_of, send_payload};
use crate::backend::payload_files::{Loan, PayloadFiles};
use crate::base::sync::{Wakers, wake};
use crate::call::cancelled::CancelledTask;
use crate::call::inputs::{Inputs, Measure};
use crate::call::payload::Payload;
use crate::outcome::answer::Answer;
use crate::outcome::report::{Status, Summary};
use crate::state::cell::{Completed, Leftovers, Sent, nanos};
use crate::state::inbox::{End, EndedItem, EndedItems, Inbox, SHORT_BYTES_MAX, ShortEnd};
use crate::state::semaphore::Permit;
use crate::state::spec::TaskSpec;
use crate::state::watch::Watched;
use stockade_dispatcher::{Moment, Resolution};

/// What a map's batch is submitted with.
#[derive(Debug)]
pub(crate) struct MapSubmission {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) tasks: TaskRange,
    /// The place of the first in the map.
    pub(crate) index: usize,
    /// In nanoseconds of the pool's life; where it has grown, of its first tasks.
    pub(crate) submitted: u64,
    pub(crate) inputs: Inputs,
    /// The chunk whose items share an instance.
    pub(crate) share: Option<ChunkId>,
    /// Whether batches that follow may travel with this one: they are chunks of a caller's choice, whose items
    /// share no instance.
    pub(crate) may_grow: bool,
    /// Where the number of pending tasks is limited: a permit for each task that has not started.
    pub(crate) permits: Option<Permits>,
    /// Of each task, where anybody watches.
    pub(crate) watched: Vec<Option<Watched>>,
}

/// A batch of a map's items. Dropped before its end, it still ends its tasks.
#[derive(Debug)]
pub(crate) struct MapEntry {
    given: MapSubmission,
    /// Those that have not ended.
    open: Vec<TaskRange>,
    parts: Vec<Part>,
    /// How often the worker of a task was lost that had started it, and which was the last.
    losses: BTreeMap<TaskId, (u32, WorkerId)>,
    emitted: BTreeMap<TaskId, VecDeque<(Codec, Vec<u8>)>>,
}

/// Ended items, and bytes of their outputs, for which a part has room before there are any: as many as most
/// parts come to.
const ROOM_ITEMS_MAX: usize = 64;
const ROOM_BYTES_MAX: usize = 4 << 10;

/// The permits of a batch.
#[derive(Debug)]
pub(crate) struct Permits {
    permit: Permit,
    held: Vec<bool>,
}

/// Tasks that one worker has.
#[derive(Debug)]
pub(crate) struct Part {
    worker: WorkerId,
    /// Those that it has not answered.
    tasks: TaskRange,
    /// The first of its batch on the page.
    first: TaskId,
    page: Arc<StatusPage>,
    running: Option<Running>,
    /// What it has answered, and what is to be resolved.
    ended: VecDeque<EndedItem>,
    /// Their short outputs.
    outputs: Vec<u8>,
}

impl Part {
    /// Takes the first of what it has answered, with their short outputs.
    fn take_ended(&mut self, count: usize) -> (VecDeque<EndedItem>, Vec<u8>) {
        if self.ended.len() <= count {
            // Room for as much again, as far as there can be more.
            let left = (self.tasks.count() as usize).saturating_sub(count).min(self.ended.len());
            let bytes = if left == 0 { 0 } else { self.outputs.len() };
            let ended = mem::replace(&mut self.ended, VecDeque::with_capacity(left));
            return (ended, mem::replace(&mut self.outputs, Vec::with_capacity(bytes)));
        }
        let rest = self.ended.split_off(count);
        let ended = mem::replace(&mut self.ended, rest);
        let outputs = mem::take(&mut self.outputs);
        for item in &mut self.ended {
            if let End::Short(short) = &mut item.end {
                short.output = keep(short.output_in(&outputs), &mut self.outputs);
            }
        }
        (ended, outputs)
    }

    /// Keeps a short output, and returns where it is.
    fn keep(&mut self, output: &[u8]) -> Range<u32> {
        if self.outputs.capacity() == 0 {
            let expected = output.len() * self.tasks.count() as usize;
            self.outputs.reserve(expected.min(ROOM_BYTES_MAX));
        }
        keep(output, &mut self.outputs)
    }
}

/// Puts an output behind others, and returns where it is.
fn keep(output: &[u8], outputs: &mut Vec<u8>) -> Range<u32> {
    // A batch of short outputs has at most 512 KiB of them.
    let place = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let start = place(outputs.len());
    outputs.extend_from_slice(output);
    start..place(outputs.len())
}

/// The task that a worker is at.
#[derive(Clone, Copy, Debug)]
struct Running {
    task: TaskId,
    /// In nanoseconds of the pool's life.
    started: u64,
    emitted_bytes: u64,
}

impl Permits {
    /// Those of so many tasks.
    pub(crate) fn new(permit: Permit, tasks: u32) -> Self {
        Self { permit, held: vec![true; tasks as usize] }
    }

    fn release(&mut self, index: u32, wakers: &mut Wakers) {
        if let Some(held) = self.held.get_mut(index as usize)
            && mem::take(held)
        {
            wakers.extend(self.permit.give_up_one());
        }
    }
}

impl MapEntry {
    pub(crate) fn new(given: MapSubmission) -> Self {
        let open = vec![given.tasks];
        let (losses, emitted) = (BTreeMap::new(), BTreeMap::new());
        Self { given, open, parts: Vec::new(), losses, emitted }
    }

    /// What its tasks have in common.
    pub(super) fn spec(&self) -> &TaskSpec {
        &self.given.spec
    }

    /// Whether batches that follow may travel with it.
    pub(super) fn may_grow(&self) -> bool {
        self.given.may_grow
    }

    /// What its inputs take, if they can travel with others.
    pub(crate) fn measure(&self) -> Option<Measure> {
        self.given.inputs.measure_all()
    }

    /// Whether `next` has the items that follow these in the same map.
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        let (this, next) = (&self.given, &next.given);
        Arc::ptr_eq(&this.inbox, &next.inbox)
            && Arc::ptr_eq(&this.spec, &next.spec)
            && this.index + this.tasks.count() as usize == next.index
            && this.permits.is_some() == next.permits.is_some()
            && this.watched.is_empty() == next.watched.is_empty()
    }

    /// Has the items that [follow](Self::is_followed_by) travel with these, as the tasks `all`. Neither was
    /// sent.
    pub(crate) fn grow(&mut self, mut next: Self, all: TaskRange) {
        next.open.clear();
        let (this, next) = (&mut self.given, &mut next.given);
        this.inputs.append(mem::take(&mut next.inputs));
        this.watched.append(&mut next.watched);
        if let Some((permits, more)) = this.permits.as_mut().zip(next.permits.take()) {
            permits.permit.merge(more.permit);
            permits.held.extend(more.held);
        }
        this.tasks = all;
        self.open = vec![all];
    }

    /// When it was submitted, in nanoseconds of the pool's life.
    pub(super) fn submitted(&self) -> u64 {
        self.given.submitted
    }

    /// The first of its tasks.
    pub(super) fn first(&self) -> TaskId {
        self.given.tasks.first()
    }

    pub(super) fn is_of(&self, task: TaskId) -> bool {
        self.given.tasks.contains(task)
    }

    /// Whether the item of a task that has not ended is cancelled.
    pub(super) fn is_cancelled(&self, task: TaskId) -> bool {
        self.given.inbox.has_cancelled(self.item_of(task))
    }

    /// The place of a task's item in the map.
    fn item_of(&self, task: TaskId) -> usize {
        self.given.index + self.given.tasks.index_of(task).unwrap_or_default() as usize
    }

    pub(super) fn has_ended(&self) -> bool {
        self.open.is_empty()
    }

    fn part_of(&mut self, task: TaskId, worker: WorkerId) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.worker == worker && part.tasks.contains(task))
    }

    /// Tasks that no worker has.
    pub(crate) fn unsent(&self) -> Vec<TaskRange> {
        let mut unsent = self.open.clone();
        for part in &self.parts {
            unsent = unsent.into_iter().flat_map(|range| without(range, part.tasks)).collect();
        }
        unsent
    }

    pub(super) fn worker_of(&self, task: TaskId) -> Option<WorkerId> {
        self.parts.iter().find(|part| part.tasks.contains(task)).map(|part| part.worker)
    }

    pub(super) fn claim(
        &mut self,
        tasks: TaskRange,
        worker: WorkerId,
        page: &Arc<StatusPage>,
        slot: u8,
    ) -> u32 {
        let first = tasks.first();
        let place = PageSlot { slot, first, index: 0 };
        let sent = Sent { page: page.clone(), place };
        let claimed = self.given.inbox.claim(tasks, self.item_of(first), worker, sent);
        let Some(tasks) = claimed else { return 0 };
        // Of an attempt before this.
        self.emitted.retain(|task, _| !tasks.contains(*task));
        let ended = VecDeque::with_capacity(ROOM_ITEMS_MAX.min(tasks.count() as usize));
        let (page, outputs) = (page.clone(), Vec::new());
        self.parts.push(Part { worker, tasks, first, page, running: None, ended, outputs });
        tasks.count()
    }

    pub(super) fn place(&self, files: &mut PayloadFiles) -> Option<Loan> {
        files.put(self.given.inputs.kind().long_input()?)
    }

    pub(super) fn send(
        &mut self,
        tasks: TaskRange,
        slot: u8,
        loan: Option<&Loan>,
        port: &mut HostPort,
    ) -> Result<(), SendError> {
        if !self.given.inputs.is_many() {
            let single = Single { task: tasks.first(), slot, share: self.given.share };
            let payload = self.given.inputs.kind_mut();
            return send_payload(&self.given.spec, single, payload, loan, port);
        }
        let Some(from) = self.given.tasks.index_of(tasks.first()) else { return Ok(()) };
        let function = self.given.spec.function;
        let MapSubmission { inputs, spec, share, .. } = &mut self.given;
        let (invocation, lengths) = inputs.lend(from, from + tasks.count(), function);
        let run = Run { share: *share, ..spec.run(tasks, invocation, lengths, slot) };
        let message = HostMessage::Run(run);
        let sent = port.send(&message, &[]);
        if let HostMessage::Run(run) = message {
            inputs.take_back(run.invocation);
        }
        sent
    }

    pub(super) fn start(&mut self, task: TaskId, now: Moment, wakers: &mut Wakers) {
        let started = nanos(now);
        if let Some(part) = self.parts.iter_mut().find(|part| part.tasks.contains(task))
            && part.running.is_none_or(|running| running.task != task)
        {
            part.running = Some(Running { task, started, emitted_bytes: 0 });
        }
        self.release(task, wakers);
    }

    fn release(&mut self, task: TaskId, wakers: &mut Wakers) {
        if let Some(permits) = &mut self.given.permits
            && let Some(index) = self.given.tasks.index_of(task)
        {
            permits.release(index, wakers);
        }
    }

    pub(crate) fn returned(&mut self, tasks: TaskRange, worker: WorkerId) {
        self.cut(tasks, |part| part.worker == worker);
    }

    pub(super) fn lost(&mut self, tasks: TaskRange, worker: WorkerId) {
        for part in self.parts.iter().filter(|part| part.worker == worker) {
            let lost = part.tasks.overlap(tasks).into_iter().flat_map(TaskRange::iter);
            for task in lost {
                let (losses, last) = self.losses.entry(task).or_insert((0, worker));
                (*losses, *last) = (*losses + 1, worker);
                self.emitted.remove(&task);
            }
        }
        self.cut(tasks, |part| part.worker == worker);
    }

    /// Tasks are no more of the parts that are concerned: of such a part the first ones, or the last.
    fn cut(&mut self, tasks: TaskRange, concerns: impl Fn(&Part) -> bool) {
        let inbox = &self.given.inbox;
        self.parts.retain_mut(|part| {
            let Some(cut) = part.tasks.overlap(tasks).filter(|_| concerns(part)) else {
                return true;
            };
            let left = without(part.tasks, cut).next();
            match left {
                Some(left) => part.tasks = left,
                None => inbox.forget(part.worker, part.first),
            }
            left.is_some()
        });
    }

    pub(super) fn emit(&mut self, task: TaskId, worker: WorkerId, item: Vec<u8>) -> bool {
        let (codec, output_bytes) =
            (self.given.inputs.kind().codec(), self.given.spec.limits.output_bytes);
        let Some(running) = self.part_of(task, worker).and_then(|part| part.running.as_mut())
        else {
            return false;
        };
        running.emitted_bytes += item.len() as u64 + EMIT_OVERHEAD_BYTES;
        if running.task != task || running.emitted_bytes > output_bytes {
            return false;
        }
        self.emitted.entry(task).or_default().push_back((codec, item));
        true
    }

    pub(super) fn answer(&mut self, worker: WorkerId, answer: &mut Answer, now: Moment) -> bool {
        let task = answer.finished.task;
        let (first, index, submitted) = (self.given.tasks, self.given.index, self.given.submitted);
        let losses = self.losses.get(&task).map_or(0, |(losses, _)| *losses);
        let emitted = self.emitted.remove(&task).unwrap_or_default();
        let Self { given: MapSubmission { spec, inputs, .. }, parts, .. } = self;
        let of_task = |part: &&mut Part| part.worker == worker && part.tasks.contains(task);
        let Some(part) = parts.iter_mut().find(of_task) else { return false };
        let running = part.running.filter(|running| running.task == task);
        let emitted_bytes = running.map_or(0, |running| running.emitted_bytes);
        let place = first.index_of(task);
        let Some(place) = place.filter(|_| accepts(spec, inputs.kind(), emitted_bytes, answer))
        else {
            return false;
        };
        let item = match answer.finished.outcome {
            Outcome::ItemFailed { index, .. } => Some(index),
            _ => None,
        };
        let ending = Ending { resolution: Resolution::Finished, exit: None, now };
        let result = result_of(spec, ending, Some(&mut *answer), Some(inputs.kind_mut()));
        let age = |moment: u64| Duration::from_nanos(moment.saturating_sub(submitted));
        let mut report = Summary::blank(Status::of(&result), age(nanos(now)));
        report.worker = Some(worker);
        report.attempt = losses + 1;
        report.answered(running.map(|running| age(running.started)), answer);
        let progress = part.page.progress_of(task);
        let leftovers = (!emitted.is_empty() || progress.is_some() || item.is_some())
            .then_some(Leftovers { emitted, progress, item });
        let end = End::new(Completed::new(result, report), leftovers);
        part.ended.push_back(EndedItem { index: index + place as usize, task, end });
        true
    }

    pub(super) fn answer_shortly(
        &mut self,
        worker: WorkerId,
        returned: &Returned,
        output: &[u8],
        now: Moment,
    ) -> bool {
        let task = returned.task;
        let MapSubmission { spec, inputs, tasks, index, submitted, .. } = &self.given;
        let is_ordinary = self.losses.is_empty()
            && self.emitted.is_empty()
            && matches!(inputs.kind(), Payload::Task { .. })
            && output.len() <= SHORT_BYTES_MAX
            && output.len() as u64 <= spec.limits.output_bytes;
        let of_task = |part: &&mut Part| part.worker == worker && part.tasks.contains(task);
        let Some(part) = self.parts.iter_mut().find(of_task).filter(|_| is_ordinary) else {
            return false;
        };
        let running = part.running.filter(|running| running.task == task);
        // One that was refused is nowhere else.
        let has_emitted = running.is_some_and(|running| running.emitted_bytes > 0);
        let is_silent = !has_emitted && part.page.progress_of(task).is_none();
        let Some(place) = tasks.index_of(task).filter(|_| is_silent) else { return false };
        let lifetime = nanos(now).saturating_sub(*submitted);
        let started = running.map(|running| running.started.saturating_sub(*submitted));
        let end = End::Short(ShortEnd {
            worker,
            lifetime,
            // Else it was answered before it was known to be next.
            queue_wait: started.unwrap_or(lifetime.saturating_sub(returned.wall_nanos)),
            wall_nanos: returned.wall_nanos,
            cpu_nanos: returned.cpu_nanos,
            memory_peak_bytes: returned.memory_peak_bytes,
            output: part.keep(output),
        });
        part.ended.push_back(EndedItem { index: index + place as usize, task, end });
        true
    }

    pub(super) fn resolve(
        &mut self,
        tasks: TaskRange,
        ending: Ending<'_>,
        wakers: &mut Wakers,
    ) -> bool {
        let (mut ended, outputs) = match ending.resolution {
            Resolution::Finished => {
                let of_tasks = |part: &&mut Part| {
                    part.ended.front().is_some_and(|item| item.task == tasks.first())
                };
                let count = tasks.count() as usize;
                let part = self.parts.iter_mut().find(of_tasks);
                part.map(|part| part.take_ended(count)).unwrap_or_default()
            }
            _ => {
                let ended = tasks.iter().map(|task| self.ended_as(task, ending));
                (ended.collect(), Vec::new())
            }
        };
        self.cut(tasks, |_| true);
        self.close(tasks);
        if let Some(buffer) = self.given.inputs.kind().buffer() {
            for item in &mut ended {
                if let End::Other(other) = &mut item.end {
                    other.0.buffer = Some(buffer.clone());
                }
            }
        }
        if !self.given.inbox.is_cancelled() {
            self.note_cancelled(&ended);
        }
        let has_to_tell = self.given.permits.is_some() || !self.given.watched.is_empty();
        for item in ended.iter().filter(|_| has_to_tell) {
            self.release(item.task, wakers);
            if let Some(index) = self.given.tasks.index_of(item.task)
                && let Some(watched) =
                    self.given.watched.get_mut(index as usize).and_then(Option::take)
            {
                wakers.push(watched.ended_later(item.end.report()));
            }
        }
        // A column is no measure of what a call takes.
        let is_column = matches!(self.given.inputs.kind(), Payload::Column(_));
        if ending.resolution == Resolution::Finished && !is_column {
            let sum: Duration = ended.iter().map(|item| item.end.wall_time()).sum();
            self.given.spec.note_pace(sum / tasks.count());
        }
        let (spec, submitted) = (self.given.spec.clone(), self.given.submitted);
        let codec = self.given.inputs.kind().codec();
        let ended = EndedItems { spec, submitted, items: ended, codec, outputs };
        wakers.extend(self.given.inbox.push(ended));
        self.given.spec.link.event_loop.done(self.given.inbox.awaited());
        true
    }

    /// The end of a task that its worker did not answer.
    fn ended_as(&self, task: TaskId, ending: Ending<'_>) -> EndedItem {
        let result = result_of(&self.given.spec, ending, None, None);
        let age = |moment: u64| Duration::from_nanos(moment.saturating_sub(self.given.submitted));
        let mut report = Summary::blank(Status::of(&result), age(nanos(ending.now)));
        let part = self.parts.iter().find(|part| part.tasks.contains(task));
        let lost = self.losses.get(&task);
        report.worker = part.map(|part| part.worker).or(lost.map(|(_, last)| *last));
        report.attempt = lost.map_or(0, |(losses, _)| *losses) + u32::from(part.is_some());
        let running = part.and_then(|part| part.running).filter(|running| running.task == task);
        report.started(running.map(|running| age(running.started)));
        let end = End::new(Completed::new(result, report), None);
        EndedItem { index: self.item_of(task), task, end }
    }

    /// Tasks have ended.
    fn close(&mut self, tasks: TaskRange) {
        let open = mem::take(&mut self.open);
        self.open = open.into_iter().flat_map(|range| without(range, tasks)).collect();
    }

    /// Notes those that the pool has cancelled.
    fn note_cancelled(&self, ended: &VecDeque<EndedItem>) {
        let is_cancelled = |item: &&EndedItem| match &item.end {
            End::Short(_) => false,
            End::Other(other) => cancelled_by_pool(&other.0.result),
        };
        for item in ended.iter().filter(is_cancelled) {
            let index = self.given.tasks.index_of(item.task).unwrap_or_default();
            self.given.spec.link.shared.cancelled(CancelledTask {
                id: item.task,
                target: self.given.spec.target.clone(),
                label: self.given.spec.label.clone(),
                arguments: self.given.inputs.given(index),
            });
        }
    }

    pub(super) fn refuse(mut self) {
        // Its map is told so as it submits.
        self.open.clear();
        let report = Summary::blank(Status::Cancelled, Duration::ZERO);
        for watched in mem::take(&mut self.given.watched).into_iter().flatten() {
            wake(watched.ended_later(report.clone()));
        }
    }
}

/// Those of `range` that are not in `other`.
fn without(range: TaskRange, other: TaskRange) -> impl Iterator<Item = TaskRange> {
    let (before, behind) = match range.overlap(other) {
        None => (Some(range), None),
        Some(both) => {
            let behind = both.last().0.checked_add(1).map(TaskId);
            (
                range.split_before(both.first()).0,
                behind.and_then(|behind| TaskRange::between(behind, range.last())),
            )
        }
    };
    before.into_iter().chain(behind)
}

impl Drop for MapEntry {
    fn drop(&mut self) {
        // Its tasks have ended, except in a pool that is going down.
        let now = self.given.spec.link.made().elapsed();
        let resolution = Resolution::Cancelled(stockade_dispatcher::CancelReason::Shutdown);
        let mut wakers = Wakers::new();
        for tasks in mem::take(&mut self.open) {
            self.resolve(tasks, Ending { resolution, exit: None, now }, &mut wakers);
        }
        wakers.into_iter().for_each(wake);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use stockade_wire::{Finished, Limits, WorkerMessage, codec};

    use super::*;
    use crate::backend::entry::spec_of_a_test;

    const WORKER: WorkerId = WorkerId(1);

    /// So many tasks from 1 on, of a function that may return so many bytes, which a worker has.
    fn claimed(tasks: u32, output_bytes: u64) -> MapEntry {
        let mut limits = Limits::default();
        limits.output_bytes = output_bytes;
        let mut spec = spec_of_a_test();
        spec.limits = Arc::new(limits);
        let mut inputs = Inputs::default();
        for _ in 0..tasks {
            let input = Box::default();
            inputs.copy(&Payload::Task { codec: Codec::Raw, input }, tasks as usize);
        }
        let tasks = TaskRange::new(TaskId(1), tasks).expect("there are tasks");
        let mut entry = MapEntry::new(MapSubmission {
            inbox: Arc::default(),
            spec: Arc::new(spec),
            tasks,
            index: 0,
            submitted: 0,
            inputs,
            share: None,
            may_grow: false,
            permits: None,
            watched: Vec::new(),
        });
        let page = Arc::new(StatusPage::create().expect("there is memory"));
        page.offer(0, tasks);
        assert_eq!(entry.claim(tasks, WORKER, &page, 0), tasks.count());
        entry
    }

    /// Whether it takes this as the result of a task of `worker`'s.
    fn returns_from(worker: WorkerId, entry: &mut MapEntry, task: u64, output: &[u8]) -> bool {
        let outcome = Outcome::Returned(output.to_vec());
        let mut message = Vec::new();
        codec::encode(&WorkerMessage::Finished(Finished::new(TaskId(task), outcome)), &mut message)
            .expect("it is a message");
        let returned = Returned::read(&message).expect("it is of the short kind");
        entry.answer_shortly(worker, &returned, returned.output_in(&message), Moment::ZERO)
    }

    fn returns(entry: &mut MapEntry, task: u64, output: &[u8]) -> bool {
        returns_from(WORKER, entry, task, output)
    }

    fn start(entry: &mut MapEntry, task: u64) {
        entry.start(TaskId(task), Moment::ZERO, &mut Wakers::new());
    }

    fn finish(entry: &mut MapEntry, first: u64, tasks: u32) {
        let tasks = TaskRange::new(TaskId(first), tasks).expect("there are tasks");
        let ending = Ending { resolution: Resolution::Finished, exit: None, now: Moment::ZERO };
        entry.resolve(tasks, ending, &mut Wakers::new());
    }

    #[test]
    fn a_short_result_is_taken_up_to_its_limit_and_of_a_task_that_emitted_nothing() {
        let mut entry = claimed(4, 100);
        start(&mut entry, 1);
        assert!(!returns(&mut entry, 1, &[0; 101]));
        assert!(returns(&mut entry, 1, &[0; 100]));
        start(&mut entry, 2);
        assert!(entry.emit(TaskId(2), WORKER, vec![0; 10]));
        assert!(!returns(&mut entry, 2, b""), "it has emitted an item");
        let mut entry = claimed(4, 100);
        start(&mut entry, 1);
        assert!(!entry.emit(TaskId(1), WORKER, vec![0; 101]), "the item is too large");
        assert!(!returns(&mut entry, 1, b""), "it has emitted what was refused");
        assert!(!returns(&mut entry, 5, b""), "there is no fifth");
        let mut other = claimed(4, 100);
        start(&mut other, 1);
        assert!(!returns_from(WorkerId(2), &mut other, 1, b""), "it is another's");
    }

    #[test]
    fn ends_that_wait_keep_no_more_memory_than_they_need() {
        let tasks = 1024;
        let mut entry = claimed(tasks, 1 << 20);
        for task in 1..=u64::from(tasks) {
            start(&mut entry, task);
            assert!(returns(&mut entry, task, &[0; SHORT_BYTES_MAX]));
            finish(&mut entry, task, 1);
        }
        let ended = entry.given.inbox.take_all();
        assert_eq!(ended.len(), tasks as usize);
        let kept = |ended: &EndedItems| {
            ended.outputs.capacity() + ended.items.capacity() * size_of::<EndedItem>()
        };
        let kept: usize = ended.iter().map(kept).sum();
        // What 64 items and 4 KiB take at first, and then what each needs.
        let needed = SHORT_BYTES_MAX + size_of::<EndedItem>();
        let at_first = ROOM_BYTES_MAX + ROOM_ITEMS_MAX * size_of::<EndedItem>();
        assert!(kept <= tasks as usize * needed + at_first, "{kept}");
    }
}
