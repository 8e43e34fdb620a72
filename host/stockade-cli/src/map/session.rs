//! The session: takes items, submits them, and writes what became of them.
//!
//! One thread: it takes all news from the inbox, handles it, writes the results whose turn it is, and
//! sleeps when there is no more. It decides only when to take items and when to stop; the pool decides
//! what runs where.
//!
//! Invariants: an ordered output that can be continued has no gaps; what follows an item that was not run
//! is run again. No result waits for a line of input or for a slow task: it is written at once if no
//! other task is under way, and otherwise within [`HELD_MAX`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade::{Pool, RunError, SubmitError, TaskError};

use super::call::{Call, Reading};
use super::inbox::{Inbox, News, WakeOn};
use super::input;
use super::item::Item;
use super::kept::Found;
use super::options::OnError;
use super::order::{By, Order, Slot, Turn};
use super::program::Failed;
use super::record::{Beside, Problem, Record, Writing};
use super::sink::Sink;
use super::state::MapState;
use super::summary::{self, Summary};
use super::tally::Tally;
use super::tasks::{Ended, Label, Ready, Tasks};
use super::watch::Watch;
use crate::args::MapArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::output::Written;
use crate::streams;

/// How long a result may stay in the buffer while other tasks are under way, so that many are written at
/// once.
const HELD_MAX: Duration = Duration::from_millis(1);

/// The most bytes of items under way and of results that wait for their turn, together: an item more
/// is taken where there are less.
const BYTES_HELD_MAX: usize = 64 << 20;

/// Why no more items are taken.
enum Stop {
    InputEnded,
    Interrupted(Exit),
    Failed(Error),
}

/// A map under way.
pub(crate) struct Session<'a> {
    pool: &'a Pool,
    args: &'a MapArgs,
    reading: Reading,
    writing: Writing,
    inbox: Arc<Inbox>,
    /// News that was taken and is not handled yet.
    news: News,
    tasks: Tasks<'a>,
    /// Those that have ended and are not handled yet.
    ended: Vec<Ended>,
    bytes_held: usize,
    /// Records that wait for their turn, each with its weight.
    order: Order<(Record, u64)>,
    stop: Option<Stop>,
    tally: Tally,
    watch: Watch,
    observer: Observer,
    sink: Sink,
    /// Since when something waits in the sink.
    unwritten: Option<Instant>,
    state: Option<MapState>,
}

/// What a session works with.
pub(crate) struct Parts {
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
    pub(crate) inbox: Arc<Inbox>,
    /// How much there is of the input, where that is known.
    pub(crate) size: Option<u64>,
    pub(crate) sink: Sink,
    pub(crate) state: Option<MapState>,
    pub(crate) observer: Observer,
}

impl<'a> Session<'a> {
    pub(crate) fn new(pool: &'a Pool, args: &'a MapArgs, parts: Parts) -> Self {
        let Parts { reading, writing, inbox, size, sink, state, observer } = parts;
        let reached = state.as_ref().map(|state| &state.reached);
        // Without order a gap means nothing, and without a state a map that ends in order is not gone
        // on with: all that was done is wanted then.
        let stops_at_gap = state.is_some() || args.sink.on_error == OnError::Stop;
        let mut tasks = Tasks::new(pool, args);
        inbox.wake_with(tasks.waker());
        let by = if args.unordered { By::Completion } else { By::Slots { stops_at_gap } };
        Self {
            pool,
            args,
            reading,
            writing,
            tasks,
            ended: Vec::new(),
            inbox,
            news: News::default(),
            bytes_held: 0,
            order: Order::new(by),
            stop: None,
            tally: Tally::new(args.shape.files, reached),
            watch: match observer.top_bar() {
                Some(bar) => Watch::beside(bar, sink.is_stdout()),
                None => Watch::new(size, sink.is_stdout()),
            },
            observer,
            sink,
            unwritten: None,
            state,
        }
    }

