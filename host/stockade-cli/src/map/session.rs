//! The session: takes items, submits them, and writes what became of them.
//!
//! One thread, which sleeps until an item, an end or a Ctrl-C is there. It decides only when to take
//! the next item and when to stop; what runs where is the pool's affair.
//!
//! Invariant: an ordered output that may be gone on with has no gaps. What comes behind an item that
//! was not run is not written, and is run again when the map goes on.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};
use serde::de::IgnoredAny;
use stockade::{Pool, SubmitError, TaskError, TaskHandle, TaskOptions};

use super::call::{Call, Reading};
use super::input;
use super::item::{Item, Name};
use super::kept::Found;
use super::options::OnError;
use super::order::{Order, Slot};
use super::program::Failed;
use super::record::{Beside, Problem, Record, Writing};
use super::sink::Sink;
use super::state::State;
use super::tally::Tally;
use super::watch::Watch;
use crate::args::MapArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::output::Written;
use crate::streams;
use crate::table::{Align, table};
use crate::target::OWN_ENTRIES;

/// The most bytes of items under way and of results that wait for their turn, together: an item more
/// is taken where there are less.
const BYTES_HELD_MAX: usize = 64 << 20;

/// Something to do.
enum Event {
    Item(io::Result<Item>),
    InputEnded,
    Ended(Slot),
    /// A signal asked for an end like this.
    Interrupted(Exit),
    /// The reader of the output has gone.
    ReaderLeft,
    /// Nothing, for so long that the bar wants a look.
    Glance,
}

/// Why no more items are taken.
enum Stop {
    InputEnded,
    Interrupted(Exit),
    Failed(Error),
}

/// What is left of an item when its arguments have been taken out.
struct Label {
    ordinal: u64,
    name: Name,
    bytes: usize,
    weight: u64,
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

/// An item whose task is under way.
struct UnderWay {
    handle: TaskHandle<IgnoredAny>,
    label: Label,
    /// What it was called with, where that may be asked for.
    given: Option<Call>,
}

/// What is called for each item. A program's own entry, unless its [`Call`] names another.
fn function(args: &MapArgs) -> &str {
    args.function.as_deref().unwrap_or(OWN_ENTRIES[1])
}

/// What waits for its turn to be written: nothing of an item that never ran.
type Waiting = Option<(Record, u64)>;

/// Rings when a task has ended.
struct Bell {
    slot: Slot,
    ended: Sender<Slot>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Unbounded, so the pool's driver never blocks here; a session that is gone wants nothing.
        let _ = self.ended.send(self.slot);
    }
}

/// A map under way.
pub(crate) struct Session<'a> {
    pool: &'a Pool,
    args: &'a MapArgs,
    reading: Reading,
    writing: Writing,
    options: TaskOptions,
    items: Receiver<io::Result<Item>>,
    interrupts: Receiver<Exit>,
    reader: Receiver<()>,
    ended: (Sender<Slot>, Receiver<Slot>),
    under_way: BTreeMap<Slot, UnderWay>,
    bytes_held: usize,
    items_under_way_max: usize,
    order: Order<Waiting>,
    /// Whether an item was not run, and what comes behind it is not written.
    gap: bool,
    stop: Option<Stop>,
    tally: Tally,
    watch: Watch,
    observer: Observer,
    sink: Sink,
    state: Option<State>,
}

/// What a session works with.
pub(crate) struct Parts {
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
    pub(crate) items: Receiver<io::Result<Item>>,
    /// How much there is of the input, where that is known.
    pub(crate) size: Option<u64>,
    pub(crate) interrupts: Receiver<Exit>,
    /// Where it is told that nobody reads the output any more.
    pub(crate) reader: Receiver<()>,
    pub(crate) sink: Sink,
    pub(crate) state: Option<State>,
    pub(crate) observer: Observer,
}

impl<'a> Session<'a> {
    pub(crate) fn new(pool: &'a Pool, args: &'a MapArgs, parts: Parts) -> Self {
        let Parts { reading, writing, items, size, interrupts, reader, sink, state, observer } =
            parts;
        // Enough to keep every worker busy while the output's order waits for a slow one.
        let chunks = (4 * pool.max_workers()).max(16);
        let reached = state.as_ref().map(|state| &state.reached);
        Self {
            pool,
            args,
            reading,
            writing,
            options: TaskOptions::default().retries(args.pool.retries),
            items,
            interrupts,
            reader,
            ended: crossbeam_channel::unbounded(),
            under_way: BTreeMap::new(),
            bytes_held: 0,
            items_under_way_max: chunks * args.chunk as usize,
            order: Order::new(!args.unordered),
            gap: false,
            stop: None,
            tally: Tally::new(args.shape.files, reached),
            watch: match observer.top_bar() {
                Some(bar) => Watch::beside(bar, sink.is_stdout()),
                None => Watch::new(size, sink.is_stdout()),
            },
            observer,
            sink,
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
            match self.next_event()? {
                Event::Item(item) => self.take(item),
                Event::InputEnded => self.stop(Stop::InputEnded),
                Event::Ended(slot) => self.end(slot),
                Event::Interrupted(exit) => self.interrupt(exit),
                Event::ReaderLeft => return Err(Error::silent(Exit::ReaderGone)),
                Event::Glance => {}
            }
            self.write_ready()?;
            if self.state.as_ref().and_then(State::due).is_some_and(|due| due.is_zero()) {
                self.keep()?;
            }
            self.watch.glance(&self.tally, self.pool.count_workers());
            self.observer.glance(self.pool, self.tally.done(), self.tally.failures());
        }
        self.keep()
    }

