//! Maps: a function over many items, pushed, lazily or all at once, as an iterator or as a stream.
//!
//! ```text
//!        caller ─ push ─► FedMap ─ batches ─► driver ─ ends ─► Inbox ─► Results ─► ready()
//! source ─ next ─► Map ─────┘└─────────────────────────────────────────► Results ─► next()   lazy: a bounded number
//!                   └─ submit_all ─► MapAll ───────────────────────────► Results ─► next()   eager
//!                                       └─ into_stream ─► MapStream                          either, without blocking
//! ```
//!
//! A lazy map takes, encodes and submits items only as results are taken, so an infinite source and
//! a slow consumer both work in bounded memory. Items are sent in batches and have no handles;
//! `next_task` makes one on request.
//!
//! Invariant: every item that was taken gives one result, in the items' order or as they end.

mod ahead;
mod all;
mod fed;
mod methods;
mod results;
mod sizes;
mod slice;
#[cfg(feature = "stream")]
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::pool::Pool;
use crate::api::task::{TaskHandle, TaskResult};
use crate::base::deadline;
use crate::call::arguments::Arguments;
use crate::call::options::TaskOptions;
use crate::call::target::Target;
use crate::outcome::error::RunError;
use crate::state::semaphore::Patience;
use crate::state::spec::TaskSpec;

pub use all::MapAll;
pub use fed::{FedMap, PushError};
pub use slice::SliceItem;
pub(crate) use slice::map_slice;
#[cfg(feature = "stream")]
pub use stream::MapStream;

use fed::NoRoom;
use results::TimedOut;

/// An iterator over the results of a function applied to items. See [`Pool::map`].
///
/// The error of an item does not end the iteration. Only a closed or broken pool, or a timeout,
/// ends the map with a last error. Dropping the map cancels queued items. A map holds its pool.
#[derive(Debug)]
pub struct Map<T: TaskResult, I> {
    fed: FedMap<T>,
    /// `None` after the last item was taken.
    items: Option<I>,
    timeout: Option<Duration>,
    /// Set at the first call of `next`.
    deadline: Option<Instant>,
    /// Results that were given out since it was last asked whether there is room for more items.
    unfilled: usize,
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

/// How long a map keeps submitting while the next result is ready: longer than a source with ready
/// items needs.
const FILL_TIME: Duration = Duration::from_millis(1);

/// Results of one group that are given out without asking whether there is room for more items.
const UNFILLED_MAX: usize = 16;

/// What filling the buffer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// Enough items are under way, or the source has ended.
    Enough,
    /// The pool stayed full for the allowed time.
    NoRoom,
}

impl<T: TaskResult, I> Map<T, I> {
    pub(crate) fn new(pool: Pool, target: Target, items: I) -> Self {
        Self::over(FedMap::new(pool, target), items)
    }

    /// One of a function that was looked up.
    pub(crate) fn of_function(
        pool: Pool,
        target: Target,
        items: I,
        spec: Arc<TaskSpec>,
        options: TaskOptions,
    ) -> Self {
        Self::over(FedMap::of_function(pool, target, spec, options), items)
    }

    fn over(fed: FedMap<T>, items: I) -> Self {
        let fed = fed.ending_with_one_error();
        Self { fed, items: Some(items), timeout: None, deadline: None, unfilled: 0 }
    }