    /// Runs until the input has ended and everything is written, or until it is ended early.
    ///
    /// # Errors
    /// What ended it early: an output that takes no more, an input that cannot be read, an error
    /// where that is to stop it, a pool that is broken.
    pub(crate) fn run(mut self) -> Result<Exit, Error> {
        self.work().inspect_err(|_| {
            // The error came first, and is told.
            let _ = self.observer.finish();
        })?;
        self.end_all()
    }

    fn work(&mut self) -> Result<(), Error> {
        while self.stop.is_none() || self.order.len() > 0 {
            self.look()?;
            if let Some(exit) = self.news.interrupted.take() {
                self.interrupt(exit);
            }
            if self.news.reader_left {
                return Err(Error::silent(Exit::ReaderGone));
            }
            self.end_tasks();
            self.take_items();
            self.write_ready()?;
            if self.state.as_ref().and_then(MapState::due).is_some_and(|due| due.is_zero()) {
                self.keep()?;
            }
            self.watch.glance(&self.tally, self.pool.count_workers());
            self.observer.glance(self.pool, self.tally.done(), self.tally.failures());
        }
        self.keep()
    }

    fn end_all(mut self) -> Result<Exit, Error> {
        self.watch.finish();
        let summary = Summary {
            sink: &self.args.sink,
            ending: match self.stop {
                Some(Stop::Failed(_)) => summary::Ending::Failed,
                Some(Stop::Interrupted(_)) => summary::Ending::Interrupted,
                Some(Stop::InputEnded) | None => summary::Ending::Done,
            },
            tally: &self.tally,
            elapsed: self.watch.elapsed(),
            is_watched: self.watch.is_watched(),
            kept: self.observer.summary(),
        };
        streams::say(|to| summary.write(to));
        if let Err(error) = self.observer.finish()
            && !matches!(self.stop, Some(Stop::Failed(_)))
        {
            self.stop = Some(Stop::Failed(error));
        }
        match self.stop {
            Some(Stop::Failed(error)) => Err(error),
            Some(Stop::Interrupted(exit)) => Ok(exit),
            _ if self.tally.all_failures() > 0 => Ok(Exit::SomeFailed),
            _ => Ok(Exit::Success),
        }
    }

    /// Takes news from the inbox, and sleeps if there is none.
    fn look(&mut self) -> Result<(), Error> {
        let wake_on = match self.wants_items() {
            // Items that were taken before come first.
            true if !self.news.items.is_empty() || self.news.input_ended => return Ok(()),
            true => WakeOn::All,
            false => WakeOn::AllButItems,
        };
        if self.inbox.take(&mut self.news, wake_on) || self.tasks.is_ready() {
            return Ok(());
        }
        if let Some(since) = self.unwritten {
            let left = match self.tasks.len() {
                0 => Duration::ZERO,
                _ => HELD_MAX.saturating_sub(since.elapsed()),
            };
            if !left.is_zero() && self.sleep(wake_on, left) {
                return Ok(());
            }
            self.flush()?;
        }
        let due = self.state.as_ref().and_then(MapState::due).unwrap_or(Duration::MAX);
        self.sleep(wake_on, self.watch.patience().min(due));
        Ok(())
    }

    /// Sleeps until there is news or a result, for at most `patience`. Returns whether there is.
    fn sleep(&mut self, wake_on: WakeOn, patience: Duration) -> bool {
        let is_ready = self.inbox.fall_asleep(wake_on) && self.tasks.wait(patience);
        self.inbox.awake();
        self.inbox.take(&mut self.news, wake_on) || is_ready
    }

    fn has_room(&mut self) -> bool {
        self.stop.is_none()
            && self.order.len() < self.tasks.capacity()
            && self.bytes_held < BYTES_HELD_MAX
    }

    /// Whether more items should be taken: many at a time, which costs less than one by one.
    fn wants_items(&mut self) -> bool {
        self.has_room() && self.tasks.len() <= self.tasks.capacity() / 2
    }

