//! The session: takes lines, submits them, and writes what became of them.
//!
//! One thread, which sleeps until a line, an end or a Ctrl-C is there. It decides only when to take
//! the next line and when to stop; what runs where is the pool's affair.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};
use serde::de::IgnoredAny;
use stockade::{Json, Pool, SubmitError, TaskError, TaskHandle};

use super::call::Reading;
use super::lines::Line;
use super::order::{Order, Slot};
use super::record::{Problem, Record};
use super::tally::Tally;
use super::watch::Watch;
use crate::args::MapArgs;
use crate::error::Error;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::output::Written;

/// The most bytes of lines under way and of results that wait for their turn, together: a line more
/// is taken where there are less.
const BYTES_HELD_MAX: usize = 64 << 20;

/// Something to do.
enum Event {
    Line(io::Result<Line>),
    InputEnded,
    Ended(Slot),
    Interrupted,
    /// Nothing, for so long that the bar wants a look.
    Glance,
}

/// Why no more lines are taken.
enum Stop {
    InputEnded,
    Interrupted,
    Failed(Error),
}

/// A line whose task is under way.
struct UnderWay {
    handle: TaskHandle<IgnoredAny>,
    number: u64,
    bytes: usize,
    /// What it was called with, where that may be asked for.
    given: Option<Json>,
}

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
    lines: Receiver<io::Result<Line>>,
    interrupts: Receiver<()>,
    ended: (Sender<Slot>, Receiver<Slot>),
    under_way: BTreeMap<Slot, UnderWay>,
    bytes_held: usize,
    lines_under_way_max: usize,
    /// What is written of each line; nothing of one that never ran.
    order: Order<Option<Record>>,
    stop: Option<Stop>,
    tally: Tally,
    watch: Watch,
    observer: Observer,
    stdout: BufWriter<StdoutLock<'static>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        pool: &'a Pool,
        args: &'a MapArgs,
        lines: Receiver<io::Result<Line>>,
        interrupts: Receiver<()>,
        observer: Observer,
    ) -> Self {
        // Enough to keep every worker busy while the output's order waits for a slow one.
        let chunks = (4 * pool.max_workers()).max(16);
        Self {
            pool,
            args,
            reading: Reading { format: args.format, whole: args.args },
            lines,
            interrupts,
            ended: crossbeam_channel::unbounded(),
            under_way: BTreeMap::new(),
            bytes_held: 0,
            lines_under_way_max: chunks * args.chunk as usize,
            order: Order::new(!args.unordered),
            stop: None,
            tally: Tally::default(),
            watch: observer.top_bar().map_or_else(Watch::new, Watch::beside),
            observer,
            stdout: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        }
    }

    /// Runs until the input has ended and everything is written, or until it is ended early.
    ///
    /// # Errors
    /// What ended it early: a stdout that takes no more, an input that cannot be read, a pool that
    /// is broken.
    pub(crate) fn run(mut self) -> Result<Exit, Error> {
        while self.stop.is_none() || self.order.len() > 0 {
            match self.next_event()? {
                Event::Line(line) => self.take(line),
                Event::InputEnded => self.stop(Stop::InputEnded),
                Event::Ended(slot) => self.end(slot),
                Event::Interrupted => self.interrupt(),
                Event::Glance => {}
            }
            self.write_ready()?;
            self.watch.glance(&self.tally, self.pool.count_workers());
            self.observer.glance(self.pool, self.tally.done(), self.tally.failures());
        }
        self.flush()?;
        self.watch.finish();
        let interrupted = matches!(self.stop, Some(Stop::Interrupted));
        if self.watch.is_watched() || self.tally.failures() > 0 || interrupted {
            // Where stderr is closed, nobody wants this.
            let _ = writeln!(io::stderr(), "{}", self.tally.summary(self.watch.elapsed()));
        }
        if let Err(error) = self.observer.finish() {
            self.stop = Some(Stop::Failed(error));
        }
        if let Some(told) = self.observer.summary() {
            let _ = writeln!(io::stderr(), "{told}");
        }
        match self.stop {
            Some(Stop::Failed(error)) => Err(error),
            Some(Stop::Interrupted) => Ok(Exit::Interrupted),
            _ if self.tally.failures() > 0 => Ok(Exit::SomeFailed),
            _ => Ok(Exit::Success),
        }
    }

    /// What to do next. Flushes before it sleeps: a result never waits for an event.
    fn next_event(&mut self) -> io::Result<Event> {
        if let Some(event) = self.wait(Duration::ZERO) {
            return Ok(event);
        }
        self.flush()?;
        Ok(self.wait(self.watch.patience()).unwrap_or(Event::Glance))
    }

    fn wait(&self, patience: Duration) -> Option<Event> {
        let never = crossbeam_channel::never();
        let lines = if self.has_room() { &self.lines } else { &never };
        select! {
            recv(lines) -> line => Some(line.map_or(Event::InputEnded, Event::Line)),
            // This session holds a sender, so there is always one.
            recv(self.ended.1) -> slot => slot.ok().map(Event::Ended),
            recv(self.interrupts) -> told => told.ok().map(|()| Event::Interrupted),
            default(patience) => None,
        }
    }

    fn has_room(&self) -> bool {
        self.stop.is_none()
            && self.order.len() < self.lines_under_way_max
            && self.bytes_held < BYTES_HELD_MAX
    }

    /// Takes a line, and those behind it that are there already and travel with it.
    fn take(&mut self, first: io::Result<Line>) {
        let mut calls = Vec::new();
        let mut next = Some(first);
        while let Some(line) = next {
            match line {
                Ok(line) => calls.extend(self.read(line)),
                Err(error) => {
                    let error = Error::new(Exit::Missing, "cannot read the input").cause(&error);
                    self.stop(Stop::Failed(error));
                }
            }
            let more = calls.len() < self.args.chunk as usize && self.has_room();
            next = if more { self.lines.try_recv().ok() } else { None };
        }
        let (places, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let keeps = self.observer.keeps_arguments();
        let given: Vec<_> = calls.iter().map(|call| keeps.then(|| call.clone())).collect();
        let submitted = self.pool.submit_together(&self.args.function, calls);
        for (((slot, number, bytes), given), submitted) in
            places.into_iter().zip(given).zip(submitted)
        {
            match submitted {
                Ok(handle) => self.follow(slot, UnderWay { handle, number, bytes, given }),
                // No later line would fare better.
                Err(
                    error @ (SubmitError::Closed
                    | SubmitError::Broken(_)
                    | SubmitError::Quarantined(_)),
                ) => {
                    self.drop_line(slot);
                    self.stop(Stop::Failed(error.into()));
                }
                Err(error) => self.settle(slot, number, Err(Problem::refused(&error))),
            }
        }
    }

    /// The call that a line asks for, and its place in the output.
    fn read(&mut self, line: Line) -> Option<((Slot, u64, usize), Json)> {
        let number = line.number;
        let read = line.text.map_err(|bad| bad.to_string());
        let read = read.and_then(|text| Ok((self.reading.arguments(&text)?, text.len())));
        match read {
            Ok((None, _)) => {
                self.tally.blank();
                None
            }
            Ok((Some(call), bytes)) => Some(((self.order.open(), number, bytes), call)),
            Err(message) => {
                let slot = self.order.open();
                self.settle(slot, number, Err(Problem::bad_line(message)));
                None
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
        self.bytes_held += task.bytes;
        self.under_way.insert(slot, task);
    }

    fn end(&mut self, slot: Slot) {
        let Some(task) = self.under_way.remove(&slot) else { return };
        self.bytes_held -= task.bytes;
        let (pool, function) = (self.pool, self.args.function.as_str());
        let record = || task.given.clone().map(|given| pool.record(function, given));
        self.observer.ended(task.number, &task.handle, record);
        match task.handle.output().and_then(Written::from_output) {
            Ok(Written::Line(line)) => self.settle(slot, task.number, Ok(line)),
            // No call here asks for bytes.
            Ok(Written::Bytes(_)) => self.drop_line(slot),
            Err(TaskError::Cancelled(_)) => self.drop_line(slot),
            Err(error @ (TaskError::Broken(_) | TaskError::Quarantined(_))) => {
                self.drop_line(slot);
                self.stop(Stop::Failed(Error::from(&error)));
            }
            Err(error) => self.settle(slot, task.number, Err(Problem::of_task(&error))),
        }
    }

    fn settle(&mut self, slot: Slot, number: u64, outcome: Result<String, Problem>) {
        match &outcome {
            Ok(_) => self.tally.succeeded(),
            Err(problem) => self.tally.failed(problem.kind),
        }
        let record = Record::new(number, &outcome, self.args.plain);
        self.bytes_held += record.stdout.len();
        self.order.settle(slot, Some(record));
    }

    /// The line never ran, and nothing is written of it.
    fn drop_line(&mut self, slot: Slot) {
        self.tally.dropped();
        self.order.settle(slot, None);
    }

    /// The first reason stays.
    fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
    }

    /// Takes no more lines, and drops those that have not started. Those that run go on.
    fn interrupt(&mut self) {
        if !matches!(self.stop, Some(Stop::Failed(_))) {
            self.stop = Some(Stop::Interrupted);
        }
        for task in self.under_way.values() {
            task.handle.cancel();
        }
    }

    fn write_ready(&mut self) -> io::Result<()> {
        while let Some(record) = self.order.pop() {
            let Some(Record { stdout, stderr }) = record else { continue };
            self.bytes_held -= stdout.len();
            if let Some(text) = stderr {
                // Where stderr is closed, nobody wants this.
                let _ = self.watch.aside(true, || writeln!(io::stderr(), "{text}"));
            }
            let (watch, out) = (&self.watch, &mut self.stdout);
            watch.aside(false, || writeln!(out, "{stdout}"))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stdout.buffer().is_empty() {
            return Ok(());
        }
        let (watch, out) = (&self.watch, &mut self.stdout);
        watch.aside(false, || out.flush())
    }
}
