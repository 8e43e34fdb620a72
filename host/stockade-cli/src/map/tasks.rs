//! Tasks: what the pool runs for the items of a map.
//!
//! Every call of the library that a map makes for a task is in this file: submit, wake-up at the end,
//! cancel, result, report.
//!
//! Invariant: a task is given out once, by [`Tasks::take`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::Future;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use serde::de::IgnoredAny;
use stockade::{
    Arguments, Output, Pool, RecordError, Recording, SubmitError, TaskError, TaskHandle,
    TaskOptions, TaskReport,
};

use super::call::Call;
use super::inbox::Inbox;
use super::item::Name;
use super::order::Slot;
use super::program::ProgramCall;
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
pub(crate) struct Task {
    handle: TaskHandle<IgnoredAny>,
    pub(crate) label: Label,
    /// What it was called with, where that may be asked for.
    given: Option<Box<Call>>,
}

/// The tasks of a map that are under way.
pub(crate) struct Tasks<'a> {
    pool: &'a Pool,
    /// What is called for each item. A program's own entry, unless its [`Call`] names another.
    function: &'a str,
    options: TaskOptions,
    /// How many travel to a worker together.
    chunk: usize,
    /// Where ends are told.
    inbox: Arc<Inbox>,
    under_way: HashMap<Slot, Task>,
}

impl<'a> Tasks<'a> {
    /// None yet.
    pub(crate) fn new(pool: &'a Pool, args: &'a MapArgs, inbox: Arc<Inbox>) -> Self {
        let function = args.function.as_deref().unwrap_or(OWN_ENTRIES[1]);
        let options = TaskOptions::default().retries(args.pool.retries);
        let (chunk, under_way) = (args.chunk as usize, HashMap::new());
        Self { pool, function, options, chunk, inbox, under_way }
    }

    /// How many were submitted and not taken.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Submits these. Keeps what they were called with where `keeps_arguments`. Gives back those that
    /// the pool refuses. Does not wait for the others; the inbox is told of their ends.
    pub(crate) fn submit(
        &mut self,
        items: Vec<Ready>,
        keeps_arguments: bool,
    ) -> Vec<(Slot, Label, SubmitError)> {
        let (mut json, mut raw, mut commands) = (Vec::new(), Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(items.len());
        for Ready { slot, label, call } in items {
            places.push((slot, label, keeps_arguments.then(|| Box::new(call.clone()))));
            // All of a map are of one kind.
            match call {
                Call::Json(arguments) => json.push(arguments),
                Call::Raw(bytes) => raw.push(bytes),
                Call::Program(call) => commands.push(call),
            }
        }
        let mut submitted = self.submit_calls(json);
        submitted.extend(self.submit_calls(raw));
        submitted.extend(
            self.submit_calls(commands.into_iter().map(ProgramCall::command).collect::<Vec<_>>()),
        );
        let mut refused = Vec::new();
        for ((slot, label, given), submitted) in places.into_iter().zip(submitted) {
            match submitted {
                Ok(handle) => self.follow(slot, Task { handle, label, given }),
                Err(error) => refused.push((slot, label, error)),
            }
        }
        refused
    }

    fn submit_calls<A: Arguments>(
        &self,
        calls: Vec<A>,
    ) -> Vec<Result<TaskHandle<IgnoredAny>, SubmitError>> {
        let Self { pool, function, options, chunk, .. } = self;
        if *chunk == 1 {
            let submit = |call| pool.submit_with(*function, call, options.clone());
            return calls.into_iter().map(submit).collect();
        }
        let mut submitted = Vec::with_capacity(calls.len());
        let mut calls = calls.into_iter().peekable();
        while calls.peek().is_some() {
            let chunk = calls.by_ref().take(*chunk);
            submitted.extend(pool.submit_together_with(*function, chunk, options));
        }
        submitted
    }

    /// Has the inbox told when a task ends. Does not block.
    fn follow(&mut self, slot: Slot, mut task: Task) {
        let waker = self.inbox.waker(slot);
        if Pin::new(&mut task.handle).poll(&mut Context::from_waker(&waker)).is_ready() {
            // It has ended already.
            waker.wake();
        }
        self.under_way.insert(slot, task);
    }

    /// A task that has ended.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<Task> {
        self.under_way.remove(&slot)
    }

    /// Cancels those in `slots` that have not started: the last first, so that none starts behind one
    /// that is cancelled.
    pub(crate) fn cancel(&self, slots: impl RangeBounds<Slot>) {
        let mut waiting: Vec<_> =
            self.under_way.iter().filter(|(slot, _)| slots.contains(slot)).collect();
        waiting.sort_unstable_by_key(|(slot, _)| Reverse(**slot));
        waiting.into_iter().for_each(|(_, task)| _ = task.handle.cancel());
    }

    /// How many have not ended.
    pub(crate) fn running(&self) -> usize {
        self.under_way.values().filter(|task| !task.handle.is_done()).count()
    }

    /// Tells `observer` of a task that was taken.
    pub(crate) fn observe(&self, task: &mut Task, observer: &mut Observer) {
        let given = task.given.take();
        observer.ended(task.label.number(), &task.handle, || given.map(|call| self.record(*call)));
    }

    fn record(&self, call: Call) -> Result<Recording, RecordError> {
        call.record(self.pool, self.function)
    }
}

impl Task {
    /// How it ended. Does not block, since it has.
    pub(crate) fn output(&self) -> Result<Output, TaskError> {
        self.handle.output()
    }

    /// Its report, with a copy of all that it wrote.
    pub(crate) fn report(&self) -> TaskReport {
        self.handle.report()
    }
}