    /// Takes the items that are there, as far as there is room for them.
    fn take_items(&mut self) {
        if !self.wants_items() {
            return;
        }
        let slots_max = self.tasks.capacity().min(self.order.len() + self.tasks.room());
        while self.stop.is_none()
            && self.order.len() < slots_max
            && self.bytes_held < BYTES_HELD_MAX
        {
            match self.news.items.pop_front() {
                Some(Ok(item)) => {
                    if let Some(ready) = self.read(item) {
                        self.submit(ready);
                    }
                }
                Some(Err(error)) => self.stop(Stop::Failed(input::unreadable(&error))),
                None if self.news.input_ended => self.stop(Stop::InputEnded),
                None => break,
            }
        }
    }

    fn submit(&mut self, ready: Ready) {
        if let Err((slot, label)) = self.tasks.push(ready, self.observer.keeps_arguments()) {
            // The pool takes no more: an item before this one says why.
            self.bytes_held -= label.bytes;
            self.drop_item(slot);
        }
    }

    /// The call that an item asks for, and its place in the output.
    fn read(&mut self, item: Item) -> Option<Ready> {
        let Item { ordinal, name, content, weight } = item;
        if self.is_done(ordinal, weight) {
            return None;
        }
        let mut label = Label { ordinal, name, bytes: 0, weight };
        let read = content.and_then(|content| {
            label.bytes = content.bytes();
            self.reading.call(content)
        });
        match read {
            Ok(None) => {
                self.tally.blank();
                self.tally.passed(weight);
                if let Some(state) = &mut self.state {
                    state.finished(ordinal, weight, None);
                }
                None
            }
            Ok(Some(call)) => {
                if let Call::Program(call) = &call {
                    call.file().into_iter().for_each(|file| self.sink.reads(file));
                }
                self.bytes_held += label.bytes;
                Some(Ready { slot: self.order.open(), label, call })
            }
            Err(message) => {
                let slot = self.order.open();
                let problem = Problem::unread(&label.name, message);
                self.fail(slot, &label, problem, |line| Error::new(Exit::Call, line));
                None
            }
        }
    }

    /// Whether an earlier run did this item, and what it wrote of it is there.
    fn is_done(&mut self, ordinal: u64, weight: u64) -> bool {
        let Some(state) = &mut self.state else { return false };
        if !state.reached.done.contains(ordinal) {
            return false;
        }
        let (Some(directory), Some(mark)) = (&self.args.sink.output_dir, state.mark(ordinal))
        else {
            return true;
        };
        match mark.find(directory) {
            Ok(Found::Whole) => true,
            Ok(Found::Gone) => {
                if let Some(mark) = state.again(ordinal, weight) {
                    self.tally.again(mark.failed, weight);
                }
                false
            }
            Err(error) => {
                self.stop(Stop::Failed(error));
                true
            }
        }
    }

    fn end_tasks(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        let with_reports = self.writing.program.is_some() || self.observer.needs_reports();
        self.tasks.take_ended(with_reports, &mut ended);
        ended.drain(..).for_each(|ended| self.end(ended));
        // For the next ones.
        self.ended = ended;
    }

    fn end(&mut self, mut ended: Ended) {
        self.tasks.observe(&mut ended, &mut self.observer);
        let (slot, report) =
            (ended.slot, self.writing.program.as_ref().and_then(|_| ended.report()));
        let Ended { label, output, .. } = ended;
        self.bytes_held -= label.bytes;
        let ended = match output {
            Ok(output) => Ok(output),
            Err(RunError::Task(TaskError::Cancelled(_))) => return self.drop_item(slot),
            // No later item would fare better.
            Err(
                error @ (RunError::Task(TaskError::Broken(_) | TaskError::Quarantined(_))
                | RunError::Submit(
                    SubmitError::Closed | SubmitError::Broken(_) | SubmitError::Quarantined(_),
                )),
            ) => {
                self.drop_item(slot);
                return self.stop(Stop::Failed(error.into()));
            }
            Err(RunError::Submit(error)) => {
                return self.fail(slot, &label, Problem::refused(&error), |_| error.into());
            }
            Err(RunError::Task(error)) => Err(error),
            Err(error) => {
                self.drop_item(slot);
                return self.stop(Stop::Failed(error.into()));
            }
        };
        if let (Some(program), Some(report)) = (&self.writing.program, report) {
            return match program.outcome(ended, report) {
                Ok((written, beside)) => self.settle(slot, &label, Ok((written, Some(beside)))),
                Err(failed) => {
                    let Failed { problem, error } = *failed;
                    self.fail(slot, &label, problem, |_| error);
                }
            };
        }
        match ended.and_then(Written::from_output) {
            Ok(written) => self.settle(slot, &label, Ok((written, None))),
            Err(error) => {
                self.fail(slot, &label, Problem::of_task(&error), |_| Error::from(&error));
            }
        }
    }

