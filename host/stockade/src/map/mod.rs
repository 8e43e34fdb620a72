//! Maps: a function over many items, lazily or all at once, as an iterator or as a stream.
//!
//! ```text
//! source ─ next ─► Map ─ submit ─► pool ─ ends ─► Results ─► next()        lazy: a bounded number ahead
//!                   └─ submit_all ─► MapAll ────────► Results ─► next()    eager
//!                                       └─ into_stream ─► MapStream        either, without blocking
//! ```
//!
//! A lazy map takes, encodes and submits items only as results are taken; so a source without end
//! and a slow consumer both work in bounded memory.
//!
//! Invariant: every item that was taken gives one result, in the items' order or as they end.

mod all;
mod results;
#[cfg(feature = "stream")]
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::options::TaskOptions;
use crate::room::{Patience, Place};
use crate::submit::Company;
use crate::target::Target;
use crate::task::{TaskHandle, TaskResult};
use crate::terms::Terms;
use crate::{Pool, RunError, SubmitError};

pub use all::MapAll;
#[cfg(feature = "stream")]
pub use stream::MapStream;

use results::Results;

/// An iterator over the results of a function applied to items. See [`Pool::map`].
///
/// An error is an item: it concerns its own item alone, and iteration goes on after it. Only a pool
/// that is closed or broken, or a time that has run out, ends the map with one last error. Dropping
/// the map cancels what it has queued. A map holds its pool: that is not dropped before.
#[derive(Debug)]
pub struct Map<T: TaskResult, I> {
    pool: Pool,
    target: Target,
    /// `None` once nothing more is taken.
    items: Option<I>,
    options: TaskOptions,
    chunk_size: usize,
    shares_instance: bool,
    buffer_size: Option<usize>,
    timeout: Option<Duration>,
    /// Set when the first result is asked for.
    deadline: Option<Instant>,
    results: Results<T>,
    taken: usize,
    /// What the tasks have in common, once the first was submitted.
    terms: Option<Arc<Terms>>,
}

/// Items as tuples of one, which is what a function of one parameter takes.
#[derive(Clone, Debug)]
pub struct Singles<I>(pub(crate) I);

impl<I: Iterator> Iterator for Singles<I> {
    type Item = (I::Item,);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|item| (item,))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// How long a map submits more while its consumer could have the next result: longer than it takes
/// from a source that has its items ready.
const FILL_TIME: Duration = Duration::from_millis(1);

/// How a result of a map comes to its consumer: the index of its item, and its ended task.
type Ended<T> = (usize, Result<TaskHandle<T>, RunError>);

/// What filling the buffer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// Enough is under way, or the source is at its end.
    Enough,
    /// The pool has no room for another pending task, in the time that there was.
    NoRoom,
}

impl<T: TaskResult, I> Map<T, I> {
    pub(crate) fn new(pool: Pool, target: Target, items: I) -> Self {
        Self {
            pool,
            target,
            items: Some(items),
            options: TaskOptions::default(),
            chunk_size: 1,
            shares_instance: false,
            buffer_size: None,
            timeout: None,
            deadline: None,
            results: Results::ordered(),
            taken: 0,
            terms: None,
        }
    }

    /// Sends so many items together, from 1. Each still gets an instance of its own, and an item
    /// that fails costs no other. Default: 1.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk_size = items;
        self
    }

    /// Lets the items of a chunk share one instance, one after the other: faster where an instance
    /// is costly, and no longer pristine for all but the first. Every item still has limits of its
    /// own; one that traps is followed by a fresh instance.
    #[must_use]
    pub fn shared_instance(mut self) -> Self {
        self.shares_instance = true;
        self
    }

    /// Keeps so many chunks under way, from 1. Default: enough to keep every worker busy, which is
    /// at least four for each and 16, and more where tasks are done within microseconds.
    #[must_use]
    pub fn buffer_size(mut self, chunks: usize) -> Self {
        self.buffer_size = Some(chunks);
        self
    }

    /// Gives results as they come rather than in the items' order.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.results = self.results.unordered();
        self
    }

    /// Ends the map with an error where a result is not ready when so much time has passed since
    /// the first was asked for, the caller's own time included.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Submits every item with these options. A lazy map takes as much room of a pool that limits
    /// its pending tasks as there is, whatever the options say of a full one.
    #[must_use]
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self.terms = None;
        self
    }

    /// The time of the whole begins with the first result that is asked for.
    fn begin(&mut self) {
        if let Some(timeout) = self.timeout
            && self.deadline.is_none()
        {
            self.deadline = Some(after(Instant::now(), timeout));
        }
    }

    /// Cancels what is under way and takes nothing more, with the error that says so.
    fn run_out(&mut self) -> Ended<T> {
        self.items = None;
        self.results.cancel();
        (self.taken, Err(RunError::MapTimeout(self.timeout.unwrap_or_default())))
    }

    /// Cancels what is under way and takes nothing more.
    fn fail(&mut self, error: RunError) -> Ended<T> {
        self.items = None;
        self.results.cancel();
        (self.taken, Err(error))
    }
}

