//! Tasks: what the pool runs for the items of a map.
//!
//! ```text
//! Ready ─ push ─► FedMap of the library: batches, workers, results as they come ─ take_ended ─► Ended
//! ```
//!
//! Every call of the library that a map makes for a task is in this file: push, wait, cancel, result,
//! report.
//!
//! Invariant: a task is given out once, by [`Tasks::take_ended`].

use std::collections::{HashMap, VecDeque};
use std::ops::RangeBounds;
use std::task::Waker;
use std::time::Duration;

use stockade::{
    Arguments, FedMap, Output, Pool, RecordError, Recording, RunError, TaskHandle, TaskOptions,
    TaskReport,
};

use super::call::Call;
use super::item::Name;
use super::order::Slot;
use crate::args::MapArgs;
use crate::observe::Observer;
use crate::target::OWN_ENTRIES;

/// What is left of an item when its arguments have been taken out.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) ordinal: u64,
    pub(crate) name: Name,
    pub(crate) bytes: usize,
    pub(crate) weight: u64,
}

impl Label {
    /// What a trace and the names of recordings find it by: its line, or its place among the files.
    fn number(&self) -> u64 {
        match self.name {
            Name::Line(number) => number,
            Name::File(_) => self.ordinal,
        }
    }
}

/// An item that is ready to be submitted.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) slot: Slot,
    pub(crate) label: Label,
    pub(crate) call: Call,
}

/// An item whose task was submitted.
#[derive(Debug)]
struct Task {
    slot: Slot,
    label: Label,
    /// What it was called with, where that may be asked for.
    given: Option<Box<Call>>,
}

/// An item whose task has ended, or was refused.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) slot: Slot,
    pub(crate) label: Label,
    pub(crate) output: Result<Output, RunError>,
    given: Option<Box<Call>>,
    /// Where reports are asked for.
    handle: Option<TaskHandle<Output>>,
}

/// The tasks of a map that are under way.
pub(crate) struct Tasks<'a> {
    pool: &'a Pool,
    /// What is called for each item. A program's own entry, unless its [`Call`] names another.
    function: &'a str,
    fed: FedMap<Output>,
    under_way: UnderWay,
}

/// Tasks by their indices in the fed map.
#[derive(Debug, Default)]
struct UnderWay {
    /// The index of the first of `recent`.
    first: usize,
    /// `None` once they are taken.
    recent: VecDeque<Option<Task>>,
    /// Those before: slow ones that many others have overtaken.
    overtaken: HashMap<usize, Task>,
}

/// From so many on, the first of the recent tasks counts as overtaken.
const RECENT_MAX: usize = 4096;

impl UnderWay {
    /// Adds the next.
    fn push(&mut self, task: Task) {
        self.recent.push_back(Some(task));
        while self.recent.len() > RECENT_MAX {
            if let Some(slow) = self.recent.pop_front().flatten() {
                self.overtaken.insert(self.first, slow);
            }
            self.first += 1;
        }
    }

    fn take(&mut self, index: usize) -> Option<Task> {
        let Some(place) = index.checked_sub(self.first) else {
            return self.overtaken.remove(&index);
        };
        let task = self.recent.get_mut(place)?.take();
        while self.recent.pop_front_if(|task| task.is_none()).is_some() {
            self.first += 1;
        }
        task
    }

    /// Each, with its index.
    fn iter(&self) -> impl Iterator<Item = (usize, &Task)> {
        let recent = (self.first..).zip(&self.recent);
        let recent = recent.filter_map(|(index, task)| Some((index, task.as_ref()?)));
        recent.chain(self.overtaken.iter().map(|(index, task)| (*index, task)))
    }
}

impl<'a> Tasks<'a> {
    /// None yet.
    pub(crate) fn new(pool: &'a Pool, args: &'a MapArgs) -> Self {
        let function = args.function.as_deref().unwrap_or(OWN_ENTRIES[1]);
        let options = TaskOptions::default().retries(args.pool.retries);
        let fed = pool.feed(function).options(options).unordered();
        let fed = match args.chunk {
            Some(items) => fed.chunk_size(items as usize),
            None => fed,
        };
        Self { pool, function, fed, under_way: UnderWay::default() }
    }

    /// Wakes who [waits](Self::wait), from any thread.
    pub(crate) fn waker(&mut self) -> Waker {
        self.fed.waker()
    }

    /// How many were submitted and not taken.
    pub(crate) fn len(&self) -> usize {
        self.fed.len()
    }