    /// Sends the items in chunks of `chunk_size`, at least 1. Each item still gets an instance of its own,
    /// and a failed item affects no other. A chunk of more than 1,024 items is sent as several. A
    /// chunk is submitted before the next is taken from the source. While every worker is busy, as many
    /// whole chunks as take 0.2 ms, by the times of the function's latest items, share a message, unless a
    /// chunk's items [share an instance](Self::shared_instance); a worker that idles takes over those that
    /// another has not started. Default: as many items as take about 0.2 ms, and fewer towards the end of a
    /// source of known length, so that all workers end together.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.fed = self.fed.chunk_size(items);
        self
    }

    /// Lets the items of a chunk share one instance, one after the other. This is faster if an
    /// instance is costly, but later items see the state of earlier ones. Every item still has its
    /// own limits; after a trap there is a fresh instance.
    #[must_use]
    pub fn shared_instance(mut self) -> Self {
        self.fed = self.fed.shared_instance();
        self
    }

    /// Keeps `buffer_size` chunks under way, at least 1; without [`chunk_size`](Self::chunk_size)
    /// that many items. Default: enough to keep every worker busy, which is at least 16 chunks and
    /// four for each worker; where items are short it is 3 ms of work for each worker, at most
    /// 2,048 items for each.
    #[must_use]
    pub fn buffer_size(mut self, chunks: usize) -> Self {
        self.fed = self.fed.buffer_size(chunks);
        self
    }

    /// Yields results as they complete rather than in the items' order.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.fed = self.fed.unordered();
        self
    }

    /// Ends the map with an error if a result is not ready when `timeout` has passed since the
    /// first call of `next`; this includes the caller's own time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Submits every item with these options. In a pool with a maximum of pending tasks a lazy map
    /// uses the free permits, and ignores the option for a full pool.
    #[must_use]
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.fed = self.fed.options(options);
        self
    }

    /// The timeout starts with the first call of `next`.
    fn begin(&mut self) {
        if let Some(timeout) = self.timeout
            && self.deadline.is_none()
        {
            self.deadline = deadline::after(timeout);
        }
    }

    /// Cancels items under way, takes no more, and ends with a timeout error.
    fn run_out(&mut self) -> RunError {
        let timeout = self.timeout.unwrap_or_default();
        self.fail(RunError::MapTimeout(timeout))
    }

    /// Cancels items under way, and takes no more.
    fn fail(&mut self, error: RunError) -> RunError {
        self.take_no_more();
        self.fed.results.cancel();
        error
    }

    /// Whether every item was submitted or refused.
    fn is_exhausted(&self) -> bool {
        self.fed.has_submitted_all() && (self.items.is_none() || self.fed.is_closed())
    }

    fn take_no_more(&mut self) {
        self.items = None;
        self.fed.take_no_more();
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
        let next = self.fill_for_next().and_then(|()| {
            let deadline = self.deadline;
            self.fed.results.next_task(deadline).map_err(|TimedOut| self.run_out())
        });
        next.unwrap_or_else(|error| Some((self.fed.taken(), Err(error))))
    }

    /// Submits items before it blocks for the next result.
    fn fill_for_next(&mut self) -> Result<(), RunError> {
        // To look whether there is room costs about as much as to give out a result that is there.
        if self.fed.results.is_giving_out() && self.unfilled < UNFILLED_MAX {
            self.unfilled += 1;
            return Ok(());
        }
        self.unfilled = 0;
        self.begin();
        let patience = self.deadline.map_or(Patience::Endless, Patience::Until);
        match self.fill(patience) {
            Ok(Filled::Enough) => Ok(()),
            Ok(Filled::NoRoom) if !self.fed.results.is_empty() => Ok(()),
            Ok(Filled::NoRoom) => Err(self.run_out()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Submits every item now, and returns the results as [`Pool::map_all`] does. Blocks while the
    /// pool is full. The time of [`timeout`](Self::timeout) starts now.
    pub fn submit_all(mut self) -> MapAll<T> {
        let started = Instant::now();
        if let Err(error) = self.fed.sizes.check() {
            self.take_no_more();
            self.fed.push_failed(error);
        }
        while !self.is_exhausted() {
            let size = self.batch_size(true);
            self.gather(size);
            if self.fed.has_submitted_all() {
                break;
            }
            self.fed.submit_next_or_refuse(size);
        }
        let (pool, results, taken) = self.fed.into_results();
        MapAll::new(pool, results, self.timeout, started, taken)
    }

    /// Submits batches until enough items are under way, or the next result has been ready for a
    /// while. Waits for a permit only if nothing is under way.
    fn fill(&mut self, patience: Patience) -> Result<Filled, RunError> {
        if self.is_exhausted() {
            return Ok(Filled::Enough);
        }
        self.fed.sizes.check()?;
        let under_way_max = self.fed.under_way_limit();
        let size = self.batch_size(false).min(under_way_max);
        let room = under_way_max.saturating_sub(self.fed.results.len());
        // Many at a time cost less each than one by one.
        if room < self.fed.sizes.worth(under_way_max).max(size) {
            return Ok(Filled::Enough);
        }
        let begun = Instant::now();
        while !self.is_exhausted() && self.fed.results.len() < under_way_max {
            let size = self.batch_size(false).min(under_way_max);
            let is_too_much = self.fed.results.len().saturating_add(size) > under_way_max;
            if is_too_much || begun.elapsed() > FILL_TIME && self.fed.results.has_next() {
                break;
            }
            self.gather(size);
            if self.fed.has_submitted_all() {
                break;
            }
            let alone = self.fed.results.is_empty();
            let patience = if alone { patience } else { Patience::None };
            if let Err(NoRoom) = self.fed.submit_next(size, patience) {
                return Ok(Filled::NoRoom);
            }
        }
        Ok(Filled::Enough)
    }

    /// How many items the next batch takes at most.
    fn batch_size(&mut self, all: bool) -> usize {
        let hint = self.items.as_ref().map(Iterator::size_hint).unwrap_or_default();
        self.fed.batch_size(hint, all) as usize
    }

    /// Takes and encodes items until this many are ready to be submitted. It holds no permit
    /// meanwhile, since a source may use the pool itself. If the source panics, earlier items are
    /// kept.
    fn gather(&mut self, size: usize) {
        let missing = size.saturating_sub(self.fed.ahead());
        let begun = Instant::now();
        let is_checked = self.fed.takes_tasks();
        for _ in 0..missing {
            let Some(arguments) = self.items.as_mut().and_then(Iterator::next) else {
                self.items = None;
                break;
            };
            self.fed.encode(arguments, is_checked, size);
        }
        // The source may have taken its time, or closed the pool itself.
        self.fed.check_ahead();
        if missing > 0 {
            self.fed.sizes.note_filled(begun.elapsed(), missing);
        }
    }
}

impl<T: TaskResult, I> Iterator for Map<T, I>
where
    I: Iterator,
    I::Item: Arguments,
{
    type Item = Result<T, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.fill_for_next().and_then(|()| {
            let deadline = self.deadline;
            self.fed.results.next_result(deadline).map_err(|TimedOut| self.run_out())
        });
        next.unwrap_or_else(|error| Some(Err(error)))
    }
}