    fn end_all(mut self) -> Result<Exit, Error> {
        self.watch.finish();
        streams::say(|to| self.summarise(to));
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

    /// What there was: a table for whoever watches or asked for it, else a sentence where something
    /// went wrong.
    fn summarise(&self, to: &mut dyn Write) -> io::Result<()> {
        let (elapsed, sink) = (self.watch.elapsed(), &self.args.sink);
        let interrupted = matches!(self.stop, Some(Stop::Interrupted(_)));
        let has_failed = matches!(self.stop, Some(Stop::Failed(_)));
        // What an error ended before anything new was done is for that error to tell.
        let earlier = self.tally.only_earlier().filter(|_| !interrupted);
        let did_nothing = earlier.is_some() && has_failed;
        let only_earlier = earlier.filter(|_| !has_failed);
        let kept = self.observer.summary();
        if sink.json {
            let mut value = self.tally.to_json(elapsed);
            for (name, told) in &kept {
                value[*name] = told.as_str().into();
            }
            writeln!(to, "{value}")?;
        } else if sink.summary || self.watch.is_watched() {
            let align = [Align::Left, Align::Right, Align::Left];
            write!(to, "{}", table(align, self.tally.table(elapsed)))?;
        } else if let Some((ok, failed)) = only_earlier {
            writeln!(to, "everything was done before: {ok} ok, {failed} failed")?;
        } else if self.tally.failures() > 0 || interrupted {
            writeln!(to, "{}", self.tally.summary(elapsed))?;
        }
        if !sink.json {
            kept.iter().try_for_each(|(_, told)| writeln!(to, "{told}"))?;
        }
        match (&sink.resume, &self.stop) {
            (Some(_), Some(Stop::Interrupted(_) | Stop::Failed(_)))
                if !sink.json && !did_nothing =>
            {
                writeln!(to, "what is done is kept: the same command goes on from there")
            }
            _ => Ok(()),
        }
    }

    /// What to do next. Flushes before it sleeps: a result never waits for an event.
    fn next_event(&mut self) -> Result<Event, Error> {
        if let Some(event) = self.wait(Duration::ZERO) {
            return Ok(event);
        }
        self.flush()?;
        let due = self.state.as_ref().and_then(State::due).unwrap_or(Duration::MAX);
        Ok(self.wait(self.watch.patience().min(due)).unwrap_or(Event::Glance))
    }

    fn wait(&self, patience: Duration) -> Option<Event> {
        let never = crossbeam_channel::never();
        let items = if self.has_room() { &self.items } else { &never };
        select! {
            recv(items) -> item => Some(item.map_or(Event::InputEnded, Event::Item)),
            // This session holds a sender, so there is always one.
            recv(self.ended.1) -> slot => slot.ok().map(Event::Ended),
            recv(self.interrupts) -> told => told.ok().map(Event::Interrupted),
            recv(self.reader) -> told => told.ok().map(|()| Event::ReaderLeft),
            default(patience) => None,
        }
    }

    fn has_room(&self) -> bool {
        self.stop.is_none()
            && self.order.len() < self.items_under_way_max
            && self.bytes_held < BYTES_HELD_MAX
    }

    /// Takes an item, and those behind it that are there already and travel with it.
    fn take(&mut self, first: io::Result<Item>) {
        let (mut labels, mut json, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        let mut commands = Vec::new();
        let (mut given, keeps) = (Vec::new(), self.observer.keeps_arguments());
        let mut next = Some(first);
        while let Some(item) = next {
            match item.map(|item| self.read(item)) {
                Ok(None) => {}
                Ok(Some((place, call))) => {
                    labels.push(place);
                    given.push(keeps.then(|| call.clone()));
                    // All of a map are of one kind.
                    match call {
                        Call::Json(arguments) => json.push(arguments),
                        Call::Raw(bytes) => raw.push(bytes),
                        Call::Program(call) => {
                            call.file().into_iter().for_each(|file| self.sink.reads(file));
                            commands.push(call.command());
                        }
                    }
                }
                Err(error) => self.stop(Stop::Failed(input::unreadable(&error))),
            }
            let more = labels.len() < self.args.chunk as usize && self.has_room();
            next = if more { self.items.try_recv().ok() } else { None };
        }
        let (function, options) = (function(self.args), &self.options);
        let mut submitted = self.pool.submit_together_with(function, json, options);
        submitted.extend(self.pool.submit_together_with(function, raw, options));
        submitted.extend(self.pool.submit_together_with(function, commands, options));
        for (((slot, label), given), submitted) in labels.into_iter().zip(given).zip(submitted) {
            match submitted {
                Ok(handle) => self.follow(slot, UnderWay { handle, label, given }),
                // No later item would fare better.
                Err(
                    error @ (SubmitError::Closed
                    | SubmitError::Broken(_)
                    | SubmitError::Quarantined(_)),
                ) => {
                    self.drop_item(slot);
                    self.stop(Stop::Failed(error.into()));
                }
                Err(error) => self.fail(slot, &label, Problem::refused(&error), |_| error.into()),
            }
        }
    }

    /// The call that an item asks for, and its place in the output.
    fn read(&mut self, item: Item) -> Option<((Slot, Label), Call)> {
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
            Ok(Some(call)) => Some(((self.order.open(), label), call)),
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

    /// Waits for the end of a task without anybody blocking for it.
    fn follow(&mut self, slot: Slot, mut task: UnderWay) {
        let ended = self.ended.0.clone();
        let waker = Waker::from(Arc::new(Bell { slot, ended: ended.clone() }));
        if Pin::new(&mut task.handle).poll(&mut Context::from_waker(&waker)).is_ready() {
            // It has ended already; this session holds the receiver.
            let _ = ended.send(slot);
        }
        self.bytes_held += task.label.bytes;
        self.under_way.insert(slot, task);
    }

    fn end(&mut self, slot: Slot) {
        let Some(UnderWay { handle, label, given }) = self.under_way.remove(&slot) else { return };
        self.bytes_held -= label.bytes;
        let (pool, function) = (self.pool, function(self.args));
        self.observer
            .ended(label.number(), &handle, || given.map(|call| call.record(pool, function)));
        let ended = match (handle.output(), &self.writing.program) {
            (Err(TaskError::Cancelled(_)), _) => return self.drop_item(slot),
            (Err(error @ (TaskError::Broken(_) | TaskError::Quarantined(_))), _) => {
                self.drop_item(slot);
                return self.stop(Stop::Failed(Error::from(&error)));
            }
            (ended, None) => ended,
            (ended, Some(program)) => {
                return match program.outcome(ended, handle.report()) {
                    Ok((written, beside)) => self.settle(slot, &label, Ok((written, Some(beside)))),
                    Err(failed) => {
                        let Failed { problem, error } = *failed;
                        self.fail(slot, &label, problem, |_| error);
                    }
                };
            }
        };
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
        self.cancel_waiting(slot..);
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
        self.cancel_waiting(..);
        let running = self.under_way.values().filter(|task| !task.handle.is_done()).count();
        // What a program reads from stderr stays one object.
        self.watch.interrupted(if self.args.sink.json { 0 } else { running });
    }

    fn cancel_waiting(&self, slots: impl RangeBounds<Slot>) {
        for (_, task) in self.under_way.range(slots) {
            task.handle.cancel();
        }
    }

    fn write_ready(&mut self) -> Result<(), Error> {
        // Without order a gap means nothing, and whoever cannot go on wants all that was done.
        let stops_at_gap = !self.args.unordered
            && (self.state.is_some() || self.args.sink.on_error == OnError::Stop);
        while let Some(waiting) = self.order.pop() {
            let Some((record, weight)) = waiting else {
                self.gap |= stops_at_gap;
                continue;
            };
            self.bytes_held -= record.output.bytes();
            if self.gap {
                self.tally.taken_back(record.failed);
                continue;
            }
            if let Some(text) = &record.aside {
                self.watch.aside(true, || streams::say(|to| writeln!(to, "{text}")));
            }
            let (watch, sink) = (&self.watch, &mut self.sink);
            watch.aside(false, || sink.write(&record.output))?;
            if let Some(state) = &mut self.state {
                state.wrote(record.ordinal, &record.output, record.failed.is_some());
                state.finished(record.ordinal, weight, Some(record.failed.is_some()));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
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
        let nothing_left = self.order.len() == 0 && !self.gap;
        let complete = nothing_left && matches!(self.stop, Some(Stop::InputEnded));
        state.keep(self.sink.keep()?, complete)
    }
}