impl<T: TaskResult, I> Map<T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    /// The next task that ended, as its handle with result and report, and the index of its item
    /// in the source. Blocks like [`next`](Iterator::next).
    pub fn next_task(&mut self) -> Option<(usize, Result<TaskHandle<T>, RunError>)> {
        self.begin();
        let patience = self.deadline.map_or(Patience::Endless, Patience::Until);
        match self.fill(patience) {
            Ok(Filled::Enough) => {}
            Ok(Filled::NoRoom) if !self.results.is_empty() => {}
            Ok(Filled::NoRoom) => return Some(self.run_out()),
            Err(error) => return Some(self.fail(error)),
        }
        match self.results.next(self.deadline) {
            Ok(ended) => ended,
            Err(results::TimedOut) => Some(self.run_out()),
        }
    }

    /// Submits every item now, and gives the results as [`Pool::map_all`] does. Blocks where the
    /// pool limits its pending tasks and is full. The time of [`timeout`](Self::timeout) begins now.
    pub fn submit_all(mut self) -> MapAll<T> {
        let started = Instant::now();
        if let Err(error) = self.check_sizes() {
            self.items = None;
            self.push(Err(error));
        }
        while let Some(company) = self.next_company() {
            let mut left = self.chunk_size;
            while left > 0 && self.items.is_some() {
                let patience = self.pool.patience(&self.options);
                let place = self.pool.place(patience);
                self.submit_next(company, place);
                left -= 1;
            }
        }
        MapAll::new(self.pool, self.results, self.timeout, started, self.taken)
    }

    /// Submits chunks until enough are under way, or for as long as its consumer would rather have
    /// the next result. Waits for room only while nothing is under way.
    fn fill(&mut self, patience: Patience) -> Result<Filled, RunError> {
        if self.items.is_none() {
            return Ok(Filled::Enough);
        }
        self.check_sizes()?;
        let under_way_max = self.buffer_chunks().saturating_mul(self.chunk_size);
        let room = under_way_max.saturating_sub(self.results.len());
        // Many at a time cost less each than one by one.
        let worth = if self.buffer_size.is_some() { under_way_max / 8 } else { under_way_max / 2 };
        if room < worth.max(self.chunk_size) {
            return Ok(Filled::Enough);
        }
        let begun = Instant::now();
        while self.results.len().saturating_add(self.chunk_size) <= under_way_max
            && !(begun.elapsed() > FILL_TIME && self.results.has_next())
            && let Some(company) = self.next_company()
        {
            let mut left = self.chunk_size;
            while left > 0 && self.items.is_some() {
                let alone = self.results.is_empty();
                let place = self.pool.place(if alone { patience } else { Patience::None });
                if matches!(place, Err(SubmitError::Full { .. })) {
                    return Ok(Filled::NoRoom);
                }
                self.submit_next(company, place);
                left -= 1;
            }
        }
        Ok(Filled::Enough)
    }

    fn check_sizes(&self) -> Result<(), RunError> {
        for (name, given) in
            [("chunk_size", self.chunk_size), ("buffer_size", self.buffer_chunks())]
        {
            if given == 0 {
                return Err(RunError::MapSetting(name));
            }
        }
        Ok(())
    }

    fn buffer_chunks(&self) -> usize {
        self.buffer_size.unwrap_or_else(|| {
            // What fills every window, and as much again for when they have run low.
            let tasks = 2 * self.pool.core.link.shared.counts().window_tasks;
            (4 * self.pool.max_workers()).max(16).max(tasks.div_ceil(self.chunk_size.max(1)))
        })
    }

    /// What the next chunk's items have in common, if there may be another chunk.
    fn next_company(&self) -> Option<Company> {
        self.items.as_ref()?;
        let chunk = (self.chunk_size > 1).then(|| self.pool.core.new_chunk());
        Some(Company { chunk, shares: self.shares_instance })
    }

    /// Submits the next item, if there is one, to the place it got.
    fn submit_next(&mut self, company: Company, place: Result<Option<Place>, SubmitError>) {
        let Some(arguments) = self.items.as_mut().and_then(Iterator::next) else {
            self.items = None;
            return;
        };
        let submitted = place.and_then(|place| {
            let (target, options, known) = (&self.target, &self.options, &mut self.terms);
            self.pool.submit_item(target, arguments, options, company, known, place)
        });
        if matches!(submitted, Err(SubmitError::Closed | SubmitError::Broken(_))) {
            // What was submitted before still ends, and this error comes last.
            self.items = None;
        }
        self.push(submitted.map_err(RunError::Submit));
    }

    fn push(&mut self, task: Result<TaskHandle<T>, RunError>) {
        self.results.push(self.taken, task);
        self.taken += 1;
    }
}

/// A moment after another; a time too far to reckon with never comes.
fn after(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    start.checked_add(time).unwrap_or_else(|| start + NEVER)
}

/// The result of a task that has ended.
fn result_of<T: TaskResult>((_, task): Ended<T>) -> Result<T, RunError> {
    task.and_then(|task| Ok(task.into_result()?))
}

impl<T: TaskResult, I> Iterator for Map<T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_task().map(result_of)
    }
}