    /// An item failed: that is written of it, or ends the map with this error, which is made from
    /// the problem's line.
    fn fail(
        &mut self,
        slot: Slot,
        label: &Label,
        problem: Problem,
        error: impl FnOnce(String) -> Error,
    ) {
        if self.args.sink.on_error != OnError::Stop {
            return self.settle(slot, label, Err(problem));
        }
        self.drop_item(slot);
        let error = error(problem.message()).preceded_by(format!("{} failed", label.name));
        self.stop(Stop::Failed(error));
        // What comes before it is still done and written.
        self.tasks.cancel(slot..);
    }

    fn settle(
        &mut self,
        slot: Slot,
        label: &Label,
        outcome: Result<(Written, Option<Beside>), Problem>,
    ) {
        let record = self.writing.record(label.ordinal, &label.name, outcome);
        self.tally.ended(record.failed);
        self.tally.passed(label.weight);
        self.bytes_held += record.output.bytes();
        self.order.settle(slot, Some((record, label.weight)));
    }

    /// The item never ran, and nothing is written of it.
    fn drop_item(&mut self, slot: Slot) {
        self.tally.dropped();
        self.order.settle(slot, None);
    }

    /// The first reason stays, but for an end of the input that something else came after.
    fn stop(&mut self, why: Stop) {
        if matches!(self.stop, None | Some(Stop::InputEnded)) {
            self.stop = Some(why);
        }
    }

    /// Takes no more items, and drops those that have not started. Those that run go on.
    fn interrupt(&mut self, exit: Exit) {
        if !matches!(self.stop, Some(Stop::Failed(_))) {
            self.stop = Some(Stop::Interrupted(exit));
        }
        self.tasks.cancel(..);
        // What a program reads from stderr stays one object.
        self.watch.interrupted(if self.args.sink.json { 0 } else { self.tasks.unfinished() });
    }

    fn write_ready(&mut self) -> Result<(), Error> {
        while let Some(turn) = self.order.pop() {
            let (record, weight) = match turn {
                Turn::Write(outcome) => outcome,
                Turn::Behind((record, _)) => {
                    self.bytes_held -= record.output.bytes();
                    self.tally.taken_back(record.failed);
                    continue;
                }
            };
            self.bytes_held -= record.output.bytes();
            if let Some(text) = &record.aside {
                self.watch.aside(true, || streams::say(|to| writeln!(to, "{text}")));
            }
            self.sink.write(&record.output)?;
            if let Some(state) = &mut self.state {
                state.wrote(record.ordinal, &record.output, record.failed.is_some());
                state.finished(record.ordinal, weight, Some(record.failed.is_some()));
            }
            if self.sink.is_full() {
                self.flush()?;
            }
        }
        match self.unwritten {
            _ if !self.sink.is_waiting() => {}
            None => self.unwritten = Some(Instant::now()),
            // Other tasks end all the time, and the reader of the output must not wait for a pause.
            Some(since) if since.elapsed() >= HELD_MAX => self.flush()?,
            Some(_) => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.unwritten = None;
        if !self.sink.is_waiting() {
            return Ok(());
        }
        let (watch, sink) = (&self.watch, &mut self.sink);
        watch.aside(false, || sink.flush())
    }

    /// Puts what is done where a later run finds it, if there is to be one.
    fn keep(&mut self) -> Result<(), Error> {
        self.flush()?;
        let Some(state) = &mut self.state else { return Ok(()) };
        let nothing_left = self.order.len() == 0 && !self.order.has_gap();
        let complete = nothing_left && matches!(self.stop, Some(Stop::InputEnded));
        state.keep(self.sink.keep()?, complete)
    }
}