    /// How many may be submitted now.
    pub(crate) fn room(&mut self) -> usize {
        self.fed.room()
    }

    /// How many may be under way at a time.
    pub(crate) fn capacity(&mut self) -> usize {
        self.fed.capacity()
    }

    /// Submits an item, and keeps what it was called with where `keeps_arguments`. Never blocks. Gives it
    /// back where the pool takes no more tasks.
    pub(crate) fn push(
        &mut self,
        Ready { slot, label, call }: Ready,
        keeps_arguments: bool,
    ) -> Result<(), (Slot, Label)> {
        let given = keeps_arguments.then(|| Box::new(call.clone()));
        let pushed = match call {
            Call::Json(arguments) => push(&mut self.fed, arguments),
            Call::Raw(bytes) => push(&mut self.fed, bytes),
            Call::Program(call) => push(&mut self.fed, call.command()),
        };
        if !pushed {
            return Err((slot, label));
        }
        self.under_way.push(Task { slot, label, given });
        Ok(())
    }

    /// Whether one has ended and was not taken.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.fed.is_ready()
    }

    /// Blocks until one has ended, the [waker](Self::waker) is woken, or so much time has passed. Returns
    /// whether one has ended.
    pub(crate) fn wait(&mut self, patience: Duration) -> bool {
        self.fed.wait(patience)
    }

    /// Moves those that have ended to `ended`, with what their reports are made of where `with_reports`.
    pub(crate) fn take_ended(&mut self, with_reports: bool, ended: &mut Vec<Ended>) {
        let under_way = &mut self.under_way;
        let mut take = |index, output, handle| {
            if let Some(Task { slot, label, given }) = under_way.take(index) {
                ended.push(Ended { slot, label, output, given, handle });
            }
        };
        if !with_reports {
            return self.fed.ready().for_each(|(index, output)| take(index, output, None));
        }
        for (index, handle) in self.fed.ready_tasks() {
            match handle {
                Ok(handle) => {
                    let output = handle.output().map_err(RunError::from);
                    take(index, output, Some(handle));
                }
                Err(error) => take(index, Err(error), None),
            }
        }
    }

    /// Cancels those in `slots` that have not started.
    pub(crate) fn cancel(&mut self, slots: impl RangeBounds<Slot>) {
        let concerned = self.under_way.iter().filter(|(_, task)| slots.contains(&task.slot));
        // Slots and indices have the same order.
        if let Some(first) = concerned.map(|(index, _)| index).min() {
            self.fed.cancel(first..);
        }
    }

    /// How many have not ended.
    pub(crate) fn unfinished(&mut self) -> usize {
        self.fed.unfinished()
    }

    /// Tells `observer` of a task that has ended.
    pub(crate) fn observe(&self, ended: &mut Ended, observer: &mut Observer) {
        let Some(handle) = &ended.handle else { return };
        let given = ended.given.take();
        observer.ended(ended.label.number(), handle, || given.map(|call| self.record(*call)));
    }

    fn record(&self, call: Call) -> Result<Recording, RecordError> {
        call.record(self.pool, self.function)
    }
}

/// Whether `fed` has taken it.
fn push(fed: &mut FedMap<Output>, arguments: impl Arguments) -> bool {
    fed.push(arguments).is_ok()
}

impl Ended {
    /// Its report, with a copy of all that it wrote, where its task was submitted and that was asked for.
    pub(crate) fn report(&self) -> Option<TaskReport> {
        self.handle.as_ref().map(TaskHandle::report)
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::{By, Order};
    use super::*;

    #[test]
    fn a_task_is_found_however_many_have_overtaken_it() {
        let mut order = Order::<()>::new(By::Completion);
        let mut under_way = UnderWay::default();
        let count = 3 * RECENT_MAX;
        for ordinal in 0..count {
            let label = Label { ordinal: ordinal as u64, name: Name::Line(1), bytes: 0, weight: 0 };
            under_way.push(Task { slot: order.open(), label, given: None });
            if ordinal % 1000 != 7 {
                assert!(under_way.take(ordinal).is_some());
            }
        }
        assert!(under_way.recent.len() <= RECENT_MAX);
        let mut left: Vec<_> = under_way.iter().map(|(index, _)| index).collect();
        left.sort_unstable();
        assert!(left.iter().copied().eq((7..count).step_by(1000)));
        for index in left {
            assert_eq!(under_way.take(index).map(|task| task.label.ordinal), Some(index as u64));
            assert!(under_way.take(index).is_none());
        }
        assert!(under_way.take(count).is_none() && under_way.iter().next().is_none());
    }
}
